"""What happens on the writer's thread: whole transactions, checkpoints, and what to do when the disk fails under
them (D7, D9, D10).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosqlite
import structlog

from router.errors import StorageError
from router.journal.connection import (
    FILE_NAME,
    WAL_LIMIT_BYTES,
    JournalDamaged,
    WritingConnection,
    check_soundness,
    open_for_writing,
    set_aside,
    set_aside_stray_log,
)
from router.journal.outcomes import (
    BatchReport,
    CommitUnknown,
    Operation,
    Outcome,
    for_the_caller,
    nothing_written,
    spoils_all,
)
from router.journal.readers import CHUNK_ROWS, start
from router.journal.reserve import Reserve

log = structlog.get_logger()

CHECKPOINT_TRANSACTIONS: Final = 96
"""Transactions between checkpoints: 4 MiB of write-ahead log at 11 pages an acceptance, 0.7 ms to copy.

Python has no way to ask SQLite how long the log is, and its file does not shrink when it is written from the start
again.
"""
LONG_LOG_BYTES: Final = 256 * 1024**2
"""A write-ahead log beyond this means that some reader keeps it from being cut back."""


@dataclass(frozen=True, slots=True)
class Opened:
    """How the journal was found. `set_aside` is where a damaged one was moved; the store has all that is needed to
    make a new one.

    `clean` says that the last run stopped in order, `last_start` when it began (Unix seconds, 0 when there was
    none).
    """

    clean: bool
    last_start: int
    set_aside: Path | None


class _RolledBack(Exception):
    """None of the transaction is there, and the database as a whole is to blame."""

    def __init__(self, error: sqlite3.Error):
        self.error = error


class _OperationFailed(Exception):
    """None of the transaction is there, because of one operation; the others may do without it."""


class Writer(aiosqlite.Connection):
    """aiosqlite's connection and thread, given one whole transaction at a time."""

    def __init__(self, state: Path):
        super().__init__(self._connect_writer, CHUNK_ROWS)
        self._state = state
        self._file = state / FILE_NAME
        self._log_file = f"{self._file}-wal"
        self._reserve = Reserve(state)
        self._uncopied = 0
        self._opened = Opened(clean=True, last_start=0, set_aside=None)

    async def open(self) -> Opened:
        """Start the thread and open the journal on it. Raises StorageError, JournalTooNew."""
        await start(self)
        return self._opened

    def hand_over(self, take: Callable[[], Sequence[Operation]], done: Callable[[BatchReport], bool]) -> None:
        """Run what `take` gives on the thread and tell `done` there; then see whether a checkpoint is due, and do all
        that again when `done` said so. May be called on any thread.
        """

        def work() -> None:
            operations = take()
            try:
                report = self._transact(operations)
            except BaseException as error:  # noqa: BLE001 - the edge of the writer's thread: nobody may wait for ever
                failure = CommitUnknown(f"journal writer failed: {error}", fatal=True)
                failure.__cause__ = error
                report = BatchReport([(None, failure)] * len(operations), failure)
            again = done(report)
            self._uncopied += 1
            if self._uncopied >= CHECKPOINT_TRANSACTIONS:
                self._checkpoint("PASSIVE")
            if again:
                self._tx.put_nowait((None, work))

        self._tx.put_nowait((None, work))

    def tidy(self) -> None:
        """Nothing happened for a while: copy what is in the log into the database, and cut a long log back."""

        def work() -> None:
            if self._uncopied:
                self._checkpoint("PASSIVE")
            if self._log_bytes() > WAL_LIMIT_BYTES:
                self._checkpoint("TRUNCATE")
            self._reserve.restore()

        self._tx.put_nowait((None, work))

    async def close(self, *, clean: bool = True) -> None:
        """Mark a clean stop, empty the log and close."""
        if clean:
            await self._execute(self._mark_clean)  # type: ignore[no-untyped-call]
        await super().close()

    # From here on everything runs on the thread.

    def _connect_writer(self) -> WritingConnection:
        aside = set_aside_stray_log(self._state)
        try:
            conn = open_for_writing(self._file)
            try:
                check_soundness(conn, self._file)
            except BaseException:
                conn.close()
                raise
        except JournalDamaged as error:
            aside = set_aside(self._state)
            log.error("journal damaged, set aside", problem=str(error), set_aside=str(aside))
            conn = open_for_writing(self._file)
        self._reserve.restore()
        counters = dict(conn.execute("SELECT name, value FROM counter").fetchall())
        self._opened = Opened(bool(counters.get("clean", 0)), counters.get("started_at", 0), aside)
        conn.execute("INSERT OR REPLACE INTO counter VALUES ('clean', 0), ('started_at', ?)", (int(time.time()),))
        log.info("journal open", sqlite=sqlite3.sqlite_version, clean=self._opened.clean)
        return conn

    def _transact(self, operations: Sequence[Operation]) -> BatchReport:
        """Run a batch, again without its faulty operations or with the reserve's space where that helps."""
        careful = False
        while True:
            try:
                return BatchReport(self._attempt(operations, careful))
            except CommitUnknown as failure:
                return BatchReport([(None, failure)] * len(operations), failure)
            except _OperationFailed:
                careful = True
            except _RolledBack as rolled_back:
                error = rolled_back.error
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserve.release():
                    return nothing_written(len(operations), error)
                log.error("journal disk full, reserve released", reserve=str(self._reserve.path))

    def _attempt(self, operations: Sequence[Operation], careful: bool) -> list[Outcome]:
        """Run one transaction, with a savepoint for each operation when `careful`.

        Raises _OperationFailed when one failed and it was not careful, _RolledBack when SQLite undid everything,
        CommitUnknown.
        """
        conn = self._writing
        try:
            conn.execute("BEGIN IMMEDIATE")
            if careful:
                outcomes = [self._run_in_savepoint(conn, operation) for operation in operations]
            else:
                outcomes = [(operation(conn), None) for operation in operations]
        except Exception as error:
            self._roll_back(conn)
            if isinstance(error, sqlite3.Error) and spoils_all(error):
                raise _RolledBack(error) from error
            if careful:
                raise
            raise _OperationFailed from error
        try:
            conn.execute("COMMIT")
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                self._roll_back(conn)
                raise _RolledBack(error) from error
            raise self._reopen(error) from error
        return outcomes

    def _run_in_savepoint(self, conn: WritingConnection, operation: Operation) -> Outcome:
        conn.execute("SAVEPOINT operation")
        try:
            result = operation(conn)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and (spoils_all(error) or not conn.in_transaction):
                raise
            conn.memory.forget()
            conn.execute("ROLLBACK TO operation")
            conn.execute("RELEASE operation")
            return None, for_the_caller(error)
        conn.execute("RELEASE operation")
        return result, None

    def _roll_back(self, conn: WritingConnection) -> None:
        conn.memory.forget()
        if conn.in_transaction:
            conn.execute("ROLLBACK")

    def _reopen(self, error: sqlite3.Error) -> CommitUnknown:
        """After a failed commit: a new connection, and no trust in what the page cache says of the log."""
        problem = f"commit failed: {error}"
        try:
            self._writing.close()
            _drop_cached_pages(self._log_file)
            self._connection = open_for_writing(self._file)
        except (sqlite3.Error, OSError, StorageError) as again:
            return CommitUnknown(f"{problem}; cannot open it again: {again}", fatal=True)
        return CommitUnknown(problem)

    def _checkpoint(self, kind: str) -> None:
        self._uncopied = 0
        try:
            self._writing.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
        except sqlite3.Error as error:
            log.error("journal checkpoint failed, the log grows until one works", problem=str(error))
        if (size := self._log_bytes()) > LONG_LOG_BYTES:
            log.error("journal log cannot be cut back, something reads for long", bytes=size)

    def _log_bytes(self) -> int:
        try:
            return Path(self._log_file).stat().st_size
        except OSError:
            return 0

    def _mark_clean(self) -> None:
        try:
            self._writing.execute("UPDATE counter SET value = 1 WHERE name = 'clean'")
        except sqlite3.Error as error:
            log.error("clean stop not noted", problem=str(error))
        self._checkpoint("TRUNCATE")

    @property
    def _writing(self) -> WritingConnection:
        conn = self._conn
        assert isinstance(conn, WritingConnection)
        return conn


def _drop_cached_pages(log_file: str) -> None:
    """What could not be written may still be in the page cache, looking sound. Only the log: closing a descriptor
    of the database file itself would drop SQLite's locks on it.
    """
    try:
        fd = os.open(log_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # closing the last connection emptied the log into the database
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
