"""Callers that were turned away because nobody registered them (B11), for the person who sets the router up.

Bounded, and in memory only; `sendrs peers` shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router.dicom.uids import AETitle

MAX_PENDING = 100
"""Kept at once; the one that was quiet for longest is forgotten first."""


@dataclass(slots=True)
class PendingPeer:
    """An unregistered caller: how often it asked, and when first and last (seconds since 1970)."""

    calling_aet: AETitle
    address: str
    first_seen: float
    last_seen: float
    attempts: int = 1


class PendingPeers:
    """The last callers turned away, the most recent first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: dict[tuple[AETitle, str], PendingPeer] = {}

    def add(self, calling_aet: AETitle, address: str) -> None:
        """Remember that an unregistered peer called."""
        now = self._clock()
        key = (calling_aet, address)
        known = self._peers.pop(key, None)
        if known is None:
            if len(self._peers) >= MAX_PENDING:
                del self._peers[next(iter(self._peers))]
            known = PendingPeer(calling_aet, address, now, now)
        else:
            known.last_seen, known.attempts = now, known.attempts + 1
        self._peers[key] = known

    def listing(self) -> list[PendingPeer]:
        """List them, the most recent first."""
        return list(reversed(self._peers.values()))
