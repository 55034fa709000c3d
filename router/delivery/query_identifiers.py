"""What a C-FIND or C-MOVE of ours asks for, checked before it goes out (PS3.4 §C.4.1.2, §C.4.2.2.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from router.dicom.attributes import path_name
from router.dicom.json_model import JsonDataSet, in_order
from router.dicom.query_retrieve import (
    PATIENT_ROOT,
    QUERY_RETRIEVE_LEVEL,
    STUDY_ROOT,
    InformationModel,
    QueryLevel,
)
from router.search.levels import Entity, entity_of

_MODELS: Final = {"patient": PATIENT_ROOT, "study": STUDY_ROOT}
_OTHER_NAMES: Final = {"INSTANCE": "IMAGE"}
_ENTITIES: Final = {
    QueryLevel.PATIENT: Entity.PATIENT,
    QueryLevel.STUDY: Entity.STUDY,
    QueryLevel.SERIES: Entity.SERIES,
    QueryLevel.IMAGE: Entity.INSTANCE,
}
_NO_KEYS: Final = frozenset({QUERY_RETRIEVE_LEVEL, "00080005", "00080201"})
"""Level, character set and time zone tell about the request, not about what is asked for."""


class UnfitQuery(ValueError):
    """A request that may not be asked so. The text says what is wrong and what is allowed."""


def model_named(name: str) -> InformationModel:
    """Give the information model "patient" or "study". Raises UnfitQuery."""
    model = _MODELS.get(name.lower())
    if model is None:
        raise UnfitQuery(f"{name!r} is no information model; allowed: {', '.join(_MODELS)}")
    return model


def level_named(name: str, model: InformationModel) -> QueryLevel:
    """Give the level "patient", "study", "series" or "image" (also "instance") of a model. Raises UnfitQuery."""
    upper = name.upper()
    upper = _OTHER_NAMES.get(upper, upper)
    if upper in model.levels:
        return QueryLevel(upper)
    if upper == QueryLevel.PATIENT:
        raise UnfitQuery("the Study Root model has no level patient: ask with the model patient")
    raise UnfitQuery(f"{name!r} is no level; allowed: {', '.join(level.lower() for level in model.levels)}")


def find_identifier(
    model: InformationModel, level: QueryLevel, keys: JsonDataSet, *, relational: bool = False
) -> JsonDataSet:
    """Make the Identifier of a C-FIND: `keys`, the level, and the unique key of that level if it is not among them.

    Unless `relational`, each level above must be named by one value of its unique key, and by nothing else
    (§C.4.1.2.2). Raises UnfitQuery.
    """
    if not relational:
        _check_above(model, level, keys)
        unique = {above.unique_key for above in model.above(level)}
        for name in keys:
            above = _level_of(int(name, 16), model)
            if name not in unique and name not in _NO_KEYS and above in model.above(level):
                raise UnfitQuery(
                    f"{_name(name)} belongs to the level {above.lower()}, above {level.lower()}:"
                    " only a relational query may ask for it there"
                )
    identifier: JsonDataSet = {level.unique_key: {"vr": _vr(level)}, **keys, **_level_element(level)}
    return in_order(identifier)


def move_identifier(model: InformationModel, level: QueryLevel, keys: JsonDataSet) -> JsonDataSet:
    """Make the Identifier of a C-MOVE: unique keys and the level, nothing else (REQ-124). Raises UnfitQuery."""
    _check_above(model, level, keys)
    allowed = {one.unique_key for one in (*model.above(level), level)}
    for name in keys:
        if name not in allowed and name not in _NO_KEYS:
            names = ", ".join(one.unique_keyword for one in (*model.above(level), level))
            raise UnfitQuery(
                f"{_name(name)} cannot select what is moved at the level {level.lower()}; allowed: {names}"
                " (find first, then move what was found)"
            )
    values = texts_of(keys.get(level.unique_key))
    if not values or not all(values):
        raise UnfitQuery(f"a move at the level {level.lower()} needs a value of {level.unique_keyword}")
    if level is QueryLevel.PATIENT and len(values) > 1:
        raise UnfitQuery("one PatientID at a time can be moved")
    _check_plain(level, values)
    return in_order({**keys, **_level_element(level)})


def texts_of(element: dict[str, Any] | None) -> Sequence[str]:
    """Give the values of an attribute of texts; a missing one is ()."""
    return tuple("" if value is None else str(value) for value in (element or {}).get("Value", ()))


def _check_above(model: InformationModel, level: QueryLevel, keys: JsonDataSet) -> None:
    for above in model.above(level):
        values = texts_of(keys.get(above.unique_key))
        if len(values) != 1 or not values[0]:
            raise UnfitQuery(
                f"{above.unique_keyword} must have one value, because the level {level.lower()} is below"
                f" {above.lower()}; it has {len(values) if all(values) else 0}"
            )
        _check_plain(above, values)


def _check_plain(level: QueryLevel, values: Sequence[str]) -> None:
    for value in values:
        if "*" in value or "?" in value:
            raise UnfitQuery(f"{level.unique_keyword} {value!r} has a wildcard, but must be given in full")


def _level_of(tag: int, model: InformationModel) -> QueryLevel:
    """Say at which level of a model an attribute stands; patients' attributes are the study's in Study Root."""
    entity = entity_of(tag)
    return next((level for level in model.levels if _ENTITIES[level] >= entity), model.levels[-1])


def _level_element(level: QueryLevel) -> JsonDataSet:
    return {QUERY_RETRIEVE_LEVEL: {"vr": "CS", "Value": [level.value]}}


def _vr(level: QueryLevel) -> str:
    return "LO" if level is QueryLevel.PATIENT else "UI"


def _name(name: str) -> str:
    return path_name((int(name, 16),))
