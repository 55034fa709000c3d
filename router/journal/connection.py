"""How SQLite is opened: the settings that durability rests on, the schema and its version, and what to do with a
damaged file. An older schema is brought up to date by `migration`.

Never a query of ours. Settings and their reasons: reliability-study 2.3; damaged and newer journals: D10, F24 to
F26.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import structlog

from router.errors import StorageError
from router.journal.migration import migrate
from router.journal.records import SeriesRow, StudyRow

log = structlog.get_logger()

FILE_NAME: Final = "journal.db"
APPLICATION_ID: Final = 0x44524F55
SCHEMA_VERSION: Final = 2
"""Of schema.sql. Whoever changes that, counts this up and writes migrations/NNNN.sql, which a test compares with it."""
CACHE_KIB: Final = 16_384
"""Page cache of the writing connection: the hot ends of all indexes of some ten million rows."""
WAL_LIMIT_BYTES: Final = 64 * 1024**2
"""A longer write-ahead log is cut back when it is next restarted."""
BUSY_MS: Final = 5_000
STATEMENTS: Final = 256
"""Prepared statements kept; all of ours fit."""
REMEMBERED: Final = 1_024
"""Studies, series and send requests whose rows are kept in memory, so that their second instance costs no look-up."""


class JournalTooNew(StorageError):
    """A newer sendrs wrote this journal. Nothing was touched; the command line exits with 78 (F26)."""


class JournalTooOld(StorageError):
    """An older sendrs wrote this journal, and who only looks does not migrate it."""


class JournalDamaged(StorageError):
    """SQLite cannot read the file as a sound database of ours."""


class Memory:
    """What the writing connection remembers of rows it wrote or read. Wrong after a rollback, so emptied by it."""

    __slots__ = ("arrival", "arrival_reserved", "requests", "series", "studies")

    def __init__(self) -> None:
        self.studies: dict[str, tuple[int, StudyRow, StudyRow | None]] = {}
        """Study Instance UID → row id, row as stored, row as last offered."""
        self.series: dict[tuple[int, str], tuple[int, SeriesRow, SeriesRow | None]] = {}
        self.requests: dict[str, int] = {}
        """Transaction UID → row id."""
        self.arrival = 0
        self.arrival_reserved = 0

    def forget(self) -> None:
        self.studies.clear()
        self.series.clear()
        self.requests.clear()
        self.arrival = self.arrival_reserved = 0


def remember(memory: dict[Any, Any], key: object, value: object) -> None:
    """Keep `value`, and let the longest kept one go when there are too many."""
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]


class SearchConnection(sqlite3.Connection):
    """One that can search: its SQL function `key_matches(number, text …)` asks one of `tests`, which a search puts in.

    Made once: SQLite prepares all statements anew after a function was made (a sixth of a search).
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        tests: list[Callable[..., bool]] = []
        self.tests = tests
        self.create_function("key_matches", -1, lambda number, *texts: tests[number](*texts), deterministic=True)


class WritingConnection(SearchConnection):
    """The one connection that writes, with its memory. Lives on one thread."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.memory = Memory()


def open_for_writing(path: Path) -> WritingConnection:
    """Open the journal with the settings of the one writer, and make its schema when it is new or migrate it when an
    older sendrs made it.

    Raises JournalTooNew, JournalDamaged, MigrationFailed, or StorageError when the file system cannot hold a
    write-ahead log.
    """
    try:
        conn = sqlite3.connect(
            path, isolation_level=None, factory=WritingConnection, cached_statements=STATEMENTS, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    try:
        _check_identity(conn, path)
        _set_up_writer(conn, path)
        _bring_up_to_date(conn, path)
    except sqlite3.OperationalError as error:
        conn.close()
        raise StorageError(f"cannot open {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        conn.close()
        raise JournalDamaged(f"{path}: {error}") from error
    except BaseException:
        conn.close()
        raise
    return conn


def open_for_reading(path: Path) -> SearchConnection:
    """Open the journal read-only, beside a writer or without one. Raises StorageError, JournalTooNew, JournalTooOld."""
    try:
        conn = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            factory=SearchConnection,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise StorageError(f"cannot open {path}: {error}") from error
    try:
        conn.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        conn.execute("PRAGMA query_only=ON")
        conn.execute("PRAGMA wal_autocheckpoint=0")
        conn.execute("PRAGMA mmap_size=0")
        conn.execute("PRAGMA trusted_schema=OFF")
        version = _check_identity(conn, path)
        if version < SCHEMA_VERSION:
            raise JournalTooOld(
                f"{path} has schema {version}, this sendrs reads {SCHEMA_VERSION}: start the router with this sendrs"
                " once (systemctl restart sendrs), it brings the journal up to date"
            )
    except sqlite3.Error as error:
        conn.close()
        raise StorageError(f"cannot read {path}: {error}") from error
    except BaseException:
        conn.close()
        raise
    return conn


def check_soundness(conn: sqlite3.Connection, path: Path) -> None:
    """Run SQLite's quick check (1.35 s for a million instances, cold). Raises JournalDamaged."""
    try:
        found = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise JournalDamaged(f"{path}: {error}") from error
    if found != "ok":
        raise JournalDamaged(f"{path}: {found}")


def set_aside(state: Path) -> Path:
    """Move a damaged journal out of the way, never delete it (D10). Gives the folder that it is in now."""
    folder = (
        state / f"journal-broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 1_000_000_000:09d}"
    )
    folder.mkdir(mode=0o700)
    for suffix in ("", "-wal", "-shm"):
        file = state / f"{FILE_NAME}{suffix}"
        if file.exists():
            file.rename(folder / file.name)
    return folder


def set_aside_stray_log(state: Path) -> Path | None:
    """Keep a write-ahead log whose database is gone; SQLite would delete it (F25)."""
    if (state / f"{FILE_NAME}-wal").exists() and not (state / FILE_NAME).exists():
        return set_aside(state)
    return None


def _check_identity(conn: sqlite3.Connection, path: Path) -> int:
    """Give the version of its schema, 0 when it is new."""
    application_id = conn.execute("PRAGMA application_id").fetchone()[0]
    version: int = conn.execute("PRAGMA user_version").fetchone()[0]
    empty = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application_id != APPLICATION_ID and not empty:
        raise JournalDamaged(f"{path} is not a journal of sendrs (application_id {application_id:#x})")
    if version > SCHEMA_VERSION:
        raise JournalTooNew(
            f"{path} has schema {version}, this sendrs knows {SCHEMA_VERSION}: start the newer sendrs,"
            " or move the file away to have the journal rebuilt from the store"
        )
    return version


def _set_up_writer(conn: sqlite3.Connection, path: Path) -> None:
    mode = conn.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(f"{path}: SQLite gives journal_mode {mode!r} instead of 'wal' on this file system")
    for pragma in (
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        f"journal_size_limit={WAL_LIMIT_BYTES}",
        f"busy_timeout={BUSY_MS}",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "mmap_size=0",
        "temp_store=MEMORY",
        f"cache_size=-{CACHE_KIB}",
    ):
        conn.execute(f"PRAGMA {pragma}").fetchall()


def _bring_up_to_date(conn: sqlite3.Connection, path: Path) -> None:
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version:
        check_soundness(conn, path)
        migrate(conn, path, version, SCHEMA_VERSION)
        return
    schema = resources.files("router.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    conn.executescript(
        f"BEGIN IMMEDIATE; {schema};"
        f" PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT"
    )
