"""confirm = "commitment": what a destination took is delivered when it has committed to it (PS3.4 Annex J)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sending_harness import NOON, DirectJournal, FakeCourier, StillClock, add_instances, settle

from router.commitment.confirming import AT_ONCE, KEEP_S, Confirmations
from router.commitment.language import Forgotten, Reference, Ruling
from router.config.model import Config, Destination, DimseDestination, SendingConfig
from router.dicom.status import Verdict
from router.dicom.uids import Uid
from router.errors import Misconfigured, StorageError, Transient
from router.journal import overview, requests, send_requests
from router.sending.courier import Outcome
from router.sending.lane import Lane
from router.sending.retry import INSTANCE_WAITS_S, instance_retry_at

Answer = Sequence[Ruling] | Exception | None
CONFIRM_S = 3600.0


def all_committed(references: Sequence[Reference]) -> list[Ruling]:
    return [Ruling(reference) for reference in references]


class ScriptedAsker:
    """Answers as `on_ask` and `on_check` say; by itself it takes the question and says nothing more."""

    poll_s = 30.0

    def __init__(self) -> None:
        self.on_ask: Callable[[Sequence[Reference]], Answer] = lambda references: None
        self.on_check: Callable[[Sequence[Reference]], Answer] = lambda references: None
        self.asked: list[tuple[Uid, Sequence[Reference]]] = []
        self.checked: list[Uid] = []
        self.hold: anyio.Event | None = None

    async def ask(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        self.asked.append((transaction_uid, references))
        if self.hold is not None:
            await self.hold.wait()
        return _given(self.on_ask(references))

    async def check(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        self.checked.append(transaction_uid)
        return _given(self.on_check(references))


def _given(answer: Answer) -> Sequence[Ruling] | None:
    if isinstance(answer, Exception):
        raise answer
    return answer


class Desk:
    """A lane for "archive" whose destination is to commit, and who asks it. `behave` is how it answers a C-STORE."""

    def __init__(self, journal: DirectJournal | None = None, clock: StillClock | None = None, **changes: Any):
        self.journal, self.clock = journal or DirectJournal(), clock or StillClock()
        self.courier, self.asker = FakeCourier(), ScriptedAsker()
        settings: dict[str, Any] = {"confirm": "commitment", "confirm_s": CONFIRM_S, **changes}
        self.configure(**settings)
        self.woken: list[str] = []
        self.lane = Lane(
            "archive",
            self.courier,
            self.journal,  # type: ignore[arg-type]
            SendingConfig(),
            clock=self.clock,
            rng=random.Random(7),
            confirm_s=CONFIRM_S,
        )
        self.confirmations = Confirmations(
            self.journal,  # type: ignore[arg-type]
            lambda: self.config,
            self._asker_for,
            retry_at=instance_retry_at,
            wake=self._wake,
            clock=self.clock,
        )

    def configure(self, **settings: Any) -> None:
        archive = DimseDestination(name="archive", ae_title="ARCHIVE", host="10.0.0.9", **settings)
        self.config = Config(file=Path("router.toml"), destinations={"archive": archive})

    def _asker_for(self, destination: Destination) -> ScriptedAsker:
        return self.asker

    def _wake(self, names: Iterable[str]) -> None:
        self.woken += names
        self.lane.wake()

    @asynccontextmanager
    async def running(self) -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.lane.run)
            tasks.start_soon(self.confirmations.watch)
            await settle()
            yield self
            tasks.cancel_scope.cancel()

    async def deliver(self, count: int = 1, *, first: int = 1) -> None:
        add_instances(self.journal.conn, count, first=first, now=self.clock.now())
        self.lane.wake()
        await self.clock.advance(0.5)

    async def ask(self) -> None:
        """Let the watch see that nothing more comes, and ask."""
        await self.clock.advance(3.0)

    async def report(self, *failed: tuple[str, int]) -> bool:
        """The destination reports on the last question: committed, but for `failed`."""
        uid, references = self.asker.asked[-1]
        reasons = dict(failed)
        rulings = [Ruling(one, reasons.get(one.sop_instance_uid)) for one in references]
        known = await self.confirmations.reported("ARCHIVE", uid, rulings)
        await settle()
        return known

    def row(self, uid: str = "1.2.9.1") -> tuple[Any, ...]:
        (row,) = self.journal.rows(
            "SELECT state, confirming, reason FROM sub_operation WHERE sop_instance_uid = ?", uid
        )
        return row


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_was_answered_remains_until_the_destination_has_committed_to_it(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver(3)
        assert len(desk.courier.sent) == 3
        assert desk.journal.states() == {"remaining": 3}
        await desk.ask()
        ((_, references),) = desk.asker.asked
        assert [one.sop_instance_uid for one in references] == ["1.2.9.1", "1.2.9.2", "1.2.9.3"]
        assert {(one.study, one.series) for one in references} == {("1.2.3", "1.2.3.4")}
        assert desk.journal.states() == {"remaining": 3}
        assert await desk.report()
        assert desk.journal.states() == {"completed": 3}
        assert len(desk.courier.sent) == 3


async def test_an_answer_with_a_warning_is_a_warning_once_it_is_committed_to(desk: Desk) -> None:
    desk.courier.behave = lambda delivery: Outcome(delivery, Verdict.WARNING, 0xB000, "B000H coerced")
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        assert await desk.report()
        assert desk.row() == ("warning", "", "B000H coerced")


async def test_an_instance_is_not_sent_again_while_it_waits_for_commitment(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(CONFIRM_S - 60)
        assert desk.courier.sent == ["1.2.9.1"]
        assert desk.journal.states() == {"remaining": 1}


async def test_a_later_version_waits_until_the_earlier_one_is_committed_to(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        add_instances(desk.journal.conn, 1, now=desk.clock.now(), content=b"new")
        desk.lane.wake()
        await desk.clock.advance(60.0)
        assert len(desk.courier.sent) == 1
        assert await desk.report()
        await desk.clock.advance(60.0)
        assert len(desk.courier.sent) == 2


async def test_many_instances_are_asked_for_together_and_not_while_more_are_coming_in(desk: Desk) -> None:
    async with desk.running():
        for n in range(4):
            await desk.deliver(10, first=1 + 10 * n)
            await desk.clock.advance(0.5)
        assert desk.asker.asked == []
        await desk.ask()
        assert [len(references) for _, references in desk.asker.asked] == [40]


async def test_no_question_is_longer_than_500_instances(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver(AT_ONCE + 20)
        await desk.clock.advance(10.0)
        assert [len(references) for _, references in desk.asker.asked] == [AT_ONCE, 20]


async def test_an_asker_that_knows_at_once_settles_at_once(desk: Desk) -> None:
    desk.asker.on_ask = all_committed
    async with desk.running():
        await desk.deliver(2)
        await desk.ask()
        assert desk.journal.states() == {"completed": 2}


async def test_the_answer_is_looked_for_until_it_is_there(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver(2)
        await desk.ask()
        await desk.clock.advance(65.0)
        assert len(desk.asker.checked) == 2
        desk.asker.on_check = lambda references: Transient("connection refused")
        await desk.clock.advance(30.0)
        assert desk.journal.states() == {"remaining": 2}
        desk.asker.on_check = all_committed
        await desk.clock.advance(35.0)
        assert desk.journal.states() == {"completed": 2}
        assert len(desk.asker.asked) == 1


async def test_a_destination_that_forgot_the_question_is_asked_anew_under_another_uid(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        desk.asker.on_check = lambda references: Forgotten()
        await desk.clock.advance(120.0)
        uids = [uid for uid, _ in desk.asker.asked]
        assert len(set(uids)) == len(uids) >= 2
        desk.asker.on_check = all_committed
        await desk.clock.advance(120.0)
        assert desk.journal.states() == {"completed": 1}


async def test_what_is_not_committed_to_is_sent_again_as_an_instance_that_failed(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver(3)
        await desk.ask()
        assert await desk.report(("1.2.9.2", 0x0112))
        assert desk.journal.states() == {"completed": 2, "remaining": 1}
        assert desk.row("1.2.9.2") == ("remaining", "", "not committed to: no such object instance")
        assert desk.woken == ["archive"]
        await desk.clock.advance(INSTANCE_WAITS_S[0] + 1)
        assert desk.courier.sent.count("1.2.9.2") == 2
        await desk.ask()
        assert await desk.report()
        assert desk.journal.states() == {"completed": 3}


async def test_what_is_never_committed_to_is_parked_after_the_retries_of_an_instance(desk: Desk) -> None:
    desk.asker.on_ask = lambda references: [Ruling(one, 0x0110) for one in references]
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(sum(INSTANCE_WAITS_S) + 600)
        assert desk.row() == ("failed", "", "not committed to: processing failure")
        assert len(desk.courier.sent) == len(INSTANCE_WAITS_S) + 1
        (parked,) = overview.parked(desk.journal.conn)
        assert (parked.status, parked.reason) == (0x0110, "not committed to: processing failure")


async def test_a_class_that_is_not_committed_to_is_parked_at_once(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        assert await desk.report(("1.2.9.1", 0x0122))
        assert desk.row() == ("failed", "", "not committed to: SOP class not supported")


@pytest.mark.parametrize("reason", [0x0131, 0x0213])
async def test_trouble_of_the_destination_is_asked_about_again_and_nothing_is_sent_again(
    desk: Desk, reason: int
) -> None:
    desk.asker.on_ask = lambda references: [Ruling(one, reason) for one in references]
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(20.0)
        assert len(desk.asker.asked) == 1
        desk.asker.on_ask = all_committed
        await desk.clock.advance(20.0)
        assert len(desk.asker.asked) == 2
        assert desk.journal.states() == {"completed": 1}
        assert desk.courier.sent == ["1.2.9.1"]


async def test_an_instance_that_the_answer_does_not_name_is_asked_about_again(desk: Desk) -> None:
    desk.asker.on_ask = lambda references: [Ruling(references[0])]
    async with desk.running():
        await desk.deliver(2)
        await desk.ask()
        assert desk.journal.states() == {"completed": 1, "remaining": 1}
        await desk.clock.advance(40.0)
        assert desk.journal.states() == {"completed": 2}


@pytest.mark.parametrize("trouble", [Transient("connection refused"), Misconfigured("calling AE title not recognised")])
async def test_a_destination_that_cannot_be_asked_is_asked_again_more_and_more_seldom(
    desk: Desk, trouble: Exception
) -> None:
    desk.asker.on_ask = lambda references: trouble
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(1000.0)
        assert 4 <= len(desk.asker.asked) <= 6
        desk.asker.on_ask = all_committed
        await desk.clock.advance(1000.0)
        assert desk.journal.states() == {"completed": 1}
        uids = [uid for uid, _ in desk.asker.asked]
        assert len(set(uids)) == len(uids)


async def test_without_an_answer_in_time_an_instance_is_parked_with_a_reason_that_says_so(desk: Desk) -> None:
    desk.asker.on_ask = lambda references: Transient("connection refused")
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(CONFIRM_S + 10)
        assert desk.row() == (
            "failed",
            "",
            "the destination did not commit to it within 1 h; last: connection refused",
        )
        assert [one.sop_instance_uid for one in overview.parked(desk.journal.conn)] == ["1.2.9.1"]


async def test_a_report_that_comes_too_late_or_twice_is_known_and_changes_nothing(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        await desk.clock.advance(CONFIRM_S + 10)
        assert desk.journal.states() == {"failed": 1}
        assert await desk.report()
        assert desk.journal.states() == {"failed": 1}
        await desk.clock.advance(KEEP_S + 3600)
        assert not await desk.report()


async def test_a_report_about_what_we_never_asked_is_not_ours(desk: Desk) -> None:
    assert not await desk.confirmations.reported("ARCHIVE", Uid("1.2.3"), [])


async def test_a_report_that_comes_before_the_question_is_answered_is_taken(desk: Desk) -> None:
    desk.asker.hold = anyio.Event()
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        assert await desk.report()
        assert desk.journal.states() == {"completed": 1}
        desk.asker.hold.set()
        await desk.clock.advance(100.0)
        assert desk.asker.checked == []


async def test_a_restart_goes_on_waiting_for_what_was_asked(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
    after = Desk(desk.journal, desk.clock)
    async with after.running():
        await after.clock.advance(5.0)
        assert after.asker.asked == []
        uid, references = desk.asker.asked[0]
        assert await after.confirmations.reported("ARCHIVE", uid, all_committed(references))
        assert after.journal.states() == {"completed": 1}
        assert after.courier.sent == []


async def test_a_restart_while_asking_asks_anew_under_another_uid(desk: Desk) -> None:
    desk.asker.hold = anyio.Event()
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        assert len(desk.asker.asked) == 1
    after = Desk(desk.journal, desk.clock)
    after.asker.on_ask = all_committed
    async with after.running():
        await after.ask()
        assert after.journal.states() == {"completed": 1}
        assert after.asker.asked[0][0] != desk.asker.asked[0][0]
        assert after.courier.sent == []


async def test_a_restart_between_the_answer_and_the_question_asks(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
    after = Desk(desk.journal, desk.clock)
    after.asker.on_ask = all_committed
    async with after.running():
        await after.ask()
        assert after.journal.states() == {"completed": 1}
        assert after.courier.sent == []


async def test_a_destination_that_need_not_commit_any_more_is_done_with_what_it_answered(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        desk.configure(confirm="answer")
        await desk.clock.advance(2.0)
        assert desk.journal.states() == {"completed": 1}


async def test_what_waits_for_a_destination_that_was_taken_out_stays_as_it_is(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        desk.config = Config(file=Path("router.toml"))
        await desk.clock.advance(CONFIRM_S * 2)
        assert desk.journal.states() == {"remaining": 1}


async def test_a_journal_that_fails_is_asked_again(desk: Desk) -> None:
    desk.asker.on_ask = all_committed
    async with desk.running():
        await desk.deliver()
        desk.journal.fail = StorageError("disk full")
        await desk.clock.advance(30.0)
        assert desk.journal.states() == {"completed": 1}


async def test_an_asker_that_crashes_is_asked_again_and_hurts_nobody_else(desk: Desk) -> None:
    desk.asker.on_ask = lambda references: RuntimeError("a bug")
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        desk.asker.on_ask = all_committed
        await desk.clock.advance(60.0)
        assert desk.journal.states() == {"completed": 1}


async def test_people_see_what_waits_for_commitment(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver(2)
        (row,) = overview.destinations(desk.journal.conn)
        assert (row.remaining, row.confirming, row.in_flight, row.next_due_at) == (2, 2, 0, None)
        (job,) = requests.list_requests(desk.journal.conn)
        detail = requests.inspect_request(desk.journal.conn, job.transaction_uid)
        assert detail is not None
        assert [line.confirming for line in detail.sub_operations] == [True, True]
        assert [attempt.outcome for line in detail.sub_operations for attempt in line.attempts] == ["completed"] * 2
        await desk.ask()
        await desk.report()
        detail = requests.inspect_request(desk.journal.conn, job.transaction_uid)
        assert detail is not None
        assert [line.confirming for line in detail.sub_operations] == [False, False]


async def test_what_was_asked_for_counts_as_remaining_until_it_is_committed_to(desk: Desk) -> None:
    """A SEND-RS request or C-MOVE is told Remaining meanwhile (REQ-131)."""
    async with desk.running():
        await desk.deliver(2)
        (job,) = requests.list_requests(desk.journal.conn)
        desk.journal.conn.execute("UPDATE send_request SET closed_at = ?", (NOON,))
        counted = send_requests.state(desk.journal.conn, job.transaction_uid)
        assert counted is not None
        assert (counted.remaining, counted.completed, counted.ended_at) == (2, 0, None)
        await desk.ask()
        await desk.report(("1.2.9.1", 0x0122))
        counted = send_requests.state(desk.journal.conn, job.transaction_uid)
        assert counted is not None
        assert (counted.remaining, counted.completed, counted.failed) == (0, 1, 1)
        assert counted.failed_uids == ("1.2.9.1",)


async def test_what_is_parked_for_want_of_commitment_can_be_tried_again(desk: Desk) -> None:
    async with desk.running():
        await desk.deliver()
        await desk.clock.advance(CONFIRM_S + 10)
        retried = overview.retry_parked(desk.journal.conn, destination="archive", now=desk.clock.now())
        assert retried.retried == 1
        desk.lane.wake()
        await desk.clock.advance(1.0)
        assert len(desk.courier.sent) == 2
        desk.asker.on_ask = all_committed
        await desk.ask()
        assert desk.journal.states() == {"completed": 1}


async def test_a_question_about_what_was_given_up_elsewhere_is_forgotten_too(desk: Desk) -> None:
    """The time of a requested job may be over while its instances wait for commitment."""
    desk.journal.conn.execute("PRAGMA foreign_keys = ON")
    async with desk.running():
        await desk.deliver()
        await desk.ask()
        desk.journal.conn.execute("UPDATE sub_operation SET state = 'failed', confirming = ''")
        await desk.clock.advance(KEEP_S + 3600)
        assert desk.journal.rows("SELECT * FROM confirmation") == []
        assert desk.journal.states() == {"failed": 1}
