"""Metadata of a Store request: whatever comes is a data set or a refusal, and values come through unchanged."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pydicom
from hypothesis import given
from hypothesis import strategies as st

from router.dicom.codestream import find_codestream, is_reversible, jpeg_transfer_syntax
from router.dicom.compose import Bulk, Extent, compose
from router.dicom.compose_values import KNOWN_VRS
from router.dicomweb.metadata_parts import json_instances, read_xml
from router.errors import PeerError, Refused

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TAGS = st.one_of(st.sampled_from(["00080018", "00100010", "00280010", "7FE00010", "00081140"]), st.text(max_size=8))
MEMBERS = st.sampled_from(["vr", "Value", "InlineBinary", "BulkDataURI"])
ELEMENTS = st.fixed_dictionaries(
    {"vr": st.sampled_from(sorted(KNOWN_VRS)) | VALUES}, optional={"Value": st.lists(VALUES, max_size=3)}
) | st.dictionaries(MEMBERS, VALUES, max_size=3)
DATA_SETS = st.dictionaries(TAGS, ELEMENTS | VALUES, max_size=5)


def bulk_of(_uri: str, _tag: int) -> Bulk:
    return Bulk((Extent(0, 8),))


@given(DATA_SETS)
def test_anything_is_composed_or_refused(data_set: dict[str, Any]) -> None:
    try:
        composed = compose(data_set, bulk_of)
    except Refused:
        return
    length = sum(piece.length if isinstance(piece, Extent) else len(piece) for piece in composed.pieces)
    assert length % 2 == 0


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | VALUES.map(lambda it: json.dumps(it).encode()))
def test_any_bytes_are_data_sets_or_a_peer_error(part: bytes) -> None:
    with suppress(PeerError):
        for data_set in json_instances(part):
            assert isinstance(data_set, Mapping)
    with suppress(PeerError):
        assert isinstance(read_xml(part), Mapping)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n"]),
)
def test_any_frame_is_looked_at_without_harm(content: bytes, start: bytes) -> None:
    frame = start + content
    jpeg_transfer_syntax(frame)
    is_reversible(frame)
    found = find_codestream(lambda at, size: frame[at : at + size], 0, len(frame))
    assert found is None or found[0] + found[1] <= len(frame)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="\\^="), max_size=30).map(
    lambda text: text.strip()
)


@given(
    st.lists(TEXT.filter(bool), min_size=1, max_size=3),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=4),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
    st.binary(max_size=40).filter(lambda value: len(value) % 2 == 0),
    st.integers(-(2**31), 2**31 - 1),
)
def test_values_come_through_unchanged(
    texts: list[str], numbers: list[int], reals: list[float], binary: bytes, whole: int
) -> None:
    item = {"00080104": {"vr": "LO", "Value": texts}}
    composed = compose(
        {
            "00104000": {"vr": "UC", "Value": texts},
            "00280010": {"vr": "US", "Value": numbers},
            "00189073": {"vr": "FD", "Value": reals},
            "00201206": {"vr": "IS", "Value": [whole]},
            "00081140": {"vr": "SQ", "Value": [item, {}, None]},
            "7FE00010": {"vr": "OB", "InlineBinary": base64.b64encode(binary).decode()},
        },
        bulk_of,
    )
    [content] = composed.pieces
    assert isinstance(content, bytes)
    read = pydicom.filereader.read_dataset(io.BytesIO(content), False, True)

    def values(tag: int, data_set: pydicom.Dataset = read) -> list[Any]:
        element = data_set[tag]
        return [element.value] if element.VM == 1 else list(element.value)

    assert [str(value) for value in values(0x00104000)] == texts
    assert values(0x00280010) == numbers
    assert values(0x00189073) == reals
    assert values(0x00201206) == [whole]
    assert (read.PixelData or b"") == binary
    first, second, third = read[0x00081140].value
    assert (values(0x00080104, first), len(second), len(third)) == (texts, 0, 0)
