"""What a search asks, checked and made ready: keys of the one matcher, and which attributes are to come back.

PS3.18 §8.3.4.1 and §10.6.1.2. A search ignores what it cannot match, and finds what is stored empty (PS3.4 §C.2.2.1.2);
a request to send must do neither, because that would widen what is shipped (O-30): nobody who asks for one PatientID
wants the studies of unknown patients to go out. A range of dates and a range of times are one interval, but for a
C-FIND that did not negotiate it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, attribute_path, path_name
from router.dicom.matcher import InvalidKey, Key, MatchOptions, join_sequence_keys, parse_key
from router.dicom.matcher_combined import DateAndTime
from router.dicom.matcher_keys import Range, Universal
from router.journal.search import COLUMNS, Question
from router.search.levels import ENTITY_OF, REQUIRED, Level, Scope, entity_of, matched_entities, tags

NOT_MATCHED: Final = tags(
    "SpecificCharacterSet TimezoneOffsetFromUTC InstanceAvailability RetrieveURL NumberOfStudyRelatedSeries "
    "NumberOfStudyRelatedInstances NumberOfSeriesRelatedInstances"
)
"""Only answered."""

MATCHED: Final[frozenset[AttributePath]] = frozenset(
    path
    for outer, column in COLUMNS.items()
    for path in ([(*outer, *item) for item in column.items] or [outer])
    if path[0] not in NOT_MATCHED
)

_DATES_AND_TIMES: Final = tuple(
    (attribute_path(date), attribute_path(time))
    for date, time in (
        ("StudyDate", "StudyTime"),
        ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    )
)


class BadKeys(ValueError):
    """Matching attributes that cannot be used here; `problems` are the rest of sentences about `names`, one each."""

    def __init__(self, names: Sequence[str], problems: Sequence[str]):
        self.names, self.problems = tuple(names), tuple(problems)
        super().__init__("; ".join([f"{name} {text}" for name, text in zip(names, problems, strict=False)] or problems))


class Asked(msgspec.Struct, frozen=True):
    """A matching attribute and its value, as it was asked; `name` is how the asker wrote it."""

    path: AttributePath
    value: str | tuple[str, ...]
    name: str = ""
    is_unique: bool = False
    """A unique key of its level (PS3.4 §C.2.2.1.1): what is stored empty does not match it."""


class Plan(msgspec.Struct, frozen=True):
    """A search that can be run. `ignored` names what was asked and cannot be matched.

    `returned` are the tags that were asked back by matching them, `creators` the private creators that were given.
    """

    level: Level
    scope: Scope
    keys: tuple[Key, ...] = ()
    returned: frozenset[int] = frozenset()
    creators: dict[int, str] = {}
    ignored: tuple[str, ...] = ()

    def question(self) -> Question:
        """Put it to the journal."""
        scope = self.scope
        return Question(self.level.value, scope.study, scope.series, scope.instance, self.keys)


def plan(
    level: Level, scope: Scope, asked: Sequence[Asked], *, options: MatchOptions, strict: bool, united: bool = True
) -> Plan:
    """Check what is asked and make the keys. A Required key matches what is stored empty, unless `strict`.

    Dates and times are matched each for itself if they are not `united` (PS3.4 §C.2.2.2.5).

    Raises BadKeys for a value that cannot be matched and, if `strict`, for an attribute that is not in the index or
    does not belong to this resource (Table 10.6.1-4).
    """
    maker = _Maker(level, scope, options, strict, united)
    for one in asked:
        maker.take(one)
    return maker.plan()


class _Maker:
    """Goes through the attributes one by one."""

    def __init__(self, level: Level, scope: Scope, options: MatchOptions, strict: bool, united: bool):
        self._level, self._scope, self._options, self._strict = level, scope, options, strict
        self._united = united
        self._entities = matched_entities(level, scope)
        self._keys: list[Key] = []
        self._returned: set[int] = set()
        self._creators: dict[int, str] = {}
        self._ignored: list[str] = []
        self._bad: dict[str, str] = {}
        self._names: dict[AttributePath, str] = {}

    def take(self, one: Asked) -> None:
        name = self._names[one.path] = one.name or path_name(one.path)
        problem = self._problem(one.path)
        if not problem:
            try:
                self._match(one)
            except InvalidKey as error:
                self._bad[name] = f"has a value that cannot be matched: {error}"
            return
        if self._strict:
            self._bad[name] = problem
            return
        if isinstance(one.value, str) and _is_private_creator(one.path):
            self._creators[one.path[0]] = one.value
        elif asks_nothing(one.value) and entity_of(one.path[0]) <= ENTITY_OF[self._level]:
            self._returned.add(one.path[0])
        else:
            self._ignored.append(name)

    def plan(self) -> Plan:
        keys = combined(join_sequence_keys(self._keys), self._options.offset_min, _DATES_AND_TIMES, self._united)
        for path in filter(None, map(_backwards, keys)):
            self._bad[self._names[path]] = _BACKWARDS
        if self._bad:
            raise BadKeys(tuple(self._bad), tuple(self._bad.values()))
        return Plan(
            self._level,
            self._scope,
            tuple(keys),
            frozenset(self._returned),
            self._creators,
            tuple(dict.fromkeys(self._ignored)),
        )

    def _problem(self, path: AttributePath) -> str:
        """Say why an attribute cannot be matched here; "" if it can, or at least be answered."""
        entity = entity_of(path[0])
        if path in MATCHED or path == attribute_path("RequestAttributesSequence"):
            if entity in self._entities:
                return ""
            return f"tells about the {entity.name.lower()}, which is not what is searched here"
        if path[0] in NOT_MATCHED:
            return "is answered, but cannot be matched"
        return "is not in the index, so it cannot be matched"

    def _match(self, one: Asked) -> None:
        empty_matches = one.path in REQUIRED and not self._strict and not one.is_unique
        options = dataclasses.replace(self._options, empty_matches=empty_matches, date_and_time=True)
        key = parse_key(one.path, one.value, options=options)
        self._returned.add(one.path[0])
        if not isinstance(key, Universal):
            self._keys.append(key)


def asks_nothing(value: str | tuple[str, ...]) -> bool:
    """Say whether a value matches everything, so that only the attribute is asked for."""
    texts = (value,) if isinstance(value, str) else value
    return not any(text.strip(" *") for text in texts)


def _is_private_creator(path: AttributePath) -> bool:
    return len(path) == 1 and path[0] >> 16 & 1 == 1 and 0x10 <= path[0] & 0xFFFF <= 0xFF


_BACKWARDS: Final = "is a range that ends before it begins, which only makes sense beside a range of several dates"


def _backwards(key: Key) -> AttributePath | None:
    """Give the time attribute whose range ends before it begins, and is no part of an interval."""
    if isinstance(key, DateAndTime) and not key.is_interval and key.times is not None:
        path, (low, high) = key.time_path, key.times
    elif isinstance(key, Range):
        path, low, high = key.path, key.low, key.high
    else:
        return None
    return path if low is not None and high is not None and low > high else None


def combined(
    keys: Sequence[Key],
    offset_min: int | None,
    dates_and_times: Sequence[tuple[AttributePath, AttributePath]],
    united: bool = True,
) -> list[Key]:
    """Unite the keys of a date and of its time; with an offset from UTC each of them needs the other's value too."""
    rest = list(keys)
    if not united and offset_min is None:
        return rest
    for date_path, time_path in dates_and_times:
        ranges = {key.path: key for key in rest if isinstance(key, Range) and key.path in (date_path, time_path)}
        if len(ranges) < (2 if offset_min is None else 1):
            continue
        dates, times = (
            (ranges[path].low, ranges[path].high) if path in ranges else None for path in (date_path, time_path)
        )
        empty_matches = all(key.empty_matches for key in ranges.values())
        rest = [key for key in rest if key not in ranges.values()]
        asked = [(dates, times)] if united else [(dates, None), (None, times)]
        rest += [DateAndTime(date_path, time_path, *spans, offset_min, empty_matches) for spans in asked if any(spans)]
    return rest
