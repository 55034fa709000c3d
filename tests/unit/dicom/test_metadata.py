"""A stored data set becomes DICOM JSON in one pass, with big values left where they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import _read_file_meta_info, read_preamble

from router.dicom.metadata import MAX_DEPTH, MAX_ELEMENTS, read_metadata
from router.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from router.dicom.uids import Uid
from router.errors import PeerError

UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")


def explicit(tag: int, vr: str, value: bytes = b"", length: int | None = None, order: str = "<") -> bytes:
    length = len(value) if length is None else length
    head = struct.pack(order + "HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return (
        head + struct.pack(order + ("HI" if vr in LONG else "H"), *((0, length) if vr in LONG else (length,))) + value
    )


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes = b"", length: int | None = None) -> bytes:
    return implicit(0xFFFEE000, content, length)


ITEM_END, SEQUENCE_END = implicit(0xFFFEE00D), implicit(0xFFFEE0DD)


def read(content: bytes, uid: Uid = EXPLICIT_VR_LITTLE_ENDIAN, **options: Any) -> dict[str, Any]:
    return read_metadata(io.BytesIO(content), uid, bulk_uri=lambda pointer: f"bulk/{pointer}", **options)


def data_set_of(name: str) -> tuple[bytes, Uid]:
    """The data set of a file in pydicom's wheel, and its transfer syntax."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    with Path(found).open("rb") as file:
        read_preamble(file, force=False)
        uid = Uid(_read_file_meta_info(file).TransferSyntaxUID)
        return file.read(), uid


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_the_same_instance_reads_the_same_in_every_transfer_syntax() -> None:
    shown = read(*data_set_of("MR_small.dcm"))
    assert shown["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "CompressedSamples^MR1"}]}
    assert shown["00280010"] == {"vr": "US", "Value": [64]}
    assert shown["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulk/7FE00010"}
    assert not any(tag.startswith("0002") for tag in shown)
    for name in ("MR_small_implicit.dcm", "MR_small_bigendian.dcm"):
        assert read(*data_set_of(name)) == shown
    for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"):
        assert read(*data_set_of(name)) == shown | {"7FE00010": {"vr": "OB", "BulkDataURI": "bulk/7FE00010"}}


def test_a_deflated_data_set_reads_like_the_plain_one() -> None:
    content, uid = data_set_of("CT_small.dcm")
    deflate = zlib.compressobj(wbits=-15)
    deflated = deflate.compress(content) + deflate.flush() + b"\0"
    assert read(deflated, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN) == read(content, uid)
    with pytest.raises(PeerError, match="cannot be inflated"):
        read(b"\xff" * 100, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def test_group_lengths_group_2_and_padding_are_left_out_and_tags_ascend() -> None:
    content = (
        explicit(0x00020010, "UI", b"1.2\0")
        + explicit(0x00080000, "UL", bytes(4))
        + explicit(0x00100020, "LO", b"A1")
        + explicit(0x00080060, "CS", b"CT")
        + explicit(0xFFFCFFFC, "OB", bytes(8))
    )
    shown = read(content + bytes(20))
    assert list(shown) == ["00080060", "00100020"]


def test_big_values_are_bulk_data_and_are_not_read() -> None:
    big = bytes(3_000_000)
    inner = explicit(0x00281201, "OW", big) + explicit(0x00080060, "CS", b"CT")
    content = (
        explicit(0x00081140, "SQ", item() + item(inner))
        + explicit(0x00091001, "UN", big)
        + explicit(0x00189087, "FD", bytes(8) * 2)
        + explicit(0x7FE00010, "OB", b"\1\2")
        + explicit(0xFFFAFFFA, "SQ")
    )
    file = CountingFile(content)
    shown = read_metadata(file, EXPLICIT_VR_LITTLE_ENDIAN, bulk_uri=lambda pointer: f"/b/{pointer}", bulk_above_bytes=8)
    assert file.taken < 10_000
    assert shown == {
        "00081140": {
            "vr": "SQ",
            "Value": [
                {},
                {
                    "00080060": {"vr": "CS", "Value": ["CT"]},
                    "00281201": {"vr": "OW", "BulkDataURI": "/b/00081140/2/00281201"},
                },
            ],
        },
        "00091001": {"vr": "UN", "BulkDataURI": "/b/00091001"},
        "00189087": {"vr": "FD", "BulkDataURI": "/b/00189087"},
        "7FE00010": {"vr": "OB", "BulkDataURI": "/b/7FE00010"},
        "FFFAFFFA": {"vr": "SQ"},
    }


def test_values_whose_vr_allows_no_bulk_data_stay_inline_unless_their_length_does_not_fit_the_vr() -> None:
    uids = b"\\".join([b"1.2.3"] * 1000)
    shown = read(implicit(0x00080018, uids) + implicit(0x00080060, b"A" * 70_000), IMPLICIT_VR_LITTLE_ENDIAN)
    assert shown["00080018"] == {"vr": "UI", "Value": ["1.2.3"] * 1000}
    assert shown["00080060"] == {"vr": "UN", "BulkDataURI": "bulk/00080060"}


def test_encapsulated_pixel_data_is_passed_fragment_by_fragment() -> None:
    fragments = item() + item(b"\xfe\xff\xdd\xe0\0\0\0\0") + item(bytes(100_000)) + SEQUENCE_END
    content = explicit(0x7FE00010, "OB", fragments, UNDEFINED) + explicit(0xFFFAFFFA, "SQ", b"")
    assert list(read(content)) == ["7FE00010", "FFFAFFFA"]


@pytest.mark.parametrize("kept", [4, 12, 30])
def test_pixel_data_that_is_cut_off_is_bulk_data_all_the_same(kept: int) -> None:
    content = explicit(0x00080060, "CS", b"CT")
    native = explicit(0x7FE00010, "OW", bytes(100))
    encapsulated = explicit(0x7FE00010, "OB", item(bytes(4)) + item(bytes(100)), UNDEFINED)
    assert read(content + native[: 12 + kept])["7FE00010"]["BulkDataURI"] == "bulk/7FE00010"
    assert read(content + encapsulated[: 12 + kept])["7FE00010"]["BulkDataURI"] == "bulk/7FE00010"


@pytest.mark.parametrize(
    "content",
    [
        explicit(0x00080060, "CS", b"CT", 40),
        explicit(0x00091001, "UN", b"AB", 0x7FFFFFF0),
        explicit(0x00080060, "CS", b"CT")[:-3],
        explicit(0x00081140, "SQ", item(explicit(0x00080060, "CS", b"CT"), UNDEFINED), UNDEFINED),
        explicit(0x00081140, "SQ", explicit(0x00080060, "CS", b"CT"), UNDEFINED),
        explicit(0x00081140, "SQ", item(b"", UNDEFINED) + SEQUENCE_END, UNDEFINED),
        explicit(0x00080060, "UT", b"CT", UNDEFINED),
        bytes(16) + explicit(0x00080060, "CS", b"CT"),
        item(b""),
    ],
)
def test_a_data_set_that_breaks_its_encoding_is_a_peer_error(content: bytes) -> None:
    with pytest.raises(PeerError):
        read(explicit(0x00080016, "UI", b"1.2\0") + content)


def test_what_is_wrong_in_a_sequence_that_tells_its_length_costs_the_rest_of_that_sequence_only() -> None:
    broken = item(explicit(0x00080060, "CS", b"CT")) + item(explicit(0x00080060, "CS", b"CT", 400))
    shown = read(explicit(0x00081140, "SQ", broken) + explicit(0x00100020, "LO", b"A1"))
    assert shown["00081140"] == {"vr": "SQ", "Value": [{"00080060": {"vr": "CS", "Value": ["CT"]}}]}
    assert shown["00100020"] == {"vr": "LO", "Value": ["A1"]}


def test_an_item_that_claims_more_than_its_sequence_ends_with_it() -> None:
    content = item(explicit(0x00080060, "CS", b"CT"), 400)
    shown = read(explicit(0x00081140, "SQ", content) + explicit(0x00100020, "LO", b"A1"))
    assert shown["00081140"]["Value"] == [{"00080060": {"vr": "CS", "Value": ["CT"]}}]
    assert "00100020" in shown


def test_values_that_do_not_fit_their_vr_are_shown_as_far_as_they_go() -> None:
    shown = read(
        explicit(0x00200013, "IS", b"one\\2 ")
        + explicit(0x00280010, "US", b"\1\0\2")
        + explicit(0x00280009, "AT", b"\x10")
        + explicit(0x00280030, "DS", b"\xff\\1.5")
        + explicit(0x00189087, "FD", struct.pack("<d", float("nan")))
    )
    assert shown["00200013"]["Value"] == ["one", 2]
    assert shown["00280010"]["Value"] == [1]
    assert shown["00280009"] == {"vr": "AT"}
    assert shown["00280030"]["Value"] == ["ÿ", 1.5]
    assert shown["00189087"]["Value"] == ["NaN"]


def test_texts_are_unicode_by_the_character_set_of_their_level_and_the_answer_says_utf_8() -> None:
    inner = explicit(0x00080005, "CS", b"ISO_IR 144") + explicit(0x00100010, "PN", "Люкceмбypг".encode("iso8859_5"))
    content = (
        explicit(0x00080005, "CS", b"ISO_IR 100")
        + explicit(0x00081140, "SQ", item(inner) + item(explicit(0x00080080, "LO", b"M\xfcnchen")))
        + explicit(0x00100010, "PN", b"Buc^J\xe9r\xf4me")
    )
    shown = read(content)
    utf_8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
    first, second = shown["00081140"]["Value"]
    assert shown["00080005"] == first["00080005"] == utf_8
    assert "00080005" not in second
    assert first["00100010"]["Value"] == [{"Alphabetic": "Люкceмбypг"}]
    assert second["00080080"]["Value"] == ["München"]
    assert shown["00100010"]["Value"] == [{"Alphabetic": "Buc^Jérôme"}]


def test_japanese_names_with_code_extensions_keep_their_groups() -> None:
    # the example of PS3.5 H.3.1
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    shown = read(explicit(0x00080005, "CS", b"\\ISO 2022 IR 87 ") + explicit(0x00100010, "PN", name))
    assert shown["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]


def test_text_that_is_not_ascii_makes_the_answer_say_utf_8_also_without_a_character_set() -> None:
    assert "00080005" not in read(explicit(0x00080080, "LO", b"Munich") + explicit(0x00280010, "US", b"\xff\xff"))
    shown = read(explicit(0x00080080, "LO", b"M\xfcnchen"))
    assert list(shown) == ["00080005", "00080080"]


def test_numbers_and_words_of_big_endian_are_turned() -> None:
    content = explicit(0x00280010, "US", b"\1\2", order=">") + explicit(0x00281201, "OW", b"\1\2\3\4", order=">")
    content += explicit(0x00280009, "AT", b"\x00\x18\x10\x63", order=">")
    shown = read(content, EXPLICIT_VR_BIG_ENDIAN)
    assert shown["00280010"]["Value"] == [0x0102]
    assert shown["00280009"]["Value"] == ["00181063"]
    assert shown["00281201"]["InlineBinary"] == "AgEEAw=="


def test_without_a_vr_pixel_representation_decides_between_us_and_ss_also_in_items() -> None:
    lut = item(implicit(0x00283002, b"\1\0\xff\xff\x10\0"), UNDEFINED) + ITEM_END + SEQUENCE_END
    content = implicit(0x00280103, b"\1\0") + implicit(0x00280106, b"\xff\xff") + implicit(0x00283010, lut, UNDEFINED)
    shown = read(content, IMPLICIT_VR_LITTLE_ENDIAN)
    assert shown["00280106"] == {"vr": "SS", "Value": [-1]}
    assert shown["00283010"]["Value"][0]["00283002"] == {"vr": "SS", "Value": [1, -1, 16]}


def test_un_is_read_as_the_dictionary_has_it_and_private_un_stays_bytes() -> None:
    nested = item(implicit(0x00080060, b"CT"))
    shown = read(
        explicit(0x00081140, "UN", nested)
        + explicit(0x00090010, "UN", b"ACME")
        + explicit(0x00091001, "UN", nested, UNDEFINED) + SEQUENCE_END
        + explicit(0x00091002, "UN", nested)
        + explicit(0x00100020, "UN", b"A1")
        + explicit(0x00321064, "UN", b"no item at all")
    )  # fmt: skip
    items = {"vr": "SQ", "Value": [{"00080060": {"vr": "CS", "Value": ["CT"]}}]}
    assert shown["00081140"] == shown["00091001"] == items
    assert shown["00090010"] == {"vr": "LO", "Value": ["ACME"]}
    assert shown["00091002"]["vr"] == "UN"
    assert shown["00100020"] == {"vr": "LO", "Value": ["A1"]}
    assert shown["00321064"] == {"vr": "UN", "BulkDataURI": "bulk/00321064"}


def test_elements_of_implicit_vr_among_explicit_ones_are_read() -> None:
    shown = read(
        explicit(0x00080016, "UI", b"1.2\0") + implicit(0x00100020, b"A1") + explicit(0x00280010, "US", b"\1\0")
    )
    assert shown["00100020"] == {"vr": "LO", "Value": ["A1"]}
    assert shown["00280010"] == {"vr": "US", "Value": [1]}


def test_delimiters_behind_items_that_told_their_length_are_passed_over() -> None:
    content = item(explicit(0x00080060, "CS", b"CT")) + ITEM_END
    shown = read(explicit(0x00081140, "SQ", content) + SEQUENCE_END + explicit(0x00100020, "LO", b"A1"))
    assert len(shown["00081140"]["Value"]) == 1
    assert "00100020" in shown


def test_the_first_of_two_equal_tags_counts() -> None:
    assert read(explicit(0x00100020, "LO", b"A1") + explicit(0x00100020, "LO", b"B2"))["00100020"]["Value"] == ["A1"]


def test_sequences_within_sequences_are_bounded() -> None:
    def nested(depth: int) -> bytes:
        return implicit(0x00081140, item(b"", UNDEFINED), UNDEFINED) * depth

    closed = nested(MAX_DEPTH) + (ITEM_END + SEQUENCE_END) * MAX_DEPTH
    assert "00081140" in read(closed, IMPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(PeerError, match="within each other"):
        read(nested(100_000), IMPLICIT_VR_LITTLE_ENDIAN)


def test_elements_and_values_are_bounded() -> None:
    with pytest.raises(PeerError, match="elements and items"):
        read(implicit(0x00081140, item() * (MAX_ELEMENTS + 1)), IMPLICIT_VR_LITTLE_ENDIAN)
    names = b"".join(implicit(0x00200010, b"A" * 60_000) for _ in range(600))
    with pytest.raises(PeerError, match="bytes of values"):
        read(names, IMPLICIT_VR_LITTLE_ENDIAN)
