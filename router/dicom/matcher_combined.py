"""A date key and the time key that belongs to it: combined date-time matching (PS3.4 §C.2.2.2.5) and the asker's zone.

Declared, where the standard leaves it open: two ranges are one interval if each end of the times has a date to go with;
else date and time are matched each for itself, which finds less. When the asker states his offset from UTC and the
data set its own, what is stored is first taken to the asker's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import zip_longest
from typing import Final, Protocol

from router.dicom.attributes import AttributePath
from router.dicom.matcher_dates import read_date, read_offset, read_time

_ZONE: Final[AttributePath] = (0x00080201,)
_DAY_BEGINS: Final = "000000000000"
_DAY_ENDS: Final = "99"
"""Compares after every HHMMSS."""
_DAY_MINUTES: Final = 24 * 60

Span = tuple[str | None, str | None]
"""First and last, both included, as YYYYMMDD or as HHMMSS with six digits of a second; None is open."""


class Texts(Protocol):
    """What the key looks at."""

    def texts(self, path: AttributePath, /) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class DateAndTime:
    """A date attribute and its time attribute. `dates` or `times` is None where it is not asked for.

    With `empty_matches` what is stored empty matches; when only the time is empty, the date decides.
    """

    date_path: AttributePath
    time_path: AttributePath
    dates: Span | None
    times: Span | None
    offset_min: int | None = None
    empty_matches: bool = False

    @property
    def path(self) -> AttributePath:
        return self.date_path

    @property
    def is_interval(self) -> bool:
        """Whether there are two ranges and they make one interval, from a time on one day to a time on another."""
        if self.dates is None or self.times is None:
            return False
        (first, last), (start, end) = self.dates, self.times
        if first == last or start == end:
            return False
        return (start is None or first is not None) and (end is None or last is not None)

    def matches(self, header: Texts) -> bool:
        pairs = list(zip_longest(header.texts(self.date_path), header.texts(self.time_path), fillvalue=""))
        zone: Sequence[str] = header.texts(_ZONE) if self.offset_min is not None else ()
        stored_min = read_offset(zone[0]) if zone else None
        return any(self._fits(day, time, stored_min) for day, time in pairs or [("", "")])

    def _fits(self, day_text: str, time_text: str, stored_min: int | None) -> bool:
        day, time = read_date(day_text), read_time(time_text)
        if (day_text and day is None and self.dates) or (time_text and time is None and self.times):
            return False
        if time is not None and self.offset_min is not None and stored_min is not None:
            day, time = _moved(day, time, self.offset_min - stored_min)
        if self.dates is None or self.times is None or not self.is_interval:
            return self._has(self.dates, day) and self._has(self.times, time)
        if day is None:
            return self.empty_matches
        if time is None:
            return self.empty_matches and _within(day, *self.dates)
        (first, last), (start, end) = self.dates, self.times
        low = None if first is None else first + (start or _DAY_BEGINS)
        high = None if last is None else last + (end or _DAY_ENDS)
        return _within(day + time, low, high)

    def _has(self, span: Span | None, stored: str | None) -> bool:
        if span is None:
            return True
        return self.empty_matches if stored is None else _within(stored, *span)


def _within(stored: str, low: str | None, high: str | None) -> bool:
    return (low is None or low <= stored) and (high is None or stored <= high)


def _moved(day: str | None, time: str, by_min: int) -> tuple[str | None, str]:
    """Move what a clock shows; a day that is in no calendar stays as it is."""
    days, minutes = divmod(int(time[:2]) * 60 + int(time[2:4]) + by_min, _DAY_MINUTES)
    moved = f"{minutes // 60:02}{minutes % 60:02}{time[4:]}"
    if day is None or not days:
        return day, moved
    try:
        there = date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(days)
    except (ValueError, OverflowError):
        return day, moved
    return there.isoformat().replace("-", ""), moved
