"""Dates and times as DICOM writes them, brought to a form that compares by meaning (PS3.5 §6.2 DA, TM, DT, AS).

Stored text that is no date gives None, never an error. Partial values and the older forms with `.` and `:` are read.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from typing import NamedTuple

US_PER_MINUTE = 60_000_000

_DATE = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATE_TIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)", re.ASCII)
_HYPHEN = re.compile("-")
_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)

_DAYS_PER = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_LAST_MINUTE, _LAST_SECOND = 59, 59


class Moment(NamedTuple):
    """A DT value: microseconds since year 1 by the clock that wrote it, and that clock's offset from UTC if known."""

    local_us: int
    offset_min: int | None

    def precedes(self, other: Moment) -> bool:
        """Say whether this is earlier. Both are taken to UTC if both offsets are known, else compared as written."""
        if self.offset_min is None or other.offset_min is None:
            return self.local_us < other.local_us
        mine = self.local_us - self.offset_min * US_PER_MINUTE
        return mine < other.local_us - other.offset_min * US_PER_MINUTE


def read_date(text: str) -> str | None:
    """Give a DA value as YYYYMMDD, or None."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = found[1], found[2] or found[4], found[3] or found[5]
    return f"{year}{month}{day}" if "01" <= month <= "12" and "01" <= day <= "31" else None


def read_time(text: str, *, end: bool = False) -> str | None:
    """Give a TM value as HHMMSS and six digits of a second, or None.

    What is not written is 0, or with `end` the last that it can be.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    rest = "59" if end else "00"
    minute, second = minute or rest, second or rest
    if hour > "23" or minute > "59" or second > "60":
        return None
    return hour + minute + second + (fraction or "").ljust(6, "9" if end else "0")


def read_date_time(text: str, *, end: bool = False, offset_min: int | None = None) -> Moment | None:
    """Give a DT value, or None. What is not written is the first, or with `end` the last moment that it can be.

    `offset_min` is the offset from UTC for a value that states none.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year = int(found[1])
    month, day, hour, minute, second = (int(part) if part else None for part in found.groups()[1:6])
    month = month if month is not None else (12 if end else 1)
    if year < 1 or not 1 <= month <= 12:
        return None
    last_day = monthrange(year, month)[1]
    day = day if day is not None else (last_day if end else 1)
    hour = hour if hour is not None else (23 if end else 0)
    minute = minute if minute is not None else (_LAST_MINUTE if end else 0)
    second = second if second is not None else (_LAST_SECOND if end else 0)
    if not 1 <= day <= last_day or hour > 23 or minute > 59 or second > 60:
        return None
    if found[8]:
        offset_min = read_offset(found[8])
        if offset_min is None:
            return None
    minutes = (date(year, month, day).toordinal() * 24 + hour) * 60 + minute
    fraction = int((found[7] or "").ljust(6, "9" if end else "0"))
    return Moment((minutes * 60 + second) * 1_000_000 + fraction, offset_min)


def read_offset(text: str) -> int | None:
    """Give an offset from UTC such as +0530 in minutes, or None (PS3.5 §6.2: -1200 to +1400)."""
    found = _OFFSET.fullmatch(text)
    if found is None or found[3] > "59":
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    minutes = -minutes if found[1] == "-" else minutes
    return minutes if -12 * 60 <= minutes <= 14 * 60 else None


def read_age_days(text: str, *, end: bool = False) -> float | None:
    """Give an AS value such as 018M in days, or None: the day that age is reached, or with `end` the last day of it.

    A month is a twelfth of a year, a year 365.25 days.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        return None
    count, days = int(found[1]), _DAYS_PER[found[2]]
    return (count + 1) * days - 1 if end else count * days


def split_date_time_range(text: str) -> tuple[str, str] | None:
    """Split a DT range `low-high`, `low-` or `-high` (PS3.4 §C.2.2.2.5); None where `text` is one value or no range.

    A hyphen may also begin a DT's offset: `20240101-0500` is one value, in `2023-2024-0500` the end has one.
    """
    if "-" not in text or _is_date_time(text):
        return None
    splits = [(text[: at.start()], text[at.end() :]) for at in _HYPHEN.finditer(text)]
    if len(splits) == 1:
        return splits[0]
    good = [(low, high) for low, high in splits if all(not end or _is_date_time(end) for end in (low, high))]
    return good[-1] if good else None


def _is_date_time(text: str) -> bool:
    return read_date_time(text) is not None
