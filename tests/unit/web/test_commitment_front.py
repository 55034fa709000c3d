"""Storage commitment over HTTP: what a client is told for what it asks (PS3.18 §13.4, §13.5; dicom-facts D.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from web_harness import Answer, ask

from router.commitment.requests import Commitments
from router.config.model import CommitmentConfig, Config, HttpConfig
from router.dicom.commitment import MAX_REFERENCES, NO_SUCH_OBJECT_INSTANCE, Reference, Ruling
from router.dicom.json_model import encode_object, in_order
from router.dicom.uids import Uid
from router.dicomweb.commitment_module import read_response, request_module
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.one_data_set import read_one
from router.errors import StorageError
from router.journal import commitments as rows
from router.journal.journal import Journal
from router.web import module_body
from router.web.app import _http_error
from router.web.capabilities import with_capabilities
from router.web.commitment import commitment_collection_routes, commitment_routes

UID = "2.25.20260401"
CT, MR = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.5.1.4.1.1.4")
FLAT = (Reference(CT, Uid("1.2.1")), Reference(MR, Uid("1.2.2")))
BY_STUDY = (
    Reference(CT, Uid("1.2.1"), Uid("1.7.1"), Uid("1.8.1")),
    Reference(MR, Uid("1.2.2"), Uid("1.7.1"), Uid("1.8.2")),
)
JSON = {"accept": "application/dicom+json", "content-type": "application/dicom+json", "host": "pacs:8080"}
XML = {"accept": "application/dicom+xml", "content-type": "application/dicom+xml", "host": "pacs:8080"}
HOUR = 3600.0

pytestmark = pytest.mark.anyio


class HandClock:
    """Stands still but for those who wait, who get their time at once."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        await anyio.lowlevel.checkpoint()
        self.at += timeout_s
        return event.is_set()


class Origin:
    """The origin server on a real journal, with a proxy beside it. Nobody decides but the test."""

    def __init__(self, journal: Journal, config: Config):
        self.journal, self.clock, self.woken = journal, HandClock(), 0
        self.commitments = Commitments(journal, lambda: config, clock=self.clock, wake=self.wake)
        base = config.http.base_path
        routes = commitment_routes(base, self.commitments, config.http)
        proxied = commitment_routes("/pacs", self.commitments, config.http, proxy="pacs")
        everything = [
            *commitment_collection_routes(base),
            *with_capabilities(base, routes),
            *with_capabilities("/pacs", proxied),
        ]
        self.app = Starlette(routes=everything, exception_handlers={HTTPException: _http_error})

    def wake(self) -> None:
        self.woken += 1

    async def ask(
        self,
        method: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        uid: str = UID,
        base: str = "/dicom-web",
        query: str = "",
        address: str = "10.0.0.5",
    ) -> Answer:
        target = f"{base}/commitment-requests/{uid}" + (f"?{query}" if query else "")
        given = JSON if headers is None else headers
        return await ask(self.app, target, method=method, headers=list(given.items()), body=body, address=address)

    async def post(self, references: Sequence[Reference] = FLAT, **more: Any) -> Answer:
        return await self.ask("POST", body=encode_object(in_order(request_module(references))), **more)

    async def rule(self, *reasons: int | None, uid: str = UID) -> None:
        """Do what a decider does."""
        row = await self.row(uid)
        await self.journal.write(
            lambda conn: rows.rule(conn, row.request_id, list(enumerate(reasons)), now=self.clock.now())
        )

    async def row(self, uid: str = UID) -> rows.CommitmentRow:
        row = await self.journal.read(lambda conn: rows.find(conn, Uid(uid)))
        assert row is not None
        return row


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    config = Config(
        file=tmp_path / "router.toml",
        http=HttpConfig(base_path="/dicom-web", max_sync_s=30.0),
        commitment=CommitmentConfig(result_ttl_s=HOUR, tombstone_ttl_s=HOUR),
    )
    async with Journal.open(tmp_path) as journal:
        yield Origin(journal, config)


def assert_is_taken(answer: Answer) -> None:
    assert answer.status == 202
    assert answer.body == b""
    assert "content-type" not in answer.headers
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_request_is_202_without_payload_until_it_is_decided_then_200_with_the_module(origin: Origin) -> None:
    assert_is_taken(await origin.post())
    assert origin.woken == 1
    assert_is_taken(await origin.ask("GET"))
    await origin.rule(None, NO_SUCH_OBJECT_INSTANCE)
    answer = await origin.ask("GET")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.json == {
        "00081198": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [MR]},
                    "00081155": {"vr": "UI", "Value": ["1.2.2"]},
                    "00081197": {"vr": "US", "Value": [0x0112]},
                }
            ],
        },
        "00081199": {
            "vr": "SQ",
            "Value": [{"00081150": {"vr": "UI", "Value": [CT]}, "00081155": {"vr": "UI", "Value": ["1.2.1"]}}],
        },
    }


async def test_the_answer_has_the_form_of_the_request(origin: Origin) -> None:
    await origin.post(BY_STUDY)
    await origin.rule(NO_SUCH_OBJECT_INSTANCE, None)
    module = (await origin.ask("GET")).json
    assert set(module) == {"00081110", "0008119B"}
    rulings = read_response(module, BY_STUDY)
    assert rulings == (Ruling(BY_STUDY[0], NO_SUCH_OBJECT_INSTANCE), Ruling(BY_STUDY[1]))
    assert module["0008119B"]["Value"][0]["0020000D"]["Value"] == ["1.7.1"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/dicom+json", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/json", "application/dicom+json"),
        ("application/dicom+xml", "application/dicom+xml"),
        ('multipart/related; type="application/dicom+xml"', 'multipart/related; type="application/dicom+xml"'),
    ],
)
async def test_the_answer_comes_in_what_accept_names(origin: Origin, accept: str, content_type: str) -> None:
    await origin.post(BY_STUDY)
    await origin.rule(None, None)
    answer = await origin.ask("GET", {"accept": accept, "host": "pacs"})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(content_type)
    module = read_one(answer.headers["content-type"], answer.body)
    assert read_response(module, BY_STUDY) == tuple(map(Ruling, BY_STUDY))


async def test_a_request_in_xml_is_taken(origin: Origin) -> None:
    body = encode_xml(in_order(request_module(BY_STUDY)))
    assert_is_taken(await origin.ask("POST", XML, body))
    items = await origin.journal.read(lambda conn: rows.items(conn, 1))
    assert [(one.sop_instance_uid, one.study, one.series) for one in items] == [
        ("1.2.1", "1.7.1", "1.8.1"),
        ("1.2.2", "1.7.1", "1.8.2"),
    ]


async def test_a_request_in_one_part_of_a_multipart_is_taken(origin: Origin) -> None:
    body = (
        b"\r\n--b\r\nContent-Type: application/dicom+json\r\n\r\n" + encode_object(request_module(FLAT)) + b"\r\n--b--"
    )
    content_type = 'multipart/related; type="application/dicom+json"; boundary=b'
    assert_is_taken(await origin.ask("POST", {**JSON, "content-type": content_type}, body))


async def test_prefer_wait_waits_for_the_decision(origin: Origin) -> None:
    async with anyio.create_task_group() as tasks:

        async def decide() -> None:
            while origin.woken == 0:
                await anyio.lowlevel.checkpoint()
            await origin.rule(None, None)

        tasks.start_soon(decide)
        answer = await origin.post(headers={**JSON, "prefer": "wait=600"})
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.status == 200
    assert set(answer.json) == {"00081199"}


async def test_prefer_wait_ends_with_202(origin: Origin) -> None:
    answer = await origin.post(headers={**JSON, "prefer": "wait=2"})
    assert_is_taken(answer)
    assert answer.headers["preference-applied"] == "wait=2"


@pytest.mark.parametrize("again", [FLAT, BY_STUDY])
async def test_o25_a_uid_in_use_is_409_whoever_uses_it_for_what(origin: Origin, again: Sequence[Reference]) -> None:
    await origin.post()
    for more in ({}, {"address": "10.0.0.6"}, {"base": "/pacs"}):
        answer = await origin.post(again, **more)
        assert answer.status == 409
        assert answer.json["status"] == 409
    await origin.rule(None, None)
    assert (await origin.post(again)).status == 409
    assert (await origin.ask("GET")).status == 200


async def test_of_ten_requests_with_one_uid_at_once_one_is_taken(origin: Origin) -> None:
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await origin.post()).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)
    assert sorted(statuses) == [202] + 9 * [409]


async def test_a_result_is_404_when_unknown_and_for_others_410_when_given_up(origin: Origin) -> None:
    assert (await origin.ask("GET")).status == 404
    await origin.post()
    assert (await origin.ask("GET", address="10.0.0.6")).status == 404
    assert (await origin.ask("GET", address="127.0.0.1")).status == 202
    await origin.rule(None, None)
    origin.clock.at += HOUR
    assert (await origin.ask("GET")).status == 410
    assert (await origin.post()).status == 409


async def test_a_request_at_the_base_path_of_a_proxy_is_for_its_upstream(origin: Origin) -> None:
    assert_is_taken(await origin.post(BY_STUDY, base="/pacs"))
    assert (await origin.row()).proxy == "pacs"
    await origin.rule(None, None)
    answer = await origin.ask("GET", base="/pacs")
    assert answer.status == 200
    assert set(answer.json) == {"00081110"}


@pytest.mark.parametrize(
    ("headers", "status", "where"),
    [
        ({"content-type": "application/dicom+json"}, 406, "Accept"),
        ({**JSON, "accept": "image/jpeg"}, 406, "Accept"),
        ({**JSON, "accept": "application/dicom+json, image/jpeg"}, 400, "Accept"),
        ({"accept": "*/*"}, 415, "Content-Type"),
        ({**JSON, "content-type": "application/json"}, 415, "Content-Type"),
        ({**JSON, "content-type": "application/dicom"}, 415, "Content-Type"),
        ({**JSON, "content-type": "multipart/related; type=application/dicom; boundary=b"}, 415, "Content-Type"),
        ({**JSON, "content-type": "application/dicom+json; charset=iso-8859-1"}, 415, "Content-Type"),
        ({**JSON, "content-type": "nonsense"}, 400, "Content-Type"),
        ({**JSON, "content-encoding": "gzip"}, 415, "Content-Encoding"),
        ({**JSON, "content-length": str(2**40)}, 413, "body"),
    ],
)
async def test_a_head_that_cannot_be_meant_is_refused_and_nothing_journalled(
    origin: Origin, headers: dict[str, str], status: int, where: str
) -> None:
    answer = await origin.post(headers=headers)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["where"] == where
    assert origin.woken == 0


@pytest.mark.parametrize("content_type", ["application/dicom+json; charset=UTF-8", "Application/DICOM+JSON"])
async def test_utf_8_may_be_said(origin: Origin, content_type: str) -> None:
    assert_is_taken(await origin.post(headers={**JSON, "content-type": content_type}))


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"[{},{}]", "body"),
        (b"{}", "ReferencedSOPSequence and ReferencedStudySequence"),
        (b'{"00081199":{"vr":"SQ","Value":[{}]}}', "ReferencedSOPSequence[1].ReferencedSOPClassUID"),
        (encode_object(request_module([*FLAT, FLAT[0]])), "ReferencedSOPSequence[3]"),
        (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel/>', "body"),
    ],
)
async def test_a_body_that_is_no_request_is_400_and_says_where(origin: Origin, body: bytes, where: str) -> None:
    answer = await origin.ask("POST", JSON, body)
    assert answer.status == 400
    assert answer.json["where"] == where
    assert origin.woken == 0


@pytest.mark.parametrize("uid", ["x", "1.02", "1." * 33 + "1", "1.2 "])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_has_no_uid_is_400(origin: Origin, method: str, uid: str) -> None:
    assert (await origin.ask(method, JSON, encode_object(request_module(FLAT)), uid=uid)).status == 400


async def test_too_many_instances_are_413(origin: Origin) -> None:
    references = [Reference(CT, Uid(f"1.2.{number}")) for number in range(MAX_REFERENCES + 1)]
    answer = await origin.post(references)
    assert answer.status == 413
    assert str(MAX_REFERENCES) in answer.json["detail"]


async def test_as_many_instances_as_may_be_go_in_and_out(origin: Origin) -> None:
    references = [
        Reference(CT, Uid(f"1.2.{number}"), Uid("1.7"), Uid(f"1.8.{number % 7}")) for number in range(MAX_REFERENCES)
    ]
    assert_is_taken(await origin.post(references))
    await origin.rule(*(number % 3 or None for number in range(MAX_REFERENCES)))
    answer = await origin.ask("GET")
    stored = await origin.journal.read(lambda conn: rows.items(conn, 1))
    rulings = read_response(answer.json, [Reference(CT, one.sop_instance_uid) for one in stored])
    assert rulings is not None
    assert [one.failure_reason for one in rulings] == [one.failure_reason for one in stored]


async def test_a_body_longer_than_is_read_is_413(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_body, "SMALL_BYTES", 1_000)
    assert_is_taken(await origin.ask("POST", JSON, b" " * 2_000 + encode_object(request_module(FLAT))))
    answer = await origin.ask("POST", JSON, b" " * (33 * 1024**2), uid="1.2")
    assert answer.status == 413


async def test_large_bodies_wait_for_their_turn_and_then_are_told_to_come_again(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_body, "SMALL_BYTES", 100)
    monkeypatch.setattr(module_body, "LARGE_WAIT_S", 0.01)
    monkeypatch.setattr(module_body, "LARGE_S", 0.2)
    slow: list[Answer] = []

    async def never_ends(scope: Scope, receive: Receive, send: Send) -> None:
        sent = False

        async def half() -> Any:
            nonlocal sent
            if sent:
                await anyio.sleep_forever()
            sent = True
            return {"type": "http.request", "body": b" " * 200, "more_body": True}

        await origin.app(scope, half, send)

    async def one(uid: str) -> None:
        target = f"/dicom-web/commitment-requests/{uid}"
        slow.append(await ask(never_ends, target, method="POST", headers=list(JSON.items())))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(one, f"1.2.{number}")
    assert sorted(answer.status for answer in slow) == [408, 408, 503]
    assert_is_taken(await origin.post())


async def test_a_journal_that_cannot_be_used_is_503(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(origin.commitments, "submit", broken)
    monkeypatch.setattr(origin.commitments, "state", broken)
    for answer in (await origin.post(), await origin.ask("GET")):
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0


async def test_who_polls_too_often_is_told_so(origin: Origin) -> None:
    await origin.post()
    statuses = [(await origin.ask("GET")).status for _ in range(40)]
    assert statuses[:20] == [202] * 20
    assert statuses[-1] == 429


async def test_head_has_no_body_other_methods_are_405_and_there_is_no_list(origin: Origin) -> None:
    await origin.post()
    await origin.rule(None, None)
    head = await origin.ask("HEAD")
    assert head.status == 200
    assert head.body == b""
    for method in ("PUT", "DELETE", "PATCH"):
        answer = await origin.ask(method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, POST"
    target = "/dicom-web/commitment-requests"
    assert (await ask(origin.app, target, headers=list(JSON.items()))).status == 404


async def test_the_accept_parameter_and_others_are_read_as_everywhere(origin: Origin) -> None:
    await origin.post()
    await origin.rule(None, None)
    answer = await origin.ask("GET", {"accept": "*/*", "host": "x"}, query="accept=application/dicom%2Bxml&colour=red")
    assert answer.headers["content-type"] == "application/dicom+xml"
    assert (await origin.ask("GET", query="&")).status == 400


async def test_the_capabilities_tell_of_both_transactions(origin: Origin) -> None:
    headers = [("accept", "application/json"), ("host", "pacs:8080")]
    for base in ("/dicom-web", "/pacs"):
        answer = await ask(origin.app, base, method="OPTIONS", headers=headers)
        text = json.dumps(answer.json)
        assert "requestStorageCommitment" in text
        assert "checkStorageCommitment" in text
        assert "application/dicom+xml" in text
