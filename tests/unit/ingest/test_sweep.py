"""The start after a crash: files and rows are brought into agreement, whatever the crash left (D8, D10, F1, F22 to
F25, F30).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ingest_harness import SOURCE, Core, data_set, declared, open_core

from router.ingest.verify import verify
from router.journal.connection import FILE_NAME, WritingConnection

UIDS = [f"1.2.9.{number}" for number in range(1, 6)]


async def _fill(state: Path) -> list[str]:
    """Have five instances; give their files in the order of UIDS."""
    async with open_core(state) as core:
        for uid in UIDS:
            await core.send(uid)
        return [row[0] for row in await core.rows("SELECT file FROM instance ORDER BY arrival")]


async def _set_flushed(state: Path, flushed: bool) -> None:
    async with open_core(state) as core:
        await core.journal.write(lambda conn: conn.execute("UPDATE instance SET flushed = ?", (flushed,)).rowcount)


async def _in_agreement(core: Core) -> None:
    report = await verify(core.state, now=lambda: 4e9)
    assert report.differences == []


async def test_a_clean_stop_leaves_nothing_to_do(tmp_path: Path) -> None:
    await _fill(tmp_path)
    async with open_core(tmp_path) as core:
        assert {name: count for name, count in core.swept.counts().items() if count} == {"files": 5}
        assert core.journal.opened.clean


async def test_whole_files_without_a_row_are_adopted_and_routed(tmp_path: Path) -> None:
    await _fill(tmp_path)
    async with open_core(tmp_path) as core:
        before = core.files()
    for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    async with open_core(tmp_path) as core:
        assert core.swept.adopted == 5
        assert core.files() == before
        rows = await core.rows("SELECT sop_instance_uid, calling_aet, address, flushed FROM instance ORDER BY arrival")
        assert rows == [(uid, "CT1", "192.0.2.7", 1) for uid in UIDS]
        assert await core.rows("SELECT count(*) FROM sub_operation WHERE state = 'remaining'") == [(5,)]
        assert await core.rows("SELECT closed_at IS NOT NULL FROM send_request") == [(1,)]
        assert core.woken == ["archive"] * 5
        await _in_agreement(core)


async def test_a_sweep_that_was_broken_off_is_simply_run_again(tmp_path: Path) -> None:
    """F3: recovery is idempotent."""
    files = await _fill(tmp_path)
    async with open_core(tmp_path) as core:
        for file in files[:2]:
            await core.journal.write(_forget(file))
    async with open_core(tmp_path) as core:
        assert core.swept.adopted == 2
    async with open_core(tmp_path) as core:
        assert core.swept.adopted == 0
        await _in_agreement(core)


async def test_a_whole_file_whose_content_another_file_holds_is_removed(tmp_path: Path) -> None:
    [first, *_] = await _fill(tmp_path)
    store = tmp_path / "store"
    twin = store / first.split("/")[0] / ("f" * 32 + ".dcm")
    shutil.copyfile(store / first, twin)
    async with open_core(tmp_path) as core:
        assert core.swept.duplicates == 1
        assert not twin.exists()
        await _in_agreement(core)


async def test_f1_files_that_were_being_received_are_removed(tmp_path: Path) -> None:
    await _fill(tmp_path)
    async with open_core(tmp_path) as core:
        reception = core.ingest.open_visit(SOURCE).receive(declared("1.2.9.9"))
        for _ in range(3):  # with the third, the first is in the file
            await reception.write(bytes(600_000))
        left = {name: content for name, content in core.files().items() if len(content) > 100_000}
        [(name, content)] = left.items()
        await reception.discard()
    (tmp_path / "store" / name).write_bytes(content)
    (tmp_path / "store" / (name.split("/")[0] + "/" + "a" * 32 + ".dcm")).touch()
    async with open_core(tmp_path) as core:
        assert (core.swept.unfinished, core.swept.blanks, core.swept.put_aside) == (1, 1, 0)
        await _in_agreement(core)


async def test_an_unfinished_file_from_before_the_last_run_is_put_aside_not_deleted(tmp_path: Path) -> None:
    await _fill(tmp_path)
    async with open_core(tmp_path) as core:
        reception = core.ingest.open_visit(SOURCE).receive(declared("1.2.9.9"))
        for _ in range(3):  # with the third, the first is in the file
            await reception.write(bytes(600_000))
        [(name, content)] = [(name, content) for name, content in core.files().items() if len(content) > 100_000]
        await reception.discard()
    path = tmp_path / "store" / name
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    async with open_core(tmp_path) as core:
        assert (core.swept.unfinished, core.swept.put_aside) == (0, 1)
    assert (tmp_path / "lost+found" / path.name).read_bytes() == content


async def test_f22_f23_a_lost_file_raises_the_alarm_once_and_parks_what_was_to_be_sent(tmp_path: Path) -> None:
    files = await _fill(tmp_path)
    store = tmp_path / "store"
    (store / files[0]).unlink()
    (store / files[1]).write_bytes(b"")
    (store / files[2]).write_bytes((store / files[2]).read_bytes()[:-1])
    (store / files[3]).unlink()
    (store / files[3]).mkdir()
    (store / files[4]).unlink()
    os.mkfifo(store / files[4])
    async with open_core(tmp_path) as core:
        assert core.swept.lost_after_ack == 5
        operations = await core.rows("SELECT DISTINCT state, reason FROM sub_operation")
        assert operations == [("failed", "content missing")]
        assert await core.rows("SELECT count(*) FROM instance WHERE note LIKE 'content missing%'") == [(5,)]
    async with open_core(tmp_path) as core:
        assert core.swept.lost_after_ack == 0, "the same alarm, once"
        await core.send(UIDS[0])  # a sender can bring it back
        assert await core.rows(f"SELECT note FROM instance WHERE sop_instance_uid = '{UIDS[0]}'") == [("",)]


async def test_a_symbolic_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    files = await _fill(tmp_path)
    path = tmp_path / "store" / files[0]
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    async with open_core(tmp_path) as core:
        assert core.swept.lost_after_ack == 1


async def test_a_row_whose_file_never_reached_the_disk_is_dropped_without_alarm(tmp_path: Path) -> None:
    """A power cut between commit and flush: nobody was told that it was stored."""
    files = await _fill(tmp_path)
    await _set_flushed(tmp_path, False)
    store = tmp_path / "store"
    (store / files[0]).unlink()
    content = bytearray((store / files[1]).read_bytes())
    content[-10] ^= 0xFF
    (store / files[1]).write_bytes(content)
    async with open_core(tmp_path) as core:
        assert core.swept.lost_after_ack == 0
        assert core.swept.dropped == 2
        assert core.swept.confirmed == 3
        assert core.swept.put_aside == 1
        assert await core.rows("SELECT count(*) FROM sub_operation") == [(3,)]
        assert await core.rows("SELECT DISTINCT flushed FROM instance") == [(1,)]
        await _in_agreement(core)


async def test_b108_what_has_our_name_but_not_our_content_is_put_aside(tmp_path: Path) -> None:
    [first, *_] = await _fill(tmp_path)
    shard = tmp_path / "store" / first.split("/")[0]
    whole = (tmp_path / "store" / first).read_bytes()
    (shard / ("a" * 32 + ".dcm")).write_bytes(bytes(5000))
    (shard / ("b" * 32 + ".dcm")).write_bytes(whole[:140])
    (shard / ("c" * 32 + ".dcm")).write_bytes(whole + b"more")
    (shard / ("d" * 32 + ".dcm")).write_bytes(os.urandom(3000))
    async with open_core(tmp_path) as core:
        assert core.swept.put_aside == 4
        assert len(list((tmp_path / "lost+found").iterdir())) == 4
        await _in_agreement(core)


async def test_f30_foreign_files_are_counted_and_left_alone(tmp_path: Path) -> None:
    [first, *_] = await _fill(tmp_path)
    store = tmp_path / "store"
    shard = store / first.split("/")[0]
    names = [store / "README", shard / "x.dcm", shard / "notes.txt", shard / ("A" * 32 + ".dcm")]
    for name in names:
        name.write_bytes(b"not ours")
    (store / "elsewhere").mkdir()
    async with open_core(tmp_path) as core:
        assert core.swept.foreign == 5
        assert all(name.read_bytes() == b"not ours" for name in names)
        assert await core.rows("SELECT count(*) FROM instance") == [(5,)]


async def test_what_was_in_flight_is_taken_back_as_uncertain_and_open_jobs_are_closed(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        visit = core.ingest.open_visit(SOURCE)
        reception = visit.receive(declared("1.2.9.1"))
        await reception.write(data_set("1.2.9.1"))
        await reception.accept()
        await core.journal.write(lambda conn: conn.execute("UPDATE sub_operation SET in_flight = 1").rowcount)
    async with open_core(tmp_path) as core:
        assert (core.swept.in_flight, core.swept.requests_closed) == (1, 1)
        assert await core.rows("SELECT in_flight, uncertain, state FROM sub_operation") == [(0, 1, "remaining")]


async def test_f24_a_damaged_journal_is_kept_aside_and_rebuilt_from_the_store(tmp_path: Path) -> None:
    await _fill(tmp_path)
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(content)
    async with open_core(tmp_path) as core:
        aside = core.journal.opened.set_aside
        assert aside is not None
        assert (aside / FILE_NAME).read_bytes() == bytes(content)
        assert core.swept.adopted == 5
        await _in_agreement(core)


@pytest.mark.parametrize("uid", ["1.2.9.1", "1.2.9.3"])
async def test_a_superseded_instance_is_again_the_one_when_its_successor_is_dropped(tmp_path: Path, uid: str) -> None:
    async with open_core(tmp_path) as core:
        await core.send(uid)
        await core.send(uid, data_set(uid, series="1.2.3.77"))
        [(newer,)] = await core.rows("SELECT file FROM instance WHERE superseded = 0")
        await core.journal.write(lambda conn: conn.execute("UPDATE instance SET flushed = 0").rowcount)
    (tmp_path / "store" / newer).unlink()
    async with open_core(tmp_path) as core:
        assert core.swept.dropped == 1
        assert await core.rows("SELECT superseded FROM instance") == [(0,)]


def _forget(file: str) -> Callable[[WritingConnection], None]:
    def operation(conn: WritingConnection) -> None:
        conn.execute("DELETE FROM sub_operation WHERE instance_id IN (SELECT id FROM instance WHERE file = ?)", (file,))
        conn.execute("DELETE FROM instance WHERE file = ?", (file,))

    return operation
