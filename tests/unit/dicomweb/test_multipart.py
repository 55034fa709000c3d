"""multipart/related: what clients really send, and what hostile ones do (B57)."""

from __future__ import annotations

import pytest

from router.dicomweb.multipart import (
    BodyEnded,
    PartBegun,
    PartData,
    PartEnded,
    PartEvent,
    PartLimits,
    PartReader,
)
from router.dicomweb.multipart_writer import closing, new_boundary, part_opening
from router.errors import PeerError

DEFAULTS = PartLimits()


def read(body: bytes, limits: PartLimits = DEFAULTS, boundary: str = "xyz") -> list[PartEvent]:
    reader = PartReader(boundary, limits)
    events = list(reader.feed(body))
    reader.finish()
    return events


def contents(events: list[PartEvent]) -> list[bytes]:
    parts: list[bytes] = []
    for event in events:
        match event:
            case PartBegun():
                parts.append(b"")
            case PartData(data):
                parts[-1] += bytes(data)
            case PartEnded() | BodyEnded():
                pass
    return parts


def test_a_body_may_begin_with_its_first_delimiter() -> None:
    assert contents(read(b"--xyz\r\nA: b\r\n\r\none\r\n--xyz\r\n\r\ntwo\r\n--xyz--")) == [b"one", b"two"]


def test_preamble_and_epilogue_are_ignored() -> None:
    assert contents(read(b"hello\r\n--xyz\r\n\r\none\r\n--xyz--\r\nbye")) == [b"one"]


def test_an_empty_part_is_a_part_with_and_without_its_blank_line() -> None:
    assert contents(read(b"--xyz\r\nA: b\r\n\r\n\r\n--xyz\r\nA: b\r\n\r\n--xyz--")) == [b"", b""]


def test_header_names_are_lower_case_and_folded_lines_are_joined() -> None:
    begun = read(b"--xyz\r\nContent-Type: application/dicom;\r\n  x=1\r\nCONTENT-id:\ta \r\n\r\n\r\n--xyz--")[0]
    assert begun == PartBegun({"content-type": "application/dicom; x=1", "content-id": "a"})


def test_content_that_holds_the_boundary_with_more_characters_is_content() -> None:
    assert contents(read(b"--xyz\r\n\r\na\r\n--xyzz\r\nb\r\n--xyz-c\r\n--xyz--")) == [b"a\r\n--xyzz\r\nb\r\n--xyz-c"]


def test_a_chunk_that_is_all_content_is_passed_on_without_a_copy() -> None:
    reader = PartReader("xyz")
    list(reader.feed(b"--xyz\r\n\r\nfirst"))
    chunk = bytes(1000)
    [event] = reader.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data is chunk


def test_events_before_the_break_are_given_before_the_error() -> None:
    reader = PartReader("xyz")
    events = reader.feed(b"--xyz\r\n\r\none\r\n--xyz\r\nno colon\r\n\r\n")
    assert [next(events), next(events), next(events)] == [PartBegun({}), PartData(memoryview(b"one")), PartEnded()]
    with pytest.raises(PeerError, match="name: value"):
        next(events)


def test_what_we_write_we_read() -> None:
    boundary = new_boundary()
    body = (
        part_opening(boundary, {"Content-Type": "application/dicom", "Content-Length": "3"})
        + b"abc"
        + closing(boundary)
    )
    events = read(body, boundary=boundary)
    assert events[0] == PartBegun({"content-type": "application/dicom", "content-length": "3"})
    assert contents(events) == [b"abc"]


@pytest.mark.parametrize("boundary", ["", "x" * 201, "a\r\nb", "a ", 'a"b', "ü"])
def test_b57_a_boundary_that_cannot_be_one_is_refused(boundary: str) -> None:
    with pytest.raises(PeerError, match="boundary"):
        PartReader(boundary)


@pytest.mark.parametrize("length", [70, 73])
def test_b57_a_boundary_as_long_as_rfc_2046_allows_or_orthanc_sends_is_taken(length: int) -> None:
    boundary = "x" * length
    assert contents(read(part_opening(boundary, {}) + b"a" + closing(boundary), boundary=boundary)) == [b"a"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no delimiter"),
        (b"--abc\r\n\r\nx\r\n--abc--", "no delimiter"),
        (b"--xyz\r\n\r\nx", "before its closing delimiter"),
        (b"--xyz\r\nA: b\r\n", "before its closing delimiter"),
        (b"--xyz\r\n\r\nx\r\n--xyz", "before its closing delimiter"),
        (b"--xyz\r\n" + b"A" * 17_000 + b": b\r\n\r\n", "part head is longer than 16384"),
        (b"--xyz\r\nA: " + b"b" * 1_000_000, "part head is longer than 16384"),
        (b"--xyz\r\nA: b\0\r\n\r\n", "name: value"),
        (b"--xyz\r\nA b\r\n\r\n", "name: value"),
        (b"--xyz\r\nA : b\r\n\r\n", "name: value"),
        (b"p" * 70_000 + b"\r\n--xyz\r\n\r\n\r\n--xyz--", "bytes before the parts"),
        (b"--xyz\r\n\r\n\r\n--xyz--" + b"e" * 70_000, "bytes after the parts"),
    ],
)
def test_b57_a_broken_body_is_a_peer_error_with_the_reason(body: bytes, problem: str) -> None:
    with pytest.raises(PeerError, match=problem):
        read(body)


def test_b57_the_number_of_parts_is_limited() -> None:
    body = b"--xyz\r\n\r\nx\r\n" * 4 + b"--xyz--"
    assert len(contents(read(body, PartLimits(parts=4)))) == 4
    with pytest.raises(PeerError, match="more than 3 parts"):
        read(body, PartLimits(parts=3))


def test_b57_a_nested_multipart_is_only_content() -> None:
    inner = b"--abc\r\n\r\nx\r\n--abc--"
    assert contents(read(b"--xyz\r\n\r\n" + inner + b"\r\n--xyz--")) == [inner]
