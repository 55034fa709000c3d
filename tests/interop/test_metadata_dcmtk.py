"""Metadata of real files, as DICOM JSON and as Native DICOM Model, against what dcmtk makes of the same files.

What dcmtk may say otherwise is listed here, each with its reason; everything else must be the same.
"""

from __future__ import annotations

import io
import json
import struct
import xml.etree.ElementTree as ET
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from peers import run_dcmtk

from router.dicom.metadata import read_metadata
from router.dicom.uids import Uid
from router.dicomweb.native_model_writer import NAMESPACE, encode_xml
from router.errors import PeerError

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

FOLDER = Path(pydicom.data.__file__).parent / "test_files"
NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"]
NO_LIMIT = 1 << 40

UNREADABLE = {"rtplan_truncated.dcm"}
"""Ends within an element: dcmtk refuses it too, which a test of its own shows."""
PIXEL_DATA_CUT_OFF = {"MR_truncated.dcm"}
"""dcmtk refuses it for that; it gets the file without its pixel data."""
CHARACTER_SET_UNKNOWN_TO_DCMTK = {"J2K_pixelrep_mismatch.dcm"}
"""ISO 2022 IR 13 with IR 87, which Debian's dcmtk cannot convert."""
UN_WITH_KNOWN_VR = {"rtdose_rle.dcm", "rtdose_rle_1frame.dcm"}
"""Elements of the dictionary written as UN: here with the VR of the dictionary (PS3.5 §6.2.2), in dcmtk as UN."""

IMPLICIT_IN_EXPLICIT = {"SC_rgb_jpeg.dcm"}
"""Implicit VR in a transfer syntax of Explicit VR: read here, refused by dcmtk, which must be told."""
SEPARATELY = CHARACTER_SET_UNKNOWN_TO_DCMTK | UN_WITH_KNOWN_VR | IMPLICIT_IN_EXPLICIT


def with_file_meta() -> list[Path]:
    found = []
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM" and path.name not in UNREADABLE:
            meta = pydicom.filereader.read_file_meta_info(path)
            if "TransferSyntaxUID" in meta and path.name not in SEPARATELY:
                found.append(path)
    return found


FILES = with_file_meta()
NOT_DICOMDIR = [path for path in FILES if not path.name.startswith("DICOMDIR") or path.name == "DICOMDIR-empty.dcm"]
"""dcm2xml does not write directory records in this format."""


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def read(path: Path, bulk_above_bytes: int = NO_LIMIT) -> dict[str, Any]:
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        uid = Uid(pydicom.filereader._read_file_meta_info(file).TransferSyntaxUID)
        return read_metadata(file, uid, bulk_uri=lambda pointer: f"bulk/{pointer}", bulk_above_bytes=bulk_above_bytes)


def before_pixel_data(path: Path, folder: Path) -> Path:
    """A copy that ends where Pixel Data begins."""
    content = path.read_bytes()
    file = io.BytesIO(content)
    pydicom.dcmread(file, stop_before_pixels=True)
    copy = folder / "cut.dcm"
    copy.write_bytes(content[: file.tell()])
    return copy


def is_encapsulated(path: Path) -> bool:
    return pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID not in NATIVE


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_metadata_is_what_dcm2json_says(path: Path, tmp_path: Path) -> None:
    # dcm2json refuses encapsulated pixel data
    cut = path.name in PIXEL_DATA_CUT_OFF or is_encapsulated(path)
    written = tmp_path / "theirs.json"
    run_dcmtk(["dcm2json", before_pixel_data(path, tmp_path) if cut else path, written])
    assert canonical(read(path), cut=cut) == canonical(json.loads(written.read_bytes()), cut=cut)


def canonical(data_set: dict[str, Any], *, cut: bool) -> dict[str, Any]:
    """A data set as it is compared, without what the two may say differently."""
    result = {}
    for tag, element in data_set.items():
        vr = element["vr"]
        if tag == "FFFCFFFC":
            continue  # padding, which is no attribute of the instance: left out here
        if tag == "7FE00010":  # bulk data here, InlineBinary in dcm2json
            if not cut:
                result[tag] = {"vr": vr}
        elif tag == "00080005" and "Value" in element:
            result[tag] = {"vr": vr, "Value": ["ISO_IR 192"]}  # dcm2json leaves the old value in items
        elif vr == "SQ" and "Value" in element:
            result[tag] = {"vr": vr, "Value": [canonical(item, cut=False) for item in element["Value"]]}
        else:
            result[tag] = canonical_element(element)
    return result


def canonical_element(element: dict[str, Any]) -> dict[str, Any]:
    vr = element["vr"]
    if "InlineBinary" in element:
        # dcmtk makes odd lengths even
        return {"vr": vr, "InlineBinary": b64decode(element["InlineBinary"]).rstrip(b"\0")}
    canonical_value = CANONICAL.get(vr, lambda value: value)
    values = [None if value is None else canonical_value(value) for value in element.get("Value", [])]
    return {"vr": vr, "Value": values} if any(value is not None for value in values) else {"vr": vr}


def single(value: float) -> bytes:
    return struct.pack("<f", value + 0.0)  # dcmtk writes nine digits, which are the same 32 bits, but 0 for -0


def double(value: float) -> str:
    return f"{value:.15g}"  # in the sixteenth digit dcmtk's own conversion errs


def without_trailing_carets(name: dict[str, str]) -> dict[str, str] | None:
    """dcmtk drops empty components at the end of a name (PS3.5 §6.2.1.1 allows both)."""
    return {group: text.rstrip("^") for group, text in name.items() if text.rstrip("^")} or None


CANONICAL: dict[str, Callable[[Any], Any]] = {"FL": single, "FD": double, "PN": without_trailing_carets}


def test_implicit_vr_where_explicit_is_declared_is_read(tmp_path: Path) -> None:
    path = FOLDER / "SC_rgb_jpeg.dcm"
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        start = file.tell()
    bare, written = tmp_path / "bare", tmp_path / "theirs.json"
    bare.write_bytes(before_pixel_data(path, tmp_path).read_bytes()[start:])
    run_dcmtk(["dcm2json", "-f", "-ti", bare, written])
    assert canonical(read(path), cut=True) == canonical(json.loads(written.read_bytes()), cut=True)


def test_a_file_cut_off_in_its_header_is_refused_by_both() -> None:
    path = FOLDER / "rtplan_truncated.dcm"
    assert run_dcmtk(["dcm2json", path], check=False).returncode != 0
    with pytest.raises(PeerError, match="ends within"):
        read(path)


@pytest.mark.parametrize("name", sorted(UN_WITH_KNOWN_VR))
def test_an_attribute_written_as_un_has_the_vr_of_the_dictionary(name: str) -> None:
    shown = read(FOLDER / name)
    written_plainly = read(FOLDER / name.replace("_rle", ""))
    # the transfer syntax's own attributes; dcmtk had compressed a copy of the same instance
    differing = {"00080018", "00080008", "7FE00010", "00280006", "0020000D", "0020000E"}
    assert {tag for tag in shown if shown[tag] != written_plainly.get(tag)} <= differing
    assert shown["00080016"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.481.2"]}


@pytest.mark.parametrize("path", NOT_DICOMDIR, ids=name_of)
def test_the_xml_is_what_dcm2xml_says(path: Path, tmp_path: Path) -> None:
    cut = path.name in PIXEL_DATA_CUT_OFF
    written = tmp_path / "theirs.xml"
    source = before_pixel_data(path, tmp_path) if cut else path
    run_dcmtk(["dcm2xml", "--native-format", "+Xn", "+Eb", "+M", "+U8", source, written])
    ours, theirs = ET.fromstring(encode_xml(read(path))), ET.parse(written).getroot()
    turn_words(theirs)
    assert ours.tag == theirs.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    assert xml_attributes(ours, cut=cut) == xml_attributes(theirs, cut=cut)


def turn_words(data_set: ET.Element) -> None:
    """dcm2xml writes OW with the most significant byte first; here it is little endian, as in the JSON."""
    for attribute in data_set.iter(f"{{{NAMESPACE}}}DicomAttribute"):
        for inline in attribute.findall(f"{{{NAMESPACE}}}InlineBinary"):
            if attribute.get("vr") == "OW" and inline.text:
                words = array("H", b64decode(inline.text))
                words.byteswap()
                inline.text = b64encode(words.tobytes()).decode()


def xml_attributes(data_set: ET.Element, *, cut: bool = False) -> dict[tuple[str, str], Any]:
    """{(tag, private creator): (vr, values)} as they are compared."""
    result = {}
    for attribute in data_set:
        tag, vr, creator = attribute.attrib["tag"], attribute.attrib["vr"], attribute.get("privateCreator", "")
        if tag in ("FFFCFFFC", "00080005") or (tag == "7FE00010" and cut):
            continue  # padding is left out here; dcm2xml adds Specific Character Set to every data set
        if int(tag[3], 16) & 1 and not creator and tag[4:6] != "00":
            tag = f"{tag[:4]}00{tag[6:]}"  # dcm2xml takes the block off also where no creator tells whose it is
        values: list[Any] = [xml_value(vr, child) for child in attribute]
        if tag == "7FE00010":
            values = []  # bulk data here, InlineBinary in dcm2xml
        keyword = attribute.get("keyword")
        if keyword is not None and tag != "7FE00010":
            assert pydicom.datadict.keyword_for_tag(int(tag, 16)) == keyword  # dcm2xml has none for retired attributes
        result[tag, creator] = (vr, [value for value in values if value is not None])
    return result


def xml_value(vr: str, child: ET.Element) -> Any:
    text = child.text or ""
    match child.tag.rpartition("}")[2]:
        case "Item":
            return child.get("number"), xml_attributes(child)
        case "PersonName":  # one of empty components is no value to dcm2xml
            groups = {group.tag: [(part.tag, part.text) for part in group] for group in child}
            return (child.get("number"), groups) if groups else None
        case "InlineBinary":
            return b64decode(text).rstrip(b"\0")  # dcmtk makes odd lengths even
        case _ if vr in ("FL", "FD", "DS", "IS"):
            # dcm2xml keeps 5.000000 of a decimal string; here it is the number of the JSON
            try:
                number = float(text)
            except ValueError:
                return child.get("number"), text
            return child.get("number"), single(number) if vr == "FL" else double(number)
        case _:
            return child.get("number"), text
