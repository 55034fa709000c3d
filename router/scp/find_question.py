"""What a C-FIND of Patient Root or Study Root asks (PS3.4 §C.4.1): its identifier made into a plan of the search core.

Declared, where more is taken than the standard demands: a key of a level above may stand there without a value (it is
answered), and the unique key of the level itself may be absent. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from router.dicom.attributes import AttributePath, attribute_path, path_name
from router.dicom.identifier import BadIdentifier, matching_keys
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher import MatchOptions
from router.dicom.matcher_dates import read_offset
from router.dicom.matcher_keys import TIMEZONE_OFFSET_FROM_UTC
from router.dicom.query_retrieve import InformationModel, QueryLevel
from router.dicom.uids import Uid
from router.scp.query_levels import Keys, level_of, read_level, read_unique_above, unique_path
from router.search import Asked, BadKeys, Level, Plan, Scope, plan
from router.search.plan import MATCHED, asks_nothing

_SUPPORTED: Final = bytes((1, 1, 0, 1, 0, 1, 1))
"""Relational queries, combined date-time matching, no fuzzy matching of names, timezone adjustment, no Enhanced
Multi-Frame Image Conversion, empty value matching, multiple value matching (Table C.5-2)."""

_LEVELS: Final = {
    QueryLevel.PATIENT: Level.PATIENT,
    QueryLevel.STUDY: Level.STUDY,
    QueryLevel.SERIES: Level.SERIES,
    QueryLevel.IMAGE: Level.INSTANCE,
}
_PATIENT_COUNTS: Final = frozenset(
    attribute_path(f"NumberOfPatientRelated{what}") for what in ("Studies", "Series", "Instances")
)
_OURS: Final = frozenset({attribute_path("RetrieveAETitle")})
"""Answered whatever was asked."""
_NOT_KEPT: Final = frozenset(
    map(attribute_path, ("SOPClassesInStudy", "RetrieveURL", "StorageMediaFileSetID", "StorageMediaFileSetUID"))
)
"""Neither the index has them nor do files."""
_REQUESTS: Final = attribute_path("RequestAttributesSequence")


class Granted(NamedTuple):
    """What was negotiated, by its place in the application information (Table C.5-1)."""

    relational: bool = False
    combined: bool = False
    fuzzy: bool = False
    timezone: bool = False
    enhanced: bool = False
    empty_value: bool = False
    multiple_value: bool = False


class Query(msgspec.Struct, frozen=True):
    """A query that can be run. `wanted` are the tags to be answered; `is_partly_ignored` says that others are not, or
    not matched (status FF01H).
    """

    level: QueryLevel
    plan: Plan
    wanted: frozenset[int]
    is_partly_ignored: bool


def grant(offered: bytes) -> bytes:
    """Answer the application information of extended negotiation, byte by byte."""
    return bytes(1 if asked == 1 and able else 0 for asked, able in zip(offered, _SUPPORTED, strict=False))


def read_granted(granted: bytes) -> Granted:
    """Read what `grant` answered; bytes that are not there are 0."""
    return Granted(*(byte == 1 for byte in granted[: len(_SUPPORTED)]))


def read_query(model: InformationModel, data_set: JsonDataSet, granted: Granted) -> Query:
    """Read an identifier. Raises BadIdentifier, with the attributes to blame."""
    level = read_level(data_set, model)
    keys = {path: value for path, value in matching_keys(data_set) if path not in _OURS}
    if granted.relational:
        scope, asked = Scope(), [_asked(path, value, model) for path, value in keys.items()]
    else:
        scope, asked = _hierarchical(keys, model, level)
    searched = _LEVELS[level]
    try:
        planned = plan(
            searched,
            scope,
            [one for one in asked if one.path not in _PATIENT_COUNTS],
            options=MatchOptions(
                empty_value=granted.empty_value,
                multiple_value=granted.multiple_value,
                offset_min=_offset_min(data_set) if granted.timezone else None,
            ),
            strict=False,
            united=granted.combined,
        )
    except BadKeys as error:
        raise bad_identifier(error, keys) from error
    unique = {unique_path(one) for one in (*model.above(level), level)}
    answered = {path for path in keys if _is_answered(path, model, level)}
    wanted = {path[0] for path in answered | unique} - planned.creators.keys()
    left_out = keys.keys() - answered - {(tag,) for tag in planned.creators}
    return Query(
        level,
        planned,
        frozenset(wanted),
        bool(planned.ignored or left_out or not all(asks_nothing(keys.get(path, "")) for path in _PATIENT_COUNTS)),
    )


def bad_identifier(error: BadKeys, keys: Collection[AttributePath]) -> BadIdentifier:
    """Blame the attributes whose values cannot be matched."""
    tags = dict.fromkeys(path[0] for path in keys if path_name(path) in error.names)
    return BadIdentifier(str(error), tuple(tags))


def _hierarchical(keys: Keys, model: InformationModel, level: QueryLevel) -> tuple[Scope, list[Asked]]:
    """Take the unique keys of the levels above for the scope, and see that nothing else of them is asked."""
    above = read_unique_above(keys, model, level)
    fixed = {unique_path(one) for one in above}
    for path, value in keys.items():
        if path not in fixed and not asks_nothing(value) and level_of(path, model) in above:
            raise BadIdentifier(f"{path_name(path)} is above level {level} and no relational query", path[:1])
    study, series = above.get(QueryLevel.STUDY), above.get(QueryLevel.SERIES)
    scope = Scope(None if study is None else Uid(study), None if series is None else Uid(series))
    asked = [_asked(path, value, model) for path, value in keys.items() if path not in fixed]
    if patient := above.get(QueryLevel.PATIENT):
        asked.append(_asked(unique_path(QueryLevel.PATIENT), patient, model))
    return scope, asked


def _asked(path: AttributePath, value: str | tuple[str, ...], model: InformationModel) -> Asked:
    return Asked(path, value, is_unique=path in {unique_path(level) for level in model.levels})


def _is_answered(path: AttributePath, model: InformationModel, level: QueryLevel) -> bool:
    """Say whether an attribute that was asked for comes back."""
    if path in _PATIENT_COUNTS:
        return True
    if path in _NOT_KEPT or (path[:1] == _REQUESTS and len(path) > 1 and path not in MATCHED):
        return False
    return level_of(path, model) in (*model.above(level), level)


def _offset_min(data_set: JsonDataSet) -> int | None:
    """Read Timezone Offset From UTC, which says how dates and times of the identifier are meant."""
    texts = JsonAttributes(data_set).texts(TIMEZONE_OFFSET_FROM_UTC)
    if not any(texts):
        return None
    offset_min = read_offset(texts[0])
    if offset_min is None:
        raise BadIdentifier("Timezone Offset From UTC is not written +HHMM or -HHMM", TIMEZONE_OFFSET_FROM_UTC)
    return offset_min
