"""What can be asked of an attribute (PS3.4 §C.2.2.2), as data: a small closed union, so that it can become SQL too.

A key tests a header and never raises: text that cannot be read as what its VR promises does not match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from router.dicom.attributes import AttributePath
from router.dicom.matcher_combined import DateAndTime
from router.dicom.matcher_dates import Moment, read_date, read_date_time, read_offset, read_time
from router.dicom.matcher_text import fold_name_groups, name_group_test, whole_name, wildcard_test

TIMEZONE_OFFSET_FROM_UTC: AttributePath = (0x00080201,)

_MAX_NUMBER_CHARACTERS = 64
"""No VR writes a longer number (DS has 16); more is not worth reading."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class Attributes(Protocol):
    """What a key looks at: a header, or one item of a sequence in it."""

    def texts(self, path: AttributePath, /) -> tuple[str, ...]: ...

    def items(self, tag: int, /) -> Sequence[Attributes]: ...


@dataclass(frozen=True, slots=True)
class Universal:
    """Matches everything; asks for the value back (§C.2.2.2.3)."""

    path: AttributePath

    def matches(self, header: Attributes) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SingleValue:
    """One of the values is exactly `value`, case and all (§C.2.2.2.1)."""

    path: AttributePath
    value: str
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        return self.value in texts or (self.empty_matches and not any(texts))


@dataclass(frozen=True, slots=True)
class WildCard:
    """One of the values fits `pattern` (§C.2.2.2.4)."""

    path: AttributePath
    pattern: str
    empty_matches: bool = False
    _test: Callable[[str], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_test", wildcard_test(self.pattern))

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        test = self._test
        for text in texts:
            if test(text):
                return True
        return self.empty_matches and not any(texts)


@dataclass(frozen=True, slots=True)
class PersonName:
    """One of the names fits. `groups` are folded, may be wild, and are empty where all is welcome.

    One group is sought in the alphabetic, the ideographic and the phonetic group; of several, each in its own place.
    """

    path: AttributePath
    groups: tuple[str, ...]
    empty_matches: bool = False
    _tests: tuple[Callable[[str], bool] | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = tuple(name_group_test(group) if group else None for group in self.groups)
        object.__setattr__(self, "_tests", tests)

    def matches(self, header: Attributes) -> bool:
        names = header.texts(self.path)
        for name in names:
            if name and self._fits(fold_name_groups(name)):
                return True
        return self.empty_matches and not any(names)

    def _fits(self, groups: tuple[str, ...]) -> bool:
        if len(self._tests) == 1:
            test = self._tests[0]
            return test is None or any(test(group) for group in groups if group)
        for place, test in enumerate(self._tests):
            if test is not None and (place >= len(groups) or not test(groups[place])):
                return False
        return True


@dataclass(frozen=True, slots=True)
class NumberValue:
    """One of the values is this number, however it is written."""

    path: AttributePath
    number: int | float
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        for text in texts:
            if read_number(text) == self.number:
                return True
        return self.empty_matches and not any(texts)


@dataclass(frozen=True, slots=True)
class UidList:
    """One of the values is one of `uids` (§C.2.2.2.2)."""

    path: AttributePath
    uids: frozenset[str]
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        return not self.uids.isdisjoint(texts) or (self.empty_matches and not any(texts))


@dataclass(frozen=True, slots=True)
class Range:
    """One of the DA or TM values lies in low … high, both included (§C.2.2.2.5). One date is a range of one.

    DA as YYYYMMDD, TM as HHMMSS and six digits of a second, so that they compare as text. No range crosses midnight.
    """

    path: AttributePath
    vr: Literal["DA", "TM"]
    low: str | None
    high: str | None
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        read = read_date if self.vr == "DA" else read_time
        for text in texts:
            value = read(text)
            if (
                value is not None
                and (self.low is None or self.low <= value)
                and (self.high is None or value <= self.high)
            ):
                return True
        return self.empty_matches and not any(texts)


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """One of the DT values lies in low … high, both included.

    A value that states no offset from UTC takes the data set's (0008,0201), if there is one.
    """

    path: AttributePath
    low: Moment | None
    high: Moment | None
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        if not any(texts):
            return self.empty_matches
        zone = header.texts(TIMEZONE_OFFSET_FROM_UTC)
        offset_min = read_offset(zone[0]) if zone else None
        for text in texts:
            moment = read_date_time(text, offset_min=offset_min)
            if (
                moment is not None
                and (self.low is None or not moment.precedes(self.low))
                and (self.high is None or not self.high.precedes(moment))
            ):
                return True
        return False


@dataclass(frozen=True, slots=True)
class EveryValue:
    """All of `values` are among the stored ones, in any order (§C.2.2.2.8). Names are folded."""

    path: AttributePath
    values: frozenset[str]
    is_name: bool = False
    empty_matches: bool = False

    def matches(self, header: Attributes) -> bool:
        texts = header.texts(self.path)
        if self.is_name:
            return self.values <= {whole_name(text) for text in texts} or (self.empty_matches and not any(texts))
        return self.values.issubset(texts) or (self.empty_matches and not any(texts))


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """The attribute is absent or has no value (§C.2.2.2.7)."""

    path: AttributePath

    def matches(self, header: Attributes) -> bool:
        return not any(header.texts(self.path))


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """One and the same item meets all of `keys`, whose paths begin within the item (§C.2.2.2.6)."""

    tag: int
    keys: tuple[Key, ...]
    empty_matches: bool = False

    @property
    def path(self) -> AttributePath:
        return (self.tag,)

    def matches(self, header: Attributes) -> bool:
        items = header.items(self.tag)
        for item in items:
            if all(key.matches(item) for key in self.keys):
                return True
        return self.empty_matches and not items


Key = (
    Universal
    | SingleValue
    | WildCard
    | PersonName
    | NumberValue
    | UidList
    | Range
    | DateTimeRange
    | DateAndTime
    | EveryValue
    | EmptyValue
    | SequenceKey
)


def read_number(text: str) -> int | float | None:
    """Give the number that a DS, IS or binary value writes, or None."""
    if len(text) > _MAX_NUMBER_CHARACTERS or _NUMBER.fullmatch(text) is None:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
