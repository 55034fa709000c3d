"""What came of a batch of operations, and what SQLite's errors mean for it (D9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from router.errors import StorageError
from router.journal.connection import WritingConnection

Operation = Callable[[WritingConnection], Any]
Outcome = tuple[Any, BaseException | None]


class CommitUnknown(StorageError):
    """A commit failed: whether it is on the disk is not known (D9). `fatal` when the journal could not be opened
    again.
    """

    def __init__(self, problem: str, *, fatal: bool = False):
        self.fatal = fatal
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One outcome for each operation, result or exception; `failure` when the commit failed."""

    outcomes: Sequence[Outcome]
    failure: CommitUnknown | None = None


def nothing_written(operations: int, error: sqlite3.Error) -> BatchReport:
    """Report on a batch that SQLite undid as a whole."""
    problem = for_the_caller(error)
    damaged = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    failure = CommitUnknown(f"journal damaged: {error}", fatal=True) if damaged else None
    return BatchReport([(None, problem)] * operations, failure)


def spoils_all(error: sqlite3.Error) -> bool:
    """Whether the database as a whole is to blame, not what the operation asked for. Errors of Python's own have no
    code.
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_READONLY,
    )


def for_the_caller(error: Exception) -> Exception:
    """Put an error of SQLite into our words; others are the operation's own."""
    if not isinstance(error, sqlite3.Error):
        return error
    problem = StorageError(f"journal: {error}; nothing was written")
    problem.__cause__ = error
    return problem
