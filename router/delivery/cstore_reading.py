"""The data sets of a batch, read ahead while those before are on the wire: small ones in groups, large ones in chunks.

Memory: at most two groups (or the two chunks of one large data set) a session.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from router.errors import StorageError
from router.journal.records import Delivery
from router.store.files import DamagedFile, Store

SMALL_BYTES = 1024 * 1024
"""Data sets up to this size are read whole and sent in one write."""
GROUP_BYTES = 1024 * 1024
"""Together at most so many bytes are read at once (or one data set)."""
GROUP_SIZES = (2, 8, 32)
"""Most data sets in the first, second and all later groups of a batch: the first is wanted at once."""


class ReadAhead:
    """The contents of one batch, asked for in order."""

    def __init__(self, store: Store, batch: Sequence[Delivery], tasks: TaskGroup):
        self._store, self._tasks = store, tasks
        self._groups = _groups(batch)
        self._next = 0
        self._reading: _Group | None = None
        self._current: dict[int, bytes | DamagedFile] = {}
        self._begin_next()

    async def content(self, delivery: Delivery) -> bytes | DamagedFile | None:
        """Give the whole data set, or what is wrong with it; None when it is to be read in chunks.

        Raises StorageError.
        """
        if delivery.data_set_bytes > SMALL_BYTES:
            return None
        while (content := self._current.pop(delivery.sub_operation_id, None)) is None:
            group = self._reading
            if group is None:
                raise LookupError(f"sub-operation {delivery.sub_operation_id} is not next in its batch")
            await group.done.wait()
            if group.failure is not None:
                raise group.failure
            self._current = group.contents
            self._begin_next()
        return content

    def at_hand(self, delivery: Delivery) -> bytes | None:
        """Give the whole data set if it has been read already, and leave it there."""
        content = self._current.get(delivery.sub_operation_id)
        return content if isinstance(content, bytes) else None

    def _begin_next(self) -> None:
        self._reading = None
        if self._next < len(self._groups):
            self._reading = _Group(self._groups[self._next])
            self._next += 1
            self._tasks.start_soon(self._reading.read, self._store)


class _Group:
    """Small data sets that are read in one go."""

    def __init__(self, deliveries: Sequence[Delivery]):
        self._deliveries = deliveries
        self.contents: dict[int, bytes | DamagedFile] = {}
        self.failure: StorageError | None = None
        self.done = anyio.Event()

    async def read(self, store: Store) -> None:
        try:
            contents = await store.read_small(self._deliveries)
        except StorageError as error:
            self.failure = error
        else:
            ids = (delivery.sub_operation_id for delivery in self._deliveries)
            self.contents = dict(zip(ids, contents, strict=True))
        self.done.set()


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
