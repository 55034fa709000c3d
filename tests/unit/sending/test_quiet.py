"""The watch over quiet series and studies, with the real journal operations and a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
from sending_harness import CT, EXPLICIT, DirectJournal, StillClock, settle

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.errors import StorageError
from router.journal.acceptance import accept
from router.journal.records import Acceptance, InstanceRow, QuietUnitRow, SeriesRow, StudyRow
from router.sending.quiet import AFTER_FAILURE_S, watch

QUIET_S = 60.0


class Ward:
    """Instances of one series arrive; `woken` lists what the lanes were told."""

    def __init__(self) -> None:
        self.journal, self.clock = DirectJournal(), StillClock()
        self.woken: list[str] = []

    def wake(self, names: Iterable[str]) -> None:
        self.woken.extend(names)

    def arrive(self, n: int) -> None:
        now = self.clock.now()
        instance = InstanceRow(
            declared=Declared(CT, Uid(f"1.2.9.{n}"), EXPLICIT),
            source=Source("C-STORE", "10.0.0.1"),
            file=f"1/{n}.dcm",
            data_set_offset=500,
            data_set_bytes=1000,
            data_set_sha256=bytes([n]).ljust(32, b"\0"),
            received_at=now,
        )
        unit = QuietUnitRow("rule", "series", ("archive",), matched=True, vetoed=False, due_at=now + QUIET_S)
        accept(
            self.journal.conn, Acceptance(StudyRow(Uid("1.2.3")), SeriesRow(Uid("1.2.3.4")), instance, units=(unit,))
        )


async def test_a_series_is_sent_whole_once_it_is_quiet_and_late_comers_by_themselves() -> None:
    ward = Ward()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await watch(ward.journal, ward.wake, clock=ward.clock)  # type: ignore[arg-type]

        tasks.start_soon(run)
        await settle()
        for n in range(5):
            ward.arrive(n)
            await ward.clock.advance(50.0)
        assert ward.journal.states() == {}
        await ward.clock.advance(11.0)
        assert ward.journal.states() == {"remaining": 5}
        assert ward.woken == ["archive"]
        ward.arrive(9)
        await ward.clock.advance(62.0)
        assert ward.journal.states() == {"remaining": 6}
        assert ward.journal.rows("SELECT count(*) FROM send_request") == [(2,)]
        tasks.cancel_scope.cancel()


async def test_a_journal_that_fails_delays_quiet_series_and_loses_none() -> None:
    ward = Ward()
    ward.arrive(1)
    ward.journal.fail = StorageError("disk I/O error")
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await watch(ward.journal, ward.wake, clock=ward.clock)  # type: ignore[arg-type]

        tasks.start_soon(run)
        await ward.clock.advance(QUIET_S + 1.0)
        assert ward.journal.states() == {}
        await ward.clock.advance(AFTER_FAILURE_S)
        assert ward.journal.states() == {"remaining": 1}
        tasks.cancel_scope.cancel()
