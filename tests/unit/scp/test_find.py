"""C-FIND of Patient Root and Study Root: levels, keys, answers, statuses (PS3.4 C.4.1, C.6; dicom-facts E)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from find_harness import (
    COMBINED,
    EMPTY_VALUE,
    MULTIPLE_VALUE,
    PATIENT,
    RELATIONAL,
    STUDY,
    TIMEZONE,
    find,
    find_raw,
    identifier,
)
from search_archive import Archive, instance, open_archive

from router.dicom.attributes import attribute_path
from router.dicom.identifier import character_set_of, write_identifier
from router.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from router.dicom.uids import Uid
from router.dimse.events import Roles
from router.errors import StorageError
from router.scp import find as find_module
from router.scp.find import FindService
from router.search import Index, QueryTooLong
from router.search.non_patient import NonPatientIndex

JANE = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientBirthDate": "19700102", "PatientSex": "F"}
JOHN = {"PatientID": "P2", "PatientName": "Doe^John", "IssuerOfPatientID": "HERE"}
INSTANCES = (
    instance("1.2.1", "1.2.1.1", "1.2.1.1.1", **JANE, StudyDate="20240105", StudyTime="1030", AccessionNumber="A1"),
    instance("1.2.1", "1.2.1.1", "1.2.1.1.2", **JANE, StudyDate="20240105", StudyTime="1030", AccessionNumber="A1"),
    instance("1.2.1", "1.2.1.2", "1.2.1.2.1", **JANE, Modality="MR"),
    instance("1.2.2", "1.2.2.1", "1.2.2.1.1", **JOHN, StudyDate="20240107", StudyTime="1800", StudyID="S2"),
    instance("1.2.3", "1.2.3.1", "1.2.3.1.1", **JANE, StudyDate="20240108", StudyTime="0900", SeriesNumber="7"),
    instance("1.2.4", "1.2.4.1", "1.2.4.1.1", PatientName="Unknown", StudyDate="20240109"),
)


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with open_archive(tmp_path) as one:
        await one.put(*INSTANCES)
        yield one


async def test_each_level_of_study_root_is_answered(archive: Archive) -> None:
    studies = await find(archive, QueryRetrieveLevel="STUDY", PatientName="Doe^Jane", StudyInstanceUID="")
    assert (studies.end.status, studies.pending) == (0x0000, {0xFF00})
    assert studies.values("StudyInstanceUID") == ["1.2.1", "1.2.3"]
    series = await find(
        archive, QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2.1", Modality="", SeriesInstanceUID=""
    )
    assert series.values("SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2"]
    assert series.values("Modality") == ["CT", "MR"]
    images = await find(
        archive,
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID="1.2.1",
        SeriesInstanceUID="1.2.1.1",
        SOPInstanceUID="",
        SOPClassUID="",
    )
    assert images.values("SOPInstanceUID") == ["1.2.1.1.1", "1.2.1.1.2"]
    assert images.values("SOPClassUID") == ["1.2.840.10008.5.1.4.1.1.2"] * 2


async def test_each_level_of_patient_root_is_answered(archive: Archive) -> None:
    patients = await find(archive, PATIENT, QueryRetrieveLevel="PATIENT", PatientID="", PatientName="")
    assert patients.values("PatientID") == ["P1", "P2", ""]
    assert patients.values("PatientName") == ["Doe^Jane", "Doe^John", "Unknown"]
    studies = await find(archive, PATIENT, QueryRetrieveLevel="STUDY", PatientID="P1", StudyInstanceUID="")
    assert studies.values("StudyInstanceUID") == ["1.2.1", "1.2.3"], "not those of unknown patients"
    series = await find(archive, PATIENT, QueryRetrieveLevel="SERIES", PatientID="P1", StudyInstanceUID="1.2.1")
    assert series.values("SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2"]
    above = {"PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.2"}
    images = await find(archive, PATIENT, QueryRetrieveLevel="IMAGE", **above)
    assert images.values("SOPInstanceUID") == ["1.2.1.2.1"]
    assert images.values("PatientID") == ["P1"]
    others = await find(archive, PATIENT, QueryRetrieveLevel="SERIES", PatientID="P2", StudyInstanceUID="1.2.1")
    assert others.answers == []


async def test_an_answer_has_what_was_asked_for_and_from_whom_to_retrieve_it(archive: Archive) -> None:
    found = await find(
        archive,
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID="1.2.1",
        StudyDescription="",
        NumberOfStudyRelatedSeries="",
    )
    assert found.answers == [
        {
            "00080052": {"vr": "CS", "Value": ["STUDY"]},
            "00080054": {"vr": "AE", "Value": ["SENDRS"]},
            "00080056": {"vr": "CS", "Value": ["ONLINE"]},
            "00081030": {"vr": "LO"},
            "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
            "00201206": {"vr": "IS", "Value": [2]},
        }
    ]


async def test_patients_are_told_apart_by_id_and_issuer_and_counted(archive: Archive) -> None:
    await archive.put(
        instance("1.2.5", "1.2.5.1", "1.2.5.1.1", PatientID="P2", PatientName="Other^Man", IssuerOfPatientID="THERE"),
        instance("1.2.6", "1.2.6.1", "1.2.6.1.1", PatientName="Nobody"),
        instance("1.2.7", "1.2.7.1", "1.2.7.1.1", PatientName="Nobody"),
    )
    counts = {f"NumberOfPatientRelated{what}": "" for what in ("Studies", "Series", "Instances")}
    found = await find(archive, PATIENT, QueryRetrieveLevel="PATIENT", PatientID="", IssuerOfPatientID="", **counts)
    assert list(zip(found.values("PatientID"), found.values("IssuerOfPatientID"), strict=True)) == [
        ("P1", ""),
        ("P2", "HERE"),
        ("", ""),
        ("P2", "THERE"),
        ("", ""),
    ]
    assert found.values("NumberOfPatientRelatedStudies") == ["2", "1", "1", "1", "2"]
    assert found.values("NumberOfPatientRelatedSeries") == ["3", "1", "1", "1", "2"]
    assert found.values("NumberOfPatientRelatedInstances") == ["4", "1", "1", "1", "2"]
    assert found.pending == {0xFF00}
    of_studies = await find(archive, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3", **counts)
    assert of_studies.values("NumberOfPatientRelatedInstances") == ["4"]


@pytest.mark.parametrize(
    ("keys", "matches"),
    [
        ({"PatientName": "doe^*"}, ["1.2.1", "1.2.2", "1.2.3"]),
        ({"PatientName": "Doe^J?ne"}, ["1.2.1", "1.2.3"]),
        ({"StudyDate": "20240107-"}, ["1.2.2", "1.2.3", "1.2.4"]),
        ({"StudyDate": "-20240105"}, ["1.2.1"]),
        ({"StudyInstanceUID": ("1.2.3", "1.2.1", "1.2.9")}, ["1.2.1", "1.2.3"]),
        ({"ModalitiesInStudy": "MR"}, ["1.2.1"]),
        ({"AccessionNumber": "A2"}, ["1.2.2", "1.2.3", "1.2.4"]),  # a Required key that is stored empty matches
        ({"StudyID": "s2"}, ["1.2.1", "1.2.3", "1.2.4"]),
        ({"IssuerOfPatientID": "HERE"}, ["1.2.2"]),
        ({}, ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]),
    ],
)
async def test_keys_match_as_in_qido(archive: Archive, keys: dict[str, Any], matches: list[str]) -> None:
    found = await find(archive, QueryRetrieveLevel="STUDY", **{"StudyInstanceUID": "", **keys})
    assert found.values("StudyInstanceUID") == matches


BAD = [
    ({}, "QueryRetrieveLevel"),
    ({"QueryRetrieveLevel": ""}, "QueryRetrieveLevel"),
    ({"QueryRetrieveLevel": "PATIENT"}, "QueryRetrieveLevel"),
    ({"QueryRetrieveLevel": "study"}, "QueryRetrieveLevel"),
    ({"QueryRetrieveLevel": "SERIES"}, "StudyInstanceUID"),
    ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ""}, "StudyInstanceUID"),
    ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ("1.2.1", "1.2.2")}, "StudyInstanceUID"),
    ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.*"}, "StudyInstanceUID"),
    ({"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2.1"}, "SeriesInstanceUID"),
    ({"QueryRetrieveLevel": "IMAGE", "SeriesInstanceUID": "1.2.1.1"}, "StudyInstanceUID"),
    ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.1", "PatientName": "Doe*"}, "PatientName"),
    ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.1", "StudyDescription": "x"}, "StudyDescription"),
    ({"QueryRetrieveLevel": "STUDY", "StudyDate": "yesterday"}, "StudyDate"),
    ({"QueryRetrieveLevel": "STUDY", "PatientID": ("P1", "P2")}, "PatientID"),
    ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.*"}, "StudyInstanceUID"),
]


@pytest.mark.parametrize(("keys", "blamed"), BAD)
async def test_a_bad_identifier_is_refused_with_the_attribute_to_blame(
    archive: Archive, keys: dict[str, Any], blamed: str
) -> None:
    found = await find(archive, **keys)
    assert found.end.status == 0xA900
    assert found.end.offending_elements == attribute_path(blamed)
    assert found.end.error_comment
    assert found.answers == []


async def test_in_patient_root_the_patient_id_is_above_the_study(archive: Archive) -> None:
    for keys in ({}, {"PatientID": ""}, {"PatientID": "P*"}, {"PatientID": ("P1", "P2")}):
        found = await find(archive, PATIENT, QueryRetrieveLevel="STUDY", **keys)
        assert (found.end.status, found.end.offending_elements) == (0xA900, attribute_path("PatientID"))
    found = await find(archive, PATIENT, QueryRetrieveLevel="STUDY", PatientID="P1", PatientName="Doe*")
    assert (found.end.status, found.end.offending_elements) == (0xA900, attribute_path("PatientName"))


@pytest.mark.parametrize("raw", [b"", b"\x08\x00\x52\x00CS\xff\xffSTUDY ", b"no data set at all, however long it is"])
async def test_an_identifier_that_is_none_is_refused(archive: Archive, raw: bytes) -> None:
    found = await find_raw(archive, raw)
    assert found.end.status == 0xA900
    assert found.end.error_comment


async def test_a_sequence_key_of_two_items_is_refused(archive: Archive) -> None:
    item = identifier(ScheduledProcedureStepID="S1")
    keys = identifier(QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2.1")
    keys["00400275"] = {"vr": "SQ", "Value": [item, item]}
    found = await find_raw(archive, write_identifier(keys, EXPLICIT_VR_LITTLE_ENDIAN))
    assert (found.end.status, found.end.offending_elements) == (0xA900, (0x00400275,))


@pytest.mark.parametrize("anything", ["", "*"])
async def test_keys_above_without_a_value_are_answered(archive: Archive, anything: str) -> None:
    """Orthanc sends Accession Number and Patient ID so at each level."""
    keys = {"StudyInstanceUID": "1.2.1", "PatientID": anything, "AccessionNumber": anything}
    found = await find(archive, QueryRetrieveLevel="SERIES", **keys)
    assert found.end.status == 0x0000
    assert found.values("PatientID") == ["P1", "P1"]
    assert found.values("AccessionNumber") == ["A1", "A1"]


@pytest.mark.parametrize(("creator", "is_answered"), [("ACME 1.1", True), ("OTHER", False)])
async def test_private_attributes_are_answered_if_their_creator_is_the_one(
    archive: Archive, creator: str, is_answered: bool
) -> None:
    stored = instance("1.2.9", "1.2.9.1", "1.2.9.1.1")
    await archive.put({**stored, "00090010": "ACME 1.1", "00091001": "x"}, in_store=True)
    keys = identifier(QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1")
    asked = {**keys, "00090010": {"vr": "LO", "Value": [creator]}, "00091001": {"vr": "UN"}}
    found = await find_raw(archive, write_identifier(asked, EXPLICIT_VR_LITTLE_ENDIAN))
    [answer] = found.answers
    assert answer.get("00091001") == ({"vr": "UN", "InlineBinary": "eCA="} if is_answered else None)
    assert answer.get("00090010") == ({"vr": "LO", "Value": ["ACME 1.1"]} if is_answered else None)
    assert found.pending == {0xFF00}


async def test_relational_queries_take_any_key_when_negotiated(archive: Archive) -> None:
    images = await find(archive, granted=RELATIONAL, QueryRetrieveLevel="IMAGE", PatientName="*Jane", Modality="CT")
    assert images.values("SOPInstanceUID") == ["1.2.1.1.1", "1.2.1.1.2", "1.2.3.1.1"]
    series = await find(
        archive, PATIENT, granted=RELATIONAL, QueryRetrieveLevel="SERIES", StudyInstanceUID=("1.2.1", "1.2.3")
    )
    assert series.values("SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2", "1.2.3.1"]
    assert series.values("PatientID") == ["P1", "P1", "P1"]


async def test_dates_and_times_are_one_interval_only_when_negotiated(archive: Archive) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyDate": "20240105-20240108", "StudyTime": "1000-1100"}
    each_for_itself = await find(archive, **keys)
    assert each_for_itself.values("StudyInstanceUID") == ["1.2.1"]
    united = await find(archive, granted=COMBINED, **keys)
    assert united.values("StudyInstanceUID") == ["1.2.1", "1.2.2", "1.2.3"]
    backwards = await find(archive, **{**keys, "StudyTime": "1100-1000"})
    assert (backwards.end.status, backwards.end.offending_elements) == (0xA900, attribute_path("StudyTime"))


async def test_the_time_zone_of_the_identifier_counts_only_when_negotiated(archive: Archive) -> None:
    await archive.put(
        instance("1.2.8", "1.2.8.1", "1.2.8.1.1", StudyDate="20250101", StudyTime="2330", TimezoneOffsetFromUTC="-0500")
    )
    keys = {
        "QueryRetrieveLevel": "STUDY",
        "StudyDate": "20250102",
        "StudyTime": "0530",
        "TimezoneOffsetFromUTC": "+0100",
    }
    assert (await find(archive, **keys)).answers == []
    zoned = await find(archive, granted=TIMEZONE, **keys)
    assert zoned.values("StudyInstanceUID") == ["1.2.8"]
    assert zoned.values("TimezoneOffsetFromUTC") == ["-0500"]
    assert zoned.pending == {0xFF00}
    bad = await find(archive, granted=TIMEZONE, **{**keys, "TimezoneOffsetFromUTC": "CET"})
    assert (bad.end.status, bad.end.offending_elements) == (0xA900, attribute_path("TimezoneOffsetFromUTC"))


async def test_empty_and_multiple_values_are_matched_only_when_negotiated(archive: Archive) -> None:
    empty = {"QueryRetrieveLevel": "STUDY", "IssuerOfPatientID": '""'}
    assert (await find(archive, **empty)).answers == []
    found = await find(archive, granted=EMPTY_VALUE, **empty)
    assert found.values("StudyInstanceUID") == ["1.2.1", "1.2.3", "1.2.4"]
    both = {"QueryRetrieveLevel": "STUDY", "ModalitiesInStudy": ("CT", "MR")}
    assert (await find(archive, **both)).end.status == 0xA900
    assert (await find(archive, granted=MULTIPLE_VALUE, **both)).values("StudyInstanceUID") == ["1.2.1"]


def test_extended_negotiation_is_answered_byte_by_byte() -> None:
    service = FindService.__new__(FindService)
    assert service.grant(STUDY, bytes([1] * 7)) == bytes([1, 1, 0, 1, 0, 1, 1])
    assert service.grant(STUDY, b"\x01") == b"\x01"
    assert service.grant(PATIENT, b"\x00\x01\x01") == b"\x00\x01\x00"
    assert service.grant(STUDY, bytes([2] * 9)) == bytes(7)
    assert service.grant(STUDY, b"") == b""
    assert service.grant(Uid("1.2.840.10008.5.1.4.38.2"), b"\x01\x01") == b""
    assert service.roles(STUDY, Roles(True, True)) == Roles(True, False)


async def test_keys_that_cannot_be_matched_are_ignored_and_told(archive: Archive) -> None:
    found = await find(
        archive, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.1", OtherStudyNumbers="5", Modality="PT"
    )
    assert found.values("StudyInstanceUID") == ["1.2.1"]
    assert found.pending == {0xFF01}
    lower = await find(archive, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.1", SOPClassesInStudy="")
    assert lower.pending == {0xFF01}
    assert f"{attribute_path('SOPClassesInStudy')[0]:08X}" not in lower.answers[0]


async def test_attributes_that_only_files_have_are_read_from_them(archive: Archive) -> None:
    await archive.put(
        instance("1.2.9", "1.2.9.1", "1.2.9.1.1", PatientID="P9", PatientComments="careful", StudyComments="x"),
        in_store=True,
    )
    found = await find(archive, QueryRetrieveLevel="STUDY", PatientID="P9", PatientComments="", PatientWeight="")
    nine = found.values("StudyInstanceUID").index("1.2.9")
    assert found.values("PatientComments")[nine] == "careful"
    assert found.answers[nine]["00101030"] == {"vr": "DS"}
    assert found.pending == {0xFF00}


async def test_sequences_are_matched_and_answered_with_their_items(archive: Archive) -> None:
    items = [
        {"ScheduledProcedureStepID": "STEP1", "RequestedProcedureID": "PROC1"},
        {"ScheduledProcedureStepID": "STEP2", "RequestedProcedureID": "PROC2"},
    ]
    await archive.put(instance("1.2.8", "1.2.8.1", "1.2.8.1.1", RequestAttributesSequence=items))
    keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.8"}
    found = await find(
        archive, **keys, RequestAttributesSequence={"ScheduledProcedureStepID": "STEP2", "RequestedProcedureID": ""}
    )
    [answer] = found.answers
    assert [item["00400009"]["Value"] for item in answer["00400275"]["Value"]] == [["STEP1"], ["STEP2"]]
    assert found.pending == {0xFF00}
    mixed = await find(
        archive,
        **keys,
        RequestAttributesSequence={"ScheduledProcedureStepID": "STEP2", "RequestedProcedureID": "PROC1"},
    )
    assert mixed.answers == []
    more = await find(archive, **keys, RequestAttributesSequence={"RequestedProcedureDescription": ""})
    assert more.pending == {0xFF01}


SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]


@pytest.mark.parametrize("syntax", SYNTAXES)
async def test_every_transfer_syntax_is_read_and_answered(archive: Archive, syntax: Uid) -> None:
    found = await find(
        archive, syntax=syntax, QueryRetrieveLevel="STUDY", PatientName="Doe^Jane", NumberOfStudyRelatedInstances=""
    )
    assert found.values("NumberOfStudyRelatedInstances") == ["3", "1"]


@pytest.mark.parametrize(
    ("asked_in", "name", "answered_in"),
    [
        ("ISO_IR 100", "Müller^J*", "ISO_IR 100"),
        ("ISO_IR 192", "Müller^J*", "ISO_IR 192"),
        ("GB18030", "王*", "GB18030"),
        ("\\ISO 2022 IR 87", "*=山田*", "\\ISO 2022 IR 87"),
        ("ISO_IR 144", "Люкс*", "ISO_IR 144"),
        ("ISO_IR 144", "M*", "ISO_IR 192"),  # Cyrillic cannot say an umlaut
        ("", "M*ller*", "ISO_IR 192"),
    ],
)
async def test_names_are_found_and_answered_in_the_character_set_of_who_asks(
    archive: Archive, asked_in: str, name: str, answered_in: str
) -> None:
    names = ["Müller^Jürgen", "Yamada^Tarou=山田^太郎", "Люксембург", "王^小东"]
    await archive.put(
        *(
            instance(
                f"1.3.{n}", f"1.3.{n}.1", f"1.3.{n}.1.1", SpecificCharacterSet="ISO_IR 192", PatientName=one.encode()
            )
            for n, one in enumerate(names)
        )
    )
    found = await find(
        archive, character_set=asked_in, QueryRetrieveLevel="STUDY", PatientName=name, StudyInstanceUID=""
    )
    [answer] = found.values("PatientName")
    assert answer in names
    assert character_set_of(found.responses[0][1], found.syntax) == answered_in


async def test_what_an_odd_instance_brought_does_not_stop_the_answers(archive: Archive) -> None:
    await archive.put(
        instance("1.2.8", "1.2.8.1", "1.2.8.1.1", PatientID="P8", PatientSex=b"\xff\xfe", SeriesNumber="x")
    )
    found = await find(archive, QueryRetrieveLevel="STUDY", StudyInstanceUID=("1.2.8", "1.2.1"), PatientSex="")
    assert found.values("PatientSex") == ["F", ""]


async def test_more_matches_than_allowed_end_with_a700_that_says_so(archive: Archive) -> None:
    found = await find(archive, max_results=3, QueryRetrieveLevel="STUDY")
    assert len(found.answers) == 3
    assert found.end.status == 0xA700
    assert "3" in found.end.error_comment
    assert (await find(archive, max_results=4, QueryRetrieveLevel="STUDY")).end.status == 0x0000


async def test_a_cancel_ends_the_answers(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "PAGE", 2)
    for after in (1, 2, 3):
        found = await find(archive, cancel_after=after, QueryRetrieveLevel="STUDY")
        assert (len(found.answers), found.end.status) == (after, 0xFE00)


async def test_pages_join_without_a_gap(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "PAGE", 3)
    found = await find(archive, QueryRetrieveLevel="STUDY")
    assert found.values("StudyInstanceUID") == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]


async def test_a_failure_of_the_index_is_a_status_with_words(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, status in ((QueryTooLong("2 s"), 0xC001), (StorageError("disk"), 0xA700)):

        async def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(Index, "matches", fail)
        found = await find(archive, QueryRetrieveLevel="STUDY")
        assert (found.end.status, bool(found.end.error_comment)) == (status, True)


async def test_matches_that_go_away_meanwhile_are_left_out(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    matches = Index.matches

    async def with_a_ghost(self: Index, plan: Any, *, most: int) -> Any:
        page = await matches(self, plan, most=most)
        return type(page)((*page.ids, 4711), page.total + 1)

    monkeypatch.setattr(Index, "matches", with_a_ghost)
    found = await find(archive, QueryRetrieveLevel="STUDY", PatientComments="")
    assert len(found.answers) == 4


async def test_it_serves_the_find_sop_classes(archive: Archive) -> None:
    service = FindService(archive.index, NonPatientIndex(archive.journal, archive.store), max_results=lambda: 1)
    assert {STUDY, PATIENT, "1.2.840.10008.5.1.4.38.2", "1.2.840.10008.5.1.4.20.1"} <= set(service.sop_classes)
    assert len(service.sop_classes) == 10
    assert set(service.sop_classes.values()) == {frozenset({0x0020})}
