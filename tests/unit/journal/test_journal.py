"""The writer of the journal: group commit, failed operations, failed commits, full disks, damaged and foreign files."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from router.errors import StorageError
from router.journal import readers
from router.journal.connection import FILE_NAME, SCHEMA_VERSION, JournalTooNew, WritingConnection
from router.journal.journal import Journal, JournalFailed
from router.journal.lock import StateInUse, holder_of
from router.journal.outcomes import CommitUnknown
from router.journal.readers import QueryTooLong, open_readonly
from router.journal.reserve import RESERVE_NAME


def put(name: str, value: int = 0) -> Callable[[sqlite3.Connection], str]:
    """An operation that leaves a trace."""

    def operation(conn: sqlite3.Connection) -> str:
        conn.execute("INSERT INTO counter VALUES (?, ?)", (name, value))
        return name

    return operation


def names(conn: sqlite3.Connection) -> set[str]:
    own = {"arrival", "clean", "started_at"}
    return {row[0] for row in conn.execute("SELECT name FROM counter")} - own


def watch_statements(journal: Journal, before: Callable[[str], None]) -> None:
    conn = journal._writer._writing
    execute = conn.execute

    def watched(sql: str, *arguments: Any) -> sqlite3.Cursor:
        before(sql)
        return execute(sql, *arguments)

    conn.execute = watched  # type: ignore[method-assign]


def fail_commit(sql: str) -> None:
    if sql == "COMMIT":
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        assert await journal.write(put("a")) == "a"
    async with Journal.open(tmp_path) as journal:
        assert await journal.read(names) == {"a"}


async def test_the_settings_that_durability_rests_on_are_in_force(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint", "foreign_keys", "mmap_size", "user_version")
        found = await journal.write(lambda conn: [conn.execute(f"PRAGMA {one}").fetchone()[0] for one in pragmas])
    assert found == ["wal", 2, 0, 1, 0, SCHEMA_VERSION]


async def test_those_who_wait_together_are_committed_together(tmp_path: Path) -> None:
    commits: list[str] = []
    async with Journal.open(tmp_path) as journal:
        watch_statements(journal, lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        async with anyio.create_task_group() as writers:
            for number in range(100):
                writers.start_soon(journal.write, put(str(number)))
        assert len(await journal.read(names)) == 100
    assert len(commits) <= 4


async def test_an_operation_that_fails_is_undone_alone(tmp_path: Path) -> None:
    failed: list[str] = []

    def faulty(conn: sqlite3.Connection) -> None:
        put("half")(conn)
        raise KeyError("mine")

    async def expect_failure(journal: Journal) -> None:
        try:
            await journal.write(faulty)
        except KeyError as error:
            failed.append(str(error))

    async with Journal.open(tmp_path) as journal:
        async with anyio.create_task_group() as writers:
            writers.start_soon(journal.write, put("a"))
            writers.start_soon(expect_failure, journal)
            writers.start_soon(journal.write, put("b"))
        await expect_failure(journal)
        assert await journal.read(names) == {"a", "b"}
    assert failed == ["'mine'"] * 2


async def test_sqlite_saying_no_to_one_operation_is_a_storage_error_for_it_alone(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(put("a"))
        with pytest.raises(StorageError, match="UNIQUE"):
            await journal.write(put("a"))
        await journal.write(put("b"))
        assert await journal.read(names) == {"a", "b"}


async def test_a_cancelled_caller_does_not_cancel_the_transaction(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        async with anyio.create_task_group() as writers:
            writers.start_soon(journal.write, put("a"))
            await anyio.lowlevel.checkpoint()
            writers.cancel_scope.cancel()
        await journal.write(put("b"))
        assert await journal.read(names) == {"a", "b"}


async def test_what_is_posted_rides_along_and_is_not_lost_at_a_stop(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        journal.post(put("a"))
        await journal.write(put("b"))
        assert await journal.read(names) == {"a", "b"}
        journal.post(put("c"))
    async with Journal.open(tmp_path) as journal:
        assert await journal.read(names) == {"a", "b", "c"}


async def test_what_is_posted_costs_no_commit_of_its_own_while_others_write(tmp_path: Path) -> None:
    commits: list[str] = []
    async with Journal.open(tmp_path) as journal:
        watch_statements(journal, lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        for number in range(20):
            writing = journal.write(put(f"w{number}"))
            journal.post(put(f"before {number}"))
            await writing
            journal.post(put(f"behind {number}"))
        assert len(await journal.read(names)) == 59
        assert len(commits) == 20


async def _handed_in(journal: Journal, operation: Callable[[WritingConnection], object]) -> tuple[object, object]:
    """Hand in from another thread; give what is told there."""
    told: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()

    def hand_in() -> tuple[object, object]:
        journal.hand_in(operation, lambda result, error: told.put((result, error)))
        return told.get(timeout=10)

    return await anyio.to_thread.run_sync(hand_in)


async def test_a_thread_may_hand_in_and_is_told_when_it_is_committed(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        result, error = await _handed_in(journal, lambda conn: (put("a")(conn), 42)[1])
        assert (result, error) == (42, None)
        assert await journal.read(names) == {"a"}


async def test_what_a_thread_handed_in_fails_alone(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(put("a"))
        outcomes: list[tuple[object, object]] = []

        async def expect_failure() -> None:
            outcomes.append(await _handed_in(journal, put("a")))

        async with anyio.create_task_group() as writers:
            writers.start_soon(expect_failure)
            for number in range(20):
                writers.start_soon(journal.write, put(str(number)))
        [(result, error)] = outcomes
        assert result is None
        assert isinstance(error, StorageError)
        assert len(await journal.read(names)) == 21


async def test_d9_a_thread_hears_of_a_commit_whose_outcome_is_unknown_and_of_the_end(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        for _ in range(2):
            watch_statements(journal, fail_commit)
            _, error = await _handed_in(journal, put("a"))
            assert isinstance(error, CommitUnknown)
            await anyio.lowlevel.checkpoint()
        with pytest.raises(JournalFailed):
            await journal.watch()
        _, error = await _handed_in(journal, put("b"))
        assert isinstance(error, JournalFailed)


async def test_many_threads_and_tasks_write_at_once_and_no_transaction_is_empty(tmp_path: Path) -> None:
    transactions: list[str] = []
    async with Journal.open(tmp_path) as journal:
        watch_statements(journal, lambda sql: transactions.append(sql))
        async with anyio.create_task_group() as writers:
            for number in range(100):
                writers.start_soon(_handed_in, journal, put(f"t{number}"))
                writers.start_soon(journal.write, put(f"w{number}"))
        assert len(await journal.read(names)) == 200
    assert all(first != "BEGIN IMMEDIATE" or second != "COMMIT" for first, second in itertools.pairwise(transactions))


async def test_thousands_may_wait_and_all_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.journal.journal.WAITING_OPERATIONS", 10)
    async with Journal.open(tmp_path) as journal:
        async with anyio.create_task_group() as writers:
            for number in range(500):
                writers.start_soon(journal.write, put(str(number)))
        assert len(await journal.read(names)) == 500


async def test_readers_see_one_moment_and_cannot_write(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        with pytest.raises(StorageError, match="readonly"):
            await journal.read(put("a"))
        async with anyio.create_task_group() as many:
            for _ in range(20):
                many.start_soon(journal.read, names)
        assert await journal.read(names) == set()


async def test_f28_a_query_that_takes_too_long_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "READ_LIMIT_S", 0.02)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with Journal.open(tmp_path) as journal:
        with pytest.raises(QueryTooLong):
            await journal.read(lambda conn: conn.execute(endless).fetchall())
        assert await journal.read(names) == set()


async def test_f72_a_second_daemon_is_told_who_has_the_folder(tmp_path: Path) -> None:
    async with Journal.open(tmp_path):
        assert holder_of(tmp_path) == os.getpid()
        with pytest.raises(StateInUse, match=str(os.getpid())) as refused:
            async with Journal.open(tmp_path):
                pass
        assert refused.value.pid == os.getpid()
    assert holder_of(tmp_path) is None
    async with Journal.open(tmp_path):
        pass


async def test_f18_a_failed_commit_is_unknown_and_the_journal_goes_on_with_a_new_connection(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(put("a"))
        watch_statements(journal, fail_commit)
        with pytest.raises(CommitUnknown):
            await journal.write(put("b"))
        await journal.write(put("c"))
        assert await journal.read(names) >= {"a", "c"}


@pytest.mark.parametrize(("between_s", "fatal"), [(599.0, True), (601.0, False)])
async def test_d9_a_second_failed_commit_within_ten_minutes_ends_the_process(
    tmp_path: Path, between_s: float, fatal: bool
) -> None:
    clock = [1000.0]
    async with Journal.open(tmp_path, monotonic=lambda: clock[0]) as journal:
        for _ in range(2):
            watch_statements(journal, fail_commit)
            with pytest.raises(CommitUnknown):
                await journal.write(put("a"))
            clock[0] += between_s
        if fatal:
            with pytest.raises(JournalFailed):
                await journal.watch()
            with pytest.raises(JournalFailed):
                await journal.write(put("b"))
        else:
            await journal.write(put("b"))
            with anyio.move_on_after(0):
                await journal.watch()


async def test_f14_a_full_disk_is_relieved_by_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Journal.open(tmp_path) as journal:
        assert (tmp_path / RESERVE_NAME).stat().st_size == 64 * 1024**2
        writer = journal._writer
        pages = await journal.write(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
        await journal.write(lambda conn: conn.execute(f"PRAGMA max_page_count={pages}").fetchone())
        release = writer._reserve.release

        def releasing() -> bool:
            writer._writing.execute("PRAGMA max_page_count=1000000").fetchone()
            return release()

        monkeypatch.setattr(writer._reserve, "release", releasing)
        big = "x" * 100_000
        sql = "INSERT INTO destination VALUES (?, 'ready', ?, 0, 0)"
        await journal.write(lambda conn: conn.execute(sql, ("archive", big)).rowcount)
        assert not (tmp_path / RESERVE_NAME).exists()
        assert await journal.read(lambda conn: conn.execute("SELECT count(*) FROM destination").fetchone()) == (1,)


async def test_f14_without_a_reserve_a_full_disk_refuses_and_stays_in_order(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        (tmp_path / RESERVE_NAME).unlink()
        pages = await journal.write(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
        await journal.write(lambda conn: conn.execute(f"PRAGMA max_page_count={pages}").fetchone())
        sql = "INSERT INTO destination VALUES ('archive', 'ready', ?, 0, 0)"
        with pytest.raises(StorageError, match="full"):
            await journal.write(lambda conn: conn.execute(sql, ("x" * 100_000,)).rowcount)
        await journal.write(lambda conn: conn.execute("PRAGMA max_page_count=1000000").fetchone())
        await journal.write(put("a"))
        assert await journal.read(names) == {"a"}


async def test_a_stop_in_order_is_remembered_and_empties_the_log(tmp_path: Path) -> None:
    async with Journal.open(tmp_path / "one") as journal:
        assert journal.opened.clean
        await journal.write(put("a"))
        shutil.copytree(tmp_path / "one", tmp_path / "killed")  # what a kill -9 would leave
    assert not (tmp_path / "one" / f"{FILE_NAME}-wal").exists()
    async with Journal.open(tmp_path / "one") as journal:
        assert journal.opened.clean
        assert journal.opened.last_start > 1_700_000_000
    async with Journal.open(tmp_path / "killed") as journal:
        assert not journal.opened.clean
        assert await journal.read(names) == {"a"}


async def test_a_journal_whose_user_is_cancelled_is_closed_in_order(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with Journal.open(tmp_path) as journal:
            journal.post(put("a"))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    async with Journal.open(tmp_path) as journal:
        assert journal.opened.clean
        assert await journal.read(names) == {"a"}


async def test_f26_a_journal_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(lambda conn: conn.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}").rowcount)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(JournalTooNew, match=str(SCHEMA_VERSION + 1)):
        async with Journal.open(tmp_path):
            pass
    with pytest.raises(JournalTooNew):
        async with open_readonly(tmp_path) as reading:
            await reading.read(names)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert holder_of(tmp_path) is None, "the folder is free again"


@pytest.mark.parametrize("content", [b"not a database" * 1000, os.urandom(8192)])
async def test_f24_what_is_no_database_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    async with Journal.open(tmp_path) as journal:
        aside = journal.opened.set_aside
        assert aside is not None
        assert (aside / FILE_NAME).read_bytes() == content
        await journal.write(put("a"))


async def test_f24_a_database_of_somebody_else_is_kept_aside(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as conn:
        conn.execute("CREATE TABLE theirs (x)")
    conn.close()
    async with Journal.open(tmp_path) as journal:
        assert journal.opened.set_aside is not None


async def test_f25_a_log_without_its_database_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"log of a database that is gone")
    async with Journal.open(tmp_path) as journal:
        aside = journal.opened.set_aside
        assert aside is not None
        assert (aside / f"{FILE_NAME}-wal").read_bytes() == b"log of a database that is gone"


async def test_f25_a_database_without_its_log_is_as_old_as_its_last_checkpoint(tmp_path: Path) -> None:
    async with Journal.open(tmp_path / "one") as journal:
        await journal.write(put("a"))
        shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / f"{FILE_NAME}-wal").unlink()
    (tmp_path / "two" / f"{FILE_NAME}-shm").unlink()
    async with Journal.open(tmp_path / "two") as journal:
        await journal.write(put("b"))
        assert "b" in await journal.read(names)


async def test_commands_can_look_with_and_without_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no journal"):
        async with open_readonly(tmp_path):
            pass
    async with Journal.open(tmp_path) as journal:
        await journal.write(put("a"))
        async with open_readonly(tmp_path) as reading:
            assert await reading.read(names) == {"a"}
    async with open_readonly(tmp_path) as reading:
        assert await reading.read(names) == {"a"}


async def test_a_rolled_back_operation_leaves_nothing_in_the_memory(tmp_path: Path) -> None:
    def spoil(conn: WritingConnection) -> None:
        conn.memory.requests["1.2"] = 99
        raise ValueError

    async with Journal.open(tmp_path) as journal:
        with pytest.raises(ValueError):
            await journal.write(spoil)
        assert await journal.write(lambda conn: dict(conn.memory.requests)) == {}
