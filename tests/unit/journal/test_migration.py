"""A journal of schema 1 becomes that of this sendrs: the same to the column, nothing lost, whatever breaks it off."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from router.journal import migration
from router.journal.connection import (
    APPLICATION_ID,
    FILE_NAME,
    SCHEMA_VERSION,
    JournalTooOld,
    open_for_reading,
    open_for_writing,
)
from router.journal.migration import MigrationFailed

SCHEMA_1 = Path(__file__).parents[2] / "data" / "journal-schema-1.sql"
BACKUP = f"journal-before-{SCHEMA_VERSION}.db"
ROWS = (
    "INSERT INTO instance (id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number, number_of_frames,"
    " rows, columns, bits_allocated, file, data_set_offset, data_set_bytes, data_set_sha256, protocol, calling_aet,"
    " called_aet, address, received_at, arrival, routed) VALUES (:n, '1.2.' || :n, '1', '1', '', '', '', '', '',"
    " '000001/' || :n, 500, 100, x'00', 'C-STORE', 'CT1', 'SENDRS', '10.0.0.1', 1.5, :n, 1)",
    "INSERT INTO send_request (id, transaction_uid, origin, rule, destination, source, created_at, expires_at)"
    " VALUES (:n, '2.25.' || :n, 'send-rs', 'r', 'archive', 'CT1', 1.5, 99.5)",
    "INSERT INTO sub_operation (id, send_request_id, instance_id, destination, sop_instance_uid, state, uncertain,"
    " attempts, due_at, created_at, status, reason)"
    " VALUES (:n, :n, :n, 'archive', '1.2.' || :n, iif(:n % 3, 'remaining', 'failed'), 1, 4, 7.5, 1.5, 42752, 'full')",
    "INSERT INTO attempt (sub_operation_id, started_at) VALUES (:n, 2.5)",
    "INSERT INTO quiet_unit VALUES ('r', 'series', :n, '[\"archive\"]', 1, 0, 9.5, 3, 1)",
)


def make_old_journal(state: Path, instances: int) -> Path:
    """Make a journal as schema 1 left it; gives its file."""
    state.mkdir(parents=True, exist_ok=True)
    path = state / FILE_NAME
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.executescript(SCHEMA_1.read_text())
    conn.execute(f"PRAGMA application_id={APPLICATION_ID}")
    conn.execute("PRAGMA user_version=1")
    conn.execute("BEGIN")
    for number in range(1, instances + 1):
        for row in ROWS:
            conn.execute(row, {"n": number})
    conn.execute("COMMIT")
    conn.close()
    return path


def shape(conn: sqlite3.Connection) -> dict[str, Any]:
    """Everything that SQLite knows of a schema, without the comments and blanks in its texts."""
    texts = {
        (kind, name): re.sub(r"\s+", "", re.sub(r"--[^\n]*", "", sql or "").replace('"', ""))
        for kind, name, sql in conn.execute("SELECT type, name, sql FROM sqlite_master")
    }
    tables = [name for kind, name in texts if kind == "table"]
    details = {
        (pragma, name): sorted(conn.execute(f"PRAGMA {pragma}({name})").fetchall())
        for name in tables
        for pragma in ("table_xinfo", "foreign_key_list")
    }
    indexes = {
        name: sorted(row[1:] for row in conn.execute(f"PRAGMA index_list({name})").fetchall()) for name in tables
    }
    return {"texts": texts, "details": details, "indexes": indexes}


def facts(conn: sqlite3.Connection) -> list[list[Any]]:
    columns = {
        "send_request": "id, transaction_uid, origin, rule, destination, source, created_at, closed_at, expires_at",
        "sub_operation": "id, send_request_id, instance_id, destination, sop_instance_uid, state, in_flight, uncertain,"
        " attempts, instance_failures, due_at, created_at, ended_at, status, reason",
        "instance": "*",
        "attempt": "*",
        "quiet_unit": "*",
        "counter": "*",
    }
    return [conn.execute(f"SELECT {what} FROM {table} ORDER BY 1").fetchall() for table, what in columns.items()]


def version_of(path: Path) -> int:
    conn = sqlite3.connect(path)
    try:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])
    finally:
        conn.close()


def test_a_migrated_journal_has_exactly_the_schema_of_a_new_one_and_all_rows(tmp_path: Path) -> None:
    path = make_old_journal(tmp_path / "old", 30)
    before = sqlite3.connect(path)
    old = facts(before)
    before.close()
    migrated, new = open_for_writing(path), open_for_writing(tmp_path / FILE_NAME)
    assert shape(migrated) == shape(new)
    assert facts(migrated) == old
    assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert migrated.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert migrated.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert migrated.execute("SELECT DISTINCT confirming, confirmation_id FROM sub_operation").fetchall() == [("", None)]
    migrated.close()
    new.close()


def test_every_version_has_its_script() -> None:
    folder = resources.files("router.journal").joinpath("migrations")
    names = {one.name for one in folder.iterdir() if one.name.endswith(".sql")}
    assert names == {f"{number:04}.sql" for number in range(2, SCHEMA_VERSION + 1)}


def test_the_backup_is_the_old_journal_in_one_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = make_old_journal(tmp_path, 3)
    before = sqlite3.connect(path)
    old = facts(before)
    before.close()
    open_for_writing(path).close()
    backup = tmp_path / BACKUP
    assert version_of(backup) == 1
    assert backup.stat().st_mode & 0o777 == 0o600
    conn = sqlite3.connect(f"file:{backup}?mode=ro", uri=True)
    assert facts(conn) == old
    conn.close()
    assert sorted(one.name for one in tmp_path.iterdir() if "before" in one.name) == [BACKUP]


def test_a_backup_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = make_old_journal(tmp_path, 3)
    (tmp_path / BACKUP).write_bytes(b"of the last time")
    open_for_writing(path).close()
    assert (tmp_path / BACKUP).read_bytes() == b"of the last time"
    assert version_of(tmp_path / f"journal-before-{SCHEMA_VERSION}-1.db") == 1


def test_a_journal_that_is_up_to_date_is_not_backed_up(tmp_path: Path) -> None:
    open_for_writing(tmp_path / FILE_NAME).close()
    open_for_writing(tmp_path / FILE_NAME).close()
    assert not list(tmp_path.glob("*before*"))


def test_without_room_for_the_backup_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_old_journal(tmp_path, 3)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 5 * 1024**2))
    with pytest.raises(MigrationFailed, match=r"needs 16 MiB free on its disk, there are 5: make room and start again"):
        open_for_writing(path)
    assert version_of(path) == 1
    assert not list(tmp_path.glob("*before*"))


@pytest.mark.parametrize("script", ["DROP TABLE attempt; SELECT no_such;", "DELETE FROM instance WHERE id = 2;"])
def test_a_script_that_fails_or_breaks_a_reference_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    path = make_old_journal(tmp_path, 3)
    monkeypatch.setattr(migration, "_script", lambda _: script)
    with pytest.raises(MigrationFailed, match="nothing was changed"):
        open_for_writing(path)
    conn = sqlite3.connect(path)
    assert conn.execute("SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM instance)").fetchone() == (3, 3)
    conn.close()
    assert version_of(path) == 1
    assert not list(tmp_path.glob("*before*"))


def test_who_only_looks_does_not_migrate_and_says_what_to_do(tmp_path: Path) -> None:
    path = make_old_journal(tmp_path, 3)
    with pytest.raises(JournalTooOld, match=r"has schema 1, this sendrs reads \d+: start the router with this sendrs"):
        open_for_reading(path)
    assert version_of(path) == 1


@pytest.mark.crash
@pytest.mark.timeout(120)
def test_killed_at_any_moment_it_is_the_old_journal_or_the_new_one(tmp_path: Path) -> None:
    """SIGKILL through the whole of it, later each time, until one comes through."""
    whole = make_old_journal(tmp_path / "whole", 20_000)
    opening = (
        "from pathlib import Path; import sys; from router.journal.connection import open_for_writing;"
        " print('go', flush=True); open_for_writing(Path(sys.argv[1])).close()"
    )
    seen = set[int]()
    for attempt in range(60):
        state = tmp_path / f"{attempt}"
        state.mkdir()
        path = Path(shutil.copy(whole, state))
        with subprocess.Popen([sys.executable, "-c", opening, path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.02 * attempt)
            child.send_signal(signal.SIGKILL)
        found = version_of(path)
        seen.add(found)
        conn = open_for_writing(path)  # the start after the crash
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("SELECT count(*), sum(state = 'failed') FROM sub_operation").fetchone() == (20_000, 6_666)
        conn.close()
        backup = next(iter(state.glob("*before*.db")))
        assert version_of(backup) == 1
        assert not list(state.glob("*.part"))
        shutil.rmtree(state)
        if found == SCHEMA_VERSION and child.returncode == 0:
            break
    assert seen == {1, SCHEMA_VERSION}
