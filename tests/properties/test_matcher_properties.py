"""The matcher and the rule engine against slow, obvious references, and against anything that can be typed or sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.dicom.attributes import AttributePath, attribute_path, vr_of
from router.dicom.elements import Element
from router.dicom.envelope import Source
from router.dicom.header import Flaw, Header
from router.dicom.matcher import InvalidKey, MatchOptions, parse_key
from router.dicom.matcher_dates import read_date, read_date_time, read_time
from router.dicom.matcher_text import wildcard_test
from router.dicom.uids import AETitle
from router.errors import ConfigError, ConfigErrors
from router.rules import RuleBook, explain, load_rules

EVERY_VR = re.findall("..", "AEASATCSDADSDTFDFLISLOLTOBPNSHSLSQSSSTSVTMUCUIULUNURUSUTUV")


class OneValue:
    """A header whose every attribute has the same values."""

    def __init__(self, *texts: str):
        self._texts = texts

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        return self._texts

    def items(self, tag: int) -> Sequence[OneValue]:
        return [self]


def slow_wildcard(pattern: str, text: str) -> bool:
    """Every cell says: do the first i of the pattern fit the first j of the text?"""
    fits = [[False] * (len(text) + 1) for _ in range(len(pattern) + 1)]
    fits[0][0] = True
    for i, sign in enumerate(pattern, 1):
        for j in range(len(text) + 1):
            if sign == "*":
                fits[i][j] = fits[i - 1][j] or (j > 0 and fits[i][j - 1])
            elif j > 0:
                fits[i][j] = fits[i - 1][j - 1] and sign in ("?", text[j - 1])
    return fits[-1][-1]


@given(st.text("ab.*?\n", max_size=12), st.text("ab.*?\n", max_size=16))
@settings(max_examples=400)
def test_wild_cards_agree_with_the_slow_reference(pattern: str, text: str) -> None:
    assert wildcard_test(pattern)(text) is slow_wildcard(pattern, text)


dates = st.dates()
moments = st.datetimes()


@given(st.one_of(st.none(), dates), st.one_of(st.none(), dates), dates)
def test_a_range_of_dates_agrees_with_the_calendar(low: Any, high: Any, day: Any) -> None:
    written = [f"{one.year:04}{one.month:02}{one.day:02}" if one else "" for one in (low, high, day)]
    expected = (low is None or low <= day) and (high is None or day <= high)
    if (low is None and high is None) or (low and high and low > high):
        with pytest.raises(InvalidKey):
            parse_key(attribute_path("StudyDate"), f"{written[0]}-{written[1]}")
    else:
        key = parse_key(attribute_path("StudyDate"), f"{written[0]}-{written[1]}")
        assert key.matches(OneValue(written[2])) is expected


@st.composite
def clock_times(draw: st.DrawFn) -> tuple[str, int, int]:
    """A TM value, written to some precision, with the first and the last microsecond that it stands for."""
    numbers = [draw(st.integers(0, top)) for top in (23, 59, 59)]
    precision = draw(st.integers(1, 3))
    digits = draw(st.integers(0, 6)) if precision == 3 else 0
    fraction = draw(st.integers(0, 10**digits - 1))
    text = "".join(f"{number:02}" for number in numbers[:precision]) + (f".{fraction:0{digits}}" if digits else "")
    seconds = sum(n * unit for n, unit in zip(numbers[:precision], (3600, 60, 1), strict=False))
    first = seconds * 10**6 + fraction * 10 ** (6 - digits)
    span = {1: 3600 * 10**6, 2: 60 * 10**6, 3: 10 ** (6 - digits)}[precision]
    return text, first, first + span - 1


@given(clock_times(), clock_times(), clock_times())
def test_a_range_of_times_agrees_with_the_clock(
    low: tuple[str, int, int], high: tuple[str, int, int], stored: tuple[str, int, int]
) -> None:
    if high[2] < low[1]:
        with pytest.raises(InvalidKey):
            parse_key(attribute_path("StudyTime"), f"{low[0]}-{high[0]}")
    else:
        key = parse_key(attribute_path("StudyTime"), f"{low[0]}-{high[0]}")
        assert key.matches(OneValue(stored[0])) is (low[1] <= stored[1] <= high[2])
    assert parse_key(attribute_path("StudyTime"), low[0]).matches(OneValue(stored[0])) is (low[1] == stored[1])


@given(moments, moments, st.integers(-12 * 60, 14 * 60), st.integers(-12 * 60, 14 * 60))
def test_date_times_with_offsets_are_compared_as_instants(low: Any, stored: Any, zone: int, other_zone: int) -> None:
    def written(moment: Any, offset: int) -> str:
        sign = "-" if offset < 0 else "+"
        return f"{moment.year:04}{moment:%m%d%H%M%S.%f}{sign}{abs(offset) // 60:02}{abs(offset) % 60:02}"

    key = parse_key(attribute_path("AcquisitionDateTime"), written(low, zone) + "-")
    is_later = stored - low >= timedelta(minutes=other_zone - zone)
    assert key.matches(OneValue(written(stored, other_zone))) is is_later


anything = st.one_of(st.text(), st.text("0123456789-+.:*?\\=^ \"'", max_size=40))


@given(anything, st.sampled_from(EVERY_VR), anything, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=600)
def test_any_value_gives_a_key_or_invalid_key_and_a_key_never_raises(
    value: str, vr: str, stored: str, empty_value: bool, multiple: bool, empty_matches: bool
) -> None:
    options = MatchOptions(empty_value=empty_value, multiple_value=multiple, empty_matches=empty_matches)
    with suppress(InvalidKey):
        key = parse_key((0x00091001,), value, vr=vr, options=options)
        assert key.matches(OneValue(stored)) in (True, False)
        assert key.matches(OneValue()) in (True, False)


@given(anything)
def test_any_text_is_a_date_or_none(text: str) -> None:
    for read in (read_date, read_time, read_date_time):
        read(text)


RULES = r"""
[[rule]]
name = "values"
match = { PatientName = "doe*", StudyDate = "2020-", AcquisitionDateTime = "2020-0500-" }
send = ["a"]
[[rule]]
name = "numbers"
match = { SliceThickness = { max = 1.5 }, PatientAge = { min = "001Y" }, StudyTime = { min = 08:00:00 } }
send = ["a", "b"]
final = true
[[rule]]
name = "patterns"
match = { StudyDescription = { regex = '(a+)+$' }, PatientID = { not = { regex = 'x' } } }
unless = { PatientName = "*^*^?", Modality = ["CT", "M*"] }
send = ["b"]
[[rule]]
name = "series"
when = "series"
match = { RequestAttributesSequence = { RequestedProcedureID = "A*", ScheduledProcedureStepID = { present = true } } }
unless = { RequestAttributesSequence.RequestedProcedureID = { not = "B" }, PatientID = { present = false } }
send = ["c"]
[[rule]]
name = "study"
when = "study"
unless = { SOPClassUID = ["1.2", "1.3"], SeriesNumber = 3 }
send = ["c"]
final = true
[[rule]]
name = "rest"
send = ["d", "a"]
""".replace('"2020-"', '"20200101-"')
NAMES = """PatientName StudyDate AcquisitionDateTime TimezoneOffsetFromUTC SliceThickness PatientAge StudyTime
StudyDescription PatientID Modality SOPClassUID SeriesNumber SpecificCharacterSet"""
TAGS = [attribute_path(name)[0] for name in NAMES.split()]
ITEM_TAGS = [attribute_path(name)[0] for name in ("RequestedProcedureID", "ScheduledProcedureStepID")]
raw_values = st.one_of(st.binary(max_size=40), st.text("0123456789-+.abABCTMdoe^=\\ ", max_size=20).map(str.encode))
charsets = st.sampled_from([b"", b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"nonsense", b"\xff"])


@st.composite
def headers(draw: st.DrawFn) -> Header:
    def element(tag: int, items: tuple[Header, ...] = ()) -> Element:
        value = draw(charsets if tag == 0x00080005 else raw_values)
        return Element(vr_of(tag), value, items, truncated=draw(st.integers(0, 9)) == 0)

    items = [
        Header({tag: element(tag) for tag in draw(st.sets(st.sampled_from(ITEM_TAGS)))})
        for _ in range(draw(st.integers(0, 2)))
    ]
    elements = {tag: element(tag) for tag in draw(st.sets(st.sampled_from(TAGS)))}
    elements[0x00400275] = element(0x00400275, tuple(items))
    flaw = draw(st.one_of(st.none(), st.sampled_from(Flaw)))
    header = Header(elements, flaw=flaw, problem=flaw.value if flaw else None)
    header.inherit_charsets()
    return header


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> RuleBook:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.toml").write_text(RULES)
    return load_rules(folder, ["a", "b", "c", "d"])


@given(headers(), st.text(max_size=20))
@settings(max_examples=300)
def test_decide_never_raises_serves_each_destination_once_and_is_what_explain_explains(
    book: RuleBook, header: Header, address: str
) -> None:
    source = Source("C-STORE", address, AETitle("CT1"))
    decision = book.decide(source, header)
    destinations = [route.destination for route in decision.routes]
    assert len(destinations) == len(set(destinations))
    assert "failed" not in decision.problem

    explained = explain(book, source, header)
    fired = [(one.rule, name) for one in explained if one.outcome == "fired" for name in one.destinations]
    assert [(route.rule, route.destination) for route in decision.routes] == fired
    votes = {vote.rule: vote.vetoed for vote in decision.votes}
    said = {one.rule: one.outcome == "vetoed" for one in explained if one.outcome in ("voted", "vetoed")}
    assert votes == said


def errors_of(folder: Path) -> tuple[ConfigError, ...]:
    try:
        load_rules(folder, ["a"])
    except ConfigErrors as errors:
        return errors.errors
    return ()


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_rule_file_or_a_list_of_errors(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "any.toml").write_bytes(raw)
    assert all("any.toml" in str(error) for error in errors_of(tmp_path))


toml_values = st.recursive(
    st.sampled_from(['"CT"', "3", "1.5", "true", "2024-01-01", "08:00:00", "2024-01-01T08:00:00Z", "nan", '""', '"*"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]"),
        st.dictionaries(
            st.sampled_from(["min", "max", "regex", "present", "not", "Modality", "x"]), inner, max_size=3
        ).map(lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"),
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "when", "from", "match", "unless", "send", "final", "other"]), toml_values, max_size=6
    ),
    st.dictionaries(
        st.sampled_from(["Modality", "Rows", "StudyDate", "StudyTime", "SOPClassUID", "PatientAge", "PatientName"]),
        toml_values,
        max_size=3,
    ),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_toml_is_rules_or_a_list_of_errors(tmp_path: Path, keys: dict[str, str], asked: dict[str, str]) -> None:
    match = "".join(f"{name} = {value}\n" for name, value in asked.items())
    rule = "".join(f"{name} = {value}\n" for name, value in keys.items())
    plain = f'[[rule]]\nname = "r"\nsend = ["a"]\n[rule.match]\n{match}'
    for text in (f"[[rule]]\n{rule}", plain):
        (tmp_path / "any.toml").write_text(text)
        assert all(error.line for error in errors_of(tmp_path))
