"""One batch on its way from the task that claims to the tasks that carry.

It keeps the wire busy and holds no more than one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from router.journal.records import Delivery
from router.sending.clock import Clock


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries to be carried over one session; `alone` is a single one, over a session of its own (F45)."""

    deliveries: list[Delivery]
    alone: bool = False


class HandOver:
    """A place for one batch. `waiting` counts carriers with nothing to do; `taken` is called when a batch was taken."""

    def __init__(self, clock: Clock, taken: Callable[[], None]):
        self._clock = clock
        self._taken = taken
        self._batch: Batch | None = None
        self._offered = anyio.Event()
        self._closed = False
        self.waiting = 0

    @property
    def empty(self) -> bool:
        return self._batch is None

    def offer(self, batch: Batch) -> None:
        """Lay a batch down; the place must be empty."""
        if self._batch is not None:
            raise RuntimeError("a batch is already offered")
        self._batch = batch
        self._notify()

    def take_back(self) -> Batch | None:
        """Take back the batch that nobody has taken yet."""
        batch, self._batch = self._batch, None
        return batch

    async def take(self, idle_s: float) -> Batch | None:
        """Wait for a batch; None when there was none for `idle_s`, or after `close`."""
        deadline = self._clock.now() + idle_s
        self.waiting += 1
        try:
            while self._batch is None:
                left_s = deadline - self._clock.now()
                if self._closed or left_s <= 0:
                    return None
                await self._clock.wait(self._offered, left_s)
        finally:
            self.waiting -= 1
        batch = self.take_back()
        self._taken()
        return batch

    def close(self) -> None:
        """Send the carriers home."""
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        self._offered.set()
        self._offered = anyio.Event()
