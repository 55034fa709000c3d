"""The data sets of a batch, read ahead while those before are on the wire: small ones in groups, large ones in chunks.

Memory: at most two groups (or the two chunks of one large data set) a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from router.journal.records import Delivery
from router.store.files import DamagedFile, Store

SMALL_BYTES = 1024 * 1024
"""Data sets up to this size are read whole and sent in one write."""
GROUP_BYTES = 2 * 1024 * 1024
"""Together at most so many bytes are read at once (or one data set)."""
GROUP_SIZES = (2, 8, 32)
"""Most data sets in the first, second and all later groups of a batch: the first is wanted at once."""


class ReadAhead:
    """The contents of one batch, asked for in order. `close` it when no more will be asked for."""

    def __init__(self, store: Store, batch: Sequence[Delivery]):
        self._store = store
        self._groups = iter(_groups(batch))
        self._current: dict[int, bytes | DamagedFile] = {}
        self._next: tuple[list[Delivery], asyncio.Future[list[bytes | DamagedFile]]] | None = None
        self._begin_next()

    async def content(self, delivery: Delivery) -> bytes | DamagedFile | None:
        """Give the whole data set, or what is wrong with it; None when it is to be read in chunks.

        Raises StorageError.
        """
        if delivery.data_set_bytes > SMALL_BYTES:
            return None
        while (content := self._current.pop(delivery.sub_operation_id, None)) is None:
            if self._next is None:
                raise LookupError(f"sub-operation {delivery.sub_operation_id} is not next in its batch")
            await self._next[1]
            self._turn_over()
        return content

    def at_hand(self, delivery: Delivery) -> bytes | None:
        """Give the whole data set if it has been read already, and leave it there."""
        if delivery.sub_operation_id not in self._current and self._next is not None:
            done = self._next[1]
            if not self._current and done.done() and done.exception() is None:
                self._turn_over()
        content = self._current.get(delivery.sub_operation_id)
        return content if isinstance(content, bytes) else None

    def close(self) -> None:
        """Forget what is still being read."""
        if self._next is not None:
            self._next[1].cancel()

    def _turn_over(self) -> None:
        """Go over to the group that has been read, and begin to read the one after. Raises StorageError."""
        assert self._next is not None
        group, done = self._next
        contents = done.result()
        self._current = {delivery.sub_operation_id: content for delivery, content in zip(group, contents, strict=True)}
        self._begin_next()

    def _begin_next(self) -> None:
        group = next(self._groups, None)
        self._next = None if group is None else (group, self._store.read_small(group))


def _groups(batch: Sequence[Delivery]) -> list[list[Delivery]]:
    """Split the small ones of a batch into groups, in order."""
    groups: list[list[Delivery]] = []
    room = 0
    for delivery in batch:
        if delivery.data_set_bytes > SMALL_BYTES:
            continue
        most = GROUP_SIZES[min(len(groups), len(GROUP_SIZES)) - 1] if groups else 0
        if not groups or len(groups[-1]) >= most or delivery.data_set_bytes > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(delivery)
        room -= delivery.data_set_bytes
    return groups
