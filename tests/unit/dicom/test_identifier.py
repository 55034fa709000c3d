"""Identifiers: bounds, what is refused and with which attribute to blame, keys, character sets on the wire."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from router.dicom.identifier import (
    MAX_IDENTIFIER_BYTES,
    BadIdentifier,
    character_set_of,
    matching_keys,
    read_identifier,
    write_identifier,
)
from router.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from router.dicom.uids import Uid

SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]


def named(name: str) -> dict[str, Any]:
    return {"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}


def test_the_bytes_are_those_of_the_standard() -> None:
    level = {"00080052": {"vr": "CS", "Value": ["STUDY"]}, "00280010": {"vr": "US", "Value": [258]}}
    assert write_identifier(level, EXPLICIT_VR_LITTLE_ENDIAN) == (
        b"\x08\x00\x52\x00CS\x06\x00STUDY \x28\x00\x10\x00US\x02\x00\x02\x01"
    )
    assert write_identifier(level, IMPLICIT_VR_LITTLE_ENDIAN) == (
        b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY \x28\x00\x10\x00\x02\x00\x00\x00\x02\x01"
    )
    assert write_identifier(level, EXPLICIT_VR_BIG_ENDIAN) == (
        b"\x00\x08\x00\x52CS\x00\x06STUDY \x00\x28\x00\x10US\x00\x02\x01\x02"
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_list_of_uids_may_be_longer_than_an_explicit_length_can_tell(syntax: Uid) -> None:
    data_set = {"00080058": {"vr": "UI", "Value": [f"1.2.840.10008.5.1.4.1.1.2.1234567890.{n}" for n in range(9_999)]}}
    assert read_identifier(write_identifier(data_set, syntax), syntax) == data_set


def test_a_megabyte_is_the_most() -> None:
    uid = "1.2.840.10008.5.1.4.1.1.2.1234567890.1234567890.1234567890.12345"
    data_set = {"00080018": {"vr": "UI", "Value": [uid] * 15_000}}
    raw = write_identifier(data_set, IMPLICIT_VR_LITTLE_ENDIAN)
    assert len(read_identifier(raw, IMPLICIT_VR_LITTLE_ENDIAN)["00080018"]["Value"]) == 15_000
    with pytest.raises(BadIdentifier, match="more than"):
        read_identifier(raw.ljust(MAX_IDENTIFIER_BYTES + 1, b"\0"), IMPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(BadIdentifier, match="more than"):
        read_identifier(raw, IMPLICIT_VR_LITTLE_ENDIAN, max_bytes=100_000)


def test_many_tiny_elements_and_deep_sequences_are_refused() -> None:
    with pytest.raises(BadIdentifier):
        read_identifier(struct.pack("<HHI", 0x0009, 0x1001, 0) * 131_000, IMPLICIT_VR_LITTLE_ENDIAN)
    deep = (struct.pack("<HHI", 0x0040, 0x0275, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 70
    with pytest.raises(BadIdentifier):
        read_identifier(deep, IMPLICIT_VR_LITTLE_ENDIAN)


def test_pixel_data_and_deflated_data_sets_have_no_place() -> None:
    pixels = struct.pack("<HHI", 0x7FE0, 0x0010, 4) + b"\0\0\0\1"
    with pytest.raises(BadIdentifier) as error:
        read_identifier(pixels, IMPLICIT_VR_LITTLE_ENDIAN)
    assert error.value.tags == (0x7FE00010,)
    with pytest.raises(BadIdentifier):
        read_identifier(b"\x03\x00", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(BadIdentifier):
        write_identifier({}, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_keys_are_flattened_to_paths_and_texts(syntax: Uid) -> None:
    data_set = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3", "1.2.4"]},
        "00080052": {"vr": "CS", "Value": ["IMAGE"]},
        "00080201": {"vr": "SH", "Value": ["+0100"]},
        **named("Doe*"),
        "00200013": {"vr": "IS", "Value": [7]},
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH"}}]},
        "0040A043": {"vr": "SQ"},
        "0040A730": {"vr": "SQ", "Value": [{}]},
    }
    read = read_identifier(write_identifier(data_set, syntax), syntax)
    assert matching_keys(read) == [
        ((0x00080018,), ("1.2.3", "1.2.4")),
        ((0x00100010,), "Doe*"),
        ((0x00200013,), "7"),
        ((0x00400275, 0x00400009), "S1"),
        ((0x00400275, 0x00401001), ""),
        ((0x0040A043,), ""),
        ((0x0040A730,), ""),
    ]


def test_a_key_in_bytes_is_not_taken_for_no_key() -> None:
    raw = b"\x00\x10\x00\x20UN\x00\x00\x00\x00\x00\x02P1"
    assert matching_keys(read_identifier(raw, EXPLICIT_VR_BIG_ENDIAN)) == [((0x00100020,), "P1")]


@pytest.mark.parametrize(
    ("name", "wished", "written", "on_the_wire"),
    [
        ("Doe^Jane", "", "", b"Doe^Jane"),
        ("Doe^Jane", "ISO_IR 100", "ISO_IR 100", b"Doe^Jane"),
        ("Müller", "ISO_IR 100", "ISO_IR 100", b"M\xfcller"),
        ("Müller", "", "ISO_IR 192", "Müller".encode()),
        ("Müller", "ISO_IR 144", "ISO_IR 192", "Müller".encode()),
        ("Müller", "no such", "ISO_IR 192", "Müller".encode()),
        ("Buc^Jérôme", "ISO 2022 IR 6\\ISO 2022 IR 100", "ISO 2022 IR 6\\ISO 2022 IR 100", b"Buc^\x1b-AJ\xe9r\xf4me"),
        ("山田^太郎", "\\ISO 2022 IR 87", "\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("洪^吉洞", "\\ISO 2022 IR 149", "\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
        ("山田", "ISO_IR 13", "ISO_IR 192", "山田".encode()),
        ("ﾔﾏﾀﾞ", "ISO_IR 13", "ISO_IR 13", b"\xd4\xcf\xc0\xde"),
        ("王^小东", "GB18030", "GB18030", "王^小东".encode("gb18030")),
    ],
)
def test_texts_are_written_in_the_character_set_that_is_wished_if_it_can_say_them(
    name: str, wished: str, written: str, on_the_wire: bytes
) -> None:
    raw = write_identifier(named(name), EXPLICIT_VR_LITTLE_ENDIAN, character_set=wished)
    assert character_set_of(raw, EXPLICIT_VR_LITTLE_ENDIAN) == written
    assert on_the_wire in raw
    assert read_identifier(raw, EXPLICIT_VR_LITTLE_ENDIAN)["00100010"]["Value"] == [{"Alphabetic": name}]


def test_what_a_vr_cannot_have_is_blamed_or_written_empty() -> None:
    bad = {"00100040": {"vr": "CS", "Value": ["ü"]}, "00280010": {"vr": "US", "Value": [70_000]}}
    with pytest.raises(BadIdentifier) as error:
        write_identifier(bad, EXPLICIT_VR_LITTLE_ENDIAN)
    assert error.value.tags == (0x00100040,)
    raw = write_identifier(bad, EXPLICIT_VR_LITTLE_ENDIAN, lenient=True)
    assert read_identifier(raw, EXPLICIT_VR_LITTLE_ENDIAN) == {"00100040": {"vr": "CS"}, "00280010": {"vr": "US"}}


def test_the_character_set_of_anything_can_be_asked() -> None:
    for raw in (b"", b"\0", b"\x08\x00\x05\x00CS\xff\xffx", b"DICM" * 100):
        assert character_set_of(raw, EXPLICIT_VR_LITTLE_ENDIAN) == ""


def test_too_many_keys_and_too_long_ones_are_none() -> None:
    many = {f"{0x00091000 + n:08X}": {"vr": "LO", "Value": ["x"]} for n in range(1001)}
    with pytest.raises(BadIdentifier):
        matching_keys(many)
    assert len(matching_keys(dict(list(many.items())[1:]))) == 1000
    with pytest.raises(BadIdentifier) as error:
        matching_keys(named("A=" * 1000))
    assert error.value.tags == (0x00100010,)
    with pytest.raises(BadIdentifier):
        matching_keys({"00080061": {"vr": "CS", "Value": ["CT"] * 1000}})
    assert matching_keys({"0020000D": {"vr": "UI", "Value": ["1.2.3"] * 1000}})
