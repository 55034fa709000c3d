"""One instance on its way to the disk: gathered, hashed, written, sealed, flushed. The event loop never touches the
disk.

A small instance costs one job on a thread: hash, one write, `written` is told, fdatasync, `flushed` is told. A
large one is written in blocks while the next block is gathered. D2, D9.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

import structlog

from router.dicom.part10 import Preface
from router.errors import StorageError
from router.store.blanks import Blank, Blanks
from router.store.disk import Disk, NoSpace, storage_error, write_all
from router.store.stored import StoredFile
from router.store.workers import Workers, settle, tell

log = structlog.get_logger()

BLOCK_BYTES: Final = 256 * 1024
"""Gathered before a thread is troubled. Two blocks are the most that one connection holds in memory (invariant 7)."""
SYNC_BYTES: Final = 64 * 1024**2
"""A large instance is flushed every so often while it comes in, so that its answer does not wait for gigabytes at
the end.
"""


class Writer:
    """Write chunks, then `finish`, then `flush`; or `discard`. One task at a time. Not durable before `flush`
    returned.
    """

    __slots__ = (
        "_blank",
        "_blanks",
        "_buffer",
        "_disk",
        "_flushed",
        "_hash",
        "_length",
        "_preface",
        "_spilling",
        "_suspect",
        "_unsynced",
        "_workers",
        "_written",
    )

    def __init__(
        self, preface: Preface, blanks: Blanks, disk: Disk, workers: Workers, suspect: Callable[[Blank], None]
    ):
        self._preface, self._blanks, self._disk, self._workers, self._suspect = preface, blanks, disk, workers, suspect
        self._buffer = bytearray(preface.data)
        self._length = -len(preface.data)
        self._blank: Blank | None = None
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._spilling: asyncio.Future[StorageError | None] | None = None
        self._written: asyncio.Future[StoredFile | StorageError] | None = None
        self._flushed: asyncio.Future[StorageError | None] | None = None

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take data-set bytes; they are copied. Raises StorageError, NoSpace when the disk is full; then `discard`."""
        self._buffer += chunk
        if len(self._buffer) >= BLOCK_BYTES:
            await self._spill()

    async def finish(self) -> StoredFile:
        """Give the file, all bytes written and sealed; its flush goes on meanwhile. Raises StorageError; then
        `discard`.
        """
        if self._blank is None:
            self._blank = await self._blanks.take()
        await self._spilled()
        loop = asyncio.get_running_loop()
        self._written, self._flushed = loop.create_future(), loop.create_future()
        self._workers.submit(lambda: self._complete(loop))
        outcome = await self._written
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    async def flush(self) -> None:
        """Wait until the file is on the disk. Raises StorageError; the file is then in suspect/, and is never
        flushed again.
        """
        assert self._flushed is not None, "finish first"
        flushed = self._flushed
        problem = flushed.result() if flushed.done() else await asyncio.shield(flushed)
        if problem is not None:
            raise problem

    async def discard(self) -> None:
        """Unlink the file. Safe at any time before the instance is journalled, and twice; never raises."""
        self._buffer = bytearray()
        if self._spilling is not None:
            await asyncio.shield(self._spilling)
        if self._flushed is not None:
            await asyncio.shield(self._flushed)
        blank, self._blank = self._blank, None
        if blank is not None:
            closed = self._flushed is not None
            await self._workers.run(lambda: self._remove(blank, closed))

    async def _spill(self) -> None:
        """Hand the gathered block to a thread; at most one is under way."""
        await self._spilled()
        if self._blank is None:
            self._blank = await self._blanks.take()
        block, self._buffer = self._buffer, bytearray()
        loop = asyncio.get_running_loop()
        spilling = self._spilling = loop.create_future()
        blank = self._blank

        def job() -> None:
            try:
                self._write_block(blank.fd, block)
                if self._unsynced >= SYNC_BYTES:
                    self._unsynced = 0
                    self._disk.fdatasync(blank.fd)
            except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
                tell(loop, settle, spilling, self._failed(blank, "cannot write an instance", error))
            else:
                tell(loop, settle, spilling, None)

        self._workers.submit(job)

    async def _spilled(self) -> None:
        """Wait for the block under way."""
        if self._spilling is not None:
            problem = await asyncio.shield(self._spilling)
            if problem is not None:
                raise problem

    # From here on everything runs on a thread, one job at a time.

    def _write_block(self, fd: int, block: bytearray) -> None:
        with memoryview(block) as view:
            # the preface, in the first block, is not part of the hash
            self._hash.update(view[len(self._preface.data) :] if self._length < 0 else view)
        write_all(self._disk, fd, block)
        self._length += len(block)
        self._unsynced += len(block)

    def _complete(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._blank is not None
        assert self._written is not None
        assert self._flushed is not None
        blank = self._blank
        try:
            stored = self._seal(blank)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
            self._close(blank.fd)
            problem = self._failed(blank, "cannot write an instance", error)
            tell(loop, settle, self._flushed, problem)
            tell(loop, settle, self._written, problem)
            return
        tell(loop, settle, self._written, stored)
        try:
            try:
                self._disk.fdatasync(blank.fd)
            except BaseException:
                self._close(blank.fd)
                raise
            self._disk.close(blank.fd)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
            self._suspect(blank)
            tell(loop, settle, self._flushed, storage_error("cannot flush an instance", error))
        else:
            tell(loop, settle, self._flushed, None)

    def _failed(self, blank: Blank, doing: str, error: Exception) -> StorageError:
        """A full disk leaves nothing behind; a file that an I/O error hit is kept aside and never used again (D9)."""
        problem = storage_error(doing, error)
        if not isinstance(problem, NoSpace):
            self._suspect(blank)
        return problem

    def _seal(self, blank: Blank) -> StoredFile:
        """Write what is left, then size and hash in their place: in memory while nothing was spilled, else in the
        file.
        """
        offset = len(self._preface.data)
        if self._length < 0:
            self._length += len(self._buffer)
            with memoryview(self._buffer) as view:
                self._hash.update(view[offset:])
            digest = self._hash.digest()
            place, seal = self._preface.seal(self._length, digest)
            self._buffer[place : place + len(seal)] = seal
            write_all(self._disk, blank.fd, self._buffer)
        else:
            self._write_block(blank.fd, self._buffer)
            digest = self._hash.digest()
            place, seal = self._preface.seal(self._length, digest)
            written = self._disk.pwrite(blank.fd, seal, place)
            if written != len(seal):
                raise OSError(f"only {written} of {len(seal)} bytes of the seal written")
        self._buffer = bytearray()
        return StoredFile(blank.file, offset, self._length, digest)

    def _close(self, fd: int) -> None:
        try:
            self._disk.close(fd)
        except OSError as error:
            log.warning("instance file not closed", problem=error.strerror)

    def _remove(self, blank: Blank, closed: bool) -> None:
        if not closed:
            self._close(blank.fd)
        try:
            self._disk.unlink(blank.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("discarded file not removed, the next start will", file=blank.file, problem=error.strerror)
