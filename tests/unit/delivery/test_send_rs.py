"""The SEND-RS user agent against a server that answers as told: what it asks, what it waits for, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from scripted_origin import CERTIFICATE, Asked, Origin, answer, serving

from router.delivery.send_rs import SendRsClient, Server, Watch
from router.dicom.uids import Uid
from router.dicomweb.query_string import read_search
from router.dicomweb.send_client import End, How, Pace
from router.dicomweb.send_question import SendQuestion
from router.dicomweb.send_response import SendResult, module
from router.errors import Misconfigured

UID = Uid("2.25.1")
QUESTION = SendQuestion(resource="studies", destination="https://a.example/b?c=1,2", match=(("PatientName", ("A,B",)),))
DONE = SendResult(0, None, 5, 0, 0)
HALF = SendResult(0xFF00, 3, 2, 0, 0)
PACE = Pace(troubles_before=2, troubles_after=2)


def said(result: SendResult, **headers: str) -> bytes:
    body = json.dumps([module(result)]).encode()
    return answer(202 if result.is_pending else 200, body, **headers)


class Waits:
    """Passes no time, and remembers how much it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds:
            self.seconds.append(seconds)
        await anyio.lowlevel.checkpoint()


def answers(replies: Sequence[bytes | None]) -> Callable[[Asked], bytes | None]:
    left: Iterator[bytes | None] = iter(replies)
    return lambda _: next(left)


async def follow(
    origin: Origin,
    replies: Sequence[bytes | None] | None = None,
    *,
    timeout_s: float = 30.0,
    waits: Waits | None = None,
    watch: Watch | None = None,
    until_taken: bool = False,
    question: SendQuestion = QUESTION,
    **server: Any,
) -> End:
    if replies is not None:
        origin.script = answers(replies)
    async with serving(origin):
        client = SendRsClient(Server(url=origin.url, **server), pace=PACE, wait=waits or Waits())
        try:
            return await client.follow(question, UID, timeout_s=timeout_s, watch=watch, until_taken=until_taken)
        finally:
            await client.aclose()


@pytest.mark.parametrize("resource", ["studies", "color-palettes"])
async def test_req_016_req_037_the_request_line_goes_out_as_it_was_written_without_a_body(resource: str) -> None:
    """REQ-060, REQ-085, REQ-086, REQ-092: what is percent-encoded means something, no library may undo it."""
    origin, waits = Origin(), Waits()
    question = msgspec.structs.replace(QUESTION, resource=resource)
    end = await follow(origin, [said(HALF, Retry_After="300"), said(DONE)], waits=waits, question=question)
    post, get = origin.requests
    path = f"/dicom-web/{resource}/send-requests/2.25.1"
    assert post.target == f"{path}?destination=https%3A%2F%2Fa.example%2Fb%3Fc%3D1%2C2&PatientName=A%2CB"
    read = read_search(post.target.partition("?")[2].encode())
    assert (read.destination, read.match[0].value) == (("https://a.example/b?c=1,2",), "A,B")
    assert (post.method, post.body, post.headers.get("content-length", "0")) == ("POST", b"", "0")
    assert (get.method, get.target, get.body) == ("GET", path, b"")
    assert "content-type" not in post.headers
    assert post.headers["accept"] == get.headers["accept"] == "application/dicom+json"
    assert (end.how, end.result, waits.seconds) == (How.ANSWERED, DONE, [300])


async def test_it_shows_how_far_it_is() -> None:
    seen: list[tuple[int | None, float]] = []
    await follow(
        Origin(),
        [said(HALF, Retry_After="7"), said(DONE)],
        watch=lambda transaction, ask: seen.append(
            (transaction.result.remaining if transaction.result else None, ask.after_s)
        ),
    )
    assert seen == [(3, 7.0)]


async def test_o50_a_lost_answer_is_looked_for_before_anything_is_posted_again() -> None:
    origin = Origin()
    end = await follow(origin, [None, said(DONE)])
    assert [asked.method for asked in origin.requests] == ["POST", "GET"]
    assert (end.how, end.joined) == (How.ANSWERED, False)


async def test_o50_a_request_that_did_not_arrive_is_posted_again_with_its_uid() -> None:
    origin = Origin()
    end = await follow(origin, [None, answer(404), said(DONE)])
    assert [asked.method for asked in origin.requests] == ["POST", "GET", "POST"]
    assert origin.requests[0].target == origin.requests[2].target
    assert end.how is How.ANSWERED


async def test_o50_a_409_for_its_own_uid_is_looked_at() -> None:
    origin = Origin()
    end = await follow(origin, [None, answer(404), answer(409), said(HALF), said(DONE)])
    assert [asked.method for asked in origin.requests] == ["POST", "GET", "POST", "GET", "GET"]
    assert end.how is How.ANSWERED


async def test_req_066_a_server_that_is_busy_is_asked_again_when_it_says() -> None:
    waits = Waits()
    end = await follow(Origin(), [answer(503, Retry_After="17"), said(HALF), answer(503), said(DONE)], waits=waits)
    assert (end.how, waits.seconds) == (How.ANSWERED, [17.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("0", 1.0),
        ("99999999", 3600.0),
        ("9" * 400, 1.0),
        ("-5", 1.0),
        ("soon", 1.0),
        ("1e9", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
    ],
)
async def test_req_052_an_absurd_retry_after_is_bounded(retry_after: str, wait_s: float) -> None:
    waits = Waits()
    end = await follow(Origin(), [said(HALF, Retry_After=retry_after), said(DONE)], waits=waits)
    assert (end.how, waits.seconds) == (How.ANSWERED, [wait_s])


async def test_b84_a_redirect_is_not_followed() -> None:
    origin = Origin()
    end = await follow(origin, [answer(307, Location="http://127.0.0.1:1/elsewhere")])
    assert (end.how, end.status, len(origin.requests)) == (How.REFUSED, 307, 1)
    assert "redirects are not followed" in end.words


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    origin = Origin()
    endless = b"HTTP/1.1 200 X\r\nContent-Type: application/dicom+json\r\n\r\n[" + b" " * 3_000_000
    end = await follow(origin, [endless, answer(200, b"[" + b" " * 3_000_000), said(DONE)], max_answer_bytes=100_000)
    assert end.how is How.ANSWERED
    assert len(origin.requests) == 3


async def test_answers_that_cannot_be_read_come_to_an_end() -> None:
    origin = Origin()
    origin.script = lambda _: answer(200, b"<html>welcome", "text/html")
    end = await follow(origin)
    assert (end.how, end.taken, len(origin.requests)) == (How.UNFINISHED, True, 4)


async def test_the_deadline_ends_a_request_that_does_not() -> None:
    class Asleep(Waits):
        async def __call__(self, seconds: float) -> None:
            if seconds:
                await anyio.sleep_forever()

    end = await follow(Origin(), [said(HALF)], timeout_s=0.3, waits=Asleep())
    assert (end.how, end.result, end.words) == (How.UNFINISHED, HALF, "not finished within 0.3 s")


async def test_until_taken_ends_when_the_server_took_it() -> None:
    origin = Origin()
    end = await follow(origin, [None, said(HALF)], until_taken=True)
    assert (end.how, end.taken, end.result, len(origin.requests)) == (How.UNFINISHED, True, HALF, 2)


async def test_nobody_there_is_no_answer_and_nothing_sent() -> None:
    client = SendRsClient(Server(url="http://127.0.0.1:1/dicom-web"), pace=PACE, wait=Waits())
    end = await client.follow(QUESTION, UID, timeout_s=30.0)
    await client.aclose()
    assert (end.how, end.taken) == (How.NO_ANSWER, False)


async def test_a_certificate_that_is_not_trusted_is_misconfiguration() -> None:
    with pytest.raises(Misconfigured):
        await follow(Origin(tls=True), [])
    end = await follow(Origin(tls=True), [said(DONE)], ca_file=CERTIFICATE)
    assert end.how is How.ANSWERED


async def test_the_token_is_read_for_each_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    origin = Origin()
    await follow(
        origin,
        [said(HALF), said(DONE)],
        bearer_token_file=token,
        watch=lambda _transaction, _ask: token.write_text("two"),  # type: ignore[arg-type]
    )
    assert [asked.headers["authorization"] for asked in origin.requests] == ["Bearer one", "Bearer two"]


async def test_prefer_wait_is_asked_and_waited_for() -> None:
    origin = Origin()
    question = SendQuestion(resource="instances", destination="https://x", wait_s=20)
    await follow(origin, [said(DONE)], question=question)
    assert origin.requests[0].headers["prefer"] == "wait=20"


async def test_req_066_a_check_alone_says_what_was_answered() -> None:
    async with serving(Origin(script=answers([answer(404), answer(410), said(HALF)]))) as origin:
        client = SendRsClient(Server(url=origin.url))
        kinds = [(await client.check(QUESTION, UID)).kind.name for _ in range(3)]
        await client.aclose()
    assert kinds == ["UNKNOWN", "GONE", "PENDING"]
