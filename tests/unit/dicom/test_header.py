"""The header reader: what it finds, what it survives (rows B30 to B43), and that it stops when it can."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zlib

import pydicom
import pytest
from pydicom.data import get_testdata_file

from router.dicom.attributes import INDEX_PATHS, AttributePath, attribute_path
from router.dicom.file_meta import PrefaceReader
from router.dicom.header import Flaw, Header, HeaderScanner, ScanLimits
from router.dicom.inflate import BoundedInflater
from router.dicom.uids import Uid

IMPLICIT = Uid("1.2.840.10008.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
BIG_ENDIAN = Uid("1.2.840.10008.1.2.2")
DEFLATED = Uid("1.2.840.10008.1.2.1.99")

STUDY_UID = attribute_path("StudyInstanceUID")
PATIENT_NAME = attribute_path("PatientName")
STEP_ID = attribute_path("RequestAttributesSequence.ScheduledProcedureStepID")
UNDEFINED = 0xFFFFFFFF
LONG_VRS = ("OB", "OW", "SQ", "UN", "UT", "UC")


def element(tag: int, vr: str, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    size = len(value) if length is None else length
    if vr in LONG_VRS:
        return struct.pack(order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, size) + value
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), size) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes, *, undefined: bool = False) -> bytes:
    if undefined:
        return implicit(0xFFFEE000, b"", UNDEFINED) + content + implicit(0xFFFEE00D, b"")
    return implicit(0xFFFEE000, content)


SEQUENCE_END = implicit(0xFFFEE0DD, b"")
STUDY = element(0x0020000D, "UI", b"1.2.3\0")
PIXELS = element(0x7FE00010, "OW", b"\1\2" * 8)


def scan(
    data: bytes,
    syntax: Uid = EXPLICIT,
    wanted: frozenset[AttributePath] = INDEX_PATHS,
    limits: ScanLimits = ScanLimits(),  # noqa: B008
    chunk: int | None = None,
) -> Header:
    scanner = HeaderScanner(syntax, wanted, limits)
    size = chunk or max(1, len(data))
    for start in range(0, len(data), size):
        scanner.feed(data[start : start + size])
    return scanner.finish()


def paths(*names: str) -> frozenset[AttributePath]:
    return frozenset(map(attribute_path, names))


def data_set_of(name: str) -> tuple[Uid, bytes]:
    reader = PrefaceReader()
    with open(str(get_testdata_file(name, download=False)), "rb") as file:  # noqa: PTH123
        data = bytes(reader.feed(file.read()))
    assert reader.declared is not None
    return reader.declared.transfer_syntax_uid, data


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_RLE.dcm",
        "image_dfl.dcm",
        "rtplan.dcm",
        "test-SR.dcm",
        "liver_1frame.dcm",
        "badVR.dcm",
        "MR_truncated.dcm",
        "UN_sequence.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_index_attributes_of_real_files_are_those_that_pydicom_reads(name: str) -> None:
    syntax, data = data_set_of(name)
    header = scan(data, syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)), stop_before_pixels=True)
        for path in INDEX_PATHS:
            if len(path) == 1:
                expected = dataset.get(path[0])
                assert header.present(path) == (expected is not None)
                text = "" if expected is None or expected.value is None else str(expected.value)
                if expected is None or expected.VM <= 1:
                    assert header.first(path) == text.strip()
    assert header.problem is None
    assert header.complete


def test_b41_big_endian_is_read() -> None:
    syntax, data = data_set_of("MR_small_bigendian.dcm")
    assert syntax == BIG_ENDIAN
    header = scan(data, syntax)
    assert header.first(attribute_path("Rows")) == "64"
    assert header.first(attribute_path("BitsAllocated")) == "16"
    assert header.first(STUDY_UID) == "1.3.6.1.4.1.5962.1.2.4.20040826185059.5457"


def test_encapsulated_and_unknown_syntaxes_are_read_as_explicit_little_endian() -> None:
    for syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.8.1", "1.2.3.4"):
        assert scan(STUDY + PIXELS, Uid(syntax)).first(STUDY_UID) == "1.2.3"


def test_scan_is_done_as_soon_as_nothing_wanted_can_come() -> None:
    scanner = HeaderScanner(EXPLICIT, paths("PatientName", "StudyInstanceUID"))
    scanner.feed(element(0x00080005, "CS", b"ISO_IR 100") + element(0x00100010, "PN", b"A" * 200) + STUDY)
    assert not scanner.done
    scanner.feed(element(0x00280010, "US", b"\0\2"))
    assert scanner.done
    scanner.feed(b"\xff" * 100_000)
    header = scanner.finish()
    assert header.problem is None
    assert header.first(STUDY_UID) == "1.2.3"


def test_scan_is_done_at_pixel_data_whatever_is_wanted_behind_it() -> None:
    scanner = HeaderScanner(EXPLICIT, frozenset({(0xFFFCFFFC,), (0x7FE00010,), STUDY_UID}))
    scanner.feed(element(0x00080005, "CS", b"ISO_IR 100") + STUDY + element(0x00400000, "LO", b"x" * 200))
    assert not scanner.done
    scanner.feed(element(0x7FE00010, "OB", b"", UNDEFINED) + b"\0\0")
    assert scanner.done
    header = scanner.finish()
    assert header.present((0x7FE00010,))
    assert header.texts((0x7FE00010,)) == ()
    assert not header.present((0xFFFCFFFC,))


def test_values_are_split_and_freed_of_padding() -> None:
    header = scan(
        element(0x00080008, "CS", b"ORIGINAL\\PRIMARY \\AXIAL ")
        + element(0x00080018, "UI", b"1.2.840\0")
        + element(0x00081030, "LO", b"  two  words ")
        + element(0x00100010, "PN", b"Doe^John ")
        + element(0x00104000, "LT", b" a\\b\r\n  ")
        + element(0x00181310, "US", struct.pack("<HHHH", 0, 256, 65535, 0))
        + element(0x00189306, "FD", struct.pack("<dd", 0.625, 3.0))
        + element(0x00189087, "FD", b"\0" * 7)
        + element(0x00209165, "AT", struct.pack("<HHHH", 0x18, 0x9087, 0x20, 0xD))
        + element(0x00280106, "SS", struct.pack("<h", -5))
        + element(0x00720076, "FL", struct.pack("<ff", 0.1, 1e10)),
        wanted=paths(
            *("ImageType", "SOPInstanceUID", "StudyDescription", "PatientName", "PatientComments", "AcquisitionMatrix"),
            *("SmallestImagePixelValue", "00189306", "00189087", "00209165", "00720076"),
        ),
    )
    assert header.texts((0x00080008,)) == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert header.texts((0x00080018,)) == ("1.2.840",)
    assert header.texts((0x00081030,)) == ("two  words",)
    assert header.texts((0x00100010,)) == ("Doe^John",)
    assert header.texts((0x00104000,)) == (" a\\b\r\n",)
    assert header.texts((0x00181310,)) == ("0", "256", "65535", "0")
    assert header.texts((0x00189306,)) == ("0.625", "3")
    assert header.texts((0x00189087,)) == ()
    assert header.texts((0x00209165,)) == ("00189087", "0020000D")
    assert header.texts((0x00280106,)) == ("-5",)
    assert header.texts((0x00720076,)) == ("0.1", "1e+10")


def test_absent_and_empty_differ_in_presence_only() -> None:
    header = scan(element(0x00100010, "PN", b"") + element(0x00100020, "LO", b"  ") + STUDY)
    assert header.present(PATIENT_NAME)
    assert not header.present(attribute_path("PatientSex"))
    for name in ("PatientName", "PatientID", "PatientSex"):
        assert header.texts(attribute_path(name)) == ()
        assert header.first(attribute_path(name)) == ""


@pytest.mark.parametrize("undefined_items", [False, True])
@pytest.mark.parametrize("undefined_sequence", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_items_of_a_sequence_can_be_told_apart(syntax: Uid, undefined_sequence: bool, undefined_items: bool) -> None:
    def lo(tag: int, value: bytes) -> bytes:
        return implicit(tag, value) if syntax == IMPLICIT else element(tag, "LO", value)

    content = b"".join(
        item(lo(0x00400009, step) + lo(0x00401001, procedure), undefined=undefined_items)
        for step, procedure in ((b"S1", b"P1"), (b"S2\\S3 ", b""))
    )
    length = UNDEFINED if undefined_sequence else None
    content += SEQUENCE_END if undefined_sequence else b""
    sequence = (
        implicit(0x00400275, content, length) if syntax == IMPLICIT else element(0x00400275, "SQ", content, length)
    )
    header = scan(lo(0x00200010, b"ID") + sequence, syntax)
    assert header.texts(STEP_ID) == ("S1", "S2", "S3")
    items = header.items(0x00400275)
    assert [part.first((0x00400009,)) for part in items] == ["S1", "S2"]
    assert [part.present((0x00401001,)) for part in items] == [True, True]
    assert [part.first((0x00401001,)) for part in items] == ["P1", ""]
    assert header.present((0x00400275,))
    assert header.problem is None


def test_sequence_wanted_for_itself_is_present_without_its_items() -> None:
    for data in (
        element(0x00081140, "SQ", item(element(0x00081155, "UI", b"1.2\0"))),
        element(0x00081140, "SQ", item(element(0x00081155, "UI", b"1.2\0"), undefined=True) + SEQUENCE_END, UNDEFINED),
        element(0x00081140, "SQ", b""),
    ):
        header = scan(data + STUDY, wanted=paths("ReferencedImageSequence", "StudyInstanceUID"))
        assert header.present((0x00081140,))
        assert header.items(0x00081140) == ()
        assert header.first(STUDY_UID) == "1.2.3"


def test_item_without_character_set_has_that_of_the_data_set_and_may_have_its_own() -> None:
    content = item(element(0x00400009, "SH", b"\xfc")) + item(
        element(0x00080005, "CS", b"ISO_IR 192") + element(0x00400009, "SH", "ü".encode())
    )
    header = scan(element(0x00080005, "CS", b"ISO_IR 144") + element(0x00400275, "SQ", content))
    assert header.texts(STEP_ID) == ("ќ", "ü")


def test_un_of_undefined_length_is_implicit_inside() -> None:
    inner = implicit(0x00091002, item(implicit(0x00091003, b"deep"), undefined=True) + SEQUENCE_END, UNDEFINED)
    data = element(0x00090010, "LO", b"ACME") + element(0x00091001, "UN", item(inner) + SEQUENCE_END, UNDEFINED) + STUDY
    path = attribute_path("00091001.00091002.00091003")
    header = scan(data, wanted=frozenset({path, STUDY_UID}))
    assert header.texts(path) == ("deep",)
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.problem is None


def test_known_attributes_written_as_un_have_their_own_vr() -> None:
    sequence = element(0x00400275, "UN", item(implicit(0x00400009, b"S1")))
    header = scan(element(0x00100010, "UN", b"Doe^John") + element(0x00280010, "UN", b"\0\2") + sequence)
    assert header.first(PATIENT_NAME) == "Doe^John"
    assert header.first(attribute_path("Rows")) == "512"
    assert header.first(STEP_ID) == "S1"


def test_private_sequences_of_a_real_file_are_walked() -> None:
    with open(str(get_testdata_file("nested_priv_SQ.dcm", download=False)), "rb") as file:  # noqa: PTH123
        data = file.read()[132 + 14 + 26 :]
    start = data.index(b"\x01\x00\x01\x00")
    header = scan(data[start:], IMPLICIT, frozenset({attribute_path("00010001.00010001.00010001")}))
    assert header.texts(attribute_path("00010001.00010001.00010001")) == ("Double Nested SQ",)


def test_fragments_before_the_header_ends_are_walked() -> None:
    fragments = item(b"") + item(b"\xfe\xff\x00\xe0" * 5) + SEQUENCE_END
    header = scan(element(0x00091010, "OB", fragments, UNDEFINED) + STUDY)
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.problem is None


def test_implicit_elements_within_explicit_ones_are_read_and_told() -> None:
    header = scan(implicit(0x00100010, b"Doe^John") + STUDY)
    assert header.first(PATIENT_NAME) == "Doe^John"
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.flaw is Flaw.VR
    assert not header.fatal
    assert header.complete


def test_vr_of_the_future_has_a_long_length_unless_its_reserved_bytes_say_otherwise() -> None:
    future = struct.pack("<HH2sHI", 0x0009, 0x1001, b"ZZ", 0, 6) + b"abcdef"
    short = struct.pack("<HH2sH", 0x0009, 0x1002, b"ZQ", 4) + b"abcd"
    header = scan(future + short + STUDY)
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.flaw is Flaw.VR


def test_duplicate_attribute_keeps_its_first_value_and_is_told() -> None:
    header = scan(element(0x00100020, "LO", b"first ") + element(0x00100020, "LO", b"second") + STUDY)
    assert header.first(attribute_path("PatientID")) == "first"
    assert header.flaw is Flaw.DUPLICATE
    assert "PatientID" in str(header.problem)


def test_un_value_that_is_binary_has_no_text() -> None:
    data = element(0x00091001, "UN", b"\x01\x02\x03\x04") + element(0x00091002, "UN", b"plain ")
    header = scan(data, wanted=frozenset({(0x00091001,), (0x00091002,)}))
    assert header.texts((0x00091001,)) == ()
    assert header.texts((0x00091002,)) == ("plain",)


def test_b30_missing_and_multi_valued_study_uid_are_visible() -> None:
    assert scan(element(0x0020000E, "UI", b"1.2\0")).texts(STUDY_UID) == ()
    assert scan(element(0x0020000D, "UI", b"1.2\\1.3\0")).texts(STUDY_UID) == ("1.2", "1.3")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_b31_length_past_the_end_is_told_and_what_came_before_is_kept(syntax: Uid) -> None:
    if syntax == IMPLICIT:
        data = implicit(0x0020000D, b"1.2.3\0") + implicit(0x00200010, b"short", 0x7FFFFFFE)
    else:
        data = STUDY + element(0x00280010, "UN", b"short", 0x7FFFFFFE)
    header = scan(data, syntax)
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.flaw is Flaw.PAST_END
    assert not header.fatal
    assert not header.complete


def test_b31_length_past_the_end_of_its_item_stops_the_scan() -> None:
    broken = item(element(0x00400009, "SH", b"S1") + element(0x00401001, "SH", b"P1", 300))
    header = scan(STUDY + element(0x00400275, "SQ", broken) + b"x" * 1000)
    assert header.flaw is Flaw.PAST_END
    assert header.first(STUDY_UID) == "1.2.3"


def test_b31_item_longer_than_its_sequence_does_not_swallow_what_follows() -> None:
    claimed = implicit(0xFFFEE000, element(0x00081155, "UI", b"1.2\0"), 100)
    data = element(0x00081140, "SQ", claimed) + element(0x00081150, "UI", b"9.9\0") + STUDY + bytes(100)
    header = scan(data, wanted=paths("ReferencedImageSequence.00081155", "ReferencedImageSequence.00081150"))
    assert header.flaw is Flaw.PAST_END
    assert header.texts((0x00081140, 0x00081150)) == ()


def test_zeros_that_pad_a_data_set_are_no_flaw() -> None:
    assert scan(STUDY + b"\0").problem is None
    assert scan(STUDY + b"\0" * 7).complete
    assert scan(STUDY + b"\x20").flaw is Flaw.PAST_END


def test_b31_odd_length_is_told_and_read_on() -> None:
    header = scan(element(0x00100020, "LO", b"odd") + STUDY)
    assert header.first(attribute_path("PatientID")) == "odd"
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.flaw is Flaw.ODD_LENGTH


@pytest.mark.parametrize("vr", ["UT", "UC"])
def test_b31_undefined_length_outside_sequences_stops_the_scan(vr: str) -> None:
    header = scan(STUDY + element(0x00280A02, vr, b"x" * 20, UNDEFINED), wanted=paths("StudyInstanceUID", "00400009"))
    assert header.flaw is Flaw.UNDEFINED_LENGTH
    assert header.first(STUDY_UID) == "1.2.3"
    assert not header.complete


def test_b31_items_that_do_not_nest_stop_the_scan() -> None:
    for content in (STUDY, implicit(0xFFFEE00D, b""), item(implicit(0xFFFEE0DD, b""), undefined=True)):
        header = scan(element(0x00081140, "SQ", content, UNDEFINED) + STUDY)
        assert header.flaw is Flaw.STRUCTURE
        assert header.first(STUDY_UID) == ""


@pytest.mark.parametrize("wanted", [INDEX_PATHS, INDEX_PATHS | {(0x00081140, 0x00081155)}])
@pytest.mark.parametrize("levels", [64, 65, 10_000, 250_000])
def test_b32_nested_sequences_end_at_the_depth_limit(levels: int, wanted: frozenset[AttributePath]) -> None:
    opening = element(0x00081140, "SQ", b"", UNDEFINED) + implicit(0xFFFEE000, b"", UNDEFINED)
    closing = implicit(0xFFFEE00D, b"") + SEQUENCE_END
    header = scan(opening * levels + closing * levels + STUDY, wanted=wanted)
    if levels == 64:
        assert header.problem is None
        assert header.first(STUDY_UID) == "1.2.3"
    else:
        assert header.flaw is Flaw.DEPTH
        assert header.fatal


def test_b33_a_million_private_elements_end_at_the_element_limit() -> None:
    scanner = HeaderScanner(EXPLICIT, INDEX_PATHS)
    scanner.feed(element(0x00080060, "CS", b"CT"))
    private = element(0x00091001, "LO", b"") * (1 << 16)
    for _ in range(1 << 4):
        scanner.feed(private)
    scanner.feed(STUDY)
    assert scanner.done
    header = scanner.finish()
    assert header.flaw is Flaw.ELEMENTS
    assert not header.fatal
    assert not header.complete
    assert header.first(attribute_path("Modality")) == "CT"
    assert header.first(STUDY_UID) == ""


def test_b33_exactly_as_many_elements_as_allowed_are_read() -> None:
    data = element(0x00091001, "LO", b"") * 9 + STUDY
    assert scan(data, limits=ScanLimits(elements=10)).first(STUDY_UID) == "1.2.3"
    assert scan(data, limits=ScanLimits(elements=10)).problem is None
    assert scan(data, limits=ScanLimits(elements=9)).flaw is Flaw.ELEMENTS


@pytest.mark.parametrize("wanted", [INDEX_PATHS, INDEX_PATHS | {(0x00081140, 0x00081155)}])
def test_b33_elements_and_items_within_sequences_count_too(wanted: frozenset[AttributePath]) -> None:
    elements = item(element(0x00081150, "UI", b"1.2\0") * 70_000, undefined=True) + SEQUENCE_END
    items = item(b"", undefined=True) * 40_000 + SEQUENCE_END
    for content in (elements, items):
        header = scan(element(0x00081140, "SQ", content, UNDEFINED) + STUDY, wanted=wanted)
        assert header.flaw in (Flaw.ELEMENTS, Flaw.KEPT)
        assert header.first(STUDY_UID) == ""


def test_b33_wanted_items_without_end_do_not_fill_the_memory() -> None:
    content = item(element(0x00400009, "SH", b"S" * 100)) * 20_000
    tracemalloc.start()
    header = scan(STUDY + element(0x00400275, "SQ", content), chunk=4096)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.flaw is Flaw.KEPT
    assert not header.fatal
    assert header.first(STUDY_UID) == "1.2.3"
    assert 1000 < len(header.items(0x00400275)) < 2000
    assert peak < 8 * 1024 * 1024


def test_huge_unwanted_values_are_skipped_without_being_held() -> None:
    scanner = HeaderScanner(EXPLICIT, INDEX_PATHS)
    block = bytes(256 * 1024)
    tracemalloc.start()
    scanner.feed(element(0x00091001, "OB", b"", 400 * len(block)))
    for _ in range(400):
        scanner.feed(block)
    scanner.feed(STUDY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    header = scanner.finish()
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.problem is None
    assert peak < 2 * len(block)


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def test_b34_deflate_bomb_of_1000_to_1_stops_early() -> None:
    size = 200 * 1024 * 1024
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(element(0x00080060, "CS", b"CT") + element(0x00091001, "OB", b"", size))
    block = bytes(1024 * 1024)
    bomb += (
        b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.compress(STUDY) + packer.flush()
    )
    assert size / len(bomb) > 900
    tracemalloc.start()
    header = scan(bomb, DEFLATED)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.flaw is Flaw.INFLATION
    assert "200 times" in str(header.problem)
    assert not header.fatal
    assert header.first(attribute_path("Modality")) == "CT"
    assert header.first(STUDY_UID) == ""
    assert peak < 2 * 1024 * 1024


def test_b34_deflate_bomb_of_100000_to_1_within_a_value_is_never_opened() -> None:
    inner = deflate(element(0x00091001, "OB", bytes(64 * 1024 * 1024)))
    inner += bytes(len(inner) % 2)
    outer = deflate(element(0x00080060, "CS", b"CT") + element(0x00091001, "OB", inner) + STUDY)
    assert 64 * 1024 * 1024 / len(outer) > 20_000
    header = scan(outer, DEFLATED)
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.problem is None


def test_b34_inflated_bytes_are_bounded_whatever_the_ratio() -> None:
    data = element(0x00091001, "OB", bytes(3_000_000)) + STUDY
    limits = ScanLimits(inflated_bytes=2_000_000, inflate_ratio=10_000)
    header = scan(deflate(data), DEFLATED, limits=limits)
    assert header.flaw is Flaw.INFLATION
    assert "2000000 bytes" in str(header.problem)
    inflater = BoundedInflater(2_000_000, 10_000)
    assert sum(map(len, inflater.feed(deflate(data)))) + sum(map(len, inflater.finish())) == 2_000_000
    assert scan(deflate(data), DEFLATED, limits=ScanLimits(inflate_ratio=10_000)).first(STUDY_UID) == "1.2.3"


def test_b34_deflated_garbage_and_cut_streams_are_told() -> None:
    whole = deflate(element(0x00080060, "CS", b"CT") + element(0x00091001, "LO", bytes(range(256)) * 100) + STUDY)
    assert scan(b"\xff" * 2000, DEFLATED).flaw is Flaw.INFLATION
    cut = scan(whole[: len(whole) // 2], DEFLATED)
    assert cut.flaw is Flaw.PAST_END
    assert cut.first(attribute_path("Modality")) == "CT"
    assert scan(whole + b"\0", DEFLATED).problem is None


@pytest.mark.parametrize("pixels", [b"", item(b"\xff" * 4), b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100, b"garbage!" * 9])
def test_b36_broken_encapsulated_pixel_data_is_not_looked_at(pixels: bytes) -> None:
    header = scan(STUDY + element(0x7FE00010, "OB", pixels, UNDEFINED), Uid("1.2.840.10008.1.2.4.50"))
    assert header.first(STUDY_UID) == "1.2.3"
    assert header.problem is None


def test_b37_strange_character_sets_are_told_and_never_raise() -> None:
    for charsets in (b"\\".join([b"ISO 2022 IR 87"] * 200), b"KLINGON ", b"\xff\xfe\x1b$)C", b"\\" * 300):
        data = element(0x00080005, "CS", charsets) + element(0x00100010, "PN", b"\x1b$)C\xff\x0e^\x1b(J\xfc\x1b")
        header = scan(data + STUDY)
        assert header.first(PATIENT_NAME)
        assert header.first(STUDY_UID) == "1.2.3"
    header = scan(element(0x00080005, "CS", b"KLINGON ") + STUDY)
    assert header.flaw is Flaw.CHARACTER_SET
    assert header.complete
    assert "KLINGON" not in str(header.problem)


def test_b38_value_of_a_megabyte_is_cut_and_told() -> None:
    for name in (b"A" * 1_000_000, b"\x1b]0;x\x07${jndi:ldap://x}\r\n" * 40_000):
        data = implicit(0x00100010, name) + implicit(0x0020000D, b"1.2.3\0")
        header = scan(data, IMPLICIT, chunk=10_000)
        assert header.first(PATIENT_NAME) == name[: 64 * 1024].decode()
        assert header.truncated(PATIENT_NAME)
        assert not header.truncated(STUDY_UID)
        assert header.first(STUDY_UID) == "1.2.3"
        assert header.flaw is Flaw.VALUE_TRUNCATED
        assert "jndi" not in str(header.problem)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("preamble", [bytes(128), b"II*\0" * 32, b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" * 7 + b"xx"])
def test_b40_ps310_file_sent_as_data_set_is_fatal(syntax: Uid, preamble: bytes) -> None:
    meta = element(0x00020000, "UL", struct.pack("<I", 12)) + element(0x00020010, "UI", b"1.2.840.10008.1.2.1\0")
    for data, chunk in ((preamble + b"DICM" + meta + STUDY, None), (preamble + b"DICM" + meta, 50), (meta + STUDY, 1)):
        header = scan(data, syntax, chunk=chunk)
        assert header.flaw is Flaw.PART10
        assert header.fatal
        assert header.problem == "PS3.10 header in the data set"


def test_b40_command_elements_in_the_data_set_are_fatal() -> None:
    header = scan(implicit(0x00000000, b"\0\0\0\0") + STUDY)
    assert header.flaw is Flaw.COMMAND_GROUP
    assert header.fatal


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_b42_empty_data_set_is_fatal(syntax: Uid) -> None:
    header = scan(b"", syntax)
    assert header.flaw is Flaw.EMPTY
    assert header.fatal
    assert header.texts(STUDY_UID) == ()


def test_b43_claimed_image_dimensions_allocate_nothing() -> None:
    data = (
        STUDY
        + element(0x00280008, "IS", b"2147483648")
        + element(0x00280010, "US", b"\xff\xff")
        + element(0x00280011, "US", b"\xff\xff")
        + element(0x7FE00010, "OW", b"", 0xFFFFFFFE)
    )
    tracemalloc.start()
    header = scan(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.first(attribute_path("NumberOfFrames")) == "2147483648"
    assert header.first(attribute_path("Rows")) == "65535"
    assert peak < 64 * 1024


def test_flaws_are_ranked_fatal_before_incomplete_before_odd() -> None:
    nested = (element(0x00081140, "SQ", b"", UNDEFINED) + implicit(0xFFFEE000, b"", UNDEFINED)) * 100
    assert scan(element(0x00080060, "CS", b"odd") + nested).flaw is Flaw.DEPTH
    assert scan(element(0x00080060, "CS", b"odd") + STUDY[:-2]).flaw is Flaw.PAST_END
