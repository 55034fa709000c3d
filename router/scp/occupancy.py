"""How many associations are open, in all and of each peer. Counts only; the limits are the caller's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from router.dicom.uids import AETitle

PeerKey = tuple[AETitle, str]
"""Calling AE title and address."""


class Occupancy:
    """The associations that are open now."""

    def __init__(self) -> None:
        self._open: Counter[PeerKey] = Counter()
        self.total = 0

    def of(self, peer: PeerKey) -> int:
        """Count the open associations of one peer."""
        return self._open[peer]

    @contextmanager
    def one_more(self, peer: PeerKey) -> Iterator[None]:
        """Count one association for as long as it is open."""
        self._open[peer] += 1
        self.total += 1
        try:
            yield
        finally:
            self.total -= 1
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]
