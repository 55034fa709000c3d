"""Where a courier reads what it sends: our store, or the files of `sendrs store`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from router.store.files import DamagedFile
from router.store.stored import Located


class Chunks(Protocol):
    """One data set, as `store.DataSetReader`."""

    async def next(self) -> bytes:
        """Give the next bytes. Raises DamagedFile, StorageError."""
        ...


class Contents(Protocol):
    """Data sets, as `Store` reads them."""

    def read_cached(self, located: Located, /, *, last: bool) -> bytes | None: ...

    def read_small(self, located: Sequence[Located], /, *, last: bool) -> asyncio.Future[list[bytes | DamagedFile]]: ...

    def open_data_set(self, located: Located, /, *, last: bool) -> AbstractAsyncContextManager[Chunks]: ...
