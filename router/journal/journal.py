"""The one writer of the journal: takes all that waits, commits it once, releases all (group commit). Readers beside
it.

A transaction never runs in the task of who asked for it: a cancelled caller cancels nothing (aiosqlite #259). What
a failed commit left behind is unknown and is never guessed (D9).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import structlog

from router.errors import StorageError
from router.journal.connection import FILE_NAME, WritingConnection
from router.journal.lock import StateLock
from router.journal.readers import Readers
from router.journal.writer import BatchReport, CommitUnknown, Opened, Writer

log = structlog.get_logger()

T = TypeVar("T")

BATCH_OPERATIONS: Final = 256
"""Most operations in one transaction: some 20 ms of work, so that nobody waits long behind a crowd."""
WAITING_OPERATIONS: Final = 4_096
"""Beyond this many, those who come wait outside. Senders and lanes wait for their answers, so it takes thousands of
them.
"""
LAZY_S: Final = 1.0
"""What is posted rides with the next transaction, or has its own after so long."""
IDLE_S: Final = 5.0
"""After so long without a transaction what is in the write-ahead log is copied into the database."""
READING_CONNECTIONS: Final = 2
FAILURES_WINDOW_S: Final = 600.0
"""A second failed commit within ten minutes: this disk is not to be trusted, the process ends (D9)."""

Operation = Callable[[WritingConnection], T]
"""What one transaction is to do. It may be run again after a rollback, so it changes nothing but the database."""
Waiting = tuple[Operation[Any], asyncio.Future[Any] | None]


class JournalFailed(StorageError):
    """The journal cannot go on; the process must end (exit code 74) and start again."""


class Journal:
    """Use `async with Journal.open(state)`; run `watch` in the root task group."""

    def __init__(self, path: Path, writer: Writer, opened: Opened, monotonic: Callable[[], float]):
        self.path = path
        self.opened = opened
        self._writer = writer
        self._readers = Readers(path, READING_CONNECTIONS)
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Waiting] = deque()
        self._notes: list[Waiting] = []
        self._outside: deque[asyncio.Future[None]] = deque()
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_failure: float | None = None
        self._failed: asyncio.Future[JournalFailed] = self._loop.create_future()
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
        self._waiting.append((operation, done))
        if not self._running:
            self._start()
        return await done

    def post(self, operation: Operation[Any]) -> None:
        """Have `operation` ride with the next transaction. Nobody waits for it; after a failure it may be lost
        (that is logged).
        """
        self._notes.append((operation, None))
        if not self._running and len(self._notes) == 1:
            self._set_timer(LAZY_S, self._start)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` in one read transaction on a read-only connection. Raises StorageError; longest two seconds."""
        return await self._readers.read(query)

    async def watch(self) -> None:
        """Wait until the journal cannot go on, then raise JournalFailed. Runs in the root task group."""
        raise await asyncio.shield(self._failed)

    def _start(self) -> None:
        """Hand the next batch to the writer's thread, with all that was posted."""
        if self._running or not (self._waiting or self._notes):
            return
        self._set_timer(None)
        self._running = True
        batch, self._notes = self._notes, []
        batch += [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_OPERATIONS))]
        self._writer.hand_over([operation for operation, _ in batch], partial(self._end, batch))

    def _end(self, batch: Sequence[Waiting], report: BatchReport) -> None:
        """Release everybody of a batch and go on with the next. Runs on the loop."""
        self._running = False
        for (_, done), (result, error) in zip(batch, report.outcomes, strict=True):
            if done is None:
                if error is not None:
                    log.warning("journal note lost", problem=str(error))
            elif done.done():
                continue
            elif error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
        if report.failure is not None:
            self._count_failure(report.failure)
        if self._failed.done():
            self._give_up(self._failed.result())
        self._let_in(WAITING_OPERATIONS - len(self._waiting))
        if self._waiting:
            self._start()
            return
        if self._still is not None and not self._still.done():
            self._still.set_result(None)
        if self._notes:
            self._set_timer(LAZY_S, self._start)
        else:
            self._set_timer(IDLE_S, self._writer.tidy)

    def _give_up(self, failed: JournalFailed) -> None:
        """Send everybody away; those who are let in afterwards are told by `write`."""
        for _, done in self._waiting:
            if done is not None and not done.done():
                done.set_exception(failed)
        self._waiting.clear()
        self._notes.clear()
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

    def _set_timer(self, delay_s: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None and callback is not None:
            self._timer = self._loop.call_later(delay_s, callback)

    async def _close(self) -> None:
        while self._running or self._waiting or self._notes:
            self._start()
            self._still = self._loop.create_future()
            await asyncio.shield(self._still)
        self._set_timer(None)
        await self._readers.close()
        await self._writer.close(clean=not self._failed.done())
