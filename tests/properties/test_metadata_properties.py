"""Metadata of any bytes, and of any ordinary data set against pydicom's own DICOM JSON."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from array import array
from base64 import b64decode, b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from router.dicom.json_model import encode_json
from router.dicom.metadata import read_metadata
from router.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from router.dicom.uids import Uid
from router.dicomweb.native_model_writer import encode_xml
from router.errors import PeerError

SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]

plain_text = st.text("ABCXYZ abc-.,äéß", min_size=1, max_size=12).map(lambda text: text.strip() or "A")
uids = st.lists(st.integers(0, 99999), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, [1, 2, *parts])))
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
decimals = st.integers(-99999, 99999).map(str) | st.floats(-1e3, 1e3).map(lambda number: f"{number:.5f}")
# tag, VR, one value
ATTRIBUTES: list[tuple[int, str, st.SearchStrategy[Any]]] = [
    (0x00080008, "CS", st.text("ABC_ 12", min_size=1, max_size=8).map(lambda text: text.strip() or "A")),
    (0x00080018, "UI", uids),
    (0x00080020, "DA", st.dates().map(lambda date: date.strftime("%Y%m%d").rjust(8, "0"))),
    (0x00080054, "AE", st.text("ABC_1", min_size=1, max_size=16)),
    (0x00081030, "LO", plain_text),
    (0x00081070, "PN", st.lists(plain_text, min_size=1, max_size=5).map("^".join)),
    (0x00080119, "UC", plain_text),
    (0x00080120, "UR", st.just("http://example.org/a?b")),
    (0x00189087, "FD", st.floats(allow_nan=False, allow_infinity=False)),
    (0x00186020, "SL", st.integers(-(2**31), 2**31 - 1)),
    (0x00184000, "LT", plain_text),
    (0x00200013, "IS", st.integers(-(2**31), 2**31 - 1)),
    (0x00200032, "DS", decimals),
    (0x00280009, "AT", st.integers(0, 2**32 - 1)),
    (0x00280010, "US", st.integers(0, 65535)),
    (0x00289503, "SS", st.integers(-(2**15), 2**15 - 1)),
    (0x00720082, "SV", st.integers(-(2**53), 2**53)),
    (0x00720083, "UV", st.integers(0, 2**53)),
    (0x00720076, "FL", singles),
    (0x00420011, "OB", st.binary(max_size=4).map(lambda value: value * 2)),
    (0x00281201, "OW", st.binary(max_size=4).map(lambda value: value * 2)),
    (0x0040A160, "UT", plain_text),
]
ONE_VALUE = {"LT", "UT", "UR", "OB", "OW"}


@st.composite
def elements(draw: st.DrawFn) -> DataElement:
    tag, vr, value = draw(st.sampled_from(ATTRIBUTES))
    if vr in ONE_VALUE:
        return DataElement(tag, vr, draw(value))
    values = draw(st.lists(value, max_size=3))
    return DataElement(tag, vr, values if len(values) != 1 else values[0])


def data_set(given_elements: list[DataElement]) -> Dataset:
    result = Dataset()
    for element in given_elements:
        result.add(element)
    return result


flat = st.lists(elements(), max_size=6).map(data_set)


@st.composite
def with_items(draw: st.DrawFn, inner: st.SearchStrategy[Dataset]) -> Dataset:
    result = draw(flat)
    sequence = DataElement(0x00081140, "SQ", Sequence(draw(st.lists(inner, max_size=3))))
    sequence.is_undefined_length = draw(st.booleans())
    result.add(sequence)
    return result


data_sets = st.recursive(flat, with_items, max_leaves=4)


def written(content: Dataset, uid: Uid) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = uid == IMPLICIT_VR_LITTLE_ENDIAN
    buffer.is_little_endian = uid != EXPLICIT_VR_BIG_ENDIAN
    write_dataset(buffer, content)
    return buffer.getvalue()


def read(content: bytes, uid: Uid) -> dict[str, Any]:
    return read_metadata(io.BytesIO(content), uid, bulk_uri=lambda pointer: pointer, bulk_above_bytes=1 << 20)


@settings(max_examples=300, deadline=None)
@given(content=data_sets, uid=st.sampled_from(SYNTAXES), deflated=st.booleans())
def test_the_metadata_of_ordinary_data_sets_means_what_pydicom_says(content: Dataset, uid: Uid, deflated: bool) -> None:
    content.add_new(0x00080005, "CS", "ISO_IR 192")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = written(content, uid)
        expected = content.to_json_dict()
    if deflated and uid == EXPLICIT_VR_LITTLE_ENDIAN:
        deflate = zlib.compressobj(wbits=-15)
        raw, uid = deflate.compress(raw) + deflate.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    assert read(raw, uid) == meaning(expected, big_endian=uid == EXPLICIT_VR_BIG_ENDIAN)


def meaning(pydicoms: dict[str, Any], *, big_endian: bool) -> dict[str, Any]:
    """What pydicom says, in our words: no empty Value, and OW little endian (pydicom passes its bytes as they are)."""
    result: dict[str, Any] = {}
    for tag, element in pydicoms.items():
        vr = element["vr"]
        if vr == "SQ" and element.get("Value"):
            result[tag] = {"vr": vr, "Value": [meaning(item, big_endian=big_endian) for item in element["Value"]]}
        elif vr == "OW" and big_endian and element.get("InlineBinary"):
            words = array("H", b64decode(element["InlineBinary"]))
            words.byteswap()
            result[tag] = {"vr": vr, "InlineBinary": b64encode(words.tobytes()).decode()}
        else:
            result[tag] = element if element.get("InlineBinary") or element.get("Value") else {"vr": vr}
    return result


VRS = [b"AE", b"AT", b"CS", b"DS", b"FL", b"IS", b"LO", b"PN", b"UI", b"US", b"OB", b"OW", b"SQ", b"UN", b"UT", b"ZZ"]
TAGS = [0x00080005, 0x00080060, 0x00081140, 0x00090010, 0x00091001, 0x00100010, 0x00280103, 0x00280106, 0x7FE00010]
TAGS += [0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFCFFFC, 0]


@st.composite
def near_elements(draw: st.DrawFn) -> bytes:
    """Something that looks like an element, with a length that may lie."""
    tag, value = draw(st.sampled_from(TAGS)), draw(st.binary(max_size=12))
    length = draw(st.sampled_from([len(value), len(value) + 1, 0, 8, 0xFFFFFFFF, 0x7FFFFFFE]))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    match draw(st.integers(0, 2)):
        case 0:
            return head + struct.pack("<I", length) + value
        case 1:
            return head + draw(st.sampled_from(VRS)) + struct.pack("<H", length & 0xFFFF) + value
        case _:
            return head + draw(st.sampled_from(VRS)) + struct.pack("<HI", 0, length) + value


@settings(max_examples=600, deadline=None)
@given(
    content=st.binary(max_size=200) | st.lists(near_elements(), max_size=12).map(b"".join),
    uid=st.sampled_from([*SYNTAXES, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]),
    bulk_above_bytes=st.sampled_from([0, 4, 1024]),
)
def test_any_bytes_give_metadata_that_can_be_written_or_a_peer_error(
    content: bytes, uid: Uid, bulk_above_bytes: int
) -> None:
    if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN and not content.startswith(b"\0"):
        deflate = zlib.compressobj(wbits=-15)
        content = deflate.compress(content) + deflate.flush()
    try:
        shown = read_metadata(io.BytesIO(content), uid, bulk_uri=str, bulk_above_bytes=bulk_above_bytes)
    except PeerError:
        return
    assert list(shown) == sorted(shown)
    encode_json([shown])
    encode_xml(shown)
