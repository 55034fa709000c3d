"""The rule files that we ship do what they and their README say."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.dicom.envelope import Source
from router.dicom.header import Header
from router.dicom.sop_classes import name_of
from router.dicom.uids import AETitle, Uid
from router.rules import RuleBook, load_rules

ROOT = Path(__file__).parents[3]
RULES = ROOT / "rules"
EXAMPLES = sorted((RULES / "examples").glob("*.toml"))
DESTINATIONS = {name for file in EXAMPLES for rule in tomllib.loads(file.read_text())["rule"] for name in rule["send"]}

CT1 = Source("C-STORE", "10.1.2.3", AETitle("CT1"), AETitle("SENDRS"))
EMERGENCY = Source("C-STORE", "10.20.1.9", AETitle("DX9"), AETitle("SENDRS"))
MakeHeader = Callable[..., Header]
Shipped = Callable[[str], RuleBook]

CHEST_CT = {"Modality": "CT", "BodyPartExamined": "CHEST", "SliceThickness": "1.25", "ImageType": "ORIGINAL\\PRIMARY"}


@pytest.fixture
def shipped(tmp_path: Path) -> Shipped:
    """Load one example alone, as somebody who copies it would."""

    def load(number: str) -> RuleBook:
        (file,) = RULES.glob(f"examples/{number}-*.toml")
        shutil.copy(file, tmp_path)
        return load_rules(tmp_path, DESTINATIONS)

    return load


def destinations(book: RuleBook, header: Header, source: Source = CT1) -> set[str]:
    decision = book.decide(source, header)
    sent = {name for vote in decision.votes if vote.matched and not vote.vetoed for name in vote.destinations}
    return sent | {route.destination for route in decision.routes}


def test_the_folder_as_shipped_routes_nothing_and_needs_no_destination() -> None:
    assert load_rules(RULES, []).rules == ()


def test_the_examples_load_together_without_an_error_or_a_warning() -> None:
    book = load_rules(RULES / "examples", DESTINATIONS)
    assert len(book.rules) >= len(EXAMPLES)
    assert book.warnings == ()


def test_the_readme_lists_every_example() -> None:
    listed = re.findall(r"^\| `(.*?\.toml)`", (RULES / "README.md").read_text(), re.MULTILINE)
    assert listed == [file.name for file in EXAMPLES]


def test_together_a_chest_ct_goes_where_the_readme_says(header: MakeHeader) -> None:
    decision = load_rules(RULES / "examples", DESTINATIONS).decide(CT1, header(**CHEST_CT))
    assert [route.destination for route in decision.routes] == ["archive"]
    assert [(vote.level, vote.destinations, vote.matched) for vote in decision.votes] == [
        ("series", ("ai",), True),
        ("study", ("cloud",), True),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"ClinicalTrialProtocolID": "ABC-1"},
        {"StudyDescription": "Chest (RESEARCH)"},
        {"StudyDescription": "Phase II trial"},
    ],
)
def test_research_stays_apart_from_everything_else(header: MakeHeader, values: dict[str, str]) -> None:
    book = load_rules(RULES / "examples", DESTINATIONS)
    assert destinations(book, header(**CHEST_CT, **values)) == {"research"}


def test_an_industrial_word_is_not_taken_for_research(shipped: Shipped, header: MakeHeader) -> None:
    assert destinations(shipped("05"), header(StudyDescription="Intrial atrium")) == set()


def test_everything_goes_to_the_archive(shipped: Shipped, header: MakeHeader) -> None:
    assert destinations(shipped("10"), header()) == {"archive"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"ai"}),
        ({"BodyPartExamined": "THORAX"}, {"ai"}),
        ({"SliceThickness": "5"}, set()),
        ({"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, set()),
        ({"Modality": "MR"}, set()),
        ({"StudyDescription": "LUNG RESEARCH 2"}, set()),
    ],
)
def test_thin_chest_ct_goes_to_the_ai_server(
    shipped: Shipped, header: MakeHeader, changed: dict[str, str], expected: set[str]
) -> None:
    book = shipped("20")
    assert destinations(book, header(**CHEST_CT | changed)) == expected
    assert destinations(book, header(**CHEST_CT), EMERGENCY) == set()


def test_dose_reports_are_known_by_their_class(shipped: Shipped, header: MakeHeader) -> None:
    book = shipped("30")
    (file,) = RULES.glob("examples/30-*.toml")
    said = re.findall(r'"([0-9.]+)", +# (.+)', file.read_text())
    assert len(said) == 4
    for uid, name in said:
        assert name_of(Uid(uid)) == f"{name} Storage"
        assert destinations(book, header(SOPClassUID=uid, Modality="SR")) == {"dose"}
    assert destinations(book, header(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")) == set()


@pytest.mark.parametrize(
    ("time", "source", "expected"),
    [
        ("0305", EMERGENCY, {"oncall"}),
        ("190000", EMERGENCY, {"oncall"}),
        ("185959.9", EMERGENCY, set()),
        ("0700", EMERGENCY, set()),
        ("", EMERGENCY, set()),
        ("0305", CT1, set()),
    ],
)
def test_the_emergency_department_is_read_elsewhere_at_night(
    shipped: Shipped, header: MakeHeader, time: str, source: Source, expected: set[str]
) -> None:
    assert destinations(shipped("40"), header(Modality="DX", StudyTime=time), source) == expected


def test_one_burnt_in_name_keeps_a_study_from_the_cloud(shipped: Shipped, header: MakeHeader) -> None:
    book = shipped("50")
    assert destinations(book, header(Modality="MR", BurnedInAnnotation="NO")) == {"cloud"}
    (vote,) = book.decide(CT1, header(Modality="OT", BurnedInAnnotation="YES")).votes
    assert vote.vetoed


@pytest.mark.parametrize(
    ("age", "requests", "expected"),
    [
        ("011M", [{"RequestedProcedureID": "1", "RequestedProcedureDescription": "CT PAED"}], {"paediatrics"}),
        ("017Y", [{"RequestedProcedureID": "1", "RequestedProcedureDescription": "PAED MR"}], {"paediatrics"}),
        ("018Y", [{"RequestedProcedureID": "1", "RequestedProcedureDescription": "PAED MR"}], set()),
        ("011M", [{"RequestedProcedureID": "1"}, {"RequestedProcedureDescription": "PAED MR"}], set()),
        ("011M", [], set()),
    ],
)
def test_children_go_to_the_childrens_hospital(
    shipped: Shipped, header: MakeHeader, age: str, requests: list[Any], expected: set[str]
) -> None:
    assert destinations(shipped("60"), header(PatientAge=age, RequestAttributesSequence=requests)) == expected


def test_every_rule_in_the_language_reference_loads(tmp_path: Path) -> None:
    """The page's fences are whole rules, or lines of which each is a `match` or `from` of its own."""
    text = (ROOT / "docs" / "rules.md").read_text()
    count = 0
    for fence in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        rules = (
            [fence]
            if "[[rule]]" in fence
            else [f"[[rule]]\nname = 'r'\nsend = ['ai']\n{one}" for one in fence.splitlines()]
        )
        for rule in rules:
            (tmp_path / "a.toml").write_text(rule)
            count += len(load_rules(tmp_path, ["ai", "archive"]).rules)
    assert count == 9
    for asked in re.findall(r"\| `(\w+ = (?:[^`|])+)` \|", text):
        (tmp_path / "a.toml").write_text(f"[[rule]]\nname = 'r'\nsend = ['ai']\nmatch = {{ {asked} }}")
        assert load_rules(tmp_path, ["ai"]).warnings == ()
        count += 1
    assert count == 9 + 14
