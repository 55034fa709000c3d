"""The streamed re-encoder against a plain recursive writer; whatever the split, and for any bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from router.dicom.reencode import CannotReencode, Reencoder
from router.dicom.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid

UNDEFINED = 0xFFFFFFFF
# tag, VR, bytes of one number
PLAIN = [
    (0x00080000, b"UL", 4),
    (0x00080016, b"UI", 1),
    (0x00091001, b"UN", 1),
    (0x00090010, b"LO", 1),
    (0x00100010, b"PN", 1),
    (0x00280009, b"AT", 2),
    (0x00280010, b"US", 2),
    (0x00189087, b"FD", 8),
    (0x00186020, b"SL", 4),
    (0x00420011, b"OB", 1),
    (0x60003000, b"OW", 2),
    (0x7FE00008, b"OF", 4),
    (0x7FE00010, b"OW", 2),
]
LONG = (b"OB", b"OF", b"OW", b"SQ", b"UN")
# A data set is a list of (tag, VR, unit, value); a sequence's value is (length is told, [(length is told, data set)]).
plain = st.sampled_from(PLAIN).flatmap(
    lambda row: st.tuples(
        st.just(row[0]), st.just(row[1]), st.just(row[2]), st.binary(max_size=5).map(lambda value: value * row[2])
    )
)
data_sets = st.recursive(
    st.lists(plain, max_size=5),
    lambda inner: st.lists(
        plain
        | st.tuples(
            st.sampled_from([0x00081140, 0x00409096]),
            st.just(b"SQ"),
            st.just(1),
            st.tuples(st.booleans(), st.lists(st.tuples(st.booleans(), inner), max_size=3)),
        ),
        max_size=4,
    ),
    max_leaves=12,
)


def written(data_set: list, implicit: bool, order: str, result: bool = False) -> bytes:  # type: ignore[type-arg]
    """Encode plainly. `result`: as the re-encoder should, with undefined lengths and without group lengths."""

    def bare(tag: int, length: int) -> bytes:
        return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, length)

    def element(tag: int, vr: bytes, length: int) -> bytes:
        if implicit:
            return bare(tag, length)
        if vr in LONG:
            return struct.pack(order + "HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)
        return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, length)

    out = b""
    for tag, vr, unit, value in data_set:
        if vr == b"SQ":
            told, items = value
            inside = b""
            for item_told, item in items:
                content = written(item, implicit, order, result)
                if item_told and not result:
                    inside += bare(0xFFFEE000, len(content)) + content
                else:
                    inside += bare(0xFFFEE000, UNDEFINED) + content + bare(0xFFFEE00D, 0)
            if told and not result:
                out += element(tag, vr, len(inside)) + inside
            else:
                out += element(tag, vr, UNDEFINED) + inside + bare(0xFFFEE0DD, 0)
        elif tag & 0xFFFF or not result:
            turned = value if order == "<" else b"".join(value[i : i + unit][::-1] for i in range(0, len(value), unit))
            out += element(tag, vr, len(value)) + turned
    return out


def reencoded(transfer_syntax: Uid, chunks: Sequence[bytes]) -> bytes:
    reencoder = Reencoder(transfer_syntax)
    return b"".join([*map(reencoder.feed, chunks), reencoder.finish()])


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(data_sets, st.lists(st.integers(0, 10_000), max_size=20))
@settings(max_examples=300)
def test_the_result_is_what_a_plain_writer_writes_whatever_the_split(data_set: list, places: list[int]) -> None:  # type: ignore[type-arg]
    expected = written(data_set, implicit=False, order="<", result=True)
    little = written(data_set, implicit=True, order="<")
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, cut(little, places)) == expected
    big = written(data_set, implicit=False, order=">")
    assert reencoded(EXPLICIT_VR_BIG_ENDIAN, cut(big, places)) == expected


pieces = st.sampled_from(
    [
        struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED),
        struct.pack("<HHL", 0xFFFE, 0xE00D, 0),
        struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
        struct.pack("<HHL", 0x0008, 0x1140, UNDEFINED),
        struct.pack("<HHL", 0x0008, 0x1140, 20),
        struct.pack("<HHL", 0x0009, 0x1001, UNDEFINED),
        struct.pack("<HHLH", 0x0028, 0x0103, 2, 1),
        struct.pack(">HHL", 0xFFFE, 0xE000, UNDEFINED),
        struct.pack(">HH2sHL", 0x0008, 0x1140, b"SQ", 0, UNDEFINED),
        struct.pack(">HH2sH", 0x0028, 0x0010, b"US", 3),
        b"\0",
    ]
)


@given(
    st.lists(pieces | st.binary(max_size=12), max_size=12).map(b"".join),
    st.sampled_from([IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]),
    st.lists(st.integers(0, 1000), max_size=10),
)
@settings(max_examples=500)
def test_any_bytes_give_the_same_result_or_error_whatever_the_split(
    data: bytes, syntax: Uid, places: list[int]
) -> None:
    def outcome(chunks: Sequence[bytes]) -> bytes | str:
        try:
            return reencoded(syntax, chunks)
        except CannotReencode as error:
            return str(error)

    assert outcome([data]) == outcome(cut(data, places)) == outcome([data[i : i + 1] for i in range(len(data))])
