"""Any split of a body gives the same parts; any bytes give events or PeerError and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from router.dicomweb.multipart import (
    BodyEnded,
    PartBegun,
    PartData,
    PartEnded,
    PartLimits,
    PartReader,
)
from router.dicomweb.multipart_writer import closing, part_opening
from router.errors import PeerError

BOUNDARY = "b-4"
DEFAULTS = PartLimits()
near_delimiters = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"-",
        b"--",
        b"\r\n-",
        b"\r\n--",
        b"\r\n--b",
        b"\r\n--b-",
        b"--b-4",
        b"b-4",
        b"\r\n--b-4x",
        b"\r\n--b-4 -",
        b"x",
    ]
)
contents = st.lists(near_delimiters | st.binary(max_size=20), max_size=12).map(b"".join)
splits = st.lists(st.integers(0, 1000), max_size=30)


def holds_delimiter(content: bytes) -> bool:
    """Whether a generated content is, by accident, more than one part."""
    data = b"\r\n" + content + b"\r\n"
    at = -1
    while (at := data.find(b"\r\n--b-4", at + 1)) >= 0:
        rest = data[at + 7 :]
        if rest.startswith(b"--") or rest.lstrip(b" \t").startswith(b"\r\n"):
            return True
    return False


def cut(data: bytes, places: Sequence[int]) -> Iterable[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def parts_of(
    chunks: Iterable[bytes], limits: PartLimits = DEFAULTS
) -> tuple[list[tuple[dict[str, str], bytes, bool]], str]:
    """All parts as (headers, content, whole) and how the body ended."""
    reader = PartReader(BOUNDARY, limits)
    parts: list[tuple[dict[str, str], bytes, bool]] = []
    ended = "open"
    try:
        for chunk in chunks:
            for event in reader.feed(chunk):
                match event:
                    case PartBegun(headers):
                        parts.append((dict(headers), b"", False))
                    case PartData(data):
                        headers, content, _ = parts[-1]
                        parts[-1] = (headers, content + bytes(data), False)
                    case PartEnded():
                        headers, content, _ = parts[-1]
                        parts[-1] = (headers, content, True)
                    case BodyEnded():
                        ended = "ended"
        reader.finish()
    except PeerError as error:
        ended = error.problem
    return parts, ended


@given(st.lists(contents.filter(lambda content: not holds_delimiter(content)), min_size=1, max_size=5), splits)
@settings(max_examples=300)
def test_what_is_written_is_read_whatever_the_split(bodies: list[bytes], places: list[int]) -> None:
    headers = {"Content-Type": "application/dicom"}
    body = b"".join(part_opening(BOUNDARY, headers) + content for content in bodies) + closing(BOUNDARY)
    parts, ended = parts_of(cut(body, places))
    assert ended == "ended"
    assert parts == [({"content-type": "application/dicom"}, content, True) for content in bodies]


pieces = st.sampled_from(
    [
        b"\r\n--b-4\r\n",
        b"--b-4\r\n",
        b"\r\n--b-4  \t\r\n",
        b"\r\n--b-4--",
        b"\r\n--b-4--\r\n",
        b"A: b\r\n",
        b"\r\n",
        b"A: b\r\n c\r\n",
        b": x\r\n",
        b"\0",
    ]
)


@given(st.lists(pieces | near_delimiters | st.binary(max_size=10), max_size=20).map(b"".join), splits)
@settings(max_examples=500)
def test_any_bytes_give_the_same_parts_or_the_same_error_whatever_the_split(body: bytes, places: list[int]) -> None:
    limits = PartLimits(head_bytes=24, padding_bytes=3, parts=4, preamble_bytes=30, epilogue_bytes=30)
    assert parts_of([body], limits) == parts_of(cut(body, places), limits)
    assert parts_of([body], limits) == parts_of([body[i : i + 1] for i in range(len(body))], limits)
