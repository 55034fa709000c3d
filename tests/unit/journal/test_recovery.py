"""What the sweep asks and writes, on a journal with rows in several shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.journal import recovery
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.records import Acceptance, InstanceRow, RouteRow

FILES = [f"{shard:06d}/{number:032x}.dcm" for shard in (1, 2, 10) for number in range(3)]


def fill(conn: WritingConnection) -> None:
    for number, file in enumerate(FILES, 1):
        instance = InstanceRow(
            Declared(Uid("1.2"), Uid(f"1.2.9.{number}"), Uid("1.2")),
            Source("C-STORE", "::1"),
            file,
            1,
            2,
            bytes(32),
            1.0,
        )
        route = RouteRow("rule", "archive" if number % 2 else "gone", Uid(f"2.25.{number % 2}"))
        accept(conn, Acceptance(None, None, instance, (route,)))


async def test_shards_are_walked_in_order_without_reading_their_rows(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        assert await journal.read(recovery.next_shard) is None
        await journal.write(fill)
        walked, after = [], ""
        while (shard := await journal.read(partial(recovery.next_shard, after=after))) is not None:
            walked.append(shard)
            after = shard
        assert walked == ["000001", "000002", "000010"]
        rows = await journal.read(partial(recovery.rows_in_shard, shard="000002"))
        assert [row.file for row in rows] == FILES[3:6]
        assert await journal.read(partial(recovery.rows_in_shard, shard="000003")) == []
        assert await journal.read(partial(recovery.has_file, file=FILES[0]))
        assert not await journal.read(partial(recovery.has_file, file="000001/x.dcm"))


async def test_lost_content_parks_what_remains_and_leaves_what_was_delivered(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(fill)
        await journal.write(
            lambda conn: conn.execute("UPDATE sub_operation SET state = 'completed' WHERE instance_id = 1").rowcount
        )
        await journal.write(lambda conn: recovery.mark_lost(conn, [1, 2], now=5.0))
        states = await journal.read(
            lambda conn: conn.execute(
                "SELECT state, ended_at, reason FROM sub_operation ORDER BY id LIMIT 3"
            ).fetchall()
        )
        [lost, other] = [
            row.known_lost
            for row in await journal.read(partial(recovery.rows_in_shard, shard="000001"))
            if row.instance_id in (2, 3)
        ]
    assert states == [("completed", None, ""), ("failed", 5.0, "content missing"), ("remaining", None, "")]
    assert (lost, other) == (True, False)


async def test_everything_in_flight_is_taken_back_whatever_its_destination(tmp_path: Path) -> None:
    async with Journal.open(tmp_path) as journal:
        await journal.write(fill)
        await journal.write(lambda conn: conn.execute("UPDATE sub_operation SET in_flight = 1").rowcount)
        taken = await journal.write(partial(recovery.take_back_in_flight, now=5.0, longest_wait_s=60.0))
        left = await journal.read(
            lambda conn: conn.execute("SELECT count(*) FROM sub_operation WHERE in_flight = 1").fetchone()
        )
    assert (taken, left) == (9, (0,))
