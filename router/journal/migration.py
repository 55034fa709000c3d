"""An older journal becomes one of this sendrs: a backup beside it first, then numbered scripts in one transaction.

Runs on the writer's thread, under the lock of the state folder, before anybody else has the journal. Whenever it is
broken off, what is there is the old journal or the new one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from importlib import resources
from pathlib import Path
from typing import Final

import structlog

from router.errors import StorageError

log = structlog.get_logger()

ROOM: Final = 3
"""Free space that is asked for, in sizes of the journal: its backup, the write-ahead log with what is made anew, and
that again when the log is copied into the database.
"""
MARGIN_BYTES: Final = 16 * 1024**2


class MigrationFailed(StorageError):
    """The journal was not changed, and an older sendrs can still use it."""


def migrate(conn: sqlite3.Connection, path: Path, version: int, target: int) -> Path:
    """Bring the journal open in `conn` from schema `version` to `target`; gives its backup.

    `conn` is in autocommit mode, with a write-ahead log and flushed commits, and was checked to be sound. Raises
    MigrationFailed.
    """
    began = time.monotonic()
    _check_room(conn, path, version, target)
    backup = _free_name(path, target)
    log.info("journal is being migrated", schema=version, to=target, backup=str(backup), bytes=_bytes(conn))
    try:
        _back_up(conn, backup)
        _run_scripts(conn, version, target)
    except (sqlite3.Error, OSError) as error:
        backup.unlink(missing_ok=True)  # the journal is what it was
        raise MigrationFailed(
            f"{path} was not brought from schema {version} to {target}: {error}; nothing was changed, and the sendrs"
            " that made it can still be started"
        ) from error
    log.info("journal migrated", schema=target, backup=str(backup), seconds=round(time.monotonic() - began, 3))
    return backup


def _check_room(conn: sqlite3.Connection, path: Path, version: int, target: int) -> None:
    """Refuse to begin what would fill the disk."""
    needed = ROOM * _bytes(conn) + MARGIN_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise MigrationFailed(
            f"{path} has schema {version} and must be brought to {target}; for its backup and the work that needs"
            f" {needed >> 20:,} MiB free on its disk, there are {free >> 20:,}: make room and start again; nothing was"
            " changed"
        )


def _free_name(path: Path, target: int) -> Path:
    """Name the backup: journal-before-2.db, or journal-before-2-1.db, … when there is one already."""
    stem = f"{path.stem}-before-{target}"
    names = [f"{stem}{path.suffix}", *(f"{stem}-{number}{path.suffix}" for number in range(1, 1000))]
    for name in names:
        if not (path.parent / name).exists():
            return path.parent / name
    raise MigrationFailed(f"{path.parent} holds a thousand backups {stem}-….db: remove those that nobody needs")


def _back_up(conn: sqlite3.Connection, backup: Path) -> None:
    """Copy the journal to `backup`, on the disk when this returns: under its name it is whole."""
    for left in backup.parent.glob(f"{backup.stem.partition('-')[0]}-before-*.part"):
        left.unlink()  # by a start that was broken off
    part = backup.with_suffix(".part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        copy = sqlite3.connect(part, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous=FULL")
            conn.backup(copy)
            copy.execute(
                "PRAGMA journal_mode=DELETE"
            ).fetchall()  # one file, which can be read where it cannot be written
        finally:
            copy.close()
        _flush(part, os.O_RDWR)
        os.link(part, backup)  # unlike a rename, never over another
    finally:
        part.unlink(missing_ok=True)
    _flush(backup.parent, os.O_RDONLY | os.O_DIRECTORY)


def _run_scripts(conn: sqlite3.Connection, version: int, target: int) -> None:
    """Run the scripts up to `target` in one transaction, with the new number and the proof that it is sound."""
    scripts = "\n".join(_script(number) for number in range(version + 1, target + 1))
    conn.execute("PRAGMA foreign_keys=OFF")  # without effect inside of a transaction
    try:
        # executescript would commit what was begun before it
        conn.executescript(f"BEGIN IMMEDIATE;\n{scripts}\nPRAGMA user_version={target};")
        broken = conn.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise sqlite3.DatabaseError(f"a row of {broken[0]} points to a row of {broken[2]} that is not there")
        found = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    finally:
        conn.execute("PRAGMA foreign_keys=ON")


def _bytes(conn: sqlite3.Connection) -> int:
    """Size of the journal, with what is in its log only."""
    pages: int = conn.execute("PRAGMA page_count").fetchone()[0]
    size: int = conn.execute("PRAGMA page_size").fetchone()[0]
    return pages * size


def _flush(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _script(number: int) -> str:
    return resources.files("router.journal").joinpath("migrations", f"{number:04}.sql").read_text(encoding="utf-8")
