"""Instances during which connections broke.

After three such breaks one is sent alone, so that it drags no others down (F45).

Kept in memory only: after a restart three more breaks tell the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.journal.records import Delivery
from router.sending.handover import Batch

BREAKS_BEFORE_ALONE = 3
MAX_REMEMBERED = 1000
"""The oldest suspects are forgotten beyond so many."""


class Suspects:
    """Counts breaks by sub-operation."""

    def __init__(self) -> None:
        self._breaks: dict[int, int] = {}

    def broke(self, delivery: Delivery) -> int:
        """Count one more break during `delivery`; answers how many there were."""
        count = self._breaks.pop(delivery.sub_operation_id, 0) + 1
        self._breaks[delivery.sub_operation_id] = count
        if len(self._breaks) > MAX_REMEMBERED:
            del self._breaks[next(iter(self._breaks))]
        return count

    def clear(self, delivery: Delivery) -> None:
        """It was answered: nothing is held against it."""
        if self._breaks:
            self._breaks.pop(delivery.sub_operation_id, None)

    def batches(self, claimed: Sequence[Delivery]) -> list[Batch]:
        """Make batches of what was claimed: the innocent together, then each suspect alone."""
        if not self._breaks:
            return [Batch(list(claimed))] if claimed else []
        together: list[Delivery] = []
        alone: list[Delivery] = []
        for delivery in claimed:
            suspect = self._breaks.get(delivery.sub_operation_id, 0) >= BREAKS_BEFORE_ALONE
            (alone if suspect else together).append(delivery)
        batches = [Batch(together)] if together else []
        return batches + [Batch([delivery], alone=True) for delivery in alone]
