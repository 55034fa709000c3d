"""One received instance in one transaction: rows, repeats, conflicts, and what the writer remembers (D4, D13)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.uids import AETitle, Uid
from router.journal import connection
from router.journal.acceptance import ARRIVALS_RESERVED, accept, drop_instance, mark_flushed
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.records import Acceptance, Accepted, InstanceRow, QuietUnitRow, RouteRow, SeriesRow, StudyRow

SOURCE = Source("C-STORE", "192.0.2.7", AETitle("CT1"), AETitle("SENDRS"))
STUDY = StudyRow(Uid("1.2.3"))
SERIES = SeriesRow(Uid("1.2.3.4"))


class Door:
    """Accepts into a journal."""

    def __init__(self, journal: Journal):
        self.journal = journal
        self.files = 0

    async def accept(
        self,
        uid: str = "1.2.9.1",
        *,
        content: bytes = b"a",
        syntax: str = "1.2.840.10008.1.2.1",
        study: StudyRow | None = STUDY,
        series: SeriesRow | None = SERIES,
        routes: tuple[RouteRow, ...] = (),
        units: tuple[QuietUnitRow, ...] = (),
        distrusted: str = "",
    ) -> Accepted:
        self.files += 1
        instance = InstanceRow(
            Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid(uid), Uid(syntax)),
            SOURCE,
            f"000001/{self.files:032x}.dcm",
            data_set_offset=600 + self.files,
            data_set_bytes=len(content),
            data_set_sha256=content.ljust(32, b"\0"),
            received_at=1000.0 + self.files,
        )
        acceptance = Acceptance(study, series, instance, routes, units)
        return await self.journal.write(partial(accept, acceptance=acceptance, distrusted_file=distrusted))

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self.journal.read(lambda conn: conn.execute(sql).fetchall())
        return found


@asynccontextmanager
async def open_door(state: Path) -> AsyncIterator[Door]:
    async with Journal.open(state) as journal:
        yield Door(journal)


def to(*destinations: str, job: str = "2.25.1") -> tuple[RouteRow, ...]:
    return tuple(RouteRow("rule", name, Uid(f"{job}.{number}")) for number, name in enumerate(destinations, 1))


async def test_study_and_series_are_written_once_and_shared(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        ids = [(await door.accept(f"1.2.9.{number}")).instance_id for number in range(1, 4)]
        assert len(set(ids)) == 3
        assert await door.rows("SELECT count(*) FROM study") == [(1,)]
        assert await door.rows("SELECT count(DISTINCT series_id) FROM instance") == [(1,)]


async def test_the_same_series_uid_in_two_studies_is_two_series(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await door.accept("1.2.9.1")
        await door.accept("1.2.9.2", study=StudyRow(Uid("1.2.4")))
        assert await door.rows("SELECT count(*) FROM series") == [(2,)]


@pytest.mark.parametrize("forget", [False, True], ids=["remembered", "read again"])
async def test_a_newer_value_replaces_but_an_absent_one_does_not_erase(tmp_path: Path, forget: bool) -> None:
    async with open_door(tmp_path) as door:
        offers = [
            StudyRow(Uid("1.2.3"), patient_id="P1", accession_number="A1"),
            StudyRow(Uid("1.2.3"), patient_id="P2"),
            StudyRow(Uid("1.2.3"), study_description="D"),
        ]
        series = [SeriesRow(Uid("1.2.3.4"), "CT", request_attributes='[["1","2"]]'), SeriesRow(Uid("1.2.3.4"), "MR")]
        for number, offer in enumerate(offers):
            if forget:
                await door.journal.write(lambda conn: conn.memory.forget())
            await door.accept(f"1.2.9.{number + 1}", study=offer, series=series[number % 2])
        assert await door.rows("SELECT patient_id, accession_number, study_description FROM study") == [
            ("P2", "A1", "D")
        ]
        assert await door.rows("SELECT modality, request_attributes FROM series") == [("CT", '[["1","2"]]')]


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REMEMBERED", 3)
    async with open_door(tmp_path) as door:
        for number in range(10):
            await door.accept(f"1.2.9.{number + 1}", study=StudyRow(Uid(f"1.2.{number}")))
        await door.accept("1.2.9.99", study=StudyRow(Uid("1.2.0"), patient_id="P"))
        sizes = await door.journal.write(lambda conn: (len(conn.memory.studies), len(conn.memory.series)))
        assert sizes == (3, 3)
        assert await door.rows("SELECT count(*) FROM study") == [(10,)]


async def test_after_a_rollback_study_series_and_job_are_written_again(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:

        def accept_and_fail(conn: WritingConnection) -> None:
            instance = InstanceRow(
                Declared(Uid("1.2"), Uid("1.2.9.1"), Uid("1.2")), SOURCE, "000001/x.dcm", 1, 1, bytes(32), 1.0
            )
            accept(conn, Acceptance(StudyRow(Uid("1.2.3")), SeriesRow(Uid("1.2.3.4")), instance, to("archive")))
            raise ValueError

        with pytest.raises(ValueError):
            await door.journal.write(accept_and_fail)
        await door.accept(routes=to("archive"))
        assert await door.rows("SELECT s.study_instance_uid FROM study s JOIN series r ON r.study_id = s.id") == [
            ("1.2.3",)
        ]
        assert await door.rows("SELECT count(*) FROM instance") == [(1,)]
        assert await door.rows("SELECT transaction_uid FROM send_request") == [("2.25.1.1",)]


async def test_the_same_content_is_one_row_and_says_where_the_file_is(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        first = await door.accept(routes=to("archive"))
        again = await door.accept(routes=to("archive", "ai", job="2.25.2"))
        assert (first.coalesced, first.conflict, first.destinations) == (False, False, ("archive",))
        assert (again.coalesced, again.conflict, again.destinations) == (True, False, ("ai",))
        assert (again.instance_id, again.file, again.data_set_offset) == (first.instance_id, first.file, 601)
        jobs = await door.rows("SELECT transaction_uid, destination FROM send_request ORDER BY id")
    assert jobs == [("2.25.1.1", "archive"), ("2.25.2.2", "ai")], "no job without a sub-operation"


@pytest.mark.parametrize(
    ("state", "sent_again"), [("remaining", False), ("completed", True), ("warning", True), ("failed", True)]
)
async def test_d4_a_repeat_is_sent_again_unless_it_still_waits_there(
    tmp_path: Path, state: str, sent_again: bool
) -> None:
    async with open_door(tmp_path) as door:
        await door.accept(routes=to("archive"))
        await door.journal.write(lambda conn: conn.execute("UPDATE sub_operation SET state = ?", (state,)).rowcount)
        again = await door.accept(routes=to("archive", job="2.25.2"))
    assert again.destinations == (("archive",) if sent_again else ())


async def test_d13_other_content_supersedes_and_both_are_sent(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        first = await door.accept(content=b"a", routes=to("archive"))
        second = await door.accept(content=b"b", routes=to("archive"))
        third = await door.accept(content=b"b", syntax="1.2.840.10008.1.2", routes=to("archive"))
        back = await door.accept(content=b"a", routes=to("archive"))
        assert [one.conflict for one in (first, second, third, back)] == [False, True, True, True]
        assert not back.coalesced, "what came back is the newest again"
        rows = await door.rows("SELECT superseded FROM instance ORDER BY arrival")
        operations = await door.rows("SELECT instance_id FROM sub_operation ORDER BY id")
    assert rows == [(1,), (1,), (1,), (0,)]
    assert operations == [(one.instance_id,) for one in (first, second, third, back)]


async def test_a_distrusted_file_is_replaced_and_not_shared(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        first = await door.accept(routes=to("archive"))
        await door.journal.write(lambda conn: mark_flushed(conn, (first.instance_id,)))
        again = await door.accept(routes=to("archive"), distrusted=first.file)
        assert not again.coalesced
        assert again.instance_id == first.instance_id
        rows = await door.rows("SELECT file, data_set_offset, flushed FROM instance")
        assert rows == [(again.file, again.data_set_offset, 0)]
        assert again.file != first.file


async def test_dropping_takes_the_sub_operations_along_and_frees_the_earlier_instance(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        first = await door.accept(content=b"a", routes=to("archive"))
        second = await door.accept(content=b"b", routes=to("archive"))
        await door.journal.write(
            lambda conn: (
                conn.execute(
                    "INSERT INTO attempt (sub_operation_id, started_at) SELECT id, 1 FROM sub_operation"
                ).rowcount
            )
        )
        assert await door.journal.write(partial(drop_instance, file=second.file))
        assert not await door.journal.write(partial(drop_instance, file=second.file))
        assert await door.rows("SELECT id, superseded FROM instance") == [(first.instance_id, 0)]
        assert await door.rows("SELECT instance_id FROM sub_operation") == [(first.instance_id,)]
        assert await door.rows("SELECT count(*) FROM attempt") == [(1,)]


async def test_a_row_that_has_another_file_by_now_is_not_dropped(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        first = await door.accept()
        await door.accept(distrusted=first.file)
        assert not await door.journal.write(partial(drop_instance, file=first.file))
        assert await door.rows("SELECT count(*) FROM instance") == [(1,)]


async def test_arrivals_only_grow_over_restarts_and_repeats(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(3):
        async with open_door(tmp_path) as door:
            door.files = len(seen)
            for number in range(3):
                await door.accept(f"1.2.9.{number % 2}", content=os.urandom(4))
                [(arrival,)] = await door.rows("SELECT max(arrival) FROM instance")
                seen.append(arrival)
    assert seen == sorted(set(seen))
    assert seen[-1] <= 3 * ARRIVALS_RESERVED


async def test_a_vote_reopens_a_unit_and_keeps_what_was_matched_or_vetoed(tmp_path: Path) -> None:
    def vote(matched: bool, vetoed: bool, due_at: float) -> tuple[QuietUnitRow, ...]:
        return (QuietUnitRow("rule", "study", ("archive", "ai"), matched, vetoed, due_at),)

    async with open_door(tmp_path) as door:
        await door.accept("1.2.9.1", units=vote(True, False, 10.0))
        await door.journal.write(lambda conn: conn.execute("UPDATE quiet_unit SET waiting = 0").rowcount)
        await door.accept("1.2.9.2", units=vote(False, True, 20.0))
        rows = await door.rows("SELECT matched, vetoed, due_at, waiting, destinations FROM quiet_unit")
        await door.accept("1.2.9.3", study=None, series=None, units=vote(True, False, 30.0))
        assert rows == await door.rows("SELECT matched, vetoed, due_at, waiting, destinations FROM quiet_unit")
    assert rows == [(1, 1, 20.0, 1, '["archive","ai"]')]
