"""However the bytes are cut the header and the File Meta are the same; whatever the bytes are nothing is raised."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_charset_files, get_testdata_file

from router.dicom.attributes import INDEX_PATHS, attribute_path
from router.dicom.charset import decode
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header, HeaderScanner, ScanLimits
from router.dicom.part10 import PrefaceReader, encode_preface, read_preface
from router.dicom.uids import Uid
from router.dicom.values import texts_of
from router.errors import Refused

FILES = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "JPEG2000.dcm",
    "image_dfl.dcm",
    "test-SR.dcm",
    "rtplan.dcm",
    "liver_1frame.dcm",
    "UN_sequence.dcm",
    "badVR.dcm",
    "MR_truncated.dcm",
    "waveform_ecg.dcm",
)
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
)
WANTED = INDEX_PATHS | {
    attribute_path(text)
    for text in (
        "ReferencedImageSequence.ReferencedSOPInstanceUID",
        "ReferencedSeriesSequence.ReferencedInstanceSequence.ReferencedSOPClassUID",
        "ContentSequence.ContentSequence.TextValue",
        "ContentSequence.ConceptNameCodeSequence.CodeMeaning",
        "SharedFunctionalGroupsSequence.PixelMeasuresSequence.PixelSpacing",
        "BeamSequence.ControlPointSequence.ControlPointIndex",
        "WaveformSequence.ChannelDefinitionSequence.ChannelSourceSequence.CodeMeaning",
        "00091001",
        "PixelData",
    )
}
TIGHT = ScanLimits(elements=60, depth=3, value_bytes=12, kept_bytes=2000, inflated_bytes=3000, inflate_ratio=50)
LIMITS = (ScanLimits(), TIGHT)


@lru_cache
def stream_of(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


@lru_cache
def data_set_of(name: str) -> tuple[Uid, bytes]:
    reader = PrefaceReader()
    data = bytes(reader.feed(stream_of(name)))
    assert reader.declared is not None
    return reader.declared.transfer_syntax_uid, data[:60_000]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def scan(chunks: list[bytes], syntax: Uid, limits: ScanLimits) -> Header:
    scanner = HeaderScanner(syntax, WANTED, limits)
    for number, chunk in enumerate(chunks):
        scanner.feed((chunk, bytearray(chunk), memoryview(chunk))[number % 3])
    return scanner.finish()


def described(header: Header) -> Any:
    return (
        header.problem,
        header.flaw,
        header.charsets,
        {
            tag: (element.vr, element.value, element.truncated, [described(item) for item in element.items])
            for tag, element in header.elements.items()
        },
        {path: header.texts(path) for path in WANTED},
    )


cuts = st.lists(st.integers(0, 60_000), max_size=30) | st.lists(st.integers(0, 3_000), max_size=60)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=15, deadline=None)
@given(cuts=cuts)
def test_any_split_of_a_file_gives_the_same_header(name: str, limits: ScanLimits, cuts: list[int]) -> None:
    syntax, data = data_set_of(name)
    assert described(scan(cut(data, cuts), syntax, limits)) == described(scan([data], syntax, limits))


@pytest.mark.parametrize("name", FILES)
def test_byte_by_byte_gives_the_same_header(name: str) -> None:
    syntax, data = data_set_of(name)
    for limits in LIMITS:
        one_by_one = [data[place : place + 1] for place in range(len(data))]
        assert described(scan(one_by_one, syntax, limits)) == described(scan([data], syntax, limits))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 4_000), st.binary(min_size=1, max_size=8)), max_size=8),
    end=st.integers(0, 20_000),
    syntax=st.sampled_from(SYNTAXES) | st.none(),
    limits=st.sampled_from(LIMITS),
    cuts=cuts,
)
def test_damaged_file_never_raises_and_any_split_of_it_gives_the_same_header(
    name: str,
    changes: list[tuple[int, bytes]],
    end: int,
    syntax: str | None,
    limits: ScanLimits,
    cuts: list[int],
) -> None:
    true_syntax, data = data_set_of(name)
    damaged = bytearray(data[:end])
    for place, value in changes:
        damaged[place : place + len(value)] = value
    told = Uid(syntax) if syntax else true_syntax
    whole = bytes(damaged)
    assert described(scan(cut(whole, cuts), told, limits)) == described(scan([whole] if whole else [], told, limits))


tags = st.sampled_from([0x00080005, 0x00081140, 0x00100010, 0x0020000D, 0x00400275, 0x00400009, 0x00091001])
delimiters = st.sampled_from([0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD])
lengths = st.sampled_from([0, 1, 2, 8, 20, 0xFFFFFFFF, 0x7FFFFFFF])


@st.composite
def structure(draw: st.DrawFn) -> bytes:
    """Headers of elements, items and delimiters in any order, with and without their values."""
    data = b""
    for _ in range(draw(st.integers(0, 40))):
        length = draw(lengths)
        if draw(st.booleans()):
            tag = draw(delimiters)
            head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
            data += head + length.to_bytes(4, "little")
        else:
            tag = draw(tags)
            head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
            vr = draw(st.sampled_from([b"SQ", b"UN", b"OB", b"LO", b"UT", b"ZZ", b"??"]))
            if vr == b"LO":
                data += head + vr + (length & 0xFFFF).to_bytes(2, "little")
            else:
                data += head + vr + b"\0\0" + length.to_bytes(4, "little")
            if length < 100:
                data += b"x" * length
    return data


@settings(max_examples=400, deadline=None)
@given(data=structure(), syntax=st.sampled_from(SYNTAXES), limits=st.sampled_from(LIMITS), cuts=cuts)
def test_any_nesting_never_raises_and_any_split_of_it_gives_the_same_header(
    data: bytes, syntax: str, limits: ScanLimits, cuts: list[int]
) -> None:
    whole = scan([data] if data else [], Uid(syntax), limits)
    assert described(scan(cut(data, cuts), Uid(syntax), limits)) == described(whole)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=2_000), syntax=st.sampled_from(SYNTAXES), limits=st.sampled_from(LIMITS))
def test_arbitrary_bytes_never_raise_from_the_scanner(data: bytes, syntax: str, limits: ScanLimits) -> None:
    header = scan([data], Uid(syntax), limits)
    for path in WANTED:
        assert header.first(path) == (header.texts(path) or ("",))[0]
        header.present(path)


VRS = "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV ZZ".split()  # noqa: SIM905
CHARSETS = (
    "",
    "ISO_IR 100",
    "ISO_IR 192",
    "GB18030",
    "ISO 2022 IR 13",
    "ISO 2022 IR 87",
    "ISO 2022 IR 149",
    "\0",
    "KLINGON",
)


@settings(max_examples=300, deadline=None)
@given(
    raw=st.binary(max_size=80)
    | st.lists(st.sampled_from([b"\x1b$B", b"\x1b$)C", b"\x1b(J", b"\xb0\xa1", b"^", b"\\"])).map(b"".join),
    vr=st.sampled_from(VRS),
    charsets=st.lists(st.sampled_from(CHARSETS) | st.text(max_size=20), max_size=4),
    big_endian=st.booleans(),
)
def test_arbitrary_values_never_raise(raw: bytes, vr: str, charsets: list[str], big_endian: bool) -> None:
    assert isinstance(decode(raw, vr, charsets), str)
    for text in texts_of(vr, raw, big_endian=big_endian, charsets=charsets):
        assert isinstance(text, str)


def read(chunks: list[bytes]) -> tuple[Any, bytes]:
    reader, data = PrefaceReader(), b""
    try:
        for chunk in chunks:
            data += reader.feed(chunk)
        reader.finish()
    except Refused as error:
        return (error.status, error.reason), b""
    return reader.declared, data


@pytest.mark.parametrize("name", [*FILES, "no_meta.dcm", "meta_missing_tsyntax.dcm"])
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=40))
def test_any_split_of_a_stream_gives_the_same_file_meta_and_data_set(name: str, cuts: list[int]) -> None:
    stream = stream_of(name)[:20_000]
    assert read(cut(stream, cuts)) == read([stream])


@pytest.mark.parametrize("name", FILES)
def test_byte_by_byte_gives_the_same_file_meta_and_data_set(name: str) -> None:
    stream = stream_of(name)[:2_000]
    assert read([stream[place : place + 1] for place in range(len(stream))]) == read([stream])


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(100, 500), st.binary(min_size=1, max_size=6)), max_size=5),
    end=st.integers(0, 1_000),
    cuts=st.lists(st.integers(0, 1_000), max_size=40),
)
def test_damaged_file_meta_is_read_or_refused_whatever_the_split(
    changes: list[tuple[int, bytes]], end: int, cuts: list[int]
) -> None:
    stream = bytearray(stream_of("CT_small.dcm")[:end])
    for place, value in changes:
        stream[place : place + len(value)] = value
    assert read(cut(bytes(stream), cuts)) == read([bytes(stream)])


uids = st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True).map(Uid)
titles = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\xa0"), max_size=16)


@settings(max_examples=100, deadline=None)
@given(
    declared=st.builds(Declared, uids, uids, uids),
    source=st.builds(Source, st.sampled_from(["C-STORE", "STOW-RS"]), st.ip_addresses().map(str), titles, titles),
    received_at=st.floats(allow_nan=False, allow_infinity=False),
    size=st.integers(0, 2**63 - 1),
    sha256=st.binary(min_size=32, max_size=32).filter(any),
    behind=st.binary(max_size=10),
)
def test_stored_preface_tells_what_was_written(
    declared: Declared, source: Source, received_at: float, size: int, sha256: bytes, behind: bytes
) -> None:
    preface = encode_preface(declared, source, received_at)
    offset, seal = preface.seal(size, sha256)
    file = preface.data[:offset] + seal + preface.data[offset + len(seal) :]
    stored = read_preface(file + b"\x08\x00" + behind)
    assert (stored.declared, stored.source, stored.received_at) == (declared, source, received_at)
    assert (stored.data_set_offset, stored.data_set_bytes, stored.sha256) == (len(preface.data), size, sha256)


@pytest.mark.parametrize("name", ["chrH32", "chrI2", "chrX2", "chrRuss"])
def test_names_in_any_script_are_the_same_however_the_file_is_cut(name: str) -> None:
    stream = Path(get_charset_files(f"{name}.dcm")[0]).read_bytes()
    reader = PrefaceReader()
    data = bytes(reader.feed(stream))
    assert reader.declared is not None
    syntax = reader.declared.transfer_syntax_uid
    whole = described(scan([data], syntax, ScanLimits()))
    assert described(scan(cut(data, list(range(0, 2_000, 7))), syntax, ScanLimits())) == whole
