"""The folder of instance files, `<state>/store/<shard>/<32 hex>.dcm`. Begins writers, finds and opens files.

Nothing that a peer sent is part of a path. Files are never changed, overwritten or deleted once an instance is
journalled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import anyio
import structlog

from router.dicom.envelope import Declared, Source
from router.dicom.part10 import StoredPreface, encode_preface
from router.store import cached, listing, reading
from router.store.blanks import FOLDER_MODE, Blank, Blanks
from router.store.blocks import Slabs
from router.store.disk import Disk, SystemDisk, spread_subfolders, storage_error, sync_folder
from router.store.listing import Found
from router.store.reading import DamagedFile, DataSetFile, DataSetReader
from router.store.spool import Spool, open_spool
from router.store.stored import Located, StoredFile
from router.store.workers import Workers
from router.store.writer import Writer

__all__ = ["DamagedFile", "DataSetFile", "DataSetReader", "Located", "Store", "StoredFile", "Writer"]

log = structlog.get_logger()

T = TypeVar("T")
Opened = TypeVar("Opened", DataSetReader, DataSetFile)

WRITING_THREADS: Final = 16
"""Flushes that may be under way at once; the file system commits those that wait together."""
READING_THREADS: Final = 8
"""Of its own, so that couriers go on when a slow disk has all writers waiting (F62)."""
STORE_FOLDER: Final = "store"
SUSPECT_FOLDER: Final = "suspect"
LOST_FOLDER: Final = "lost+found"


class Store:
    """Use `async with Store.open(state)`. `root` holds the shards; `suspect` and `lost` what a person should look
    at.
    """

    def __init__(self, state: Path, disk: Disk, writers: Workers, readers: Workers):
        self.root = state / STORE_FOLDER
        self.suspect = state / SUSPECT_FOLDER
        self.lost = state / LOST_FOLDER
        self._disk, self._writers, self._readers = disk, writers, readers
        self._slabs = Slabs()
        self._prefix = f"{self.root}/"
        self._blanks: Blanks

    @classmethod
    @asynccontextmanager
    async def open(cls, state: Path, *, disk: Disk | None = None) -> AsyncIterator[Store]:
        """Make the folders, find the newest shard. `disk` is for tests. Raises StorageError."""
        store = cls(
            state, disk or SystemDisk(), Workers("store-write", WRITING_THREADS), Workers("store-read", READING_THREADS)
        )
        try:
            shard, files = await store._writers.run(store._prepare)
            store._blanks = Blanks(store.root, store._disk, store._writers, shard, files)
            try:
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    await store._blanks.close()
        finally:
            store._writers.close()
            store._readers.close()

    def begin(self, declared: Declared, source: Source, received_at: float) -> Writer:
        """Begin an instance; `received_at` in Unix seconds. Nothing touches the disk yet. UIDs must have been
        checked.
        """
        preface = encode_preface(declared, source, received_at)
        return Writer(preface, self._blanks, self._slabs, self._disk, self._writers, self._set_suspect)

    def spool(self) -> AbstractAsyncContextManager[Spool]:
        """Open a file without a name, for what must be put together first. Raises StorageError, NoSpace."""
        return open_spool(self.root.parent, self._disk, self._writers, self._readers)

    def path_of(self, file: str) -> Path:
        """Give the path of a file named as in the journal."""
        return Path(self._prefix + file)

    @asynccontextmanager
    async def open_data_set(
        self, located: Located, *, chunk_bytes: int = reading.CHUNK_BYTES, last: bool = False
    ) -> AsyncIterator[DataSetReader]:
        """Open a data set to read it in chunks, its last one given out only when the hash of all is right.

        `last`: nobody else is going to read it soon, so it need not stay in the system's memory.

        Raises DamagedFile when the file is missing or not what the journal says, StorageError.
        """
        path = self._prefix + located.file
        async with _opened(
            self._readers.start(lambda: DataSetReader.open(path, located, self._readers, chunk_bytes, last=last))
        ) as reader:
            yield reader

    @asynccontextmanager
    async def open_file(
        self, located: Located, *, prepare: Callable[[BinaryIO], BinaryIO] | None = None
    ) -> AsyncIterator[DataSetFile]:
        """Open a data set to look for something in it, without comparing its hash.

        `prepare` may give another file in its place (an inflated copy), which is closed at the end; it runs on a
        thread. Raises DamagedFile when the file is missing or has another size, StorageError, what `prepare` raises.
        """
        path = self._prefix + located.file
        async with _opened(
            self._readers.start(lambda: DataSetFile.open(path, located, self._readers, prepare))
        ) as file:
            yield file

    async def examine(self, located: Located, job: Callable[[BinaryIO], T]) -> T:
        """Open a data set, run `job` with it, close it: all in one go on one thread.

        The file stands at the first byte of the data set. Raises as `open_file` does, and what `job` raises.
        """
        path = self._prefix + located.file

        def examine() -> T:
            file = DataSetFile.open(path, located, self._readers, None)
            try:
                return file.run_now(job)
            finally:
                file.close_now()

        return await self._readers.run(examine)

    def read_small(
        self, located: Sequence[Located], *, last: bool = False
    ) -> asyncio.Future[list[bytes | DamagedFile]]:
        """Begin to read whole data sets, checked, in one go on one thread: for small ones, a few at a time.

        A damaged one is given as a DamagedFile in its place; the others do not suffer. `last` as for
        `open_data_set`. Raises StorageError.
        """
        prefix = self._prefix
        return self._readers.start(lambda: [reading.read_whole(prefix + one.file, one, last=last) for one in located])

    def read_cached(self, located: Located, *, last: bool = False) -> bytes | None:
        """Give a small data set at once if that needs no wait for the disk; None otherwise, or if it is damaged. `last`
        as for `open_data_set`.
        """
        return cached.read_cached(self._prefix + located.file, located, last=last)

    async def holds(self, located: Located) -> bool:
        """Say whether the file is there, whole; a small one is also read and its hash compared."""
        return await self._readers.run(lambda: reading.is_whole(self._prefix + located.file, located))

    async def shards(self) -> tuple[list[str], int]:
        """Name the shards, and count what is foreign beside them. Raises StorageError."""
        return await self._look(lambda: (listing.list_shards(self.root), listing.foreign_in_root(self.root)))

    async def list_shard(self, shard: str) -> tuple[list[Found], int]:
        """List a shard's files by name, and count what is foreign in it. Raises StorageError."""
        return await self._look(lambda: listing.list_shard(self.root, shard))

    async def sync_shard(self, shard: str) -> None:
        """Make the names in a shard durable. Raises StorageError."""
        await self._look(lambda: sync_folder(self._disk, f"{self._prefix}{shard}"))

    async def preface_of(self, file: str) -> StoredPreface:
        """Read what a file says of itself. Raises ForeignFile, StorageError."""
        return await self._readers.run(lambda: listing.preface_of(self.path_of(file)))

    async def confirm(self, located: Located) -> None:
        """Flush a file that an earlier process wrote, and compare what the disk has with the hash. Raises
        DamagedFile.
        """
        path = self.path_of(located.file)

        def job() -> None:
            listing.make_durable(path, located.file)
            listing.check_content(path, located)

        await self._writers.run(job)

    async def put_aside(self, file: str) -> None:
        """Move a file that is of no use, but must not be deleted, to lost+found/. Raises StorageError."""
        path = self.path_of(file)
        await self._look(lambda: self._disk.rename(str(path), str(self.lost / path.name)))

    async def remove(self, file: str) -> None:
        """Unlink a file that was never acknowledged, or whose content another file holds. Raises StorageError."""
        await self._look(lambda: self._disk.unlink(f"{self._prefix}{file}"))

    async def _look(self, job: Callable[[], T]) -> T:
        try:
            return await self._writers.run(job)
        except OSError as error:
            raise storage_error("cannot work on the store", error) from error

    def _prepare(self) -> tuple[int, int]:
        """Give the newest shard and how many names are in it."""
        try:
            for folder in (self.root, self.suspect, self.lost):
                folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self.root.chmod(FOLDER_MODE)
            spread_subfolders(str(self.root))
            sync_folder(self._disk, str(self.root.parent))
            shards = listing.list_shards(self.root)
            if not shards:
                return 1, 0
            newest = shards[-1]
            return int(newest), sum(1 for _ in (self.root / newest).iterdir())
        except OSError as error:
            raise storage_error(f"cannot open the store {self.root}", error) from error

    def _set_suspect(self, blank: Blank) -> None:
        """Put a file that an I/O error hit aside, so that nothing takes it for an instance (D9). Runs on a thread."""
        name = Path(blank.file).name
        try:
            self._disk.rename(blank.path, str(self.suspect / name))
        except OSError as error:
            log.error("suspect file not set aside", file=blank.file, problem=error.strerror)
            try:
                self._disk.unlink(blank.path)
            except OSError as again:
                log.error("suspect file not removed", file=blank.file, problem=again.strerror)
        else:
            log.error("file set aside after an I/O error", file=blank.file, now=f"{SUSPECT_FOLDER}/{name}")


@asynccontextmanager
async def _opened(opening: asyncio.Future[Opened]) -> AsyncIterator[Opened]:
    """Wait for a file that is being opened, and close it at the end, also when nobody waits any more."""
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise
    try:
        yield file
    finally:
        await file.close()


def _close_unwanted(opening: asyncio.Future[Opened]) -> None:
    """A courier or request was cancelled while its file was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close_soon()
