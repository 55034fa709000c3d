"""Storage commitment asked of a DICOMweb origin server that is scripted (PS3.18 §13.4, §13.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_origin import Origin, answer, serving

from router.commitment.language import Forgotten
from router.config.model import StowDestination, WebUpstream
from router.delivery.commitment_web import POLL_LEAST_S, POLL_MOST_S, POLL_S, WebAsker
from router.dicom.commitment import DUPLICATE_TRANSACTION_UID, NO_SUCH_OBJECT_INSTANCE, Reference, Ruling
from router.dicom.json_model import encode_object
from router.dicom.uids import Uid
from router.dicomweb.commitment_module import read_request, response_module
from router.dicomweb.native_model_writer import encode_xml
from router.errors import Misconfigured, Transient

UID = Uid("2.25.20260401")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
FLAT = (Reference(CT, Uid("1.2.1")), Reference(CT, Uid("1.2.2")))
BY_STUDY = (
    Reference(CT, Uid("1.2.1"), Uid("1.7.1"), Uid("1.8.1")),
    Reference(CT, Uid("1.2.2"), Uid("1.7.1"), Uid("1.8.2")),
)
RULINGS = (Ruling(FLAT[0]), Ruling(FLAT[1], NO_SUCH_OBJECT_INSTANCE))
DONE = answer(200, encode_object(response_module(RULINGS)))

pytestmark = pytest.mark.anyio


def says(*replies: bytes | None) -> Origin:
    waiting = list(replies)
    return Origin(script=lambda _: waiting.pop(0))


def asker(origin: Origin, **more: Any) -> WebAsker:
    return WebAsker(WebUpstream(url=origin.url, connect_s=5.0, answer_s=5.0, **more))


def methods(origin: Origin) -> list[str]:
    return [asked.method for asked in origin.requests]


@pytest.mark.parametrize("references", [FLAT, BY_STUDY])
async def test_a_request_is_posted_in_the_form_of_its_references_and_answered_at_once(
    references: Sequence[Reference],
) -> None:
    async with serving(says(DONE)) as origin:
        rulings = await asker(origin).ask(UID, references)
    assert rulings == tuple(Ruling(one, ruling.failure_reason) for one, ruling in zip(references, RULINGS, strict=True))
    [asked] = origin.requests
    assert (asked.method, asked.target) == ("POST", f"/dicom-web/commitment-requests/{UID}")
    assert asked.headers["content-type"] == "application/dicom+json"
    assert "application/dicom+json" in asked.headers["accept"]
    assert "application/dicom+xml" in asked.headers["accept"]
    assert asked.headers["content-length"] == str(len(asked.body))
    assert read_request(json.loads(asked.body)) == tuple(references)


async def test_xml_is_read_too() -> None:
    body = encode_xml(response_module(RULINGS))
    async with serving(says(answer(200, body, "application/dicom+xml"))) as origin:
        assert await asker(origin).ask(UID, FLAT) == RULINGS


async def test_202_is_looked_at_again_until_it_is_done() -> None:
    async with serving(says(answer(202, Retry_After="7"), answer(202), DONE)) as origin:
        one = asker(origin)
        assert one.poll_s == POLL_S
        assert await one.ask(UID, FLAT) is None
        assert one.poll_s == 7
        assert await one.check(UID, FLAT) is None
        assert one.poll_s == POLL_S
        assert await one.check(UID, FLAT) == RULINGS
    assert methods(origin) == ["POST", "GET", "GET"]
    assert origin.requests[1].target == f"/dicom-web/commitment-requests/{UID}"
    assert origin.requests[1].body == b""
    assert "content-type" not in origin.requests[1].headers


@pytest.mark.parametrize(("said", "poll_s"), [("0", POLL_LEAST_S), ("99999999", POLL_MOST_S), ("soon", POLL_S)])
async def test_an_absurd_retry_after_is_bounded(said: str, poll_s: float) -> None:
    async with serving(says(answer(202, Retry_After=said))) as origin:
        one = asker(origin)
        assert await one.ask(UID, FLAT) is None
    assert one.poll_s == poll_s


@pytest.mark.parametrize(("looked", "rulings"), [(DONE, RULINGS), (answer(202), None)])
async def test_409_for_our_own_uid_is_looked_at(looked: bytes, rulings: Sequence[Ruling] | None) -> None:
    async with serving(says(answer(409), looked)) as origin:
        assert await asker(origin).ask(UID, FLAT) == rulings
    assert methods(origin) == ["POST", "GET"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_uid_that_is_in_use_and_not_ours_fails_all_instances(status: int) -> None:
    async with serving(says(answer(409), answer(status))) as origin:
        rulings = await asker(origin).ask(UID, FLAT)
    assert rulings == [Ruling(one, DUPLICATE_TRANSACTION_UID) for one in FLAT]


async def test_a_lost_answer_is_found_again_under_its_uid() -> None:
    async with serving(says(None, answer(409), DONE)) as origin:
        one = asker(origin)
        with pytest.raises(Transient):
            await one.ask(UID, FLAT)
        assert await one.ask(UID, FLAT) == RULINGS


@pytest.mark.parametrize("status", [404, 410])
async def test_a_forgotten_request_is_to_be_asked_anew(status: int) -> None:
    async with serving(says(answer(202), answer(status), DONE)) as origin:
        one = asker(origin)
        await one.ask(UID, FLAT)
        with pytest.raises(Forgotten):
            await one.check(UID, FLAT)
        assert await one.ask(UID, FLAT) == RULINGS


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_trouble_there_is_transient(status: int) -> None:
    async with serving(says(answer(status, Retry_After="30"), answer(status))) as origin:
        one = asker(origin)
        with pytest.raises(Transient) as raised:
            await one.ask(UID, FLAT)
        assert raised.value.retry_after_s == 30
        with pytest.raises(Transient):
            await one.check(UID, FLAT)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 406, 413, 415, 501])
async def test_a_no_is_for_a_person_and_says_what_they_say(status: int) -> None:
    problem = json.dumps({"detail": "No such service."}).encode()
    async with serving(says(answer(status, problem, "application/problem+json"))) as origin:
        with pytest.raises(Misconfigured, match=rf"HTTP {status} .* No such service"):
            await asker(origin).ask(UID, FLAT)


@pytest.mark.parametrize(
    "reply",
    [
        answer(200),
        answer(200, b"<html/>", "text/html"),
        answer(200, b"[{},{}]"),
        answer(200, b"{}"),
        answer(200, b"[" * 10_000),
        answer(204),
    ],
)
async def test_a_success_without_a_module_is_no_commitment(reply: bytes) -> None:
    async with serving(says(reply)) as origin:
        with pytest.raises(Transient):
            await asker(origin).ask(UID, FLAT)


async def test_a_huge_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.delivery.commitment_web.MAX_BYTES", 100)
    async with serving(says(DONE)) as origin:
        with pytest.raises(Transient, match="more than 100 bytes"):
            await asker(origin).ask(UID, FLAT)


async def test_nobody_there_is_transient() -> None:
    async with serving(says()) as origin:
        url = origin.url
    with pytest.raises(Transient):
        await WebAsker(WebUpstream(url=url, connect_s=1.0)).ask(UID, FLAT)


async def test_a_destination_is_asked_beside_its_studies_with_its_headers_and_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    async with serving(says(DONE)) as origin:
        destination = StowDestination(
            name="cloud",
            url=f"{origin.url}/studies",
            headers={"X-Tenant": "7", "Accept": "text/html"},
            bearer_token_file=token,
        )
        assert await WebAsker(destination).ask(UID, FLAT) == RULINGS
    [asked] = origin.requests
    assert asked.target == f"/dicom-web/commitment-requests/{UID}"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-tenant"] == "7"
    assert "text/html" not in asked.headers["accept"]
