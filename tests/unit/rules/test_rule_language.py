"""Each feature of the rule language, as docs/rules.md describes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from router.dicom.attributes import attribute_path
from router.dicom.envelope import Source
from router.dicom.header import Header
from router.dicom.uids import AETitle
from router.rules import RuleBook

Book = Callable[[str], RuleBook]
MakeHeader = Callable[..., Header]

CT1 = Source("C-STORE", "10.1.2.3", AETitle("CT1"), AETitle("SENDRS"))
WEB = Source("STOW-RS", "10.9.9.9")


def fires(book: Book, asked: str, header: Header, source: Source = CT1, key: str = "match") -> bool:
    """Say whether a rule with this `match` (or other key) fires."""
    return bool(book(f'[[rule]]\nname = "r"\nsend = ["archive"]\n{key} = {{ {asked} }}').decide(source, header).routes)


@pytest.mark.parametrize(
    ("asked", "values", "expected"),
    [
        ('Modality = "CT"', {"Modality": "CT"}, True),
        ('Modality = "CT"', {"Modality": "MR"}, False),
        ('Modality = "CT"', {"Modality": ""}, False),
        ('Modality = "CT"', {}, False),
        ('"00080060" = "CT"', {"Modality": "CT"}, True),
        ('"(0008,0060)" = "CT"', {"Modality": "CT"}, True),
        ('Modality = ["CT", "MR"]', {"Modality": "MR"}, True),
        ('Modality = ["CT", "M?"]', {"Modality": "MR"}, True),
        ('Modality = ["CT", "MR"]', {"Modality": "US"}, False),
        ('StudyDescription = "*HEAD*"', {"StudyDescription": "CT HEAD"}, True),
        ('PatientName = "doe*"', {"PatientName": "DOE^JOHN"}, True),
        ('SOPClassUID = ["1.2.3", "1.2.4"]', {"SOPClassUID": "1.2.4\0"}, True),
        ('ImageType = "PRIMARY"', {"ImageType": "ORIGINAL\\PRIMARY"}, True),
        ("SeriesNumber = 3", {"SeriesNumber": "03"}, True),
        ("SliceThickness = 1.5", {"SliceThickness": "1.50"}, True),
        ("Rows = 512", {"Rows": b"\x00\x02"}, True),
        ("AccessionNumber = 12345", {"AccessionNumber": "12345"}, True),
        ("StudyDate = 2024-02-29", {"StudyDate": "20240229"}, True),
        ('StudyDate = "20240101-"', {"StudyDate": "20240229"}, True),
        ("StudyTime = 08:30:00", {"StudyTime": "0830"}, True),
        ("AcquisitionDateTime = 2024-02-29T08:30:00+01:00", {"AcquisitionDateTime": "20240229073000+0000"}, True),
        ("AcquisitionDateTime = 2024-02-29T08:30:00", {"AcquisitionDateTime": "202402290830"}, True),
        ("SliceThickness = { max = 1.5 }", {"SliceThickness": "1.5"}, True),
        ("SliceThickness = { max = 1.5 }", {"SliceThickness": "1.6"}, False),
        ("SliceThickness = { max = 1.5 }", {"SliceThickness": ""}, False),
        ("SliceThickness = { max = 1.5 }", {"SliceThickness": "thin"}, False),
        ("PixelSpacing = { min = 2, max = 3 }", {"PixelSpacing": "1\\4"}, False),
        ("PixelSpacing = { min = 2, max = 3 }", {"PixelSpacing": "1\\2.5"}, True),
        ('PatientAge = { max = "018Y" }', {"PatientAge": "011M"}, True),
        ('PatientAge = { max = "018Y" }', {"PatientAge": "019Y"}, False),
        ('PatientAge = { max = "017Y" }', {"PatientAge": "215M"}, True),
        ('PatientAge = { max = "017Y" }', {"PatientAge": "216M"}, False),
        ('PatientAge = { min = "002W" }', {"PatientAge": "013D"}, False),
        ("StudyTime = { min = 08:00:00, max = 16:59:59 }", {"StudyTime": "165959.5"}, True),
        ('StudyTime = { min = "08", max = "16" }', {"StudyTime": "165959.5"}, True),
        ('StudyTime = { min = "08", max = "16" }', {"StudyTime": "17"}, False),
        ("StudyDate = { min = 2024-01-01 }", {"StudyDate": "20231231"}, False),
        ('AcquisitionDateTime = { max = "2024" }', {"AcquisitionDateTime": "20241231235959.9"}, True),
        ("""StudyDescription = { regex = '^CT\\b' }""", {"StudyDescription": "CT HEAD"}, True),
        ("""StudyDescription = { regex = '^ct\\b' }""", {"StudyDescription": "CT HEAD"}, False),
        ("""StudyDescription = { regex = '(?i)head$' }""", {"StudyDescription": "CT HEAD"}, True),
        ("StudyDescription = { present = true }", {"StudyDescription": "x"}, True),
        ("StudyDescription = { present = true }", {"StudyDescription": ""}, False),
        ("StudyDescription = { present = false }", {"StudyDescription": ""}, True),
        ("StudyDescription = { present = false }", {}, True),
        ("PixelData = { present = true }", {"PixelData": b"\0\0"}, True),
        ("PixelData = { present = false }", {"PixelData": b"\0\0"}, False),
        ('Modality = { not = "CT" }', {"Modality": "MR"}, True),
        ('Modality = { not = "CT" }', {"Modality": "CT"}, False),
        ('Modality = { not = "CT" }', {}, True),
        ('Modality = { not = ["CT", "MR"] }', {"Modality": "MR"}, False),
        ('ImageType = { not = "LOCALIZER" }', {"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, False),
        ('Modality = { not = "CT", present = true }', {}, False),
        ("SliceThickness = { not = { min = 2, max = 3 } }", {"SliceThickness": "2.5"}, False),
        ("SliceThickness = { not = { min = 2, max = 3 } }", {"SliceThickness": "4"}, True),
        ("StudyDescription = { not = { regex = 'TEST' } }", {"StudyDescription": "A TEST"}, False),
        ("StudyDescription = { not = { present = false } }", {"StudyDescription": "x"}, True),
        ('"(0009,1001)" = "GE*"', {"00091001": "GEMS"}, True),
        ('Modality = "CT", SliceThickness = { max = 2 }', {"Modality": "CT", "SliceThickness": "3"}, False),
    ],
)
def test_what_match_can_ask(book: Book, header: MakeHeader, asked: str, values: dict[str, Any], expected: bool) -> None:
    assert fires(book, asked, header(**values)) is expected


def test_a_path_into_a_sequence_may_be_quoted_or_not(book: Book, header: MakeHeader) -> None:
    items = header(RequestAttributesSequence=[{"ScheduledProcedureStepID": "A"}, {"ScheduledProcedureStepID": "B"}])
    for asked in (
        '"RequestAttributesSequence.ScheduledProcedureStepID" = "B"',
        'RequestAttributesSequence.ScheduledProcedureStepID = "B"',
        'RequestAttributesSequence = { ScheduledProcedureStepID = "B" }',
        '"(0040,0275).00400009" = "B"',
    ):
        assert fires(book, asked, items)
        assert not fires(book, asked.replace('"B"', '"C"'), items)


def test_what_is_asked_in_one_sequence_must_be_met_by_one_item(book: Book, header: MakeHeader) -> None:
    asked = 'RequestAttributesSequence = { ScheduledProcedureStepID = "A", RequestedProcedureID = "2" }'
    apart = [
        {"ScheduledProcedureStepID": "A", "RequestedProcedureID": "1"},
        {"ScheduledProcedureStepID": "B", "RequestedProcedureID": "2"},
    ]
    assert not fires(book, asked, header(RequestAttributesSequence=apart))
    both = [{"ScheduledProcedureStepID": "A", "RequestedProcedureID": "2"}]
    assert fires(book, asked, header(RequestAttributesSequence=[*apart, *both]))


def test_not_within_a_sequence_means_in_no_item(book: Book, header: MakeHeader) -> None:
    asked = 'RequestAttributesSequence.ScheduledProcedureStepID = { not = "A" }'
    items = [{"ScheduledProcedureStepID": "A"}, {"ScheduledProcedureStepID": "B"}]
    assert not fires(book, asked, header(RequestAttributesSequence=items))
    assert fires(book, asked, header(RequestAttributesSequence=items[1:]))
    assert fires(book, asked, header())


def test_a_sequence_is_present_when_it_has_an_item(book: Book, header: MakeHeader) -> None:
    asked = "RequestAttributesSequence = { present = true }"
    assert fires(book, asked, header(RequestAttributesSequence=[{}]))
    assert not fires(book, asked, header(RequestAttributesSequence=[]))
    assert not fires(book, asked, header())


@pytest.mark.parametrize(
    ("asked", "source", "expected"),
    [
        ('calling_aet = "CT1"', CT1, True),
        ('calling_aet = "CT*"', CT1, True),
        ('calling_aet = "ct1"', CT1, False),
        ('calling_aet = ["MR?", "CT?"]', CT1, True),
        ('called_aet = "SENDRS"', CT1, True),
        ('called_aet = "OTHER"', CT1, False),
        ('address = "10.1.0.0/16"', CT1, True),
        ('address = "10.1.2.3"', CT1, True),
        ('address = ["192.168.0.0/16", "10.1.2.0/24"]', CT1, True),
        ('address = "10.2.0.0/16"', CT1, False),
        ('address = "10.1.0.0/16"', Source("C-STORE", "::ffff:10.1.2.3"), True),
        ('address = "fd00::/8"', Source("C-STORE", "fd00::1"), True),
        ('address = "fd00::/8"', CT1, False),
        ('address = "10.0.0.0/8"', Source("C-STORE", "no address"), False),
        ('protocol = "C-STORE"', CT1, True),
        ('protocol = "C-STORE"', WEB, False),
        ('protocol = ["C-STORE", "STOW-RS"]', WEB, True),
        ('protocol = "STOW-RS", address = "10.9.9.9"', WEB, True),
        ('calling_aet = "CT1"', WEB, False),
        ('calling_aet = "CT1", address = "10.2.0.0/16"', CT1, False),
    ],
)
def test_what_from_can_ask(book: Book, header: MakeHeader, asked: str, source: Source, expected: bool) -> None:
    assert fires(book, asked, header(), source, key="from") is expected


def test_unless_holds_when_all_of_it_holds(book: Book, header: MakeHeader) -> None:
    asked = 'Modality = "SR", StudyDescription = "*RESEARCH*"'
    assert fires(book, asked, header(Modality="SR", StudyDescription="HEAD"), key="unless")
    assert not fires(book, asked, header(Modality="SR", StudyDescription="A RESEARCH"), key="unless")


def test_wanted_names_every_attribute_that_any_rule_asks_for(book: Book) -> None:
    rules = book("""
[[rule]]
name = "a"
match = { Modality = "CT", RequestAttributesSequence.ScheduledProcedureStepID = "X", AcquisitionDateTime = "2024" }
unless = { PatientName = { not = "A*" } }
send = ["archive"]
""")
    names = "Modality RequestAttributesSequence.ScheduledProcedureStepID AcquisitionDateTime PatientName"
    assert rules.wanted == {attribute_path(name) for name in (*names.split(), "TimezoneOffsetFromUTC")}


def test_b98_a_text_that_looks_like_code_is_only_text(book: Book, header: MakeHeader) -> None:
    for evil in ("__import__('os').system('x')", "{{7*7}}", "!!python/object:os.system", "${jndi:ldap://x}", "%s{0}"):
        assert fires(book, f'StudyDescription = "{evil}"', header(StudyDescription=evil))
        assert not fires(book, f'StudyDescription = "{evil}"', header(StudyDescription="49"))


def test_b39_a_regex_bomb_is_answered_in_linear_time(book: Book, header: MakeHeader) -> None:
    text = "a" * 100_000 + "!"
    assert not fires(book, "TextValue = { regex = '(a+)+$' }", header(TextValue=text))
    assert fires(book, "TextValue = { regex = '(a+)+!$' }", header(TextValue=text))
