"""What becomes of instances that come in: durable, journalled, routed; repeats and conflicts (D1, D4, D13, F31 to
F33).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio
import pydicom
import pytest
from ingest_harness import SOURCE, FixedRules, data_set, declared, open_core

from router.config.model import DicomConfig
from router.errors import Refused
from router.rules.decision import Decision, Route, UnitVote
from router.store.disk import SystemDisk


async def test_an_accepted_instance_is_a_dicom_file_with_the_bytes_as_received(tmp_path: Path) -> None:
    content = data_set("1.2.9.1")
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1", content, chunk=7)
        [(file, offset, size, sha256)] = await core.rows(
            "SELECT file, data_set_offset, data_set_bytes, data_set_sha256 FROM instance"
        )
        stored = core.files()[file]
        path = core.store.path_of(file)
    assert stored[offset:] == content
    assert (size, sha256) == (len(content), hashlib.sha256(content).digest())
    read = pydicom.dcmread(path)
    assert read.PatientID == "P1"
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.9.1"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


async def test_the_index_holds_what_the_header_says(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        [study] = await core.rows("SELECT study_instance_uid, patient_id, patient_name, study_date FROM study")
        [series] = await core.rows("SELECT series_instance_uid, modality, request_attributes FROM series")
        [instance] = await core.rows(
            "SELECT sop_instance_uid, instance_number, rows, columns, calling_aet, address, routed, note FROM instance"
        )
    assert study == ("1.2.3", "P1", "Doe^Jane", "20240102")
    assert series == ("1.2.3.4", "CT", "[]")
    assert instance == ("1.2.9.1", "7", "10", "5", "CT1", "192.0.2.7", 1, "")


async def test_one_visit_has_one_send_request_for_each_rule_and_destination_and_closes_it(tmp_path: Path) -> None:
    rules = FixedRules(Decision((Route("a", "archive"), Route("b", "ai"))))
    async with open_core(tmp_path, rules=rules) as core:
        visit = core.ingest.open_visit(SOURCE)
        for uid in ("1.2.9.1", "1.2.9.2"):
            reception = visit.receive(declared(uid))
            await reception.write(data_set(uid))
            await reception.accept()
        open_requests = await core.rows("SELECT rule, destination, closed_at FROM send_request ORDER BY id")
        await visit.close()
        closed = await core.rows("SELECT closed_at FROM send_request")
        operations = await core.rows("SELECT destination, sop_instance_uid, state FROM sub_operation ORDER BY id")
    assert open_requests == [("a", "archive", None), ("b", "ai", None)]
    assert closed == [(1_700_000_000.0,)] * 2
    assert operations == [
        ("archive", "1.2.9.1", "remaining"),
        ("ai", "1.2.9.1", "remaining"),
        ("archive", "1.2.9.2", "remaining"),
        ("ai", "1.2.9.2", "remaining"),
    ]
    assert core.woken == ["archive", "ai"] * 2


async def test_an_instance_that_no_rule_wants_is_kept_as_unrouted(tmp_path: Path) -> None:
    async with open_core(tmp_path, rules=FixedRules(Decision())) as core:
        await core.send("1.2.9.1")
        assert await core.rows("SELECT routed FROM instance") == [(0,)]
        assert await core.rows("SELECT count(*) FROM send_request") == [(0,)]
        assert core.woken == []


@pytest.mark.parametrize(
    ("decision", "let_go"),
    [
        (Decision(), True),
        (Decision((Route("a", "archive"),)), False),
        (Decision(votes=(UnitVote("s", "series", ("archive",), matched=True, vetoed=False),)), False),
    ],
)
async def test_only_what_no_rule_wants_leaves_memory_when_it_is_on_the_disk(
    tmp_path: Path, decision: Decision, let_go: bool
) -> None:
    called = list[int]()
    disk = SystemDisk()
    disk.let_go = called.append
    async with open_core(tmp_path, rules=FixedRules(decision), disk=disk) as core:
        await core.send("1.2.9.1")
    assert bool(called) is let_go


async def test_a_rule_that_cannot_be_evaluated_does_not_keep_an_instance_out(tmp_path: Path) -> None:
    """D1: it is acknowledged, kept as unrouted, and its row says why."""
    async with open_core(tmp_path, rules=FixedRules(Decision(problem='rule "x": no answer'))) as core:
        await core.send("1.2.9.1")
        assert await core.rows("SELECT routed, note FROM instance") == [(0, 'rule "x": no answer')]


async def test_series_rules_start_their_quiet_period_anew_with_each_instance(tmp_path: Path) -> None:
    clock = [1000.0]
    vote = UnitVote("whole series", "series", ("archive",), matched=True, vetoed=False)
    rules = FixedRules(Decision(votes=(vote,)))
    async with open_core(tmp_path, rules=rules, now=lambda: clock[0]) as core:
        await core.send("1.2.9.1")
        clock[0] = 1030.0
        rules.decision = Decision(votes=(UnitVote("whole series", "series", ("archive",), matched=False, vetoed=True),))
        await core.send("1.2.9.2")
        units = await core.rows("SELECT rule, level, destinations, matched, vetoed, due_at, waiting FROM quiet_unit")
    assert units == [("whole series", "series", '["archive"]', 1, 1, 1090.0, 1)]


async def test_f31_the_same_instance_again_is_sent_once_while_it_waits(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        [(arrival,)] = await core.rows("SELECT arrival FROM instance")
        await core.send("1.2.9.1")
        assert len(core.files()) == 1
        assert await core.rows("SELECT count(*) FROM instance") == [(1,)]
        assert await core.rows("SELECT count(*) FROM sub_operation") == [(1,)]
        assert await core.rows("SELECT count(*) FROM send_request") == [(1,)], "no empty job for the repeat"
        [(moved,)] = await core.rows("SELECT arrival FROM instance")
    assert moved > arrival


async def test_f31_the_same_instance_again_is_sent_again_once_it_was_delivered(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        await core.journal.write(lambda conn: conn.execute("UPDATE sub_operation SET state = 'completed'").rowcount)
        await core.send("1.2.9.1")
        assert len(core.files()) == 1
        states = await core.rows("SELECT state FROM sub_operation ORDER BY id")
    assert states == [("completed",), ("remaining",)]


async def test_f31_the_same_instance_on_many_associations_at_once_is_one_row_and_one_file(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        async with anyio.create_task_group() as senders:
            for _ in range(20):
                senders.start_soon(core.send, "1.2.9.1")
        assert len(core.files()) == 1
        assert await core.rows("SELECT count(*) FROM instance") == [(1,)]
        assert await core.rows("SELECT count(*) FROM sub_operation") == [(1,)]
        assert core.ingest.unflushed == {}


async def test_f32_the_same_uid_with_other_content_is_kept_and_sent_beside_the_first(tmp_path: Path) -> None:
    first, second = data_set("1.2.9.1"), data_set("1.2.9.1", series="1.2.3.5")
    async with open_core(tmp_path) as core:
        async with anyio.create_task_group() as senders:
            senders.start_soon(core.send, "1.2.9.1", first)
            senders.start_soon(core.send, "1.2.9.1", second)
        assert len(core.files()) == 2
        rows = await core.rows("SELECT superseded FROM instance ORDER BY arrival")
        operations = await core.rows("SELECT state FROM sub_operation")
    assert rows == [(1,), (0,)]
    assert operations == [("remaining",)] * 2


async def test_f33_a_thousand_times_the_same_does_not_grow_the_store(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        for _ in range(200):
            await core.send("1.2.9.1")
        assert len(core.files()) == 1
        assert await core.rows("SELECT count(*) FROM sub_operation") == [(1,)]
        names = len(list(core.store.root.rglob("*.dcm")))
    assert names <= 65, "the instance and the blanks made ahead"


async def test_a_repeat_heals_a_stored_file_that_was_lost(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        [(file,)] = await core.rows("SELECT file FROM instance")
        core.store.path_of(file).unlink()
        await core.send("1.2.9.1")
        [(now_file, offset)] = await core.rows("SELECT file, data_set_offset FROM instance")
        assert now_file != file
        assert core.files()[now_file][offset:] == data_set("1.2.9.1")


async def test_a_repeat_heals_a_stored_file_that_was_damaged(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        [(file,)] = await core.rows("SELECT file FROM instance")
        path = core.store.path_of(file)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        await core.send("1.2.9.1")
        [(now_file,)] = await core.rows("SELECT file FROM instance")
        assert now_file != file


async def test_a_large_instance_is_written_in_blocks_and_comes_out_whole(tmp_path: Path) -> None:
    content = data_set("1.2.9.1", pixels=bytes(range(256)) * 4096 * 3)
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1", content, chunk=60_000)
        [(file, offset)] = await core.rows("SELECT file, data_set_offset FROM instance")
        assert core.files()[file][offset:] == content


async def test_a_discarded_instance_leaves_nothing(tmp_path: Path) -> None:
    """F34, B44: also when part of it was written already."""
    async with open_core(tmp_path) as core:
        visit = core.ingest.open_visit(SOURCE)
        for size in (100, 1_000_000):
            reception = visit.receive(declared("1.2.9.1"))
            await reception.write(bytes(size))
            await reception.discard()
        await visit.close()
        assert core.files() == {}
        assert await core.rows("SELECT count(*) FROM instance") == [(0,)]


async def test_a_sender_that_is_cancelled_leaves_everything_or_nothing(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        for turns in range(12):
            uid = f"1.2.9.{turns + 1}"
            async with anyio.create_task_group() as senders:
                senders.start_soon(core.send, uid)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                senders.cancel_scope.cancel()
        rows = {row[0] for row in await core.rows("SELECT file FROM instance")}
        assert rows == set(core.files())
        assert core.ingest.unflushed == {}


async def test_rows_are_marked_as_flushed_soon_after(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        await core.send("1.2.9.2")
        await core.journal.write(lambda conn: None)
        assert await core.rows("SELECT flushed FROM instance") == [(1,), (1,)]


async def test_b20_an_endless_data_set_is_refused(tmp_path: Path) -> None:
    async with open_core(tmp_path, dicom=DicomConfig(max_instance_bytes=10_000)) as core:
        with pytest.raises(Refused) as refused:
            await core.send("1.2.9.1", data_set("1.2.9.1", pixels=bytes(20_000)))
        assert refused.value.status == 0xA700
        assert core.files() == {}


async def test_f13_below_the_floor_new_instances_are_refused_and_nothing_is_deleted(tmp_path: Path) -> None:
    async with open_core(tmp_path, min_free_bytes=1 << 60) as core:
        assert not core.ingest.has_room()
        with pytest.raises(Refused) as refused:
            await core.send("1.2.9.1")
        assert refused.value.status == 0xA700
