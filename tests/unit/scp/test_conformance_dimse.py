"""docs/conformance/dimse.md says what the services do: its SOP classes and statuses are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.dicom.non_patient_models import NON_PATIENT_MODELS, NonPatientModel
from router.dicom.query_retrieve import CANCELLED, PATIENT_ROOT, STUDY_ROOT, InformationModel
from router.dicom.sub_operation_status import FAILURE, PENDING, SUCCESS, WARNING
from router.scp import find, retrieve_search

PAGE = Path(__file__).parents[3] / "docs" / "conformance" / "dimse.md"
MODELS = (PATIENT_ROOT, STUDY_ROOT, *NON_PATIENT_MODELS)


def section(title: str) -> str:
    """Give a section of the page, without its heading."""
    return PAGE.read_text().partition(f"\n## {title}")[2].partition("\n## ")[0]


def statuses(text: str) -> set[int]:
    """Give the first column of the table of statuses."""
    rows = text.partition("| status |")[2].partition("\n\n")[0].splitlines()[2:]
    return {int(row.split("|")[1], 16) for row in rows}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_sop_class_stands_there(model: InformationModel | NonPatientModel) -> None:
    assert f"| {model.name} | {model.find} |" in section("C-FIND as SCP")
    assert f"| {model.name} | {model.move} | {model.get} |" in section("C-MOVE and C-GET")


def test_no_other_sop_class_stands_there() -> None:
    for title in ("C-FIND as SCP", "C-MOVE and C-GET"):
        table = section(title).partition("| information model |")[2].partition("\n\n")[0]
        assert len(table.splitlines()) == len(MODELS) + 2


def test_the_statuses_are_those_that_are_answered() -> None:
    assert statuses(section("C-FIND as SCP")) == {
        find.PENDING,
        find.PENDING_IN_PART,
        find.SUCCESS,
        CANCELLED,
        find.OUT_OF_RESOURCES,
        find.DOES_NOT_MATCH_SOP_CLASS,
        find.UNABLE_TO_PROCESS,
        0x0110,
    }
    assert statuses(section("C-MOVE and C-GET")) == {
        SUCCESS,
        PENDING,
        CANCELLED,
        WARNING,
        FAILURE,
        retrieve_search.OUT_OF_RESOURCES_MATCHES,
        retrieve_search.MOVE_DESTINATION_UNKNOWN,
        retrieve_search.IDENTIFIER_DOES_NOT_MATCH,
        retrieve_search.UNABLE_TO_PROCESS,
        0x0110,
    }


def test_req_141_147_150_the_options_of_c_move_say_how_it_is_decided_mapped_and_secured() -> None:
    options, mechanisms = section("Alternative Sub-operation"), section("Delivery mechanisms")
    for root in ("Patient Root", "Study Root"):
        assert f"**{root} Query/Retrieve" in options
    for words in ("Alternative Sub-operation Mechanism Option is supported", "Proxy Option is supported"):
        assert words in options
    for words in (
        "*Decision logic:*",
        "*Mapping:*",
        "*Security:*",
        "*AE title to endpoint*",
        "*Decision*",
        "*Security*",
    ):
        assert words in options
    for words in ("**From AE title to endpoint.**", "**Decision.**", "**Counters.**", "**Security.**"):
        assert words in mechanisms
