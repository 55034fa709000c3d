"""Whatever bytes a stored data set has: a frame, a value, or one of the errors that are answered (B19, B32, B42)."""

from __future__ import annotations

import io
import struct

from hypothesis import given
from hypothesis import strategies as st

from router.dicom.bulk import NoSuchValue, locate_bulk, read_value
from router.dicom.frames import CannotSeparate, NoPixelData, NoSuchFrame, locate_frames, unpack
from router.dicom.uids import Uid
from router.errors import PeerError

SYNTAXES = st.sampled_from(
    [Uid(f"1.2.840.10008.1.2{ending}") for ending in ("", ".1", ".2", ".5", ".4.50", ".4.90", ".4.102")]
)


def us(element: int, value: int) -> bytes:
    return struct.pack("<HH2sHH", 0x28, element, b"US", 2, value)


def item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """An image, native or in fragments, that may have been cut or changed somewhere."""
    frames = draw(st.integers(1, 4))
    head = struct.pack("<HH2sH2s", 0x28, 8, b"IS", 2, b"%d " % frames)
    head += (
        us(0x10, draw(st.integers(0, 4)))
        + us(0x11, draw(st.integers(0, 4)))
        + us(0x100, draw(st.sampled_from([1, 8, 16])))
    )
    nested = (
        struct.pack("<HH2sHI", 0x28, 0x3000, b"SQ", 0, 0xFFFFFFFF)
        + item(us(0x3002, 1))
        + bytes.fromhex("feffdde000000000")
    )
    if draw(st.booleans()):
        fragments = draw(st.lists(st.binary(max_size=8), max_size=6))
        table = draw(st.lists(st.integers(0, 40), max_size=4))
        value = b"".join(map(item, [struct.pack(f"<{len(table)}I", *table), *fragments])) + bytes.fromhex(
            "feffdde000000000"
        )
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + value
    else:
        value = draw(st.binary(max_size=80))
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(value)) + value
    data = bytearray(head + nested + pixels)
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(images(), SYNTAXES, st.one_of(st.none(), st.lists(st.integers(1, 5), max_size=3)))
def test_frames_are_within_the_data_set(data: bytes, syntax: Uid, numbers: list[int] | None) -> None:
    try:
        found = locate_frames(io.BytesIO(data), syntax, numbers)
    except (PeerError, NoPixelData, NoSuchFrame, CannotSeparate):
        return
    for frame in found.frames:
        content = b"".join(read_value(io.BytesIO(data), found.place, one) for one in frame.ranges)
        assert len(unpack(content, frame)) == frame.length


@given(
    st.one_of(images(), st.binary(max_size=200)),
    SYNTAXES,
    st.sampled_from(["7FE00010", "00283000/1/00283002", "00280010"]),
)
def test_values_are_within_the_data_set(data: bytes, syntax: Uid, pointer: str) -> None:
    try:
        place = locate_bulk(io.BytesIO(data), syntax, pointer)
    except (PeerError, NoSuchValue):
        return
    assert 0 <= place.offset <= place.offset + place.length <= len(data)
