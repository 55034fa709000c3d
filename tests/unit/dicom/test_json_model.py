"""Values as they stand in DICOM get the JSON types of PS3.18 Annex F."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.dicom.json_model import element, encode_json, in_order, sequence


@pytest.mark.parametrize(
    ("tag", "values", "expected"),
    [
        (0x00080020, ("20260101",), {"vr": "DA", "Value": ["20260101"]}),
        (0x00100010, ("Yamada^Tarou=山田^太郎=やまだ^たろう",), {
            "vr": "PN",
            "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}],
        }),
        (0x00100010, ("=山田",), {"vr": "PN", "Value": [{"Ideographic": "山田"}]}),
        (0x00100010, ("==",), {"vr": "PN"}),
        (0x00200013, (" 007",), {"vr": "IS", "Value": [7]}),
        (0x00200013, ("5.0",), {"vr": "IS", "Value": [5]}),
        (0x00200013, ("5.5",), {"vr": "IS", "Value": ["5.5"]}),
        (0x00200013, ("1_0",), {"vr": "IS", "Value": ["1_0"]}),
        (0x00200013, ("9" * 20,), {"vr": "IS", "Value": ["9" * 20]}),
        (0x00280030, ("0.5", "1", "-2E-3", "wide"), {"vr": "DS", "Value": [0.5, 1, -0.002, "wide"]}),
        (0x00280030, ("nan", "1e999"), {"vr": "DS", "Value": ["nan", "Infinity"]}),
        (0x00280010, ("512",), {"vr": "US", "Value": [512]}),
        (0x00280010, (512,), {"vr": "US", "Value": [512]}),
        (0x00189087, (0.1, float("inf"), float("nan")), {"vr": "FD", "Value": [0.1, "Infinity", "NaN"]}),
        (0x00280009, ("(0018,106a)", 0x00181065), {"vr": "AT", "Value": ["0018106A", "00181065"]}),
        (0x00080008, ("ORIGINAL", "", "AXIAL "), {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}),
        (0x00080008, ("", ""), {"vr": "CS"}),
        (0x00080008, (), {"vr": "CS"}),
        (0x00091001, ("ab",), {"vr": "UN", "InlineBinary": "YWI="}),
        (0x00091001, (), {"vr": "UN"}),
    ],
)  # fmt: skip
def test_an_element_has_the_shape_of_its_vr(tag: int, values: tuple[Any, ...], expected: dict[str, Any]) -> None:
    assert element(tag, values) == expected


def test_the_vr_may_be_given() -> None:
    assert element(0x00280106, ("-5",), "SS") == {"vr": "SS", "Value": [-5]}


def test_64_bit_integers_that_a_reader_of_json_may_round_are_text() -> None:
    assert element(0x00000000, (2**53, 2**53 + 1), "UV") == {"vr": "UV", "Value": [2**53, str(2**53 + 1)]}


def test_tags_ascend_at_every_level() -> None:
    item = {"00080060": element(0x00080060, ["CT"]), "00080020": element(0x00080020, [])}
    ordered = in_order({"0020000D": element(0x0020000D, ["1.2"]), "00081110": sequence([item])})
    assert list(ordered) == ["00081110", "0020000D"]
    assert list(ordered["00081110"]["Value"][0]) == ["00080020", "00080060"]
    assert list(item) == ["00080060", "00080020"]


def test_a_sequence_without_items_has_no_value_and_an_empty_item_is_kept() -> None:
    assert sequence([]) == {"vr": "SQ"}
    assert sequence([{}]) == {"vr": "SQ", "Value": [{}]}


def test_what_is_written_is_one_array_in_utf_8() -> None:
    data_set = {"00100010": element(0x00100010, ["Müller"])}
    assert encode_json([data_set]) == '[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"Müller"}]}}]'.encode()
    assert json.loads(encode_json([])) == []
