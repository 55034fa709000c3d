"""DICOM JSON becomes a Native DICOM Model that any XML parser and our own reader understand (PS3.19 Annex A.1)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from router.dicomweb.native_model import decode
from router.dicomweb.native_model_writer import encode_xml

NAMES = {"m": "http://dicom.nema.org/PS3.19/models/NativeDICOM"}


def written(data_set: dict[str, Any]) -> ET.Element:
    return ET.fromstring(encode_xml(data_set))


def texts(root: ET.Element, path: str) -> list[str | None]:
    return [found.text for found in root.findall(path, NAMES)]


def test_attributes_have_tag_vr_keyword_and_numbered_values() -> None:
    root = written({"00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}, "00080050": {"vr": "SH"}})
    assert root.tag == "{http://dicom.nema.org/PS3.19/models/NativeDICOM}NativeDicomModel"
    assert [found.attrib for found in root] == [
        {"tag": "00080008", "vr": "CS", "keyword": "ImageType"},
        {"tag": "00080050", "vr": "SH", "keyword": "AccessionNumber"},
    ]
    assert [(value.get("number"), value.text) for value in root[0]] == [("1", "ORIGINAL"), ("2", None), ("3", "AXIAL")]
    assert len(root[1]) == 0


def test_numbers_are_written_plainly() -> None:
    root = written({"00280030": {"vr": "DS", "Value": [5.0, 0.5, 7, "wide", 1e-07]}})
    assert texts(root, ".//m:Value") == ["5", "0.5", "7", "wide", "1e-07"]


def test_names_have_their_components() -> None:
    name = {"Alphabetic": "Yamada^Tarou^^Dr^Prof^x", "Ideographic": "山田^太郎"}
    (person,) = written({"00100010": {"vr": "PN", "Value": [name]}}).findall(".//m:PersonName", NAMES)
    assert texts(person, "m:Alphabetic/m:FamilyName") == ["Yamada"]
    assert texts(person, "m:Alphabetic/m:MiddleName") == []
    assert texts(person, "m:Alphabetic/m:NamePrefix") == ["Dr"]
    assert texts(person, "m:Alphabetic/m:NameSuffix") == ["Prof^x"]
    assert texts(person, "m:Ideographic/m:GivenName") == ["太郎"]
    assert person.findall("m:Phonetic", NAMES) == []


def test_private_attributes_name_their_creator_at_every_level() -> None:
    private = {"00091001": {"vr": "LO", "Value": ["x"]}, "00091101": {"vr": "LO", "Value": ["y"]}}
    creators = {"00090010": {"vr": "LO", "Value": ['A & "B"']}}
    root = written({**creators, "00081140": {"vr": "SQ", "Value": [private]}, **private})
    here = [(found.get("tag"), found.get("privateCreator")) for found in root]
    assert here == [
        ("00090010", None),
        ("00081140", None),
        ("00090001", 'A & "B"'),
        ("00091101", None),  # nobody reserved this block
    ]
    inner = root.findall(".//m:Item/m:DicomAttribute", NAMES)
    assert [found.get("privateCreator") for found in inner] == [None, None]


def test_the_second_block_of_a_creator_keeps_its_tags_apart() -> None:
    creator, value = {"vr": "LO", "Value": ["A"]}, {"vr": "UN", "InlineBinary": "AAE="}
    data_set = {"00090010": creator, "00090011": creator, "00091001": value, "00091101": value}
    assert [found.get("tag") for found in written(data_set)] == ["00090010", "00090011", "00090001", "00091101"]
    assert list(decode(encode_xml(data_set))) == list(data_set)


def test_bulk_data_and_inline_binary() -> None:
    root = written(
        {
            "00281201": {"vr": "OW", "InlineBinary": "AAE="},
            "7FE00010": {"vr": "OW", "BulkDataURI": "http://h/b?a=1&b=2"},
        }
    )
    assert texts(root, ".//m:InlineBinary") == ["AAE="]
    assert [found.attrib for found in root.findall(".//m:BulkData", NAMES)] == [{"uri": "http://h/b?a=1&b=2"}]


def test_what_xml_cannot_hold_is_replaced_and_what_it_would_change_is_escaped() -> None:
    text = 'a<b>&"c"\r\n\td\x00\x0b\x1b\ufffe\ud800 \U0001f600'
    root = written({"00204000": {"vr": "LT", "Value": [text]}})
    assert texts(root, ".//m:Value") == ['a<b>&"c"\r\n\td\ufffd\ufffd\ufffd\ufffd\ufffd \U0001f600']


def test_our_own_reader_reads_it_back() -> None:
    item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081197": {"vr": "US", "Value": [272]}}
    data_set = {
        "00081190": {"vr": "UR", "Value": ["http://h/studies/1?a&b"]},
        "00081198": {"vr": "SQ", "Value": [item, None]},
    }
    assert decode(encode_xml(data_set)) == {
        "00081190": {"vr": "UR", "Value": ["http://h/studies/1?a&b"]},
        "00081198": {
            "vr": "SQ",
            "Value": [{"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081197": {"vr": "US", "Value": ["272"]}}, {}],
        },
    }
