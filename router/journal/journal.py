"""The one writer of the journal: takes all that waits, commits it once, releases all (group commit). Readers beside
it.

A transaction never runs in the task of who asked for it: a cancelled caller cancels nothing (aiosqlite #259). What
a failed commit left behind is unknown and is never guessed (D9).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import structlog

from router.errors import StorageError
from router.journal.connection import FILE_NAME, WritingConnection
from router.journal.lock import StateLock
from router.journal.outcomes import BatchReport, CommitUnknown
from router.journal.readers import Readers
from router.journal.writer import Opened, Writer

log = structlog.get_logger()

T = TypeVar("T")

BATCH_OPERATIONS: Final = 256
"""Most operations in one transaction: some 20 ms of work, so that nobody waits long behind a crowd."""
WAITING_OPERATIONS: Final = 4_096
"""Beyond this many, those who come wait outside. Senders and lanes wait for their answers, so it takes thousands of
them.
"""
LAZY_S: Final = 1.0
"""What is posted rides with the next transaction, or has its own when there was none for so long."""
IDLE_S: Final = 5.0
"""After so long without a transaction what is in the write-ahead log is copied into the database."""
READING_CONNECTIONS: Final = 2
SEARCHING_CONNECTIONS: Final = 2
"""Of their own, so that slow searches of clients never make a lane or a person wait."""
FAILURES_WINDOW_S: Final = 600.0
"""A second failed commit within ten minutes: this disk is not to be trusted, the process ends (D9)."""

Operation = Callable[[WritingConnection], T]
"""What one transaction is to do. It may be run again after a rollback, so it changes nothing but the database."""
Told = Callable[[Any, BaseException | None], None]
"""Told on the writer's thread what came of an operation: its result, or the error."""
Waiting = tuple[Operation[Any], asyncio.Future[Any] | Told | None]


class JournalFailed(StorageError):
    """The journal cannot go on; the process must end (exit code 74) and start again."""


class Journal:
    """Use `async with Journal.open(state)`; run `watch` in the root task group."""

    def __init__(self, path: Path, writer: Writer, opened: Opened, monotonic: Callable[[], float]):
        self.path = path
        self.opened = opened
        self._writer = writer
        self._readers = Readers(path, READING_CONNECTIONS)
        self._searchers = Readers(path, SEARCHING_CONNECTIONS)
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._outside: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._last_failure: float | None = None
        self._failed: asyncio.Future[JournalFailed] = self._loop.create_future()
        # shared with the threads, under the lock
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._notes: list[Waiting] = []
        self._batch: list[Waiting] = []
        self._running = False
        self._last_end = 0.0
        self._still: asyncio.Future[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, state: Path, *, monotonic: Callable[[], float] = time.monotonic) -> AsyncIterator[Journal]:
        """Lock the state folder and open its journal, made when it is new, rebuilt when it is damaged
        (`opened.set_aside`).

        Raises StateInUse, JournalTooNew, StorageError.
        """
        lock = StateLock.take(state)
        try:
            writer = Writer(state)
            opened = await writer.open()
            journal = cls(state / FILE_NAME, writer, opened, monotonic)
            try:
                yield journal
            finally:
                with anyio.CancelScope(shield=True):
                    await journal._close()
        finally:
            lock.release()

    async def write(self, operation: Operation[T]) -> T:
        """Run `operation` in the next transaction and give its result when that is on the disk.

        Raises what `operation` raised (its own changes are then undone, those of others are not), StorageError when
        nothing was written, CommitUnknown when nobody knows. Cancelling the caller does not stop the transaction.
        """
        while len(self._waiting) >= WAITING_OPERATIONS:
            outside: asyncio.Future[None] = self._loop.create_future()
            self._outside.append(outside)
            await outside
        if self._failed.done():
            raise self._failed.result()
        done: asyncio.Future[T] = self._loop.create_future()
        self._put((operation, done))
        return await done

    def hand_in(self, operation: Operation[T], told: Told) -> None:
        """Run `operation` in the next transaction, as `write` does, but for a caller on any thread.

        `told(result, error)` hears what `write` would give or raise, as soon as that is known, on some thread; it must
        not raise, and must not wait.
        """
        if self._failed.done():
            told(None, self._failed.result())
        else:
            self._put((operation, told))

    def post(self, operation: Operation[Any]) -> None:
        """Have `operation` ride with the next transaction. Nobody waits for it; after a failure it may be lost
        (that is logged).
        """
        with self._lock:
            self._notes.append((operation, None))
        self._look_again()

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` in one read transaction on a read-only connection. Raises StorageError; longest two seconds."""
        return await self._readers.read(query)

    async def search(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query that a client asks for, as `read` does. Raises StorageError, QueryTooLong after two seconds."""
        return await self._searchers.read(query)

    async def watch(self) -> None:
        """Wait until the journal cannot go on, then raise JournalFailed. Runs in the root task group."""
        raise await asyncio.shield(self._failed)

    def _put(self, waiting: Waiting) -> None:
        with self._lock:
            self._waiting.append(waiting)
            if self._running:
                return
            self._running = True
        self._writer.hand_over(self._next, self._end)

    def _start(self) -> None:
        """Have a transaction for what waits or was posted, if one is not running."""
        with self._lock:
            if self._running or not (self._waiting or self._notes):
                return
            self._running = True
        self._writer.hand_over(self._next, self._end)

    def _next(self) -> Sequence[Operation[Any]]:
        """Take the next batch, with all that was posted. Runs on the writer's thread."""
        with self._lock:
            batch, self._notes = self._notes, []
            batch += [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_OPERATIONS))]
        self._batch = batch
        return [operation for operation, _ in batch]

    def _end(self, report: BatchReport) -> bool:
        """Release everybody of the batch; say whether to go on with the next. Runs on the writer's thread."""
        batch, self._batch = self._batch, []
        to_loop = report.failure is not None
        for (_, told), (result, error) in zip(batch, report.outcomes, strict=True):
            if isinstance(told, asyncio.Future) or (told is None and error is not None):
                to_loop = True
            elif told is not None:
                told(result, error)
        with self._lock:
            self._last_end = self._loop.time()
            if report.failure is None:
                self._running = bool(self._waiting)
            # else it stays so until the loop has decided whether to go on
            go_on = self._running and report.failure is None
            still = None if self._running else self._still
        if to_loop:
            self._loop.call_soon_threadsafe(self._release, batch, report)
        if still is not None:
            self._loop.call_soon_threadsafe(_settle, still)
        elif self._timer is None:
            self._loop.call_soon_threadsafe(self._look_again)
        return go_on

    def _release(self, batch: Sequence[Waiting], report: BatchReport) -> None:
        """Release those of a batch who wait on the loop."""
        for (_, told), (result, error) in zip(batch, report.outcomes, strict=True):
            if told is None:
                if error is not None:
                    log.warning("journal note lost", problem=str(error))
            elif not isinstance(told, asyncio.Future) or told.done():
                continue
            elif error is None:
                told.set_result(result)
            else:
                told.set_exception(error)
        if report.failure is not None:
            self._go_on_after(report.failure)
        self._let_in(WAITING_OPERATIONS - len(self._waiting))

    def _go_on_after(self, failure: CommitUnknown) -> None:
        """Go on with those who wait, or send them away when the journal is given up."""
        self._count_failure(failure)
        if self._failed.done():
            self._give_up(self._failed.result())
        with self._lock:
            self._running = False
        self._start()
        if self._still is not None and not self._running:
            _settle(self._still)

    def _give_up(self, failed: JournalFailed) -> None:
        """Send everybody away; those who are let in afterwards are told by `write`."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._notes.clear()
        for _, told in waiting:
            if isinstance(told, asyncio.Future):
                if not told.done():
                    told.set_exception(failed)
            elif told is not None:
                told(None, failed)
        self._let_in(len(self._outside))

    def _let_in(self, room: int) -> None:
        for _ in range(min(len(self._outside), room)):
            if not (outside := self._outside.popleft()).done():
                outside.set_result(None)

    def _count_failure(self, failure: CommitUnknown) -> None:
        now = self._monotonic()
        second = self._last_failure is not None and now - self._last_failure < FAILURES_WINDOW_S
        self._last_failure = now
        log.error("journal commit failed, its outcome is unknown", problem=str(failure), fatal=second or failure.fatal)
        if (second or failure.fatal) and not self._failed.done():
            self._failed.set_result(JournalFailed(str(failure)))

    def _look_again(self) -> None:
        """See to it that somebody looks after what was posted, and after the log when nothing more comes."""
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(LAZY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        quiet_s = self._loop.time() - self._last_end
        if self._notes and quiet_s >= LAZY_S:
            self._start()
        elif not self._running and quiet_s >= IDLE_S:
            self._writer.tidy()
            return
        self._look_again()

    async def _close(self) -> None:
        while True:
            self._start()
            with self._lock:
                if not self._running:
                    break
                still = self._still = self._loop.create_future()
            await asyncio.shield(still)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._readers.close()
        await self._searchers.close()
        await self._writer.close(clean=not self._failed.done())


def _settle(still: asyncio.Future[None]) -> None:
    if not still.done():
        still.set_result(None)
