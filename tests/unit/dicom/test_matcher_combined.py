"""Combined date-time matching (PS3.4 §C.2.2.2.5): a range of dates and a range of times are one interval."""

from __future__ import annotations

import pytest

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.matcher_combined import DateAndTime, Span

DATE, TIME, ZONE = (attribute_path(one) for one in ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"))
DAYS: Span = ("20240105", "20240107")
HOURS: Span = ("100000000000", "180059999999")


class Stored:
    """A data set with a date, a time and an offset from UTC."""

    def __init__(self, date: str, time: str = "", zone: str = ""):
        self._texts = {DATE: date, TIME: time, ZONE: zone}

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        text = self._texts[path]
        return (text,) if text else ()


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20240105", "095959", False),
        ("20240105", "10", True),
        ("20240106", "03", True),
        ("20240106", "23", True),
        ("20240107", "1800", True),
        ("20240107", "1801", False),
        ("20240108", "12", False),
        ("20240106", "noon", False),
        ("yesterday", "12", False),
    ],
)
def test_two_ranges_are_one_interval(date: str, time: str, expected: bool) -> None:
    assert DateAndTime(DATE, TIME, DAYS, HOURS).matches(Stored(date, time)) is expected


def test_an_interval_may_begin_later_in_the_day_than_it_ends() -> None:
    night = DateAndTime(DATE, TIME, ("20240105", "20240106"), ("220000000000", "060059999999"))
    assert night.is_interval
    assert [night.matches(Stored(*one)) for one in (("20240105", "23"), ("20240106", "05"), ("20240105", "05"))] == [
        True,
        True,
        False,
    ]


def test_a_time_end_without_a_date_end_is_no_interval() -> None:
    open_days = DateAndTime(DATE, TIME, ("20240105", None), HOURS)
    assert not open_days.is_interval
    assert open_days.matches(Stored("20240109", "12"))
    assert not open_days.matches(Stored("20240109", "20"))
    open_hours = DateAndTime(DATE, TIME, ("20240105", None), ("100000000000", None))
    assert open_hours.is_interval
    assert open_hours.matches(Stored("20240109", "01"))
    assert not open_hours.matches(Stored("20240105", "01"))


def test_one_day_and_one_time_are_matched_each_for_itself() -> None:
    one_day = DateAndTime(DATE, TIME, ("20240105", "20240105"), HOURS)
    assert one_day.matches(Stored("20240105", "12"))
    assert not one_day.matches(Stored("20240105", "20"))
    one_time = DateAndTime(DATE, TIME, DAYS, ("120000000000", "120000000000"))
    assert one_time.matches(Stored("20240106", "12"))
    assert not one_time.matches(Stored("20240106", "13"))


@pytest.mark.parametrize("empty_matches", [True, False])
def test_what_is_stored_empty_matches_a_required_key(empty_matches: bool) -> None:
    key = DateAndTime(DATE, TIME, DAYS, HOURS, empty_matches=empty_matches)
    assert key.matches(Stored("", "")) is empty_matches
    assert key.matches(Stored("", "12")) is empty_matches
    assert key.matches(Stored("20240106")) is empty_matches
    assert not key.matches(Stored("20240109"))


@pytest.mark.parametrize(
    ("date", "time", "zone", "expected"),
    [
        ("20240104", "2330", "-0100", True),  # 00:30 of the 5th in UTC
        ("20240105", "0030", "+0100", False),  # 23:30 of the 4th
        ("20240105", "0030", "", True),  # no zone: as it is written
        ("20240104", "2330", "", False),
        ("20240104", "", "-0100", False),  # no time: as it is written
        ("20231231", "2330", "-0100", False),
    ],
)
def test_a_date_is_that_of_the_askers_zone(date: str, time: str, zone: str, expected: bool) -> None:
    key = DateAndTime(DATE, TIME, DAYS, None, offset_min=0)
    assert key.matches(Stored(date, time, zone)) is expected


def test_a_day_that_is_in_no_calendar_never_raises() -> None:
    key = DateAndTime(DATE, TIME, DAYS, None, offset_min=0)
    assert not key.matches(Stored("20240231", "2330", "-0100"))
    assert not key.matches(Stored("00000101", "0030", "+0100"))
    assert not key.matches(Stored("99991231", "2330", "-0100"))
