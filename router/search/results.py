"""The data sets that a search answers (PS3.18 Tables 10.6.3-3 to 10.6.3-5), made of the index's rows.

What the index does not have is in `extra`. Retrieve URL is left to who knows how the client reached us.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.json_model import JsonDataSet, element, sequence
from router.journal.search import COLUMNS
from router.journal.search_conditions import values_of
from router.journal.search_rows import PageRows, Wanted
from router.search.levels import ALWAYS, ENTITY_OF, IF_KNOWN, Entity, Level, entity_of, matched_entities, tags
from router.search.plan import NOT_MATCHED, Plan

_CHARACTER_SET: Final = "00080005"
_UTF_8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}
_REQUESTS: Final = attribute_path("RequestAttributesSequence")[0]
_AVAILABILITY: Final = attribute_path("InstanceAvailability")[0]
_MODALITIES: Final = attribute_path("ModalitiesInStudy")[0]
_STUDY_SERIES: Final = attribute_path("NumberOfStudyRelatedSeries")[0]
_STUDY_INSTANCES: Final = attribute_path("NumberOfStudyRelatedInstances")[0]
_PATIENT_COUNTS: Final = tuple(
    attribute_path(f"NumberOfPatientRelated{what}")[0] for what in ("Studies", "Series", "Instances")
)
_SERIES_INSTANCES: Final = attribute_path("NumberOfSeriesRelatedInstances")[0]
_STUDY_COUNTS: Final = frozenset({_MODALITIES, _STUDY_SERIES, _STUDY_INSTANCES})
_FROM_INDEX: Final = frozenset(path[0] for path in COLUMNS) | NOT_MATCHED
_ZONE: Final = tags("TimezoneOffsetFromUTC")


class Answer(msgspec.Struct, frozen=True):
    """Which attributes are to come back: `always`, also when they are empty, and `if_known`.

    `from_file` are those that only the instances' files have; None: all of them.
    """

    level: Level
    always: frozenset[int]
    if_known: frozenset[int]
    from_file: frozenset[int] | None

    @property
    def tags(self) -> list[int]:
        """All that come from the index, in ascending order."""
        return sorted(self.always | self.if_known)

    @property
    def wanted(self) -> Wanted:
        """Say what is needed of the matches besides their rows."""
        return Wanted(
            patient_counts=any(tag in self.always for tag in _PATIENT_COUNTS),
            study_counts=not _STUDY_COUNTS.isdisjoint(self.tags),
            series_counts=_SERIES_INSTANCES in self.tags,
            files=self.needs_files,
        )

    @property
    def needs_files(self) -> bool:
        return self.from_file is None or bool(self.from_file)


def answer_to(plan: Plan, include: Collection[AttributePath], include_all: bool) -> Answer:
    """Say what comes back: what the tables name, what was matched, and of what was asked for all but lower levels."""
    lowest = ENTITY_OF[plan.level]
    described = matched_entities(plan.level, plan.scope) - {Entity.PATIENT}
    always = frozenset[int]().union(*(ALWAYS[entity] for entity in described))
    if_known = frozenset[int]().union(*(IF_KNOWN[entity] for entity in described))
    asked = plan.returned | {path[0] for path in include if entity_of(path[0]) <= lowest}
    if include_all:
        if_known |= {tag for tag in _FROM_INDEX if entity_of(tag) <= lowest}
    return Answer(plan.level, always | (asked & _FROM_INDEX), if_known, None if include_all else asked - _FROM_INDEX)


def exact_answer_to(plan: Plan, wanted: Collection[int]) -> Answer:
    """Say what comes back where nothing but what is asked for does, as in C-FIND: `wanted`, and a known time zone."""
    known = _FROM_INDEX.union(_PATIENT_COUNTS)
    zone = frozenset[int]() if plan.level is Level.PATIENT else _ZONE
    return Answer(plan.level, known.intersection(wanted), zone, frozenset(wanted) - known)


class Entry:
    """One match: its row and those above it."""

    def __init__(self, page: PageRows, level: Level, row_id: int):
        self._page = page
        self._series_id = self._study_id = row_id
        self._texts: dict[AttributePath, str] = {}
        if level is Level.INSTANCE:
            instance = page.instances[row_id]
            self._texts.update(instance.texts)
            self._series_id = instance.parent_id or 0
        if level in (Level.SERIES, Level.INSTANCE):
            series = page.series[self._series_id]
            self._texts.update(series.texts)
            self._study_id = series.parent_id or 0
        self._texts.update(page.studies[self._study_id].texts)

    def text(self, path: AttributePath) -> str:
        """Give an attribute as the index has it."""
        return self._texts[path]

    def data_set(self, answer: Answer) -> JsonDataSet:
        """Give the attributes that the index knows."""
        data_set: JsonDataSet = {}
        for tag in answer.tags:
            one = self._sequence() if tag == _REQUESTS else element(tag, self._values(tag))
            if tag in answer.always or "Value" in one:
                data_set[f"{tag:08X}"] = one
        return data_set

    def _values(self, tag: int) -> Sequence[str | int]:
        series = self._page.study_counts.get(self._study_id, ())
        if tag == _AVAILABILITY:
            return ("ONLINE",)
        if tag == _MODALITIES:
            return sorted({value for modality, _ in series for value in values_of(modality) if value})
        if tag == _STUDY_SERIES:
            return (len(series),)
        if tag == _STUDY_INSTANCES:
            return (sum(instances for _, instances in series),)
        if tag in _PATIENT_COUNTS:
            return (self._page.patient_counts.get(self._study_id, (0, 0, 0))[_PATIENT_COUNTS.index(tag)],)
        if tag == _SERIES_INSTANCES:
            return (self._page.series_counts.get(self._series_id, 0),)
        return values_of(self._texts.get((tag,), ""))

    def _sequence(self) -> dict[str, object]:
        paths = COLUMNS[_REQUESTS,].items
        items = msgspec.json.decode(self._texts[_REQUESTS,], type=list[list[str]])
        return sequence(
            {f"{path[0]:08X}": element(path[0], values_of(text)) for path, text in zip(paths, item, strict=True)}
            for item in items
        )


def finished(data_set: JsonDataSet) -> JsonDataSet:
    """Put the tags in ascending order. The texts are UTF-8; where it matters Specific Character Set says so."""
    rest = {tag: one for tag, one in data_set.items() if tag != _CHARACTER_SET}
    if not msgspec.json.encode(rest).isascii():
        rest[_CHARACTER_SET] = _UTF_8
    return {tag: rest[tag] for tag in sorted(rest)}
