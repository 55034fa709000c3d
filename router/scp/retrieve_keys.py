"""The Identifier of a C-MOVE or C-GET: checked, and made a search for instances (PS3.4 §C.4.2.1.4.1, §C.4.2.2, §C.4.3).

Strict, because what is ignored widens what is sent: unique keys alone, one value above the level, and nothing that
matches everything. Attributes that are there and empty ask for nothing and are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from router.dicom.attributes import attribute_path, path_name
from router.dicom.identifier import NO_KEYS, BadIdentifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher import MatchOptions
from router.dicom.non_patient_models import NonPatientModel
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT, InformationModel, QueryLevel
from router.dicom.uids import Uid, is_valid_uid
from router.scp.query_levels import read_level
from router.search import Asked, Level, Plan, Scope, plan
from router.search.non_patient import NonPatientPlan, plan_non_patient

_LEVEL: Final = attribute_path("QueryRetrieveLevel")[0]
_VIEW: Final = attribute_path("QueryRetrieveView")[0]
_SOP_CLASS: Final = attribute_path("SOPClassUID")
_SOP_INSTANCE: Final = attribute_path("SOPInstanceUID")
_SEARCHED: Final = {
    QueryLevel.PATIENT: Level.STUDY,
    QueryLevel.STUDY: Level.STUDY,
    QueryLevel.SERIES: Level.SERIES,
    QueryLevel.IMAGE: Level.INSTANCE,
}
MAX_SHOWN_CHARACTERS: Final = 200
"""Longest text that says for people what was asked for."""


class Retrieve(msgspec.Struct, frozen=True):
    """What is to be retrieved. `resource` names it as Send does (Sup 248 Table 10.X.1-1), `query` for people."""

    plan: Plan | NonPatientPlan
    resource: str
    query: str


def read_retrieve(model: InformationModel, identifier: JsonDataSet, *, relational: bool) -> Retrieve:
    """Check an identifier of Patient or Study Root; `relational` when that was negotiated (§C.4.2.2.2). Raises
    BadIdentifier.
    """
    given = _given(identifier)
    if model is STUDY_ROOT and given.get(_LEVEL) == (QueryLevel.PATIENT,):
        model = PATIENT_ROOT  # Orthanc asks so; a PatientID means the same in both
    if _VIEW in given:
        raise BadIdentifier("conversion to Enhanced Multi-Frame is not offered", (_VIEW,))
    level = read_level(identifier, model)
    keys: dict[QueryLevel, tuple[str, ...]] = {}
    for above in model.above(level):
        values = given.pop(_tag(above), ())
        if not values and not relational:
            raise BadIdentifier(f"{level} level needs {above.unique_keyword}, one value", (_tag(above),))
        if len(values) > 1:
            raise BadIdentifier(f"{above.unique_keyword} above the level takes one value", (_tag(above),))
        if values:
            keys[above] = _checked(above, values)
    keys[level] = _checked(level, given.pop(_tag(level), ()))
    _refuse_others(given, f"no key of a retrieve at {level} level")
    return _retrieve(level, keys)


def read_non_patient_retrieve(model: NonPatientModel, identifier: JsonDataSet) -> Retrieve:
    """Check an identifier of a non-patient model: SOP Instance UID alone, one or a list. Raises BadIdentifier."""
    if f"{_LEVEL:08X}" in identifier:
        raise BadIdentifier("this model has no Query/Retrieve Level", (_LEVEL,))
    given = _given(identifier)
    uids = _checked(QueryLevel.IMAGE, given.pop(_SOP_INSTANCE[0], ()))
    _refuse_others(given, f"no key of {model.name}")
    asked = [Asked(_SOP_CLASS, model.sop_classes), Asked(_SOP_INSTANCE, uids)]
    planned = plan_non_patient(model.category.name, asked, options=MatchOptions(), strict=True)
    return Retrieve(planned, model.category.name, _shown({"SOPInstanceUID": uids}))


def _given(identifier: JsonDataSet) -> dict[int, tuple[str, ...]]:
    """Give what is not empty, by tag: its values, one text for what cannot be said in texts."""
    attributes = JsonAttributes(identifier)
    given = {}
    for name, element in identifier.items():
        tag = int(name, 16)
        if tag & 0xFFFF == 0 or not ("Value" in element or "InlineBinary" in element):
            continue  # a group length, or empty
        texts = (element["vr"],) if element["vr"] == "SQ" or "Value" not in element else attributes.texts((tag,))
        if values := tuple(text for text in (text.strip(" \0") for text in texts) if text):
            given[tag] = values
    return given


def _checked(level: QueryLevel, values: tuple[str, ...]) -> tuple[str, ...]:
    """Check the values of a unique key: something must be asked for, and nothing by a wild card."""
    keyword, tag = level.unique_keyword, _tag(level)
    if not values:
        raise BadIdentifier(f"{keyword} is missing, and all is never sent", (tag,))
    if level is QueryLevel.PATIENT:
        if len(values) > 1 or any(letter in values[0] for letter in "*?"):
            raise BadIdentifier(f"{keyword} takes one value, without wild cards", (tag,))
    elif bad := next((value for value in values if not is_valid_uid(value, odd=True)), None):
        raise BadIdentifier(f"{keyword} {bad[:20]!r} is not a UID", (tag,))
    return values


def _refuse_others(given: Mapping[int, tuple[str, ...]], why: str) -> None:
    others = tuple(tag for tag in given if tag not in NO_KEYS)
    if others:
        raise BadIdentifier(f"{path_name((others[0],))} is {why}", others)


def _retrieve(level: QueryLevel, keys: Mapping[QueryLevel, tuple[str, ...]]) -> Retrieve:
    study = series = None
    if level in (QueryLevel.SERIES, QueryLevel.IMAGE) and QueryLevel.STUDY in keys:
        study = Uid(keys[QueryLevel.STUDY][0])
    if level is QueryLevel.IMAGE and QueryLevel.SERIES in keys:
        series = Uid(keys[QueryLevel.SERIES][0])
    by_scope = {QueryLevel.STUDY: study, QueryLevel.SERIES: series}
    asked = [
        Asked(attribute_path(key.unique_keyword), values if len(values) > 1 else values[0])
        for key, values in keys.items()
        if key is level or by_scope.get(key) is None
    ]
    planned = plan(_SEARCHED[level], Scope(study, series), asked, options=MatchOptions(), strict=True)
    return Retrieve(
        planned, _resource(level, study, series), _shown({key.unique_keyword: values for key, values in keys.items()})
    )


def _resource(level: QueryLevel, study: Uid | None, series: Uid | None) -> str:
    """Name the resource of a send request that would ask for the same."""
    match level:
        case QueryLevel.PATIENT | QueryLevel.STUDY:
            return "studies"
        case QueryLevel.SERIES:
            return f"studies/{study}/series" if study else "series"
        case QueryLevel.IMAGE:
            if study and series:
                return f"studies/{study}/series/{series}/instances"
            return f"studies/{study}/instances" if study else "instances"


def _shown(keys: Mapping[str, tuple[str, ...]]) -> str:
    text = "&".join(f"{keyword}={','.join(values)}" for keyword, values in keys.items())
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _tag(level: QueryLevel) -> int:
    return int(level.unique_key, 16)
