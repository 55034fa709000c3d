"""Attributes by keyword, tag and path."""

from __future__ import annotations

import msgspec
import pytest

from router.dicom.attributes import INDEX_PATHS, AttributePath, UnknownAttribute, attribute_path, path_name, vr_of
from router.journal.records import InstanceRow, SeriesRow, StudyRow


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("PatientName", (0x00100010,)),
        ("00100010", (0x00100010,)),
        ("0020000d", (0x0020000D,)),
        ("0020000D", (0x0020000D,)),
        ("(0010,0010)", (0x00100010,)),
        ("( 0020 , 000D )", (0x0020000D,)),
        ("RequestAttributesSequence.ScheduledProcedureStepID", (0x00400275, 0x00400009)),
        ("OtherPatientIDsSequence.00100020", (0x00101002, 0x00100020)),
        ("(0040,0275).00401001", (0x00400275, 0x00401001)),
        ("RequestAttributesSequence", (0x00400275,)),
        ("00091002.00091003", (0x00091002, 0x00091003)),
        ("(60xx,3000)".replace("xx", "02"), (0x60023000,)),
    ],
)
def test_attribute_is_found_by_keyword_tag_and_sequence_path(text: str, path: AttributePath) -> None:
    assert attribute_path(text) == path


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("PatientNam", "PatientName"),
        ("patientname", "PatientName"),
        ("StudyInstanceUId", "StudyInstanceUID"),
        ("RequestAttributesSequence.ScheduledProcedurStepID", "ScheduledProcedureStepID"),
        ("zzzz", ""),
        ("", ""),
        ("PatientID.", ""),
        (".PatientID", ""),
        ("0010001", ""),
        ("0010001G", ""),
        ("(0010,0010", ""),
        ("٠٠١٠٠٠١٠", ""),
    ],
)
def test_unknown_attribute_is_named_with_the_nearest_keyword(text: str, nearest: str) -> None:
    with pytest.raises(UnknownAttribute) as caught:
        attribute_path(text)
    assert caught.value.text == text
    assert caught.value.nearest == nearest
    assert not nearest or nearest in str(caught.value)


def test_path_through_an_attribute_that_is_no_sequence_is_refused() -> None:
    with pytest.raises(UnknownAttribute, match="PatientID is not a sequence"):
        attribute_path("PatientID.PatientName")


def test_endless_path_is_refused() -> None:
    with pytest.raises(UnknownAttribute, match="levels of sequences"):
        attribute_path(".".join(["RequestAttributesSequence"] * 100))


def test_path_is_named_as_it_is_written() -> None:
    for text in ("PatientName", "RequestAttributesSequence.ScheduledProcedureStepID", "00091002.PatientID"):
        assert path_name(attribute_path(text)) == text


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00100010, "PN"),
        (0x00400275, "SQ"),
        (0x00280106, "US"),
        (0x7FE00010, "OW"),
        (0x60023000, "OW"),
        (0x00090010, "LO"),
        (0x00091001, "UN"),
        (0x00080000, "UL"),
        (0x00090000, "UL"),
        (0x00080004, "UN"),
        (0xFFFEE000, "UN"),
    ],
)
def test_vr_comes_from_the_dictionary(tag: int, vr: str) -> None:
    assert vr_of(tag) == vr


def test_index_has_all_that_the_journal_rows_hold() -> None:
    names = {path_name(path).split(".")[0].lower() for path in INDEX_PATHS}
    facts = {
        "file",
        "declared",
        "source",
        "data_set_offset",
        "data_set_bytes",
        "data_set_sha256",
        "received_at",
        "note",
    }
    renamed = {"request_attributes": "requestattributessequence"}
    for row in (StudyRow, SeriesRow, InstanceRow):
        for field in msgspec.structs.fields(row):
            if field.name not in facts:
                assert renamed.get(field.name, field.name.replace("_", "")) in names, field.name
    assert {"specificcharacterset", "sopclassuid", "sopinstanceuid"} <= names
    assert (0x00400275, 0x00400009) in INDEX_PATHS
    assert (0x00400275, 0x00401001) in INDEX_PATHS
