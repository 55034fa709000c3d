"""The courier that has a SEND-RS server send: what it tells the lane of each instance, and how often it asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec
import pytest
from scripted_origin import Asked, Origin, answer, serving

from router.config.model import SendRsDestination
from router.delivery.send_rs_answer import judge
from router.delivery.send_rs_courier import MAX_LINE_BYTES, SendRsCourier, requests_of, transaction_uid
from router.dicom.envelope import Declared
from router.dicom.status import Verdict
from router.dicom.sub_operation_status import final_status
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.send_client import End, How
from router.dicomweb.send_response import SendResult, module
from router.errors import Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import Outcome

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
TARGET = "https://far.example/dicom-web"


def delivery(number: int, **more: Any) -> Delivery:
    known: dict[str, Any] = {
        "sub_operation_id": number,
        "attempt_id": number,
        "attempts": 1,
        "instance_failures": 0,
        "created_at": 1_700_000_000.25,
        "instance_id": number,
        "declared": Declared(CT, Uid(f"1.2.{number}"), Uid("1.2.840.10008.1.2.1")),
        "file": f"{number}.dcm",
        "data_set_offset": 500,
        "data_set_bytes": 10,
        "data_set_sha256": bytes(32),
        "study_instance_uid": Uid("1.2"),
    }
    return Delivery(**known | more)


def batch_of(count: int, **more: Any) -> list[Delivery]:
    return [delivery(number, **more) for number in range(1, count + 1)]


def destination(url: str = "http://vna.example/dicom-web", **more: Any) -> SendRsDestination:
    return SendRsDestination(name="far", url=url, target=TARGET, **more)


async def no_wait(_: float) -> None:
    await anyio.lowlevel.checkpoint()


class Told:
    def __init__(self, enough_after: int = 1_000_000) -> None:
        self.outcomes: list[Outcome] = []
        self._enough_after = enough_after

    async def report(self, outcome: Outcome) -> bool:
        self.outcomes.append(outcome)
        return len(self.outcomes) >= self._enough_after

    @property
    def verdicts(self) -> dict[int, Verdict]:
        assert len({one.delivery.sub_operation_id for one in self.outcomes}) == len(self.outcomes), "told twice"
        return {one.delivery.sub_operation_id: one.verdict for one in self.outcomes}


class Upstream:
    """A SEND-RS server that knows `held` and cannot send `bad`. Remembers requests by Transaction UID."""

    def __init__(self, held: set[str], bad: Set[str] = frozenset(), polls: int = 1):
        self.held, self.bad, self.polls = held, set(bad), polls
        self.requests: dict[str, tuple[str, ...]] = {}
        self.sent: list[str] = []
        self.looks: dict[str, int] = {}

    def __call__(self, asked: Asked) -> bytes:
        parts = urlsplit(asked.target)
        uid = parts.path.rpartition("/")[2]
        assert parts.path == f"/dicom-web/instances/send-requests/{uid}"
        if asked.method == "POST":
            query = parse_qs(parts.query)
            assert query["destination"] == [TARGET]
            if uid in self.requests:
                return answer(409)
            self.requests[uid] = tuple(one for one in query["SOPInstanceUID"][0].split(",") if one in self.held)
            self.sent += self.requests[uid]
        if uid not in self.requests:
            return answer(404)
        self.looks[uid] = self.looks.get(uid, 0) + 1
        matched = self.requests[uid]
        if self.looks[uid] <= self.polls:
            return answer(202, json.dumps([module(SendResult(0xFF00, len(matched), 0, 0, 0))]).encode())
        failed = tuple(Uid(one) for one in matched if one in self.bad)
        done = len(matched) - len(failed)
        status = final_status(completed=done, warning=0, failed=len(failed))
        return answer(200, json.dumps([module(SendResult(status, None, done, len(failed), 0, failed))]).encode())


def uids(*numbers: int) -> set[str]:
    return {f"1.2.{number}" for number in numbers}


async def deliver(
    script: Callable[[Asked], bytes | None], batch: list[Delivery], told: Told | None = None, **more: Any
) -> tuple[Told, Origin]:
    told = told or Told()
    async with serving(Origin(script=script)) as origin:
        session = SendRsCourier(destination(origin.url, **more), wait=no_wait).session()
        try:
            await session.deliver(batch, told.report)
        finally:
            await session.aclose()
    return told, origin


async def test_a_batch_is_one_request_that_names_its_instances() -> None:
    upstream = Upstream(uids(1, 2, 3))
    told, origin = await deliver(upstream, batch_of(3))
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.COMPLETED)
    assert upstream.sent == ["1.2.1", "1.2.2", "1.2.3"]
    assert [asked.method for asked in origin.requests] == ["POST", "GET"]


async def test_what_the_server_could_not_send_is_told_of_that_instance_alone() -> None:
    told, _ = await deliver(Upstream(uids(1, 2, 3), bad=uids(2)), batch_of(3))
    assert told.verdicts == {1: Verdict.COMPLETED, 2: Verdict.INSTANCE, 3: Verdict.COMPLETED}


async def test_what_the_server_does_not_hold_is_found_out_by_smaller_requests() -> None:
    told, _ = await deliver(Upstream(uids(1, 2, 4)), batch_of(4))
    assert told.verdicts == {n: Verdict.INSTANCE if n == 3 else Verdict.COMPLETED for n in (1, 2, 3, 4)}
    assert {one.reason for one in told.outcomes} == {"stored", "the server holds no such instance"}


async def test_after_a_crash_the_same_request_is_found_again_and_nothing_is_sent_twice() -> None:
    """O-50: what was in flight is claimed anew, with other attempts and in another order: the UID is the same."""
    upstream, stopped, told = Upstream(uids(1, 2, 3), polls=2), Told(), Told()
    async with serving(Origin(script=upstream)) as origin:
        with anyio.CancelScope() as power:

            async def power_cut(seconds: float) -> None:
                if seconds:
                    power.cancel()
                await anyio.lowlevel.checkpoint()

            before = SendRsCourier(destination(origin.url), wait=power_cut).session()
            try:
                await before.deliver(batch_of(3), stopped.report)
            finally:
                await before.aclose()
        after = SendRsCourier(destination(origin.url), wait=no_wait).session()
        again = [msgspec.structs.replace(one, attempt_id=one.attempt_id + 50, attempts=2) for one in batch_of(3)]
        await after.deliver(again[::-1], told.report)
        await after.aclose()
    assert stopped.outcomes == []
    assert told.verdicts == dict.fromkeys((1, 2, 3), Verdict.COMPLETED)
    assert upstream.sent == ["1.2.1", "1.2.2", "1.2.3"]
    assert [asked.method for asked in origin.requests] == ["POST", "POST", "GET", "GET"]


async def test_an_old_failure_that_is_found_again_is_asked_anew() -> None:
    upstream = Upstream(uids(1, 2), bad=uids(1, 2), polls=0)
    first, _ = await deliver(upstream, batch_of(2))
    assert set(first.verdicts.values()) == {Verdict.INSTANCE}
    upstream.bad.clear()
    async with serving(Origin(script=upstream)) as origin:
        place = destination(origin.url)
        upstream.requests = {transaction_uid(place, batch_of(2)): ("1.2.1", "1.2.2")}
        upstream.bad = uids(1)
        session = SendRsCourier(place, wait=no_wait).session()
        told = Told()
        await session.deliver(batch_of(2), told.report)
        await session.aclose()
    assert told.verdicts == {1: Verdict.INSTANCE, 2: Verdict.COMPLETED}
    assert upstream.sent == ["1.2.1", "1.2.2", "1.2.1", "1.2.2"]


async def test_req_079_req_080_non_patient_instances_are_asked_for_at_their_own_resource() -> None:
    palette = Declared(Uid("1.2.840.10008.5.1.4.39.1"), Uid("1.2.7"), Uid("1.2.840.10008.1.2.1"))
    batch = [*batch_of(2), delivery(7, declared=palette, study_instance_uid=Uid(""))]
    targets: list[str] = []

    def script(asked: Asked) -> bytes:
        targets.append(asked.target.partition("/send-requests/")[0])
        count = len(parse_qs(urlsplit(asked.target).query)["SOPInstanceUID"][0].split(","))
        return answer(200, json.dumps([module(SendResult(0, None, count, 0, 0))]).encode())

    told, _ = await deliver(script, batch)
    assert told.verdicts == dict.fromkeys((1, 2, 7), Verdict.COMPLETED)
    assert targets == ["/dicom-web/color-palettes", "/dicom-web/instances"]


def test_a_transaction_uid_belongs_to_its_sub_operations_until_one_has_failed() -> None:
    place, batch = destination(), batch_of(3)
    uid = transaction_uid(place, batch)
    assert is_valid_uid(uid)
    assert uid == transaction_uid(place, batch_of(3, attempts=7, attempt_id=9))
    others = [
        transaction_uid(place, batch[:2]),
        transaction_uid(place, batch_of(3, instance_failures=1)),
        transaction_uid(place, batch_of(3, created_at=1.0)),
        transaction_uid(destination("http://other.example"), batch),
    ]
    assert len({uid, *others}) == 5


def test_request_lines_stay_short_and_hold_every_instance_once() -> None:
    long = [
        delivery(n, declared=Declared(CT, Uid(f"1.2.{10**58 + n}"), Uid("1.2.840.10008.1.2.1"))) for n in range(500)
    ]
    cut = list(requests_of(destination(), long))
    assert [one for request in cut for one in request] == long
    assert len(cut) == 5


async def test_no_request_line_is_longer_than_any_server_takes() -> None:
    long = [delivery(n, declared=Declared(CT, Uid(f"1.2.{10**58 + n}"), CT)) for n in range(300)]
    upstream = Upstream({one.declared.sop_instance_uid for one in long}, polls=0)
    told, origin = await deliver(upstream, long)
    assert set(told.verdicts.values()) == {Verdict.COMPLETED}
    lines = [len(f"{asked.method} {asked.target} HTTP/1.1") for asked in origin.requests]
    assert max(lines) <= MAX_LINE_BYTES < max(lines) + 70


def ended(result: SendResult) -> End:
    return End(How.ANSWERED, Uid("2.25.1"), "", 200, result)


@pytest.mark.parametrize(
    ("result", "verdicts"),
    [
        (SendResult(0, None, 3, 0, 0), ["completed"] * 3),
        (SendResult(0xB000, None, 0, 0, 3), ["warning"] * 3),
        (SendResult(0xB000, None, 2, 0, 1), ["warning", "completed", "completed"]),
        (SendResult(0xB000, None, 1, 1, 1, (Uid("1.2.1"),)), ["instance", "warning", "completed"]),
        (SendResult(0xA702, None, 0, 3, 0, tuple(map(Uid, uids(1, 2, 3)))), ["instance"] * 3),
        (SendResult(0xC001, None, 1, 2, 0, tuple(map(Uid, uids(1, 2)))), ["instance", "instance", "completed"]),
    ],
)
def test_req_049_each_instance_is_judged_by_the_module(result: SendResult, verdicts: list[str]) -> None:
    judgement = judge(ended(result), batch_of(3))
    by_number = sorted(judgement.outcomes, key=lambda outcome: outcome.delivery.sub_operation_id)
    assert [outcome.verdict.value for outcome in by_number] == verdicts


@pytest.mark.parametrize(
    "result",
    [
        SendResult(0, None, 2, 0, 0),  # one is missing
        SendResult(0, None, 0, 0, 0),
        SendResult(0xB000, None, 2, 1, 0),  # which one failed?
        SendResult(0xB000, None, 2, 1, 0, (Uid("9.9"),)),
        SendResult(0xB000, None, 1, 1, 1, (Uid("1.2.1"), Uid("1.2.2"))),
        SendResult(0, 3, 3, 0, 0),
        SendResult(0xA702, None, 3, 0, 0),
        SendResult(0x1234, None, 3, 0, 0),
        SendResult(0xFE00, None, 1, 0, 0),
    ],
)
def test_o34_what_a_module_leaves_open_is_asked_again_in_smaller_requests(result: SendResult) -> None:
    judgement = judge(ended(result), batch_of(3))
    assert judgement.outcomes == ()
    assert [len(part) for part in judgement.again] == [1, 2]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (SendResult(0, None, 1, 0, 0), Verdict.COMPLETED),
        (SendResult(0xB000, None, 0, 0, 1), Verdict.WARNING),
        (SendResult(0xA702, None, 0, 1, 0, (Uid("1.2.1"),)), Verdict.INSTANCE),
        (SendResult(0xA702, None, 0, 1, 0), Verdict.INSTANCE),
        (SendResult(0, None, 0, 0, 0), Verdict.INSTANCE),
        (SendResult(0xA702, None, 0, 0, 0), Verdict.UNCERTAIN),
        (SendResult(0xA702, None, 1, 0, 0), Verdict.UNCERTAIN),
        (SendResult(0xB000, None, 1, 1, 0), Verdict.UNCERTAIN),
        (SendResult(0, 1, 0, 0, 0), Verdict.UNCERTAIN),
    ],
)
def test_o34_a_single_instance_is_never_taken_as_delivered_by_mistake(result: SendResult, verdict: Verdict) -> None:
    assert [outcome.verdict for outcome in judge(ended(result), batch_of(1)).outcomes] == [verdict]


@pytest.mark.parametrize("status", [400, 413, 414, 431])
async def test_a_request_that_is_refused_for_what_it_names_is_halved(status: int) -> None:
    upstream = Upstream(uids(1, 2, 3, 4), polls=0)

    def script(asked: Asked) -> bytes:
        return answer(status) if "1.2.3" in asked.target and "," in asked.target else upstream(asked)

    told, _ = await deliver(script, batch_of(4))
    assert told.verdicts == dict.fromkeys((1, 2, 3, 4), Verdict.COMPLETED)


async def test_a_single_instance_that_is_refused_is_that_instance_s_trouble() -> None:
    told, _ = await deliver(lambda _: answer(400, b"bad UID", "text/plain"), batch_of(2))
    assert set(told.verdicts.values()) == {Verdict.INSTANCE}
    assert "bad UID" in told.outcomes[0].reason


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 406, 411, 415, 501])
async def test_a_server_that_says_no_to_us_blames_no_instance(status: int) -> None:
    told = Told()
    with pytest.raises(Misconfigured) as error:
        await deliver(lambda _: answer(status), batch_of(2), told)
    assert f"HTTP {status}" in error.value.problem
    assert told.outcomes == []


async def test_a_server_that_is_busy_is_left_to_the_lane_with_its_retry_after() -> None:
    told = Told()
    with pytest.raises(Transient) as error:
        await deliver(lambda _: answer(503, Retry_After="77"), batch_of(2), told)
    assert (error.value.retry_after_s, told.outcomes) == (77.0, [])


async def test_a_request_that_may_have_been_taken_is_uncertain() -> None:
    told = Told()
    with pytest.raises(Transient):
        await deliver(lambda _: None, batch_of(2), told)
    assert set(told.verdicts.values()) == {Verdict.UNCERTAIN}


async def test_nobody_there_is_not_charged() -> None:
    session, told = SendRsCourier(destination("http://127.0.0.1:1/x"), wait=no_wait).session(), Told()
    with pytest.raises(Transient):
        await session.deliver(batch_of(2), told.report)
    await session.aclose()
    assert told.outcomes == []


@pytest.mark.parametrize("status", [404, 410])
async def test_req_157_a_result_that_the_server_lost_is_uncertain(status: int) -> None:
    replies = iter([answer(202), answer(status)])
    told, _ = await deliver(lambda _: next(replies), batch_of(1))
    assert told.verdicts == {1: Verdict.UNCERTAIN}


async def test_a_lane_that_has_enough_is_told_no_more() -> None:
    batch = [*batch_of(1), delivery(2, attempts=2)]  # two requests
    told, origin = await deliver(Upstream(uids(1, 2), polls=0), batch, Told(enough_after=1))
    assert list(told.verdicts) == [1]
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    ("status", "raised"),
    [(404, None), (200, None), (410, None), (401, Misconfigured), (302, Misconfigured), (503, Transient)],
)
async def test_a_probe_asks_for_nothing_to_be_sent(status: int, raised: type[Exception] | None) -> None:
    async with serving(Origin(script=lambda _: answer(status))) as origin:
        courier = SendRsCourier(destination(origin.url))
        if raised is None:
            await courier.probe()
        else:
            with pytest.raises(raised):
                await courier.probe()
        assert [asked.method for asked in origin.requests] == ["GET"]
