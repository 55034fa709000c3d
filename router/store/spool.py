"""A file without a name for what must be put together before it is an instance: bulk data that comes in parts.

Nothing in it is durable or survives the process; what it holds becomes an instance through a `Writer`, like all others.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from router.errors import StorageError
from router.store.disk import Disk, pwrite_all, storage_error
from router.store.workers import Workers

BLOCK_BYTES: Final = 256 * 1024
"""Gathered before a thread is troubled."""


class Spool:
    """Append with `write`, then read any part of it. One task at a time; reading may go on beside on any thread."""

    def __init__(self, fd: int, disk: Disk, writers: Workers, readers: Workers):
        self._fd, self._disk, self._writers, self._readers = fd, disk, writers, readers
        self._buffer = bytearray()
        self._written = 0
        self._lock = threading.Lock()
        """Held around every use of the descriptor, so that a job that outlives its caller never uses a closed one."""
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes appended so far: the offset of the next."""
        return self._written + len(self._buffer)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append; the bytes are copied. Raises StorageError, NoSpace when the disk is full."""
        self._buffer += chunk
        if len(self._buffer) >= BLOCK_BYTES:
            await self.settle()

    async def settle(self) -> None:
        """Write what was gathered, so that it can be read. Raises StorageError, NoSpace."""
        if not self._buffer:
            return
        block, self._buffer = bytes(self._buffer), bytearray()
        at, self._written = self._written, self._written + len(block)
        await self._writers.run(partial(self._put, at, block))

    async def read(self, offset: int, length: int) -> bytes:
        """Give so many bytes, fewer at the end. Raises StorageError."""
        return await self._readers.run(partial(self.read_now, offset, length))

    def read_now(self, offset: int, length: int) -> bytes:
        """Do what `read` does, on the calling thread, which must not be the loop's."""
        pieces: list[bytes] = []
        with self._lock:
            self._check_open()
            while length > 0:
                try:
                    piece = os.pread(self._fd, length, offset)
                except OSError as error:
                    raise storage_error("cannot read bulk data again", error) from error
                if not piece:
                    break
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close_now(self) -> None:
        """Close it; the system takes its space back. Runs on a thread."""
        with self._lock:
            self._closed = True
            self._disk.close(self._fd)

    def _put(self, at: int, block: bytes) -> None:
        with self._lock:
            self._check_open()
            try:
                pwrite_all(self._disk, self._fd, block, at)
            except OSError as error:
                raise storage_error("cannot keep bulk data", error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("bulk data: already thrown away")


@asynccontextmanager
async def open_spool(folder: Path, disk: Disk, writers: Workers, readers: Workers) -> AsyncIterator[Spool]:
    """Make a file without a name in `folder`, and close it at the end. Raises StorageError, NoSpace."""
    with anyio.CancelScope(shield=True):  # quickly done, and a descriptor that nobody knows is never closed
        fd = await writers.run(partial(_make, folder))
    spool = Spool(fd, disk, writers, readers)
    try:
        yield spool
    finally:
        with anyio.CancelScope(shield=True):
            await writers.run(spool.close_now)


def _make(folder: Path) -> int:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="spool-", buffering=0) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise storage_error("cannot make a file for bulk data", error) from error
