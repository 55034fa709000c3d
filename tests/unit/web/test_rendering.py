"""Data sets as answers: the two forms, and what goes wrong with asking for them (PS3.18 §8.7, F.2, O-14 to O-17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from web_harness import Answer, ask

from router.dicom.json_model import JsonDataSet
from router.dicomweb.accept import MixedTypes, NotAcceptable
from router.dicomweb.media_types import parse_media_type
from router.dicomweb.multipart import PartBegun, PartData, PartLimits, PartReader
from router.dicomweb.native_model import decode
from router.dicomweb.query_string import BadQuery
from router.web.rendering import MODULE_OFFERS, SEARCH_OFFERS, problem_of, render, warning

MODULE: JsonDataSet = {"00000900": {"vr": "US", "Value": [0xFF00]}, "00001020": {"vr": "US", "Value": [5]}}


def many(count: int) -> list[JsonDataSet]:
    return [
        {
            "00100020": {"vr": "LO", "Value": [f"P{number}"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Ä"}]},
        }
        for number in range(count)
    ]


async def shown(data_sets: Sequence[JsonDataSet], accept: str | None = "*/*", query: str = "", **more: Any) -> Answer:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response: Response
        try:
            response = render(request, data_sets, **more)
        except (BadQuery, NotAcceptable, MixedTypes) as error:
            response = problem_of(error)
        await response(scope, receive, send)

    return await ask(app, f"/x?{query}", headers=[] if accept is None else [("accept", accept)])


@pytest.mark.parametrize("count", [1, 3, 100])
async def test_json_is_one_array_in_ascending_order_with_a_bare_media_type(count: int) -> None:
    answer = await shown(many(count))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.json == many(count)
    assert list(answer.json[0]) == ["00100010", "00100020"]


@pytest.mark.parametrize("count", [1, 3, 100])
async def test_xml_is_one_part_a_result(count: int) -> None:
    answer = await shown(many(count), "multipart/related; type=application/dicom+xml")
    media_type = parse_media_type(answer.headers["content-type"])
    assert (media_type.name, media_type.parameters["type"]) == ("multipart/related", "application/dicom+xml")
    assert 'type="application/dicom+xml"' in answer.headers["content-type"]
    assert int(answer.headers["content-length"]) == len(answer.body)
    parts = parts_of(answer)
    assert [decode(part)["00100020"]["Value"] for part in parts] == [[f"P{number}"] for number in range(count)]


def parts_of(answer: Answer) -> list[bytes]:
    reader = PartReader(parse_media_type(answer.headers["content-type"]).parameters["boundary"], PartLimits())
    parts: list[bytearray] = []
    for event in reader.feed(answer.body):
        if isinstance(event, PartBegun):
            assert event.headers["content-type"] == "application/dicom+xml"
            parts.append(bytearray())
        elif isinstance(event, PartData):
            parts[-1] += event.data
    reader.finish()
    return [bytes(part) for part in parts]


async def test_o16_o17_a_module_is_an_array_of_one_or_one_document() -> None:
    answer = await shown([MODULE], status=202, headers={"Retry-After": "5"}, offers=MODULE_OFFERS)
    assert (answer.status, answer.json, answer.headers["retry-after"]) == (202, [MODULE], "5")
    answer = await shown([MODULE], "application/dicom+xml", offers=MODULE_OFFERS)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/dicom+xml")
    assert b'tag="00000900" vr="US" keyword="Status"' in answer.body
    answer = await shown([MODULE], 'multipart/related; type="application/dicom+xml"', offers=MODULE_OFFERS)
    [part] = parts_of(answer)
    assert b'keyword="NumberOfRemainingSuboperations"' in part


async def test_a_search_has_no_xml_in_one_part() -> None:
    answer = await shown([MODULE], "application/dicom+xml", offers=SEARCH_OFFERS)
    assert (answer.status, answer.headers["content-type"]) == (406, "application/problem+json")
    assert answer.json["allowed"] == 'application/dicom+json, multipart/related; type="application/dicom+xml"'


async def test_the_accept_parameter_chooses_the_form() -> None:
    answer = await shown([MODULE], query="accept=application/dicom%2Bxml", offers=MODULE_OFFERS)
    assert answer.headers["content-type"] == "application/dicom+xml"


@pytest.mark.parametrize(
    ("accept", "query", "status", "says"),
    [
        (None, "", 406, "no Accept header"),
        ("text/csv", "", 406, "None of the media types"),
        ("application/dicom+json, image/png", "", 400, "at once"),
        ("*/*", "accept=%zz", 400, "accept has a %"),
        ("*/*", "a&", 400, "The query has an empty parameter"),
        ("*/*", "a=" + "x" * 40_000, 414, "too long"),
        ("x" * 9000, "", 406, "longer than"),
    ],
)
async def test_req_036_b65_what_is_wrong_is_said(accept: str | None, query: str, status: int, says: str) -> None:
    answer = await shown([MODULE], accept, query)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json["detail"]


async def test_each_warning_is_a_field_of_its_own_and_no_line_can_be_put_in() -> None:
    base = "http://pacs/dicom-web"
    answer = await shown([MODULE], warnings=[warning(base, "one"), warning(base, "two\r\nSet-Cookie: x=ü")])
    assert answer.warnings == [f"299 {base}: one", f"299 {base}: two??Set-Cookie: x=?"]
