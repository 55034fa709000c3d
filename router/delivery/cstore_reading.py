"""The data sets of a batch, read ahead while those before are on the wire: large ones in chunks, others in groups on a
thread, and small ones that the system holds in memory one by one, on the spot.

Memory: at most two groups (or the two chunks of one large data set) a session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from router.delivery.contents import Contents
from router.journal.records import Delivery
from router.store.files import DamagedFile
from router.store.workers import forget

SMALL_BYTES = 1024 * 1024
"""Data sets up to this size are read whole and sent in one write."""
GROUP_BYTES = 2 * 1024 * 1024
"""Together at most so many bytes are read at once (or one data set)."""
GROUP_SIZES = (2, 8, 32)
"""Most data sets in the first, second and all later groups of a batch: the first is wanted at once."""


class ReadAhead:
    """The contents of one batch, asked for in order. `close` it when no more will be asked for."""

    def __init__(self, store: Contents, batch: Sequence[Delivery]):
        self._store = store
        self._left = deque(delivery for delivery in batch if delivery.data_set_bytes <= SMALL_BYTES)
        self._groups = 0
        self._current: dict[int, bytes | DamagedFile] = {}
        self._next: tuple[list[Delivery], asyncio.Future[list[bytes | DamagedFile]]] | None = None
        if self._left and not self._read_on_the_spot():
            self._begin_next()

    async def content(self, delivery: Delivery) -> bytes | DamagedFile | None:
        """Give the whole data set, or what is wrong with it; None when it is to be read in chunks.

        Raises StorageError.
        """
        if delivery.data_set_bytes > SMALL_BYTES:
            return None
        while (content := self._current.pop(delivery.sub_operation_id, None)) is None:
            if self._next is None and not self._left:
                raise LookupError(f"sub-operation {delivery.sub_operation_id} is not next in its batch")
            if self._next is None and not self._read_on_the_spot():
                self._begin_next()
            if self._next is not None:
                await self._next[1]
                self._turn_over()
        return content

    def at_hand(self, delivery: Delivery) -> bytes | None:
        """Give the whole data set if that takes no waiting, and leave it there."""
        if delivery.sub_operation_id not in self._current:
            if self._next is None:
                if self._left and self._left[0] is delivery and not self._read_on_the_spot():
                    self._begin_next()
            elif not self._current and self._next[1].done() and self._next[1].exception() is None:
                self._turn_over()
        content = self._current.get(delivery.sub_operation_id)
        return content if isinstance(content, bytes) else None

    def close(self) -> None:
        """Forget what is still being read."""
        if self._next is not None:
            forget(self._next[1])

    def _read_on_the_spot(self) -> bool:
        """Read the next one if it is small and in the system's memory; say whether it was."""
        content = self._store.read_cached(self._left[0], last=self._left[0].last)
        if content is None:
            return False
        self._current[self._left.popleft().sub_operation_id] = content
        return True

    def _turn_over(self) -> None:
        """Go over to the group that has been read, and begin to read the one after. Raises StorageError."""
        assert self._next is not None
        group, done = self._next
        self._next = None
        for delivery, content in zip(group, done.result(), strict=True):
            self._current[delivery.sub_operation_id] = content
        if self._left:
            self._begin_next()

    def _begin_next(self) -> None:
        """Have a thread read the next group."""
        most = GROUP_SIZES[min(self._groups, len(GROUP_SIZES) - 1)]
        group, room = [self._left.popleft()], GROUP_BYTES
        while (
            self._left
            and len(group) < most
            and (room := room - group[-1].data_set_bytes) >= self._left[0].data_set_bytes
        ):
            group.append(self._left.popleft())
        self._groups += 1
        self._next = group, self._store.read_small(group, last=all(delivery.last for delivery in group))
