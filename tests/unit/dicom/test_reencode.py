"""Implicit VR and Big Endian data sets come out as Explicit VR Little Endian with every value unchanged."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from router.dicom.reencode import CannotReencode, Reencoder
from router.dicom.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # rtdose.dcm and its kin

FILES = [
    "ExplVR_BigEnd.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "DICOMDIR-bigEnd",
    "DICOMDIR-implicit",
    "liver_expb_1frame.dcm",
    "nested_priv_SQ.dcm",
    "priv_SQ.dcm",
    "rtdose.dcm",
    "rtdose_1frame.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "rtplan.dcm",
]


def path_of(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def data_set_of(path: Path) -> tuple[Uid, bytes]:
    """The transfer syntax and the bytes after File Meta."""
    meta = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).file_meta
    with path.open("rb") as file:
        read_preamble(file, force=False)
        start = file.tell()
        read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != 2
        )
        # pydicom stops after the header of the first element that it does not want
        file.seek(start)
        length = 0
        while file.read(2) == b"\x02\x00":
            file.seek(-2, io.SEEK_CUR)
            _, _, vr = struct.unpack("<HH2s", file.read(6))
            if vr in (b"OB", b"UN"):
                file.seek(2, io.SEEK_CUR)
                (length,) = struct.unpack("<L", file.read(4))
            else:
                (length,) = struct.unpack("<H", file.read(2))
            file.seek(length, io.SEEK_CUR)
        file.seek(-2, io.SEEK_CUR)
        return Uid(meta.TransferSyntaxUID), file.read()


def reencoded(transfer_syntax: Uid, data: bytes, chunk: int = 1000) -> bytes:
    reencoder = Reencoder(transfer_syntax)
    out = [reencoder.feed(data[at : at + chunk]) for at in range(0, len(data), chunk)]
    return b"".join([*out, reencoder.finish()])


def parsed(data: bytes, transfer_syntax: Uid = EXPLICIT_VR_LITTLE_ENDIAN) -> Dataset:
    implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    little = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    data_set = read_dataset(io.BytesIO(data), is_implicit_VR=implicit, is_little_endian=little)
    data_set.set_original_encoding(implicit, little)
    return data_set


def assert_same(before: Dataset, after: Dataset, big_endian: bool) -> None:
    tags = [tag for tag in before.keys() if tag.element]  # noqa: SIM118 iterating would convert the elements
    assert list(after.keys()) == tags
    for tag in tags:
        old, new = before[tag], after[tag]
        if new.VR == "UN" and old.VR != "UN":
            assert tag.is_private  # pydicom knows more private elements when it reads Implicit VR
            continue
        assert old.VR == new.VR, tag
        if old.VR == "SQ":
            assert len(old.value) == len(new.value)
            for old_item, new_item in zip(old.value, new.value, strict=True):
                assert_same(old_item, new_item, big_endian)
        elif old.VR != "OW" or not big_endian:
            assert old.value == new.value, tag
        else:
            swapped = bytearray(old.value)
            swapped[0::2], swapped[1::2] = swapped[1::2], swapped[0::2]
            assert bytes(swapped) == new.value, tag


@pytest.mark.parametrize("name", FILES)
def test_real_files_keep_every_element_and_value(name: str) -> None:
    transfer_syntax, data = data_set_of(path_of(name))
    assert transfer_syntax in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
    before = parsed(data, transfer_syntax)
    assert len(before) > 1
    after = parsed(reencoded(transfer_syntax, data))
    assert_same(before, after, transfer_syntax == EXPLICIT_VR_BIG_ENDIAN)


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_expb.dcm", "MR_small.dcm"),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm"),
    ],
)
def test_big_endian_pixels_are_those_of_the_little_endian_file(name: str, original: str) -> None:
    transfer_syntax, data = data_set_of(path_of(name))
    assert parsed(reencoded(transfer_syntax, data)).PixelData == pydicom.dcmread(path_of(original)).PixelData


@pytest.mark.parametrize("name", FILES)
def test_every_split_of_a_real_file_gives_the_same_bytes(name: str) -> None:
    transfer_syntax, data = data_set_of(path_of(name))
    whole = reencoded(transfer_syntax, data, len(data))
    for size in (1, 7, 4096):
        assert reencoded(transfer_syntax, data, size) == whole


def implicit(data_set: Dataset) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, data_set)
    return file.getvalue()


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element, item or delimiter of Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length) + value


UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def test_the_sign_of_us_or_ss_follows_pixel_representation_also_into_items() -> None:
    icon = element(0x00280103, b"\0\0") + element(0x00280106, b"\x01\0")
    data = (
        element(0x00280106, b"\x01\0")
        + element(0x00280103, b"\x01\0")
        + element(0x00280107, b"\xff\xff")
        + element(0x00409096, element(ITEM, element(0x00409216, b"\xfe\xff")))
        + element(0x00880200, element(ITEM, icon) + element(ITEM, element(0x00280106, b"\x02\0")))
    )
    after = parsed(reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data))
    assert (after[0x00280106].VR, after[0x00280107].VR, after[0x00280107].value) == ("US", "SS", -1)
    lut_item = after.RealWorldValueMappingSequence[0]
    assert (lut_item[0x00409216].VR, lut_item[0x00409216].value) == ("SS", -2)
    first, second = after.IconImageSequence
    assert (first[0x00280106].VR, second[0x00280106].VR) == ("US", "SS")


def test_pixel_overlay_waveform_and_lut_data_become_ow() -> None:
    tags = (0x7FE00010, 0x60003000, 0x60023000, 0x54001010, 0x00283006)
    data = b"".join(element(tag, b"\x01\x02\x03\x04") for tag in tags)
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data) == b"".join(
        explicit(tag, b"OW", b"\x01\x02\x03\x04") for tag in tags
    )


def test_private_elements_become_un_and_their_creators_lo() -> None:
    data = element(0x00090010, b"ACME") + element(0x00091001, b"12") + element(0x00092001, b"")
    expected = (
        explicit(0x00090010, b"LO", b"ACME") + explicit(0x00091001, b"UN", b"12") + explicit(0x00092001, b"UN", b"")
    )
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data) == expected


def test_a_private_sequence_is_copied_as_it_is() -> None:
    inside = (
        element(0x00091002, b"ab")
        + element(0x00091003, element(ITEM, b"not parsed!"), UNDEFINED)
        + element(SEQUENCE_END, b"")
    )
    sequence = (
        element(ITEM, inside, UNDEFINED) + element(ITEM_END, b"") + element(ITEM, b"any!") + element(SEQUENCE_END, b"")
    )
    data = element(0x00091001, sequence, UNDEFINED) + element(0x00100020, b"id")
    expected = explicit(0x00091001, b"UN", sequence, UNDEFINED) + explicit(0x00100020, b"LO", b"id")
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data) == expected


def test_group_lengths_are_dropped_and_unknown_public_elements_are_un() -> None:
    data = element(0x00080000, b"\x0a\0\0\0") + element(0x00080003, b"x ") + element(0x00100020, b"id")
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data) == explicit(0x00080003, b"UN", b"x ") + explicit(
        0x00100020, b"LO", b"id"
    )


@pytest.mark.parametrize(("length", "vr"), [(65534, b"DS"), (65536, b"UN")])
def test_a_value_too_long_for_its_vr_becomes_un(length: int, vr: bytes) -> None:
    value = b"1\\" * (length // 2)
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, element(0x00201041, value)) == explicit(0x00201041, vr, value)


def test_sequences_are_written_with_undefined_length() -> None:
    item = element(0x00081150, b"1.2\0")
    expected = (
        explicit(0x00081140, b"SQ", b"", UNDEFINED)
        + (element(ITEM, b"", UNDEFINED) + explicit(0x00081150, b"UI", b"1.2\0") + element(ITEM_END, b"")) * 2
        + element(SEQUENCE_END, b"")
    )
    told = element(0x00081140, element(ITEM, item) * 2)
    open_ended = element(
        0x00081140, (element(ITEM, item, UNDEFINED) + element(ITEM_END, b"")) * 2, UNDEFINED
    ) + element(SEQUENCE_END, b"")
    superfluous = element(0x00081140, (element(ITEM, item) + element(ITEM_END, b"")) * 2)
    for data in (told, open_ended, superfluous):
        assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data) == expected


def test_empty_sequences_and_items_stay_empty() -> None:
    data = Dataset()
    data.ReferencedImageSequence = Sequence([])
    data.ReferencedStudySequence = Sequence([Dataset()])
    after = parsed(reencoded(IMPLICIT_VR_LITTLE_ENDIAN, implicit(data)))
    assert len(after.ReferencedImageSequence) == 0
    assert [len(item) for item in after.ReferencedStudySequence] == [0]


def test_every_size_of_number_is_turned() -> None:
    data_set = Dataset()
    data_set.add_new(0x00080005, "CS", "ISO_IR 100")
    data_set.add_new(0x00280009, "AT", [0x00181063, 0x00181065])
    data_set.add_new(0x00280010, "US", 513)
    data_set.add_new(0x00189087, "FD", 1.5)
    data_set.add_new(0x00186020, "SL", -5)
    data_set.add_new(0x0018602A, "SL", [1, -2])
    data_set.add_new(0x7FE00001, "OV", b"\1\2\3\4\5\6\7\x08")
    data_set.add_new(0x7FE00008, "OF", b"\1\2\3\4")
    data_set.add_new(0x7FE00009, "OD", b"\1\2\3\4\5\6\7\x08")
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, False
    write_dataset(file, data_set)
    after = parsed(reencoded(EXPLICIT_VR_BIG_ENDIAN, file.getvalue(), 5))
    for tag in (0x00080005, 0x00280009, 0x00280010, 0x00189087, 0x00186020, 0x0018602A):
        assert after[tag].value == data_set[tag].value
    assert after[0x7FE00001].value == b"\x08\7\6\5\4\3\2\1"
    assert after[0x7FE00008].value == b"\4\3\2\1"
    assert after[0x7FE00009].value == b"\x08\7\6\5\4\3\2\1"


def test_ow_is_turned_by_16_bit_words_even_where_a_pixel_has_32_bits() -> None:
    """As PS3.5 §7.3 says and `dcmconv +te` does; pydicom's rtdose_expb.dcm was written otherwise."""
    data = (
        struct.pack(">HH2sHH", 0x28, 0x100, b"US", 2, 32)
        + struct.pack(">HH2sHL", 0x7FE0, 0x10, b"OW", 0, 4)
        + b"\1\2\3\4"
    )
    assert reencoded(EXPLICIT_VR_BIG_ENDIAN, data)[-4:] == b"\2\1\4\3"


def test_the_odd_rest_of_a_number_stays() -> None:
    data = struct.pack(">HH2sH", 0x28, 0x10, b"US", 3) + b"\1\2\3"
    assert reencoded(EXPLICIT_VR_BIG_ENDIAN, data, 1) == struct.pack("<HH2sH", 0x28, 0x10, b"US", 3) + b"\2\1\3"


def test_zeros_at_the_end_are_not_an_element() -> None:
    assert reencoded(IMPLICIT_VR_LITTLE_ENDIAN, element(0x00100020, b"id") + b"\0") == explicit(
        0x00100020, b"LO", b"id"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (element(0x00100020, b"id", 4), "middle of a value"),
        (element(0x00100020, b"id") + b"\x10\x00", "middle of an element"),
        (element(0x00081140, b"", UNDEFINED), "middle of a sequence"),
        (element(0x00081140, element(ITEM, b"", UNDEFINED)), "middle of a sequence"),
        (element(0x00081140, b"\0\0\0\0"), "no element at the end of a sequence"),
        (element(0x00081140, element(ITEM, b"", 100)), "longer than what it stands in"),
        (element(0x00081140, element(ITEM, element(0x00100020, b"", 10))), "longer than what it stands in"),
        (element(0x00081140, element(0x00100020, b"")), r"\(0010,0020\) where an item should begin"),
        (element(0x00081140, element(ITEM, element(SEQUENCE_END, b""), UNDEFINED)), "ends within its item"),
        (element(ITEM, b""), "outside of a sequence"),
        (element(ITEM_END, b"ab"), "delimiter with a length"),
        (element(0x7FE00010, element(ITEM, b""), UNDEFINED), "pixel data in fragments"),
        (element(0x00081140, element(ITEM, b"", UNDEFINED), UNDEFINED) * 100, "more than 64 sequences"),
        (element(0x00091001, element(ITEM, b"", UNDEFINED), UNDEFINED) * 100, "more than 64 sequences"),
    ],
)
def test_what_breaks_its_encoding_is_refused_with_the_place(data: bytes, problem: str) -> None:
    with pytest.raises(CannotReencode, match=problem):
        reencoded(IMPLICIT_VR_LITTLE_ENDIAN, data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack(">HH2sH", 0x10, 0x20, b"Q?", 0), "unknown value representation"),
        (struct.pack(">HH2sHL", 0x7FE0, 0x10, b"OW", 0, UNDEFINED), "pixel data in fragments"),
        (struct.pack(">HH2sHL", 0x0042, 0x11, b"OB", 0, UNDEFINED), "has no length"),
    ],
)
def test_what_breaks_big_endian_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(CannotReencode, match=problem):
        reencoded(EXPLICIT_VR_BIG_ENDIAN, data)


def test_a_million_nested_sequences_cost_neither_stack_nor_memory() -> None:
    with pytest.raises(CannotReencode, match="more than 64"):
        reencoded(
            IMPLICIT_VR_LITTLE_ENDIAN, element(0x00081140, element(ITEM, b"", UNDEFINED), UNDEFINED) * 225_000, 65536
        )


def test_other_transfer_syntaxes_are_not_taken() -> None:
    with pytest.raises(ValueError, match="is not re-encoded"):
        Reencoder(EXPLICIT_VR_LITTLE_ENDIAN)
