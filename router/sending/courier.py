"""What a lane asks of a courier: carry these instances, say what became of each. The whole interface.

A courier never touches the journal, never decides about a retry and never raises for one instance: it reports. What
concerns the destination as such is raised from `deliver` as `Transient` or `Misconfigured`; deliveries not reported
by then were not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from router.dicom.status import Verdict
from router.errors import Transient
from router.journal.records import Delivery

__all__ = ["BrokenOff", "Courier", "Outcome", "Report", "Session", "Verdict"]

MAX_REASON_CHARACTERS = 300
"""Longest reason that is kept: a peer's words go into the journal once an attempt."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one delivery.

    `status` is the DIMSE status, Failure Reason or HTTP status; `reason` the peer's words, bounded.
    """

    delivery: Delivery
    verdict: Verdict
    status: int | None = None
    reason: str = ""
    retry_after_s: float | None = None
    spares_destination: bool = False
    """Its destination is well by another mechanism, and not to be left alone for this."""


class BrokenOff(Transient):
    """The connection broke while `delivery` was being sent, so that this very instance may be why (F45)."""

    def __init__(self, problem: str, delivery: Delivery):
        super().__init__(problem)
        self.delivery = delivery


Report = Callable[[Outcome], Awaitable[bool | None]]
"""Takes one outcome; answers True when the lane wants no more of this batch: then `deliver` returns."""


class Session(Protocol):
    """One association or HTTP connection, reused for batch after batch. Connects when first used."""

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Send `batch` in order and report each.

        Raises Transient or Misconfigured; what was not reported was not taken.
        """
        ...

    async def aclose(self) -> None:
        """Release and close; never raises, never takes longer than a few seconds.

        The session may be used again: it connects anew.
        """
        ...


class Courier(Protocol):
    """Knows how to talk to one destination."""

    batch_instances: int
    """Most deliveries a lane should hand over at once."""
    batch_bytes: int
    sessions: int
    """Most sessions at once."""
    idle_s: float
    """A session without work is closed after so long."""

    def session(self) -> Session: ...

    async def probe(self) -> None:
        """Ask whether the destination is there and wants us (C-ECHO, OPTIONS). Raises Transient or Misconfigured."""
        ...
