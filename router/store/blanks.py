"""Empty files made ahead, names already durable, so that storing an instance costs one flush instead of two.

Creating a file and flushing its folder takes longer than flushing the file: on the development disk one association
waits 370 µs for create + write + fdatasync + fsync(folder), and 180 µs when the name is there already. One folder
flush serves a whole batch. What a crash leaves behind has no bytes in it; the sweep takes it away.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from router.errors import StorageError
from router.store.disk import Disk, storage_error, sync_folder
from router.store.workers import Workers, settle, tell

log = structlog.get_logger()

BATCH: Final = 32
"""Blanks made at once, by one job with one folder flush: 2 ms of work; more would hold up the flushes beside it."""
LOW_WATER: Final = 32
"""A new batch is begun when fewer are left; more than any burst takes while a batch is made on a disk of 25 ms a
flush.
"""
SHARD_FILES: Final = 4096
"""Most files in one folder: listings stay short, and one folder flush serves many."""
CREATE_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Blank:
    """An open, empty file. `file` is its name relative to the store, `path` the whole of it."""

    fd: int
    file: str
    path: str


class Blanks:
    """The stock of blanks of one store. Everything but `_make` runs on the event loop."""

    def __init__(self, root: Path, disk: Disk, workers: Workers, shard: int, files_in_shard: int):
        self._root, self._disk, self._workers = str(root), disk, workers
        self._shard, self._files_in_shard = shard, files_in_shard
        self._stock: deque[Blank] = deque()
        self._waiting: deque[asyncio.Future[Blank | StorageError]] = deque()
        self._making: asyncio.Future[None] | None = None
        self._closed = False

    async def take(self) -> Blank:
        """Give out a blank; the taker owns its descriptor. Raises StorageError (NoSpace when the disk or its inodes
        are used up).
        """
        if self._closed:
            raise StorageError("the store is closed")
        if len(self._stock) < LOW_WATER:
            self._make_more()
        if self._stock:
            return self._stock.popleft()
        waiter: asyncio.Future[Blank | StorageError] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and isinstance(given := waiter.result(), Blank):
                self._stock.append(given)
            raise
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Take what is left off the disk again. Nothing may be taken afterwards."""
        self._closed = True
        if self._making is not None:
            await asyncio.shield(self._making)
        rest = list(self._stock)
        self._stock.clear()
        await self._workers.run(lambda: self._remove(rest))

    def _make_more(self) -> None:
        if self._making is not None or self._closed:
            return
        loop = asyncio.get_running_loop()
        self._making = loop.create_future()

        def job() -> None:
            blanks, problem = self._make()
            tell(loop, self._made, blanks, problem)

        self._workers.submit(job)

    def _made(self, blanks: list[Blank], problem: StorageError | None) -> None:
        making, self._making = self._making, None
        if making is not None:
            settle(making, None)
        self._stock.extend(blanks)
        while self._waiting and self._stock:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(self._stock.popleft())
        if problem is not None:
            while self._waiting:
                settle(self._waiting.popleft(), problem)
        elif self._waiting:
            self._make_more()

    def _make(self) -> tuple[list[Blank], StorageError | None]:
        """Create a batch in the current folder and flush the folder; on a failure give out none. Runs on a thread,
        one at a time.
        """
        blanks: list[Blank] = []
        try:
            if self._files_in_shard + BATCH > SHARD_FILES:
                self._shard, self._files_in_shard = self._shard + 1, 0
            folder = f"{self._root}/{self._shard:06d}"
            if self._files_in_shard == 0:
                self._make_folder(folder)
            for _ in range(BATCH):
                name = new_name()
                path = f"{folder}/{name}"
                blanks.append(Blank(self._disk.open(path, CREATE_FLAGS, FILE_MODE), f"{self._shard:06d}/{name}", path))
            sync_folder(self._disk, folder)
        except OSError as error:
            self._remove(blanks)
            return [], storage_error("cannot create a file in the store (space or inodes)", error)
        self._files_in_shard += BATCH
        return blanks, None

    def _make_folder(self, folder: str) -> None:
        try:
            self._disk.mkdir(folder, FOLDER_MODE)
        except FileExistsError:
            return
        sync_folder(self._disk, self._root)

    def _remove(self, blanks: list[Blank]) -> None:
        for blank in blanks:
            try:
                self._disk.close(blank.fd)
                self._disk.unlink(blank.path)
            except OSError as error:
                log.warning("blank not removed", file=blank.file, problem=error.strerror)


def new_name() -> str:
    """Make a file name of 32 hexadecimal digits: 64 bits of time, so that names sort as they were made (the journal's
    index grows at its end, a rebuild goes in order of arrival), and 64 random bits.
    """
    return f"{time.time_ns() & 0xFFFF_FFFF_FFFF_FFFF:016x}{os.urandom(8).hex()}.dcm"
