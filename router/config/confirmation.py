"""Which destinations are to commit to what they took (confirm = "commitment"), and how long they have for it."""

from __future__ import annotations

from router.config.model import Destination, SendRsDestination


def confirm_s_of(destination: Destination) -> float | None:
    """Give how long a destination has to commit to what it took; None when its answer is enough."""
    if isinstance(destination, SendRsDestination) or destination.confirm == "answer":
        return None
    return destination.confirm_s
