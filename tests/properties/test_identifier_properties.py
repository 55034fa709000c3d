"""Identifiers: what is written is read again, in every syntax and character set; any bytes are read or refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.dicom.identifier import BadIdentifier, character_set_of, matching_keys, read_identifier, write_identifier
from router.dicom.json_model import element, in_order, sequence
from router.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from router.dicom.uids import Uid

SYNTAXES = st.sampled_from([IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
CHARACTER_SETS = st.sampled_from(
    [
        "",
        "ISO_IR 6",
        "ISO_IR 100",
        "ISO_IR 144",
        "ISO_IR 13",
        "ISO_IR 192",
        "GB18030",
        "\\ISO 2022 IR 87",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "\\ISO 2022 IR 149",
        "\\ISO 2022 IR 58",
        "ISO 2022 IR 6\\ISO 2022 IR 100\\ISO 2022 IR 144",
        "no such",
    ]
)
TEXT = st.text("ABz *?äßЛю山田太郎ﾔﾏ김희중王", min_size=1, max_size=8).map(str.strip)
NAMES = st.lists(TEXT, min_size=1, max_size=3).map("^".join).filter(lambda name: bool(name.strip("^")))
NUMBERS = st.integers(0, 65535)


def values(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, min_size=0, max_size=most)


ATTRIBUTES = [
    (0x00080018, values(st.sampled_from(["1.2.3", "1.2.840.10008.1.1"]))),
    (0x00080020, values(st.sampled_from(["20260101", "20260101-", "-20261231"]), 1)),
    (0x00080050, values(TEXT, 1)),
    (0x00080061, values(st.sampled_from(["CT", "M*"]))),
    (0x00081030, values(TEXT)),
    (0x00100010, values(NAMES, 2)),
    (0x00104000, values(TEXT, 1)),
    (0x00200013, values(st.integers(-9, 999), 2)),
    (0x00280010, values(NUMBERS, 2)),
    (0x00280009, values(st.sampled_from(["00181063"]), 2)),
    (0x00189087, values(st.floats(allow_nan=False, allow_infinity=False), 2)),
]


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    data_set = {}
    for tag, strategy in draw(st.lists(st.sampled_from(ATTRIBUTES), unique_by=lambda one: one[0], max_size=6)):
        data_set[f"{tag:08X}"] = element(tag, draw(strategy))
    if depth < 2 and draw(st.booleans()):
        data_set["00400275"] = sequence(draw(st.lists(data_sets(depth + 1), max_size=2)))
    return in_order(data_set)


@given(data_sets(), SYNTAXES, CHARACTER_SETS)
def test_what_is_written_is_read_again(data_set: dict[str, Any], syntax: Uid, character_set: str) -> None:
    raw = write_identifier(data_set, syntax, character_set=character_set)
    found = read_identifier(raw, syntax)
    found.pop("00080005", None)
    assert found == data_set
    assert character_set_of(raw, syntax) in (character_set, "ISO_IR 192")


@given(data_sets(), SYNTAXES)
def test_without_a_character_set_ascii_says_nothing_and_the_rest_is_utf_8(
    data_set: dict[str, Any], syntax: Uid
) -> None:
    raw = write_identifier(data_set, syntax)
    is_ascii = all(text.isascii() for text in _texts(data_set))
    assert character_set_of(raw, syntax) == ("" if is_ascii else "ISO_IR 192")


@settings(max_examples=300)
@given(st.binary(max_size=200), SYNTAXES)
def test_any_bytes_give_an_identifier_or_a_bad_one(raw: bytes, syntax: Uid) -> None:
    _survives(raw, syntax)


@settings(max_examples=300)
@given(data_sets(), SYNTAXES, st.data())
def test_damaged_identifiers_give_an_identifier_or_a_bad_one(
    data_set: dict[str, Any], syntax: Uid, data: st.DataObject
) -> None:
    raw = bytearray(write_identifier(data_set, syntax))
    for _ in range(data.draw(st.integers(1, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _survives(bytes(raw), syntax)


def _survives(raw: bytes, syntax: Uid) -> None:
    character_set = character_set_of(raw, syntax)
    try:
        found = read_identifier(raw, syntax)
        matching_keys(found)
        again = write_identifier(found, syntax, character_set=character_set, lenient=True)
    except BadIdentifier:
        return
    assert read_identifier(again, syntax).keys() - {"00080005"} == found.keys() - {"00080005"}


def _texts(data_set: dict[str, Any]) -> list[str]:
    texts = []
    for one in data_set.values():
        for value in one.get("Value", ()):
            if one["vr"] == "SQ":
                texts += _texts(value)
            else:
                texts += [str(part) for part in (value.values() if isinstance(value, dict) else [value])]
    return texts
