"""The Storage Commitment Request and Response Modules, as JSON and as XML (PS3.18 Annex J)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from router.dicom.commitment import MAX_REFERENCES, Reference, Ruling
from router.dicom.json_model import encode_object, in_order
from router.dicom.uids import Uid
from router.dicomweb.commitment_module import (
    BadModule,
    read_request,
    read_response,
    request_module,
    response_module,
)
from router.dicomweb.multipart_writer import closing, part_opening
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.one_data_set import read_one
from router.errors import PeerError

CT, MR = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.5.1.4.1.1.4")
FLAT = (Reference(CT, Uid("1.2.1")), Reference(MR, Uid("1.2.2")), Reference(CT, Uid("1.2.3")))
BY_STUDY = (
    Reference(CT, Uid("1.2.1"), Uid("1.7.1"), Uid("1.8.1")),
    Reference(MR, Uid("1.2.2"), Uid("1.7.1"), Uid("1.8.1")),
    Reference(CT, Uid("1.2.3"), Uid("1.7.1"), Uid("1.8.1")),
    Reference(MR, Uid("1.2.4"), Uid("1.7.1"), Uid("1.8.2")),
    Reference(CT, Uid("1.2.5"), Uid("1.7.2"), Uid("1.8.3")),
)


def as_json(module: dict[str, Any]) -> tuple[str, bytes]:
    return "application/dicom+json", encode_object(in_order(module))


def as_array(module: dict[str, Any]) -> tuple[str, bytes]:
    return "application/dicom+json", json.dumps([module]).encode()


def as_xml(module: dict[str, Any]) -> tuple[str, bytes]:
    return "application/dicom+xml", encode_xml(in_order(module))


def as_multipart(module: dict[str, Any]) -> tuple[str, bytes]:
    opening = part_opening("xyz", {"Content-Type": "application/dicom+xml"})
    content_type = 'multipart/related; type="application/dicom+xml"; boundary=xyz'
    return content_type, opening + encode_xml(module) + closing("xyz")


FORMS = pytest.mark.parametrize("form", [as_json, as_array, as_xml, as_multipart])


@FORMS
@pytest.mark.parametrize("references", [FLAT, BY_STUDY, FLAT[:1]])
def test_a_request_is_read_as_it_was_written(
    form: Callable[[dict[str, Any]], tuple[str, bytes]], references: tuple[Reference, ...]
) -> None:
    read = read_request(read_one(*form(request_module(references))))
    assert sorted(read, key=lambda one: one.sop_instance_uid) == list(references)


def test_a_request_by_study_has_the_sequences_of_table_j_1_1() -> None:
    module = request_module(BY_STUDY)
    assert set(module) == {"00081110"}
    first, second = module["00081110"]["Value"]
    assert first["0020000D"] == {"vr": "UI", "Value": ["1.7.1"]}
    one, other = first["00081115"]["Value"]
    assert one["0020000E"]["Value"] == ["1.8.1"]
    assert [group["00081150"]["Value"] for group in one["00081112"]["Value"]] == [[CT], [MR]]
    instances = one["00081112"]["Value"][0]["0008114A"]
    assert instances == {
        "vr": "SQ",
        "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in ("1.2.1", "1.2.3")],
    }
    assert other["0020000E"]["Value"] == ["1.8.2"]
    assert second["0020000D"]["Value"] == ["1.7.2"]


def test_a_flat_request_has_the_other_sequence_of_table_j_1_1() -> None:
    assert request_module(FLAT[:1]) == {
        "00081199": {
            "vr": "SQ",
            "Value": [
                {"00081150": {"vr": "UI", "Value": [CT]}, "00081155": {"vr": "UI", "Value": ["1.2.1"]}},
            ],
        }
    }


def test_references_of_which_one_says_no_study_are_written_flat() -> None:
    assert set(request_module([*BY_STUDY, *FLAT[:1]])) == {"00081199"}


@FORMS
@pytest.mark.parametrize("references", [FLAT, BY_STUDY])
@pytest.mark.parametrize("failed", [(), (1,), (0, 2), (0, 1, 2)])
def test_a_response_is_read_as_it_was_written(
    form: Callable[[dict[str, Any]], tuple[str, bytes]], references: tuple[Reference, ...], failed: tuple[int, ...]
) -> None:
    references = references[:3]
    rulings = [Ruling(one, 0x0112 if number in failed else None) for number, one in enumerate(references)]
    module = read_one(*form(response_module(rulings)))
    assert read_response(module, references) == tuple(rulings)


def test_a_response_has_the_form_of_its_request_and_no_empty_sequence() -> None:
    flat = [Ruling(FLAT[0]), Ruling(FLAT[1], 0x0112)]
    assert set(response_module(flat)) == {"00081199", "00081198"}
    assert set(response_module(flat[:1])) == {"00081199"}
    assert set(response_module(flat[1:])) == {"00081198"}
    [failed] = response_module(flat)["00081198"]["Value"]
    assert failed["00081197"] == {"vr": "US", "Value": [0x0112]}
    by_study = [Ruling(BY_STUDY[0]), Ruling(BY_STUDY[1], 0x0119)]
    module = response_module(by_study)
    assert set(module) == {"00081110", "0008119B"}
    [study] = module["0008119B"]["Value"]
    [series] = study["00081115"]["Value"]
    [of_class] = series["00081112"]["Value"]
    assert of_class["0008114A"]["Value"] == [
        {"00081155": {"vr": "UI", "Value": ["1.2.2"]}, "00081197": {"vr": "US", "Value": [0x0119]}}
    ]


def item(sop_class: Any = CT, uid: Any = "1.2.1") -> dict[str, Any]:
    return {"00081150": {"vr": "UI", "Value": [sop_class]}, "00081155": {"vr": "UI", "Value": [uid]}}


def flat(*items: Any) -> dict[str, Any]:
    return {"00081199": {"vr": "SQ", "Value": list(items)}}


def study(**series: Any) -> dict[str, Any]:
    return {"00081110": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["1.7"]}, **series}]}}


@pytest.mark.parametrize(
    ("module", "where", "problem"),
    [
        ({}, "ReferencedSOPSequence and ReferencedStudySequence", "neither"),
        (flat(), "ReferencedSOPSequence and ReferencedStudySequence", "no item"),
        (flat(item()) | request_module(BY_STUDY), "ReferencedSOPSequence and ReferencedStudySequence", "both"),
        (flat(item(), {}), "ReferencedSOPSequence[2].ReferencedSOPClassUID", "missing"),
        (flat(item(), item(uid="1.2.x")), "ReferencedSOPSequence[2].ReferencedSOPInstanceUID", "not one UID"),
        (flat(item(uid="1." * 40)), "ReferencedSOPSequence[1].ReferencedSOPInstanceUID", "not one UID"),
        (flat(item(sop_class=12)), "ReferencedSOPSequence[1].ReferencedSOPClassUID", "not one UID"),
        (flat(item(sop_class=None)), "ReferencedSOPSequence[1].ReferencedSOPClassUID", "not one UID"),
        (flat(item(), item(uid="1.2.2"), item()), "ReferencedSOPSequence[3]", "1.2.1 is referenced a second time"),
        (flat("1.2.3"), "ReferencedSOPSequence[1]", "no item"),
        (flat(None), "ReferencedSOPSequence[1]", "no item"),
        ({"00081199": {"vr": "SQ", "Value": {}}}, "ReferencedSOPSequence", "list of values"),
        ({"00081199": "1.2.3"}, "ReferencedSOPSequence", "list of values"),
        (study(), "ReferencedStudySequence[1].ReferencedSeriesSequence", "missing"),
        (
            {"00081110": {"vr": "SQ", "Value": [{"00081115": {"vr": "SQ", "Value": [{}]}}]}},
            "ReferencedStudySequence[1].StudyInstanceUID",
            "missing",
        ),
        (
            study(**{"00081115": {"vr": "SQ", "Value": [{"0020000E": {"vr": "UI", "Value": ["1.8"]}}]}}),
            "ReferencedStudySequence[1].ReferencedSeriesSequence[1].ReferencedInstancesBySOPClassSequence",
            "missing",
        ),
    ],
)
def test_what_is_no_request_is_refused_with_its_place(module: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(BadModule) as refused:
        read_request(module)
    assert refused.value.where == where
    assert problem in refused.value.problem
    assert not refused.value.too_many


def test_more_instances_than_a_request_may_have_are_too_many() -> None:
    many = flat(*(item(uid=f"1.2.{number}") for number in range(MAX_REFERENCES + 1)))
    with pytest.raises(BadModule) as refused:
        read_request(many)
    assert refused.value.too_many
    many["00081199"]["Value"].pop()
    assert len(read_request(many)) == MAX_REFERENCES


def test_padding_and_tags_in_lower_case_and_attributes_that_are_not_of_the_module_do_no_harm() -> None:
    module = flat({**item(uid="1.2.1\0"), "00081197": {"vr": "US", "Value": [1]}})
    study = request_module(BY_STUDY[:1])
    lower = json.loads(json.dumps(study).replace("0008114A", "0008114a").replace("0020000D", "0020000d"))
    assert read_request({**module, "00081195": {"vr": "UI", "Value": ["1.2"]}}) == FLAT[:1]
    assert read_request(lower) == BY_STUDY[:1]


def test_a_response_that_leaves_an_instance_out_or_says_both_has_not_committed_to_it() -> None:
    response = response_module([Ruling(FLAT[0]), Ruling(FLAT[1])]) | response_module([Ruling(FLAT[1], 0x0213)])
    rulings = read_response(response, FLAT)
    assert rulings is not None
    assert [ruling.failure_reason for ruling in rulings] == [None, 0x0213, 0x0110]


def test_a_response_about_another_sop_class_is_no_commitment() -> None:
    rulings = read_response(response_module([Ruling(Reference(MR, Uid("1.2.1")))]), FLAT[:1])
    assert rulings == (Ruling(FLAT[0], 0x0119),)


def test_a_response_in_the_other_form_is_read_all_the_same() -> None:
    response = response_module([Ruling(BY_STUDY[0]), Ruling(BY_STUDY[1], 0x0112)])
    assert read_response(response, FLAT[:2]) == (Ruling(FLAT[0]), Ruling(FLAT[1], 0x0112))


@pytest.mark.parametrize("module", [{}, {"00081190": {"vr": "UR"}}, {"00081199": {"vr": "SQ"}}, {"00081199": 5}])
def test_a_data_set_that_names_nothing_is_no_response(module: dict[str, Any]) -> None:
    assert read_response(module, FLAT) is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"5", b"[{},{}]", b"<a/>", b"\xff\xfe", b"[" * 100_000, b"<!DOCTYPE a><a/>"]
)
def test_a_body_that_is_no_data_set_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="the body"):
        read_one("application/dicom+json", body, "the body")
