"""The one matcher, as QIDO-RS, C-FIND, SEND-RS and rules use it (PS3.4 §C.2.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.matcher import InvalidKey, MatchOptions, join_sequence_keys, parse_key
from router.dicom.matcher_keys import PersonName, SequenceKey, SingleValue, UidList, Universal, WildCard
from router.dicom.matcher_text import wildcard_test


class FakeHeader:
    """Values by keyword; a list of dicts is a sequence."""

    def __init__(self, **values: Any):
        self._values = {attribute_path(name)[0]: value for name, value in values.items()}

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        value = self._values.get(path[0], ())
        return (value,) if isinstance(value, str) else tuple(value)

    def items(self, tag: int) -> Sequence[FakeHeader]:
        return [FakeHeader(**item) for item in self._values.get(tag, ())]


def matches(
    keyword: str,
    value: str | Sequence[str],
    stored: str | Sequence[str],
    vr: str | None = None,
    zone: str = "",
    **options: Any,
) -> bool:
    header = FakeHeader(**{keyword: stored}, **({"TimezoneOffsetFromUTC": zone} if zone else {}))
    return parse_key(attribute_path(keyword), value, vr=vr, options=MatchOptions(**options)).matches(header)


@pytest.mark.parametrize("value", ["", "  ", "*", "**", "\\", ()])
def test_an_empty_value_or_an_asterisk_matches_everything_also_what_is_absent(value: str | Sequence[str]) -> None:
    key = parse_key(attribute_path("PatientID"), value)
    assert isinstance(key, Universal)
    assert key.matches(FakeHeader())


@pytest.mark.parametrize(
    ("keyword", "value", "stored", "expected"),
    [
        ("Modality", "CT", "CT", True),
        ("Modality", "ct", "CT", False),
        ("Modality", " CT ", "CT", True),
        ("Modality", "CT", "", False),
        ("Modality", "CT", ("MR", "CT"), True),
        ("ImageType", "PRIMARY", ("ORIGINAL", "PRIMARY", "AXIAL"), True),
        ("PatientID", "a", "A", False),
        ("PatientAge", "045Y", "045Y", True),
        ("AdditionalPatientHistory", "a\\b", "a\\b", True),
    ],
)
def test_a_single_value_is_compared_exactly_and_one_of_several_stored_is_enough(
    keyword: str, value: str, stored: str | Sequence[str], expected: bool
) -> None:
    assert matches(keyword, value, stored) is expected


@pytest.mark.parametrize(
    ("value", "stored", "expected"),
    [
        ("CHEST*", "CHEST ROUTINE", True),
        ("CHEST*", "chest routine", False),
        ("*CHEST", "CT CHEST", True),
        ("*EST*OUT*", "CHEST ROUTINE", True),
        ("?HEST", "CHEST", True),
        ("?HEST", "HEST", False),
        ("C?T*", "CAT", True),
        ("*.*", "a.b", True),
        ("*.*", "ab", False),
        ("*?", "", False),
        ("*??*", "ab", True),
        ("A*A", "A", False),
        ("a\n*", "a\nb", True),
        ("?", "\n", True),
    ],
)
def test_wild_cards(value: str, stored: str, expected: bool) -> None:
    assert matches("StudyDescription", value, stored) is expected


def test_b39_a_pattern_full_of_asterisks_is_answered_at_once() -> None:
    assert not wildcard_test("*a" * 300 + "*b")("a" * 60_000)
    assert not wildcard_test("*a?" * 300 + "*b")("a" * 60_000)


@pytest.mark.parametrize(("keyword", "value"), [("StudyInstanceUID", "1.2.*"), ("StudyDate", "2024*"), ("Rows", "5?")])
def test_wild_cards_are_refused_where_the_vr_takes_none(keyword: str, value: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(attribute_path(keyword), value)


@pytest.mark.parametrize("value", ["1.2.3\\1.2.4", ("1.2.3", "1.2.4"), "1.2.3\\1.2.4\\", "1.2.4\0"])
def test_any_uid_of_a_list_matches(value: str | Sequence[str]) -> None:
    key = parse_key(attribute_path("SOPInstanceUID"), value)
    assert isinstance(key, UidList)
    assert key.matches(FakeHeader(SOPInstanceUID="1.2.4"))
    assert not key.matches(FakeHeader(SOPInstanceUID="1.2.40"))
    assert not key.matches(FakeHeader())


@pytest.mark.parametrize("value", ["abc", "1..2", "1.2" * 30, "1.2 .3"])
def test_what_is_no_uid_is_refused_with_the_reason(value: str) -> None:
    with pytest.raises(InvalidKey, match="not a UID"):
        parse_key(attribute_path("StudyInstanceUID"), value)


@pytest.mark.parametrize(
    ("keyword", "value", "stored", "expected"),
    [
        ("StudyDate", "20240229", "20240229", True),
        ("StudyDate", "2024.02.29", "20240229", True),
        ("StudyDate", "20240229", "2024.02.29", True),
        ("StudyDate", "20240101-20241231", "20240630", True),
        ("StudyDate", "20240101-20241231", "20250101", False),
        ("StudyDate", "20240101 - 20241231", "20240101", True),
        ("StudyDate", "20240101-", "20991231", True),
        ("StudyDate", "-20240101", "20240101", True),
        ("StudyDate", "-20240101", "20240102", False),
        ("StudyDate", "20240101-", "garbage", False),
        ("StudyDate", "20240101-", "", False),
        ("StudyTime", "2230", "223000", True),
        ("StudyTime", "2230", "223000.000", True),
        ("StudyTime", "2230", "22:30", True),
        ("StudyTime", "2230", "223001", False),
        ("StudyTime", "1000-1030", "103059.999", True),
        ("StudyTime", "1000-1030", "1031", False),
        ("StudyTime", "08-", "075959.999999", False),
        ("StudyTime", "-08", "085959", True),
        ("StudyTime", "235959-", "235960", True),
    ],
)
def test_dates_and_times_are_compared_by_meaning(keyword: str, value: str, stored: str, expected: bool) -> None:
    assert matches(keyword, value, stored) is expected


@pytest.mark.parametrize(
    ("value", "stored", "zone", "expected"),
    [
        ("20240101120000", "20240101120000.000000", "", True),
        ("20240101120000+0100", "20240101110000+0000", "", True),
        ("20240101-0500", "20240101050000+0000", "", True),
        ("2023-2024", "20241231235959.9", "", True),
        ("2023-2024-0500", "20250101045959+0000", "", True),
        ("2023-2024-0500", "20250101050000+0000", "", False),
        ("20240101000000-0500-20240102000000-0500", "20240101", "", True),
        ("20240101120000+0000-", "20240101123000", "+0100", False),
        ("20240101120000+0000-", "20240101133000", "+0100", True),
        ("20240101120000+0000-", "20240101123000", "", True),
        ("-202402", "20240229235959", "", True),
        ("-202402", "20240301", "", False),
        ("202402-", "2024", "", False),
    ],
)
def test_date_times_honour_offsets_from_utc_and_partial_values(
    value: str, stored: str, zone: str, expected: bool
) -> None:
    assert matches("AcquisitionDateTime", value, stored, zone=zone) is expected


def test_the_askers_own_offset_holds_for_date_times_that_state_none() -> None:
    assert matches("AcquisitionDateTime", "20240101120000", "20240101110000+0000", offset_min=60)
    assert not matches("AcquisitionDateTime", "20240101120000", "20240101110000+0000", offset_min=0)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "20241301"),
        ("StudyDate", "2024"),
        ("StudyDate", "-"),
        ("StudyDate", "20241231-20240101"),
        ("StudyTime", "2530"),
        ("StudyTime", "2300-0100"),
        ("AcquisitionDateTime", "20240230"),
        ("AcquisitionDateTime", "2024+9900"),
        ("AcquisitionDateTime", "-"),
        ("AcquisitionDateTime", "2025-2024"),
    ],
)
def test_what_is_no_date_or_an_empty_range_is_refused(keyword: str, value: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(attribute_path(keyword), value)


@pytest.mark.parametrize(
    ("keyword", "value", "stored", "expected"),
    [
        ("SliceThickness", "1.50", "1.5", True),
        ("SliceThickness", "1.5e0", " +1.5".strip(), True),
        ("SeriesNumber", "7", "007", True),
        ("Rows", "512", "512", True),
        ("SliceThickness", "1.5", "1_5", False),
        ("SliceThickness", "1.5", "nan", False),
    ],
)
def test_numbers_are_compared_as_numbers(keyword: str, value: str, stored: str, expected: bool) -> None:
    assert matches(keyword, value, stored) is expected


@pytest.mark.parametrize("value", ["abc", "1-5", "nan", "1_000", "9" * 100])
def test_what_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(InvalidKey, match="not a number"):
        parse_key(attribute_path("SeriesNumber"), value)


@pytest.mark.parametrize(
    ("value", "stored", "expected"),
    [
        ("doe^john", "DOE^John", True),
        ("DOE^JOHN^^^", "Doe^John", True),
        ("doe", "Doe^John", False),
        ("doe*", "Doe^John", True),
        ("doe^*", "Doe", True),
        ("*^john", "DOE^JOHN", True),
        ("*^*^m*", "Doe^John", False),
        ("müller", "MÜLLER", True),
        ("mu\u0308ller", "Müller", True),
        ("muller", "Müller", False),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada*=山田*", "Yamada^Tarou=山田^太郎", True),
        ("yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("=山田*", "Yamada^Tarou=山田^太郎", True),
        ("=yamada*", "Yamada^Tarou=山田^太郎", False),
        ("yamada^tarou=", "Yamada^Tarou=山田^太郎", True),
        ("doe ^ john", "Doe^John", True),
        ("doe", "", False),
    ],
)
def test_names_fold_case_and_are_sought_in_each_component_group(value: str, stored: str, expected: bool) -> None:
    assert matches("PatientName", value, stored) is expected


def test_a_name_of_nothing_but_delimiters_matches_everything() -> None:
    assert isinstance(parse_key(attribute_path("PatientName"), "^=^"), Universal)


def test_a_path_into_a_sequence_is_met_by_any_item() -> None:
    key = parse_key(attribute_path("RequestAttributesSequence.ScheduledProcedureStepID"), "B")
    items = [{"ScheduledProcedureStepID": "A"}, {"ScheduledProcedureStepID": "B"}]
    assert key.matches(FakeHeader(RequestAttributesSequence=items))
    assert not key.matches(FakeHeader(RequestAttributesSequence=items[:1]))
    assert not key.matches(FakeHeader())


def test_all_keys_into_one_sequence_must_be_met_by_one_and_the_same_item() -> None:
    step, procedure = (
        parse_key(attribute_path(f"RequestAttributesSequence.{name}"), value)
        for name, value in (("ScheduledProcedureStepID", "A"), ("RequestedProcedureID", "2"))
    )
    modality = parse_key(attribute_path("Modality"), "CT")
    joined = join_sequence_keys([step, modality, procedure])
    assert [type(key) for key in joined] == [SequenceKey, SingleValue]
    apart = [
        {"ScheduledProcedureStepID": "A", "RequestedProcedureID": "1"},
        {"ScheduledProcedureStepID": "B", "RequestedProcedureID": "2"},
    ]
    assert not joined[0].matches(FakeHeader(RequestAttributesSequence=apart))
    together = [{"ScheduledProcedureStepID": "A", "RequestedProcedureID": "2"}]
    assert joined[0].matches(FakeHeader(RequestAttributesSequence=together))


def test_nested_sequences_are_joined_at_every_level() -> None:
    path = "RequestAttributesSequence.ScheduledProtocolCodeSequence."
    keys = [parse_key(attribute_path(path + name), value) for name, value in (("CodeValue", "1"), ("CodeMeaning", "x"))]
    (joined,) = join_sequence_keys(keys)
    codes = [{"CodeValue": "1", "CodeMeaning": "y"}, {"CodeValue": "2", "CodeMeaning": "x"}]
    assert not joined.matches(FakeHeader(RequestAttributesSequence=[{"ScheduledProtocolCodeSequence": codes}]))
    codes.append({"CodeValue": "1", "CodeMeaning": "x"})
    assert joined.matches(FakeHeader(RequestAttributesSequence=[{"ScheduledProtocolCodeSequence": codes}]))


@pytest.mark.parametrize(("keyword", "value"), [("RequestAttributesSequence", "x"), ("PixelData", "x")])
def test_a_sequence_and_bulk_data_take_no_value(keyword: str, value: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(attribute_path(keyword), value, vr=None if keyword != "PixelData" else "OW")


def test_several_values_are_refused_unless_multiple_value_matching_is_agreed() -> None:
    with pytest.raises(InvalidKey, match="one value"):
        parse_key(attribute_path("ModalitiesInStudy"), "CT\\PT")
    assert matches("ModalitiesInStudy", "CT\\PT", ("SR", "PT", "CT"), multiple_value=True)
    assert not matches("ModalitiesInStudy", "CT\\PT", ("SR", "CT"), multiple_value=True)
    assert matches("OtherPatientNames", ("doe^j", "roe"), ("ROE", "Doe^J"), multiple_value=True)
    with pytest.raises(InvalidKey, match="wild cards"):
        parse_key(attribute_path("ModalitiesInStudy"), "C*\\PT", options=MatchOptions(multiple_value=True))


def test_two_quotation_marks_ask_for_the_empty_value_only_when_agreed() -> None:
    assert matches("PatientID", '""', (), empty_value=True)
    assert matches("StudyDate", '""', "", empty_value=True)
    assert not matches("PatientID", '""', "1", empty_value=True)
    assert matches("PatientID", '""', '""')
    with pytest.raises(InvalidKey):
        parse_key(attribute_path("StudyDate"), '""')


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Modality", "CT"),
        ("StudyDescription", "C*"),
        ("PatientName", "doe"),
        ("SeriesNumber", "1"),
        ("StudyInstanceUID", "1.2"),
        ("StudyDate", "20240101"),
        ("StudyTime", "10-11"),
        ("AcquisitionDateTime", "2024"),
    ],
)
def test_a_required_key_matches_what_is_stored_empty_only_where_that_is_asked_for(keyword: str, value: str) -> None:
    assert matches(keyword, value, "", empty_matches=True)
    assert matches(keyword, value, (), empty_matches=True)
    assert not matches(keyword, value, "")
    assert not matches(keyword, value, ())


def test_an_attribute_that_the_dictionary_does_not_know_is_matched_as_the_vr_says() -> None:
    private = (0x00091001,)
    assert isinstance(parse_key(private, "GE*", vr="LO"), WildCard)
    assert isinstance(parse_key(private, "doe", vr="PN"), PersonName)
    assert isinstance(parse_key(private, "plain"), SingleValue)


def test_an_overlong_pattern_is_refused() -> None:
    with pytest.raises(InvalidKey, match="1024"):
        parse_key(attribute_path("StudyDescription"), "a*" * 600)


def test_the_reason_never_repeats_more_than_a_line_of_the_value() -> None:
    with pytest.raises(InvalidKey) as caught:
        parse_key(attribute_path("SeriesNumber"), "x\r\n" * 100_000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
