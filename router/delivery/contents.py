"""Where a courier reads what it sends: our store, or the files of `sendrs store`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from router.store.files import DamagedFile
from router.store.stored import Located


class Chunks(Protocol):
    """One data set, as `store.DataSetReader`."""

    async def next(self) -> bytes:
        """Give the next bytes, b"" after the last. Raises DamagedFile before the last of what is damaged,
        StorageError.
        """
        ...


class DataSets(Protocol):
    """Data sets, as `Store` reads them. `last`: nobody else is going to read them soon."""

    def read_small(self, located: Sequence[Located], /, *, last: bool) -> Awaitable[list[bytes | DamagedFile]]: ...

    def open_data_set(self, located: Located, /, *, last: bool) -> AbstractAsyncContextManager[Chunks]: ...


class Contents(DataSets, Protocol):
    """Data sets that may be read on the spot, or ahead."""

    def read_cached(self, located: Located, /, *, last: bool) -> bytes | None: ...

    def read_small(self, located: Sequence[Located], /, *, last: bool) -> asyncio.Future[list[bytes | DamagedFile]]: ...
