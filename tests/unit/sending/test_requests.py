"""Send requests through `SendRequests`: who sees which, for how long, and how far they are (Sup 248 §10.X, §10.Y)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from sending_harness import NOON, DirectJournal, StillClock, add_instances, settle

from router.config.model import Config, HttpConfig, SendingConfig
from router.dicom.uids import Uid
from router.journal.journal import Journal
from router.sending import expiry
from router.sending.requests import OPERATOR, Gone, Progress, SendRequest, SendRequests, UidInUse, UnknownRequest

UID = Uid("1.1.99999.20250901")
HOUR = 3600.0
CONFIG = Config(
    file=Path("router.toml"),
    http=HttpConfig(result_ttl_s=10 * HOUR, tombstone_ttl_s=100 * HOUR),
    sending=SendingConfig(request_lifetime_s=HOUR),
)

pytestmark = pytest.mark.anyio


class Ward:
    """A journal with five instances that no rule wants, and the requests on it."""

    def __init__(self) -> None:
        self.journal, self.clock, self.woken = DirectJournal(), StillClock(), list[str]()
        add_instances(self.journal.conn, 5, destinations=())
        self.requests = SendRequests(cast(Journal, self.journal), self.wake, lambda: CONFIG, clock=self.clock)

    def wake(self, names: Iterable[str]) -> None:
        self.woken += names

    async def ask(self, *ids: int, uid: Uid = UID, **more: Any) -> Progress:
        values = {"resource": "studies", "requester": "10.0.0.5", **more}
        request = SendRequest(uid, destination="archive", source="SEND-RS at 10.0.0.5", query="", **values)
        return await self.requests.submit(request, ids)

    async def see(self, resource: str = "studies", requester: str = "10.0.0.5", uid: Uid = UID) -> Progress:
        return await self.requests.progress(uid, resource, requester)

    def end(self, state: str, *rows: int) -> None:
        for row in rows:
            self.journal.rows(
                "UPDATE sub_operation SET state = ?, ended_at = ? WHERE id = ?", state, self.clock.now(), row
            )


async def test_req_045_a_request_is_taken_whole_and_the_lane_is_woken() -> None:
    """REQ-045: all instances remain; the destination has something to do."""
    ward = Ward()
    progress = await ward.ask(1, 2, 3, 4, 5)
    assert (progress.remaining, progress.finished) == (5, False)
    assert ward.woken == ["archive"]
    assert ward.journal.writes == 1, "request and sub-operations are one transaction"


async def test_a_request_that_matches_nothing_has_ended() -> None:
    ward = Ward()
    assert (await ward.ask()).finished
    assert (await ward.see()).finished
    assert ward.woken == []


async def test_b87_of_two_requests_with_one_uid_one_wins() -> None:
    ward = Ward()
    outcomes: list[str] = []

    async def one() -> None:
        try:
            await ward.ask(1)
            outcomes.append("taken")
        except UidInUse:
            outcomes.append("in use")

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)
    assert sorted(outcomes) == ["in use"] * 9 + ["taken"]
    assert ward.journal.rows("SELECT count(*) FROM sub_operation") == [(1,)]


async def test_req_061_the_counters_move_between_two_looks() -> None:
    """REQ-061, O-33: pending until nothing remains, also when some have failed already."""
    ward = Ward()
    await ward.ask(1, 2, 3)
    ward.end("completed", 1)
    first = await ward.see()
    ward.end("failed", 2)
    await ward.clock.advance(1)
    second = await ward.see()
    assert (first.completed, first.failed, second.completed, second.failed) == (1, 0, 1, 1)
    assert (second.finished, second.failed_uids) == (False, ())
    ward.end("warning", 3)
    await ward.clock.advance(1)
    last = await ward.see()
    assert (last.finished, last.remaining, last.warning, last.failed_uids) == (True, 0, 1, ("1.2.9.2",))
    assert await ward.see() == last, "REQ-062: repeated, the result is the same"


async def test_b89_who_polls_fast_gets_the_last_answer_without_a_look_into_the_journal() -> None:
    ward = Ward()
    await ward.ask(1)
    await ward.see()
    ward.end("completed", 1)
    assert not (await ward.see()).finished
    await ward.clock.advance(1)
    assert (await ward.see()).finished


@pytest.mark.parametrize("resource", ["instances", "series", "studies/1.2.3/series", "", "color-palettes"])
async def test_req_057_b88_a_request_is_found_on_its_own_resource_only(resource: str) -> None:
    """REQ-057, O-27."""
    ward = Ward()
    await ward.ask(1)
    with pytest.raises(UnknownRequest):
        await ward.see(resource)


async def test_req_064_b88_an_unknown_request_is_not_found() -> None:
    """REQ-064."""
    with pytest.raises(UnknownRequest):
        await Ward().see()


async def test_b88_a_request_is_shown_to_who_asked_and_to_the_operator_only() -> None:
    """O-28."""
    ward = Ward()
    await ward.ask(1)
    with pytest.raises(UnknownRequest):
        await ward.see(requester="10.0.0.6")
    assert (await ward.see(requester=OPERATOR)).remaining == 1
    with pytest.raises(UnknownRequest):
        await ward.see(requester="10.0.0.6")


async def test_a_job_of_a_rule_is_shown_to_the_operator_only() -> None:
    ward = Ward()
    add_instances(ward.journal.conn, 1, first=9)
    assert (await ward.see("instances", OPERATOR, Uid("2.25.7"))).remaining == 1
    with pytest.raises(UnknownRequest):
        await ward.see("instances", "10.0.0.5", Uid("2.25.7"))


async def test_req_065_b88_a_result_is_gone_after_its_time_and_forgotten_after_another() -> None:
    """REQ-065, O-26: 410, then 404, and the UID is free."""
    ward = Ward()
    await ward.ask(1)
    ward.end("completed", 1)
    await ward.clock.advance(10 * HOUR - 1)
    assert (await ward.see()).finished
    await ward.clock.advance(1)
    with pytest.raises(Gone):
        await ward.see()
    with pytest.raises(UidInUse):
        await ward.ask(1)
    journal = cast(Journal, ward.journal)
    assert await expiry.forget_old(journal, CONFIG, now=ward.clock.now() + 99 * HOUR) == 0
    assert await expiry.forget_old(journal, CONFIG, now=ward.clock.now() + 100 * HOUR + 1) == 1
    with pytest.raises(UnknownRequest):
        await ward.see()
    assert (await ward.ask(1)).remaining == 1


async def test_a_foreign_result_that_is_gone_is_unknown() -> None:
    ward = Ward()
    await ward.ask()
    await ward.clock.advance(11 * HOUR)
    with pytest.raises(UnknownRequest):
        await ward.see(requester="10.0.0.6")


async def test_what_is_not_delivered_in_time_has_failed() -> None:
    ward = Ward()
    await ward.ask(1, 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: expiry.watch(cast(Journal, ward.journal), lambda: CONFIG, clock=ward.clock))
        await ward.clock.advance(HOUR - 2)
        assert (await ward.see()).remaining == 2
        await ward.clock.advance(4)
        progress = await ward.see()
        tasks.cancel_scope.cancel()
    assert (progress.finished, progress.failed, progress.failed_uids) == (True, 2, ("1.2.9.1", "1.2.9.2"))
    [(reason,)] = ward.journal.rows("SELECT DISTINCT reason FROM sub_operation")
    assert reason == "not delivered within 1 h, the time a request may take"


async def test_req_014_a_wait_ends_with_the_request_or_with_the_time() -> None:
    """REQ-014."""
    ward = Ward()
    await ward.ask(1)
    seen: list[Progress] = []

    async def wait() -> None:
        seen.append(await ward.requests.wait(UID, 20.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await ward.clock.advance(5)
        assert seen == []
        ward.end("completed", 1)
        await ward.clock.advance(1)
        assert [progress.finished for progress in seen] == [True, True]
    await ward.ask(2, uid=Uid("1.2.3"))

    async def wait_in_vain() -> None:
        seen.append(await ward.requests.wait(Uid("1.2.3"), 20.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_in_vain)
        await ward.clock.advance(19.9)
        assert len(seen) == 2
        await ward.clock.advance(0.2)
        await settle()
    assert seen[2].remaining == 1


@pytest.mark.parametrize(
    ("remaining", "done", "after_s", "poll_after_s"),
    [(5, 0, 0.0, 1), (65_535, 0, 0.0, 300), (1_000, 0, 0.0, 20), (90, 10, 10.0, 90), (1, 65_000, 10.0, 1)],
)
def test_req_052_retry_after_follows_from_what_remains_and_the_rate_so_far(
    remaining: int, done: int, after_s: float, poll_after_s: int
) -> None:
    """REQ-052: whole seconds."""
    progress = Progress(remaining, done, 0, 0, (), finished=False, created_at=NOON)
    assert progress.poll_after_s(NOON + after_s) == poll_after_s
