"""Read data sets back, hashing while reading: what was damaged on the disk never leaves whole (D5, F21 to F23).

Never follows a link, never waits on a FIFO, never trusts a size that the file claims.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from router.errors import StorageError
from router.store.disk import let_go
from router.store.stored import Located
from router.store.workers import Workers, forget

T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
"""Read in one go while a courier sends the one before."""
SMALL_BYTES: Final = 1024 * 1024
"""Data sets up to this size are read whole, in one job."""
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DAMAGE: Final = frozenset(
    {errno.ENOENT, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EBADMSG}
)
"""Errors that say that this file is not readable, as opposed to all files just now."""


class DamagedFile(StorageError):
    """A stored file is missing or is not what was received. It must not be sent (D5, D8)."""

    def __init__(self, file: str, problem: str):
        self.file, self.problem = file, problem
        super().__init__(f"{file}: {problem}")


class DataSetReader:
    """The chunks of one data set, read one ahead. Made by `Store.open_data_set`."""

    def __init__(self, fd: int, located: Located, workers: Workers, chunk_bytes: int, *, last: bool):
        self._fd, self._located, self._workers, self._chunk_bytes = fd, located, workers, chunk_bytes
        self._last = last
        self._hash = hashlib.sha256()
        self._left = located.data_set_bytes
        self._ahead: asyncio.Future[bytes] | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str, located: Located, workers: Workers, chunk_bytes: int, *, last: bool) -> DataSetReader:
        """Open the file and check its size. What was read whole for the `last` time leaves the system's memory with
        `close`. Runs on a thread. Raises DamagedFile, StorageError.
        """
        fd = open_checked(path, located)
        os.lseek(fd, located.data_set_offset, os.SEEK_SET)
        return cls(fd, located, workers, chunk_bytes, last=last)

    @property
    def data_set_bytes(self) -> int:
        return self._located.data_set_bytes

    async def next(self) -> bytes:
        """Give the next bytes, b"" after the last. Raises DamagedFile instead of giving the last when the hash is
        wrong.
        """
        ahead = self._ahead or self._workers.start(self._read)
        self._ahead = None
        chunk = await ahead
        if self._left:
            self._ahead = self._workers.start(self._read)
        return chunk

    async def close(self) -> None:
        """Close the file, after the read that may be under way. Closes it even when the caller is cancelled."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            forget(ahead)
        await self._workers.run(self._close)

    def close_soon(self) -> None:
        """Close the file without waiting for it."""
        self._workers.submit(self._close)

    def _close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if self._last and self._left == 0:
                let_go(fd)
            os.close(fd)

    def _read(self) -> bytes:
        with self._lock:
            if self._left == 0 or self._fd < 0:
                return b""
            chunk = _read_exactly(self._fd, min(self._chunk_bytes, self._left), self._located.file)
        self._hash.update(chunk)
        self._left -= len(chunk)
        if self._left == 0 and self._hash.digest() != self._located.data_set_sha256:
            raise DamagedFile(self._located.file, "its content is not what was received (SHA-256)")
        return chunk


class DataSetFile:
    """A data set as a file object, for jobs that look for something in it. Made by `Store.open_file`.

    Its hash is not compared: that would mean to read all of it.
    """

    def __init__(self, file: BinaryIO, name: str, workers: Workers):
        self._file, self._start, self._name, self._workers = file, file.tell(), name, workers
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, path: str, located: Located, workers: Workers, prepare: Callable[[BinaryIO], BinaryIO] | None
    ) -> DataSetFile:
        """Open it; runs on a thread. `prepare` gives another file in its place. Raises DamagedFile, StorageError."""
        file: BinaryIO = os.fdopen(open_checked(path, located), "rb")
        try:
            file.seek(located.data_set_offset)
            if prepare is not None:
                with file:
                    file = prepare(file)
        except OSError as error:
            file.close()
            raise _read_error(located.file, error) from error
        except BaseException:
            file.close()
            raise
        return cls(file, located.file, workers)

    async def run(self, job: Callable[[BinaryIO], T]) -> T:
        """Run `job` on a thread with the file, which stands at the first byte of the data set; one job at a time.

        Raises DamagedFile, StorageError, and what `job` raises.
        """
        return await self._workers.run(lambda: self.run_now(job))

    def run_now(self, job: Callable[[BinaryIO], T]) -> T:
        """Do what `run` does, on the calling thread, which must not be the loop's."""
        with self._lock:
            if self._file.closed:
                raise StorageError(f"{self._name}: already closed")
            try:
                self._file.seek(self._start)
                return job(self._file)
            except OSError as error:
                raise _read_error(self._name, error) from error

    async def close(self) -> None:
        """Close the file, after the job that may be under way. Closes it even when the caller is cancelled."""
        await self._workers.run(self.close_now)

    def close_now(self) -> None:
        """Close the file. Runs on a thread."""
        with self._lock:
            self._file.close()

    def close_soon(self) -> None:
        """Close the file without waiting for it."""
        self._workers.submit(self.close_now)


def read_whole(path: str, located: Located, *, last: bool = False) -> bytes | DamagedFile:
    """Read and check a data set at once; for the `last` time, it then leaves the system's memory. Raises
    StorageError.
    """
    try:
        fd = open_checked(path, located)
        try:
            os.lseek(fd, located.data_set_offset, os.SEEK_SET)
            content = _read_exactly(fd, located.data_set_bytes, located.file)
            if last:
                let_go(fd)
        finally:
            os.close(fd)
    except DamagedFile as damage:
        return damage
    if hashlib.sha256(content).digest() != located.data_set_sha256:
        return DamagedFile(located.file, "its content is not what was received (SHA-256)")
    return content


def is_whole(path: str, located: Located) -> bool:
    """Say whether the file is there with its right size and, up to SMALL_BYTES, its right content. Raises
    StorageError.
    """
    if located.data_set_bytes <= SMALL_BYTES:
        return not isinstance(read_whole(path, located), DamagedFile)
    try:
        os.close(open_checked(path, located))
    except DamagedFile:
        return False
    return True


def open_checked(path: str, located: Located) -> int:
    """Open a stored file for reading if it is a plain file of the right size. Raises DamagedFile, StorageError."""
    try:
        fd = os.open(path, READ_FLAGS)
    except OSError as error:
        raise _read_error(located.file, error) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise DamagedFile(located.file, "not a file")
    expected = located.data_set_offset + located.data_set_bytes
    if status.st_size != expected:
        os.close(fd)
        raise DamagedFile(located.file, f"{status.st_size} bytes instead of {expected}")
    return fd


def _read_exactly(fd: int, wanted: int, file: str) -> bytes:
    try:
        content = os.read(fd, wanted)
        while len(content) < wanted:
            more = os.read(fd, wanted - len(content))
            if not more:
                raise DamagedFile(file, "shorter than it was when it was opened")
            content += more
    except OSError as error:
        raise _read_error(file, error) from error
    return content


def _read_error(file: str, error: OSError) -> StorageError:
    problem = error.strerror or str(error)
    return DamagedFile(file, problem) if error.errno in _DAMAGE else StorageError(f"cannot read {file}: {problem}")
