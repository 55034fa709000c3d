"""Text that a peer sent, made safe to stand in a log line.

Control characters, escapes and bidi marks are spelled out, length is bounded.
"""

from __future__ import annotations

MAX_SHOWN = 64
"""Longest value shown: a UID's length."""


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """Spell out what is not printable ASCII; what is longer than `limit` characters is cut and ends in "..."."""
    shown = text if len(text) <= limit else text[:limit] + "..."
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
