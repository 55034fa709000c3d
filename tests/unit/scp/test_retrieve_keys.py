"""The identifier of a C-MOVE or C-GET: what is taken, what is A900 and which element is to blame (PS3.4 §C.4.2.1.4)."""

from __future__ import annotations

import pytest
from scp_retrieve_harness import EXPLICIT, identifier

from router.dicom.identifier import BadIdentifier, read_identifier
from router.dicom.non_patient_models import NON_PATIENT_MODELS
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT, InformationModel
from router.dicom.uids import Uid
from router.scp.retrieve_keys import Retrieve, read_non_patient_retrieve, read_retrieve
from router.search import Level, Plan, Scope

LEVEL, VIEW = 0x00080052, 0x00080053
PATIENT_ID, STUDY, SERIES, IMAGE = 0x00100020, 0x0020000D, 0x0020000E, 0x00080018
PATIENT_NAME = 0x00100010
HANGING = NON_PATIENT_MODELS[0]

Keys = dict[str, str | list[str]]


def read(model: InformationModel, keys: Keys, *, relational: bool = False) -> Retrieve:
    return read_retrieve(model, read_identifier(identifier(**keys), EXPLICIT), relational=relational)


def keys(level: str, *values: str | list[str]) -> Keys:
    """Level, then PatientID or "" to leave it out, study, series, image."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return {"level": level} | {name: value for name, value in zip(names, values, strict=False) if value}


@pytest.mark.parametrize(
    ("model", "asked", "level", "scope", "resource"),
    [
        (PATIENT_ROOT, keys("PATIENT", "P1"), Level.STUDY, Scope(), "studies"),
        (PATIENT_ROOT, keys("STUDY", "P1", ["1.2", "1.3"]), Level.STUDY, Scope(), "studies"),
        (PATIENT_ROOT, keys("SERIES", "P1", "1.2", "1.4"), Level.SERIES, Scope(Uid("1.2")), "studies/1.2/series"),
        (
            PATIENT_ROOT,
            keys("IMAGE", "P1", "1.2", "1.4", ["1.5", "1.6"]),
            Level.INSTANCE,
            Scope(Uid("1.2"), Uid("1.4")),
            "studies/1.2/series/1.4/instances",
        ),
        (STUDY_ROOT, keys("STUDY", "", "1.2"), Level.STUDY, Scope(), "studies"),
        (STUDY_ROOT, keys("SERIES", "", "1.2", ["1.4", "1.5"]), Level.SERIES, Scope(Uid("1.2")), "studies/1.2/series"),
        (
            STUDY_ROOT,
            keys("IMAGE", "", "1.2", "1.4", "1.5"),
            Level.INSTANCE,
            Scope(Uid("1.2"), Uid("1.4")),
            "studies/1.2/series/1.4/instances",
        ),
    ],
)
def test_req_111_each_level_of_each_model(
    model: InformationModel, asked: Keys, level: Level, scope: Scope, resource: str
) -> None:
    """REQ-111, REQ-124: single values above the level, one or a list of UIDs at it."""
    found = read(model, asked)
    assert isinstance(found.plan, Plan)
    assert (found.plan.level, found.plan.scope, found.resource) == (level, scope, resource)
    assert found.plan.keys


@pytest.mark.parametrize(
    ("model", "asked", "tag", "says"),
    [
        (STUDY_ROOT, {"StudyInstanceUID": "1.2"}, LEVEL, "missing: STUDY, SERIES, IMAGE"),
        (STUDY_ROOT, keys("", "", "1.2"), LEVEL, "missing"),
        (STUDY_ROOT, keys("VOLUME", "P1"), LEVEL, "no level of Study Root"),
        (STUDY_ROOT, keys("PATIENT"), PATIENT_ID, "PatientID is missing"),
        (STUDY_ROOT, keys("study", "", "1.2"), LEVEL, "no level of Study Root"),
        (PATIENT_ROOT, keys("PATIENT"), PATIENT_ID, "PatientID is missing"),
        (PATIENT_ROOT, keys("PATIENT", ["P1", "P2"]), PATIENT_ID, "one value"),
        (PATIENT_ROOT, keys("PATIENT", "*"), PATIENT_ID, "wild cards"),
        (PATIENT_ROOT, keys("PATIENT", "P?"), PATIENT_ID, "wild cards"),
        (PATIENT_ROOT, keys("STUDY", "", "1.2"), PATIENT_ID, "needs PatientID"),
        (PATIENT_ROOT, keys("PATIENT", "P1", "1.2"), STUDY, "StudyInstanceUID is no key"),
        (STUDY_ROOT, keys("STUDY"), STUDY, "StudyInstanceUID is missing"),
        (STUDY_ROOT, keys("STUDY", "", "1.2.*"), STUDY, "not a UID"),
        (STUDY_ROOT, keys("STUDY", "P1", "1.2"), PATIENT_ID, "PatientID is no key"),
        (STUDY_ROOT, keys("STUDY", "", "1.2", "1.4"), SERIES, "SeriesInstanceUID is no key"),
        (STUDY_ROOT, keys("SERIES", "", "", "1.4"), STUDY, "SERIES level needs StudyInstanceUID"),
        (STUDY_ROOT, keys("SERIES", "", ["1.2", "1.3"], "1.4"), STUDY, "takes one value"),
        (STUDY_ROOT, keys("IMAGE", "", "1.2", "1.4"), IMAGE, "SOPInstanceUID is missing"),
        (STUDY_ROOT, keys("IMAGE", "", "1.2", "", "1.5"), SERIES, "needs SeriesInstanceUID"),
        (STUDY_ROOT, {**keys("STUDY", "", "1.2"), "PatientName": "Doe*"}, PATIENT_NAME, "PatientName is no key"),
        (STUDY_ROOT, {**keys("STUDY", "", "1.2"), "QueryRetrieveView": "ENHANCED"}, VIEW, "Enhanced"),
    ],
)
def test_req_111_a_wrong_identifier_names_the_offending_element(
    model: InformationModel, asked: Keys, tag: int, says: str
) -> None:
    """REQ-111, REQ-123: never conversion to Enhanced Multi-Frame."""
    with pytest.raises(BadIdentifier) as refusal:
        read(model, asked)
    assert refusal.value.tags[0] == tag
    assert says in refusal.value.problem
    assert len(refusal.value.problem) <= 64, "an Error Comment is LO"


def test_req_111_empty_keys_and_a_character_set_ask_for_nothing() -> None:
    empty = {"PatientName": "", "SeriesInstanceUID": "", "SpecificCharacterSet": "ISO_IR 100"}
    asked: Keys = {**keys("STUDY", "", "1.2"), **empty}
    assert read(STUDY_ROOT, asked).query == "StudyInstanceUID=1.2"


def test_orthanc_asks_for_a_patient_in_the_study_root_model() -> None:
    assert read(STUDY_ROOT, keys("PATIENT", "P1")) == read(PATIENT_ROOT, keys("PATIENT", "P1"))


@pytest.mark.parametrize(
    ("model", "asked", "scope"),
    [
        (STUDY_ROOT, keys("SERIES", "", "", ["1.4", "1.5"]), Scope()),
        (STUDY_ROOT, keys("IMAGE", "", "", "", "1.5"), Scope()),
        (STUDY_ROOT, keys("IMAGE", "", "1.2", "", "1.5"), Scope(Uid("1.2"))),
        (PATIENT_ROOT, keys("STUDY", "", "1.2"), Scope()),
    ],
)
def test_req_123_keys_above_may_be_left_out_if_relational_was_negotiated(
    model: InformationModel, asked: Keys, scope: Scope
) -> None:
    """REQ-123."""
    with pytest.raises(BadIdentifier):
        read(model, asked)
    found = read(model, asked, relational=True)
    assert isinstance(found.plan, Plan)
    assert found.plan.scope == scope


def test_relational_does_not_mean_everything() -> None:
    for asked in (keys("IMAGE", "", "1.2", "1.4"), keys("STUDY"), {**keys("STUDY", "", "1.2"), "Modality": "CT"}):
        with pytest.raises(BadIdentifier):
            read(STUDY_ROOT, asked, relational=True)


def test_a_long_list_of_uids_is_shown_in_part() -> None:
    uids = [f"1.2.3.{number}" for number in range(1, 1001)]
    found = read(STUDY_ROOT, keys("STUDY", "", uids))
    assert len(found.query) == 200


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        ({"level": "IMAGE", "SOPInstanceUID": "1.2"}, LEVEL),
        ({"SOPInstanceUID": ""}, IMAGE),
        ({"SOPInstanceUID": "1.2", "StudyInstanceUID": "1.3"}, STUDY),
    ],
)
def test_a_non_patient_model_has_no_level_and_one_key(asked: Keys, tag: int) -> None:
    """dicom-facts C.3."""
    with pytest.raises(BadIdentifier) as refusal:
        read_non_patient_retrieve(HANGING, read_identifier(identifier(**asked), EXPLICIT))
    assert refusal.value.tags[0] == tag
    assert len(refusal.value.problem) <= 64


def test_a_non_patient_model_takes_a_list() -> None:
    data_set = read_identifier(identifier(SOPInstanceUID=["1.2", "1.3"]), EXPLICIT)
    for model in NON_PATIENT_MODELS:
        found = read_non_patient_retrieve(model, data_set)
        assert found.resource == model.category.name
        assert found.query == "SOPInstanceUID=1.2,1.3"


def test_the_classes_of_the_non_patient_models() -> None:
    """dicom-facts C.2."""
    root = "1.2.840.10008.5.1.4."
    assert {(model.move.removeprefix(root), model.get.removeprefix(root)) for model in NON_PATIENT_MODELS} == {
        ("38.3", "38.4"),
        ("39.3", "39.4"),
        ("43.3", "43.4"),
        ("44.3", "44.4"),
        ("45.3", "45.4"),
        ("20.2", "20.3"),
        ("1.1.200.5", "1.1.200.6"),
        ("1.1.201.3", "1.1.201.4"),
    }
