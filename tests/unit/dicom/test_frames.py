"""Frames and bulk values found in data sets: native and encapsulated, in any encoding (PS3.5 §8, §A.4)."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames

from router.dicom.bulk import NoSuchValue, is_pointer, little_endian, locate_bulk, read_value
from router.dicom.frames import CannotSeparate, Frames, NoPixelData, NoSuchFrame, locate_frames, unpack
from router.dicom.part10 import PrefaceReader
from router.dicom.uids import Uid
from router.errors import PeerError

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

EXPLICIT = Uid("1.2.840.10008.1.2.1")
IMPLICIT = Uid("1.2.840.10008.1.2")
BIG = Uid("1.2.840.10008.1.2.2")
JPEG = Uid("1.2.840.10008.1.2.4.50")
J2K = Uid("1.2.840.10008.1.2.4.90")
RLE = Uid("1.2.840.10008.1.2.5")
MPEG = Uid("1.2.840.10008.1.2.4.102")
HTJ2K = Uid("1.2.840.10008.1.2.4.201")
LONG = ("OB", "OW", "OV", "SQ", "UN")


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, size) if vr in LONG else struct.pack("<H", size)) + value


def item(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value) if length is None else length) + value


SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
UNDEFINED = 0xFFFFFFFF


def image(
    frames: int, rows: int, columns: int, bits: int, *, samples: int = 1, photometric: bytes = b"MONOCHROME2 "
) -> bytes:
    text = b"%d" % frames
    return b"".join(
        (
            element(0x00280002, "US", struct.pack("<H", samples)),
            element(0x00280004, "CS", photometric),
            element(0x00280008, "IS", text + b" " * (len(text) % 2)),
            element(0x00280010, "US", struct.pack("<H", rows)),
            element(0x00280011, "US", struct.pack("<H", columns)),
            element(0x00280100, "US", struct.pack("<H", bits)),
        )
    )


def encapsulated(
    fragments: Sequence[bytes], table: Sequence[int] = (), extended: Sequence[int] = (), lengths: Sequence[int] = ()
) -> bytes:
    before = b""
    if extended:
        before += element(0x7FE00001, "OV", struct.pack(f"<{len(extended)}Q", *extended))
    if lengths:
        before += element(0x7FE00002, "OV", struct.pack(f"<{len(lengths)}Q", *lengths))
    items = item(struct.pack(f"<{len(table)}I", *table)) + b"".join(map(item, fragments))
    return before + element(0x7FE00010, "OB", items + SEQUENCE_END, UNDEFINED)


def contents(data: bytes, syntax: Uid, numbers: Sequence[int] | None = None) -> list[bytes]:
    found = locate_frames(io.BytesIO(data), syntax, numbers)
    return [_content(data, found, number) for number in range(len(found.frames))]


def _content(data: bytes, found: Frames, number: int) -> bytes:
    frame = found.frames[number]
    raw = b"".join(read_value(io.BytesIO(data), found.place, one) for one in frame.ranges)
    content = unpack(raw, frame)
    assert len(content) == frame.length
    return content


FILES = [
    "693_J2KI.dcm",
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_RLE.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_rle_32bit_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_overlay.dcm",
    "examples_ybr_color.dcm",
    "liver_1frame.dcm",
    "rtdose.dcm",
    "rtdose_expb.dcm",
    "rtdose_rle.dcm",
]


@pytest.mark.parametrize("name", FILES)
def test_frames_of_real_files_are_those_that_pydicom_finds(name: str) -> None:
    file = (Path(pydicom.__file__).parent / "data" / "test_files" / name).read_bytes()
    reader = PrefaceReader()
    data = bytes(reader.feed(file))
    assert reader.declared is not None
    syntax = reader.declared.transfer_syntax_uid
    data_set = pydicom.dcmread(io.BytesIO(file))
    frames = contents(data, syntax)
    pixels = data_set.PixelData
    if data_set.file_meta.TransferSyntaxUID.is_compressed:
        assert frames == list(generate_frames(pixels, number_of_frames=len(frames)))
    else:
        swap = 2 if syntax == BIG and data_set.get_item(0x7FE00010).VR == "OW" else 1
        assert b"".join(frames) == little_endian(pixels, swap)[: sum(map(len, frames))]


def test_frames_that_begin_within_a_byte_are_cut_out() -> None:
    bits = [1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    packed = bytes(sum(bit << at for at, bit in enumerate(bits[start : start + 8])) for start in range(0, 18, 8))
    data = image(3, 2, 3, 1) + element(0x7FE00010, "OB", packed + b"\0")
    frames = contents(data, EXPLICIT)
    assert frames == [bytes([sum(bit << at for at, bit in enumerate(bits[n : n + 6]))]) for n in (0, 6, 12)]


def test_odd_frames_of_big_endian_words_are_turned_as_words() -> None:
    elements = image(2, 1, 3, 8) + element(0x7FE00010, "OW", bytes((2, 1, 4, 3, 6, 5)))
    swapped = _big_endian(elements)
    assert contents(swapped, BIG) == [b"\1\2\3", b"\4\5\6"]


def _big_endian(data: bytes) -> bytes:
    """Turn heads and US values of a flat data set; other values stay."""
    out, at = b"", 0
    while at < len(data):
        group, number, vr, length = struct.unpack_from("<HH2sH", data, at)
        if vr.decode() in LONG:
            (length,) = struct.unpack_from("<I", data, at + 8)
            out += struct.pack(">HH2sHI", group, number, vr, 0, length) + data[at + 12 : at + 12 + length]
            at += 12 + length
        else:
            value = data[at + 8 : at + 8 + length]
            out += struct.pack(">HH2sH", group, number, vr, length) + (value[::-1] if vr == b"US" else value)
            at += 8 + length
    return out


A, B, C = b"\xff\xd8aa", b"\xff\xd8bbbb\xff\xd9", b"cc\xff\xd9\0\0"


@pytest.mark.parametrize(
    ("data", "syntax", "frames"),
    [
        (image(2, 1, 1, 8) + encapsulated([A, B]), RLE, [A, B]),
        (image(1, 1, 1, 8) + encapsulated([A, B, C]), RLE, [A + B + C]),
        (image(2, 1, 1, 8) + encapsulated([A, C, B], table=[0, 26]), J2K, [A + C, B]),
        (image(2, 1, 1, 8) + encapsulated([A, C, B]), JPEG, [A + C, B]),
        (image(2, 1, 1, 8) + encapsulated([B, A, C]), JPEG, [B, A + C]),
        (image(2, 1, 1, 8) + encapsulated([A, B], extended=[0, 12], lengths=[3, 8]), HTJ2K, [A[:3], B]),
        (image(7, 1, 1, 8) + encapsulated([A, B]), MPEG, [A + B]),
    ],
)
def test_fragments_make_frames(data: bytes, syntax: Uid, frames: list[bytes]) -> None:
    assert contents(data, syntax) == frames


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (image(2, 1, 1, 8) + encapsulated([A, C, B]), RLE),  # RLE has no markers
        (image(3, 1, 1, 8) + encapsulated([A, B]), JPEG),
        (image(2, 1, 1, 8) + encapsulated([A, b"\xff\xd8cc\xff\xd9", B]), JPEG),  # three beginnings for two frames
        (image(2, 1, 1, 8) + encapsulated([A, B, C]), JPEG),  # the first does not end where the second begins
        (image(2, 1, 1, 8) + encapsulated([A, C, B], table=[0, 21]), J2K),
        (image(2, 1, 1, 8) + encapsulated([A, C, B], table=[22, 0]), J2K),
        (image(2, 1, 1, 8) + encapsulated([A, B], extended=[0, 12], lengths=[0, 8]), HTJ2K),
        (image(2, 1, 1, 8) + encapsulated([A, B], extended=[0, 12], lengths=[3, 80]), HTJ2K),
    ],
)
def test_what_is_ambiguous_is_said_and_not_guessed(data: bytes, syntax: Uid) -> None:
    with pytest.raises(CannotSeparate):
        contents(data, syntax)


def test_the_frames_of_a_video_cannot_be_had_one_by_one() -> None:
    with pytest.raises(CannotSeparate, match="video"):
        contents(image(7, 1, 1, 8) + encapsulated([A, B]), MPEG, [1])


def test_frames_that_are_not_there() -> None:
    with pytest.raises(NoSuchFrame) as caught:
        contents(image(2, 1, 1, 8) + element(0x7FE00010, "OB", b"ab"), EXPLICIT, [1, 3])
    assert (caught.value.number, caught.value.count) == (3, 2)
    with pytest.raises(NoPixelData):
        contents(image(2, 1, 1, 8), EXPLICIT, [1])


@pytest.mark.parametrize(
    "data",
    [
        image(3, 1, 1, 8) + element(0x7FE00010, "OB", b"ab"),  # too short for its frames
        image(1, 0, 5, 8) + element(0x7FE00010, "OB", b"ab"),
        element(0x00280008, "IS", b"many") + element(0x7FE00010, "OB", b"ab"),
        element(0x00280008, "IS", b"-1") + element(0x7FE00010, "OB", b"ab"),
    ],
)
def test_pixel_data_that_are_not_what_the_image_says(data: bytes) -> None:
    with pytest.raises(CannotSeparate):
        contents(data, EXPLICIT)


@pytest.mark.parametrize(
    "data",
    [
        image(1, 1, 1, 8) + element(0x7FE00010, "OB", b"ab", 200),
        image(1, 1, 1, 8) + element(0x7FE00010, "OB", b"", UNDEFINED),  # no offset table
        image(1, 1, 1, 8) + element(0x7FE00010, "OB", item(b"") + item(b"ab", 999), UNDEFINED),
        b"\x28\0\x10",
    ],
)
def test_broken_pixel_data_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        contents(data, JPEG)


NESTED = element(
    0x00409096,
    "SQ",
    item(element(0x00281056, "OW", b"first "), UNDEFINED) + ITEM_END + item(element(0x00281056, "OW", b"second")),
)


@pytest.mark.parametrize("data", [NESTED, element(0x00409096, "SQ", NESTED[12:] + SEQUENCE_END, UNDEFINED)])
def test_a_pointer_leads_into_items(data: bytes) -> None:
    data += element(0x7FE00010, "OW", b"pixels")
    for pointer, value in (
        ("00409096/1/00281056", b"first "),
        ("00409096/2/00281056", b"second"),
        ("7FE00010", b"pixels"),
    ):
        place = locate_bulk(io.BytesIO(data), EXPLICIT, pointer)
        assert (data[place.offset : place.offset + place.length], place.vr) == (value, "OW")


@pytest.mark.parametrize(
    "pointer", ["00409096/3/00281056", "00409096/1/00281057", "00409096", "7FE00010/1/00281056", "00080018"]
)
def test_pointers_to_nothing(pointer: str) -> None:
    data = NESTED + element(0x7FE00010, "OW", b"pixels")
    with pytest.raises(NoSuchValue):
        locate_bulk(io.BytesIO(data), EXPLICIT, pointer)


@pytest.mark.parametrize(
    "text", ["", "7fe00010", "7FE00010/", "7FE00010/0/00281056", "../x", "7FE0001", "7FE00010/1" * 40]
)
def test_what_is_no_pointer(text: str) -> None:
    assert not is_pointer(text)
    with pytest.raises(ValueError):
        locate_bulk(io.BytesIO(b""), EXPLICIT, text)


def test_b32_sequences_nested_without_end_are_refused() -> None:
    data = b"".join([element(0x00409096, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED), UNDEFINED)] * 5000)
    with pytest.raises(PeerError, match="sequences within each other"):
        locate_bulk(io.BytesIO(data), EXPLICIT, "7FE00010")


def test_an_implicit_data_set_is_read_with_the_dictionary() -> None:
    data = struct.pack("<HHI", 0x0028, 0x3006, 4) + b"abcd" + struct.pack("<HHI", 0x7FE0, 0x0010, 2) + b"pp"
    place = locate_bulk(io.BytesIO(data), IMPLICIT, "7FE00010")
    assert (place.vr, data[place.offset :]) == ("OW", b"pp")


def test_offsets_count_from_where_the_file_stands() -> None:
    file = io.BytesIO(b"preface" + NESTED)
    file.seek(7)
    place = locate_bulk(file, EXPLICIT, "00409096/1/00281056")
    assert NESTED[place.offset : place.offset + place.length] == b"first "
