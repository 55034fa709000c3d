"""The tables of the non-patient instances, against the tags that the standard prints (dicom-facts C.2 and C.4)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_has_tag

from router.dicom.attributes import vr_of
from router.dicom.non_patient import CATEGORIES, Usage, category_of
from router.dicom.sop_classes import NON_PATIENT_STORAGE
from router.dicom.uids import Uid

# Attributes that are matched, by tag; of sequences of codes or references the sequence.
MATCHED = {
    "1.2.840.10008.5.1.4.39.1": "00700080",
    "1.2.840.10008.5.1.4.38.1": "00720002 00720006 0072000C.00080060 0072000C.00082218 0072000C.00200060 "
    "0072000C.00081032 0072000C.0040100A 00720014 0072000E 00720010 00720100",
    "1.2.840.10008.5.1.4.43.1": "00080070 00221095 00686210 00221097 00686222 00686224 00686226 00686225 "
    "00686230.00082218 006862A0 006863A0 006863A4",
    "1.2.840.10008.5.1.4.44.1": "00760001 00080070 00760020 00760008 0076000C 0076000E 00760030",
    "1.2.840.10008.5.1.4.45.1": "00780001 00780020 00686226 00780026",
    "1.2.840.10008.5.1.4.1.1.200.1": "0040A07C.00080080 0040A07C.00080082 00080220 00181030 00189906 00189907 "
    "00189909 0018990E 00700084 00080012 00080013 00120010 00120020 00080221 00189912.00080070 00189912.00080222 "
    "00189912.00081090 00189912.00181020 00082218 00082228",
    "1.2.840.10008.5.1.4.1.1.201.1": "00081195 00080023 00080033 00080401 00080402 00080403 00080426 00080428",
    "1.2.840.10008.5.1.4.1.1.200.3": "00080012 00080013 00440109 00440100.00440101 00440100.00440103.0040A123 "
    "00440100.00440103.00401101 00440100.00440103.0044010A 00440100.00440103.00080080 00440100.00440103.00080082 "
    "00440100.00440103.00081040 00440100.00440103.00081041 00440100.00440104 00440100.00440105 00440100.00440107",
}
RETURNED = {
    "1.2.840.10008.5.1.4.39.1": "00700081 00700084 00700087.00700081 00700087.00080006",
    "1.2.840.10008.5.1.4.38.1": "00720004 00720008 0072000A 00720102.00720104 00720102.00720106 00720102.00720108 "
    "00720102.0072010A 00720102.0072010C 00720102.0072010E",
    "1.2.840.10008.5.1.4.43.1": "",
    "1.2.840.10008.5.1.4.44.1": "",
    "1.2.840.10008.5.1.4.45.1": "00780010",
    "1.2.840.10008.5.1.4.1.1.200.1": "00189908 0018990A 00189912.00181000",
    "1.2.840.10008.5.1.4.1.1.201.1": "",
    "1.2.840.10008.5.1.4.1.1.200.3": "00440100.00440102 00440100.00440106 00440100.00440103.00080070 "
    "00440100.00440103.00081090 00440100.00440103.00181020",
}
MATCHED["1.2.840.10008.5.1.4.1.1.200.7"] = MATCHED["1.2.840.10008.5.1.4.1.1.200.1"]
RETURNED["1.2.840.10008.5.1.4.1.1.200.7"] = RETURNED["1.2.840.10008.5.1.4.1.1.200.1"]

INNER = {0x00080100, 0x00080119, 0x00080120, 0x00080102, 0x00080103, 0x00080104, 0x00081150, 0x00081155, 0x00440108}
ALWAYS = {"00080016", "00080018", "00080005", "00080201"}


def test_req_072_the_six_categories_and_their_sop_classes() -> None:
    assert list(CATEGORIES) == [
        *("color-palettes", "defined-procedure-protocols", "hanging-protocols"),
        *("implant-templates", "inventories", "protocol-approvals"),
    ]
    assert {uid for category in CATEGORIES.values() for uid in category.tables} == NON_PATIENT_STORAGE
    assert all(category_of(uid) is category for category in CATEGORIES.values() for uid in category.tables)
    assert category_of(Uid("1.2.840.10008.5.1.4.1.1.2")) is None


@pytest.mark.parametrize("sop_class", sorted(MATCHED))
def test_req_084_the_tables_hold_the_keys_of_the_standard(sop_class: str) -> None:
    category = category_of(Uid(sop_class))
    assert category is not None
    matched, returned = set(), set()
    for key in category.tables[Uid(sop_class)]:
        path = key.path[:-1] if key.path[-1] in INNER else key.path
        name = ".".join(f"{tag:08X}" for tag in path)
        if key.usage is not Usage.RETURNED:
            matched.add(name)
        elif key.path[-1] != 0x00080104:
            returned.add(name)
    assert matched - ALWAYS == set(MATCHED[sop_class].split())
    assert returned - matched - ALWAYS == {name for name in RETURNED[sop_class].split() if "00080006" not in name} | (
        {"00700087.00080006"} if "00080006" in RETURNED[sop_class] else set()
    )


def test_req_074_081_the_conformance_statement_names_every_category() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "conformance.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) >= set(CATEGORIES)


def test_every_key_is_in_the_dictionary_and_ends_in_a_value() -> None:
    paths = {key.path for category in CATEGORIES.values() for keys in category.tables.values() for key in keys}
    assert all(dictionary_has_tag(tag) for path in paths for tag in path)
    assert all(vr_of(tag) == "SQ" for path in paths for tag in path[:-1])
    assert all(vr_of(path[-1]) != "SQ" for path in paths)
