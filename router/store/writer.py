"""One instance on its way to the disk: gathered, written, sealed, flushed. The event loop never touches the disk.

A small instance costs one job on a thread: hash, one write, then fdatasync while the journal commits beside it. A large
one is hashed and written in blocks while the next ones are gathered, so that its flush has little left to wait for. D2,
D9.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import structlog

from router.dicom.part10 import Preface
from router.errors import StorageError
from router.store.blanks import Blank, Blanks
from router.store.blocks import Gathering, Slabs
from router.store.content import Content
from router.store.disk import Disk, NoSpace, storage_error
from router.store.stored import StoredFile
from router.store.workers import Workers, settle, tell

log = structlog.get_logger()

T = TypeVar("T")

MAX_BLOCKS: Final = 1
"""Blocks of one instance that may wait for their thread; with the one being written and the one being gathered they are
all that one connection holds in memory (invariant 7).
"""

Done = Callable[[T | None, BaseException | None], None]
"""Told what came of something, result or error, once, on any thread."""
Beside = Callable[[StoredFile, Done[T]], None]
"""Begins what may run beside the flush, on a thread of the store, and does not wait for it. What it raises itself is
its outcome.
"""


class Writer:
    """Write chunks, then `finish` or `finish_beside`, then `flush`; or `discard`. One task at a time. Not durable
    before `flush` returned.
    """

    __slots__ = (
        "_beside",
        "_blank",
        "_blanks",
        "_blocks",
        "_content",
        "_disk",
        "_finishing",
        "_flush_problem",
        "_flushed",
        "_gathering",
        "_lock",
        "_loop",
        "_outcome",
        "_preface",
        "_problem",
        "_result",
        "_slabs",
        "_suspect",
        "_under_way",
        "_waiter",
        "_wanted",
        "_workers",
        "_working",
    )

    def __init__(
        self,
        preface: Preface,
        blanks: Blanks,
        slabs: Slabs,
        disk: Disk,
        workers: Workers,
        suspect: Callable[[Blank], None],
    ):
        self._preface, self._blanks, self._slabs, self._disk = preface, blanks, slabs, disk
        self._workers, self._suspect = workers, suspect
        self._loop = asyncio.get_running_loop()
        self._gathering = Gathering(preface.data, slabs)
        self._blank: Blank | None = None
        self._beside: Beside[Any] | None = None
        self._flushed: asyncio.Future[StorageError | None] | None = None
        self._outcome: asyncio.Future[tuple[Any, BaseException | None]] | None = None
        self._content: Content | None = None
        self._wanted = True
        # shared with the thread, under the lock
        self._lock = threading.Lock()
        self._blocks: deque[memoryview] = deque()
        self._working = self._finishing = False
        self._problem: StorageError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._under_way = 2  # the flush, and what goes on beside it
        self._flush_problem: StorageError | None = None
        self._result: tuple[object, BaseException | None] = None, None

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take data-set bytes; they are copied. Raises StorageError, NoSpace when the disk is full; then `discard`."""
        rest = self._gathering.add(chunk)
        while rest is not None:
            if self._blank is None:
                self._blank = await self._blanks.take()
            await self._until(lambda: len(self._blocks) < MAX_BLOCKS or self._problem is not None)
            if self._problem is not None:
                raise self._problem
            self._pass_on(self._gathering.take())
            rest = self._gathering.add(rest)

    async def finish(self) -> StoredFile:
        """Give the file when it is written, sealed, and its flush over; `flush` tells what became of that. Raises
        StorageError; then `discard`.
        """
        return await self.finish_beside(_nothing_beside)

    async def finish_beside(self, beside: Beside[T], *, wanted: bool = True) -> T:
        """Write, seal and flush; when all bytes are written, begin `beside`, and return its result when both are over.
        What is not `wanted` soon does not stay in the system's memory.

        `flush` then tells what became of the flush. Raises StorageError when the bytes were not written (`beside` is
        then not begun) and what `beside` ended with; in both cases the flush is over, `discard` then. Cancelling does
        not stop it.
        """
        if self._blank is None:
            self._blank = await self._blanks.take()
        self._flushed = self._loop.create_future()
        outcome = self._outcome = self._loop.create_future()
        self._beside, self._wanted = beside, wanted
        self._pass_on(self._gathering.take(), finishing=True)
        result, error = await outcome
        if error is not None:
            raise error
        return cast(T, result)

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
        self._gathering.drop()
        await self._until(lambda: not self._working)
        blank, self._blank = self._blank, None
        if blank is not None:
            closed = self._flushed is not None
            await self._workers.run(lambda: self._remove(blank, closed))

    def _pass_on(self, block: memoryview, *, finishing: bool = False) -> None:
        """Give a block to the thread that writes this instance's, or to a new one when there is none."""
        with self._lock:
            self._blocks.append(block)
            self._finishing = finishing
            begin = not self._working
            self._working = True
        if begin:
            self._workers.submit(self._work)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the thread does."""
        while True:
            with self._lock:
                if condition():
                    return
                waiter = self._waiter = self._loop.create_future()
            await waiter

    # From here on everything but `_tell_both` runs on a thread, one at a time; what runs beside ends on its own.

    def _work(self) -> None:
        """Write what there is, and what comes meanwhile."""
        blank = self._blank
        assert blank is not None
        while True:
            with self._lock:
                block = self._blocks.popleft() if self._blocks else None
                self._working = block is not None
                last = self._finishing and not self._blocks
                waiter, self._waiter = self._waiter, None
            if waiter is not None:
                tell(self._loop, settle, waiter, None)
            if block is None:
                return
            if last:
                self._complete(blank, block)
            elif self._problem is None:
                self._write_on(blank, block)
            self._slabs.give_back(block)

    def _write_on(self, blank: Blank, block: memoryview) -> None:
        try:
            self._content_of(blank).write(block)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
            self._problem = self._failed(blank, "cannot write an instance", error)

    def _content_of(self, blank: Blank) -> Content:
        if self._content is None:
            self._content = Content(self._preface, self._disk, blank.fd)
        return self._content

    def _complete(self, blank: Blank, block: memoryview) -> None:
        """Write the last block and seal; begin what goes on beside, and flush."""
        problem = self._problem
        if problem is None:
            try:
                size, digest = self._content_of(blank).seal(block)
            except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
                problem = self._failed(blank, "cannot write an instance", error)
        if problem is not None:
            self._close(blank.fd)
            self._end_flush(problem)
            self._end_beside(None, problem)
            return
        assert self._beside is not None
        stored = StoredFile(blank.file, len(self._preface.data), size, digest)
        try:
            self._beside(stored, self._end_beside)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
            self._end_beside(None, error)
        try:
            try:
                self._disk.fdatasync(blank.fd)
                if not self._wanted:
                    self._disk.let_go(blank.fd)
            except BaseException:
                self._close(blank.fd)
                raise
            self._disk.close(blank.fd)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: somebody waits
            self._suspect(blank)
            self._end_flush(storage_error("cannot flush an instance", error))
        else:
            self._end_flush(None)

    def _end_flush(self, problem: StorageError | None) -> None:
        self._flush_problem = problem
        self._end_one()

    def _end_beside(self, result: object, error: BaseException | None) -> None:
        self._result = result, error
        self._end_one()

    def _end_one(self) -> None:
        """Tell the loop when both have ended: one wake-up for the two of them."""
        with self._lock:
            self._under_way -= 1
            both = not self._under_way
        if both:
            tell(self._loop, self._tell_both)

    def _tell_both(self) -> None:
        """Release who waits. Runs on the loop."""
        assert self._flushed is not None
        assert self._outcome is not None
        settle(self._flushed, self._flush_problem)
        settle(self._outcome, self._result)

    def _failed(self, blank: Blank, doing: str, error: Exception) -> StorageError:
        """A full disk leaves nothing behind; a file that an I/O error hit is kept aside and never used again (D9)."""
        problem = storage_error(doing, error)
        if not isinstance(problem, NoSpace):
            self._suspect(blank)
        return problem

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


def _nothing_beside(stored: StoredFile, done: Done[StoredFile]) -> None:
    done(stored, None)
