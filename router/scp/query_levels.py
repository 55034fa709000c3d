"""What every identifier of Query/Retrieve must have: a level, and one value for the unique key of each level above
(PS3.4 §C.4.1.1.3, §C.4.2.1.4). Pure; BadIdentifier names the attribute to blame, which is answered A900.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.identifier import BadIdentifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher_text import is_wild
from router.dicom.query_retrieve import InformationModel, QueryLevel
from router.dicom.uids import is_valid_uid
from router.search.levels import Entity, entity_of

LEVEL: Final = attribute_path("QueryRetrieveLevel")
Keys = Mapping[AttributePath, str | tuple[str, ...]]

_LEVELS: Final = {
    Entity.PATIENT: QueryLevel.PATIENT,
    Entity.STUDY: QueryLevel.STUDY,
    Entity.SERIES: QueryLevel.SERIES,
    Entity.INSTANCE: QueryLevel.IMAGE,
}


def read_level(data_set: JsonDataSet, model: InformationModel) -> QueryLevel:
    """Read Query/Retrieve Level. Raises BadIdentifier when it is missing or not one of the model's."""
    values, levels = [text.strip() for text in JsonAttributes(data_set).texts(LEVEL)], ", ".join(model.levels)
    if not any(values):
        raise BadIdentifier(f"Query/Retrieve Level is missing: {levels}", LEVEL)
    if len(values) > 1 or values[0] not in model.levels:
        raise BadIdentifier(f"no level of {model.name}: {levels}", LEVEL)
    return QueryLevel(values[0])


def unique_path(level: QueryLevel) -> AttributePath:
    """Give the unique key of a level."""
    return attribute_path(level.unique_keyword)


def level_of(path: AttributePath, model: InformationModel) -> QueryLevel:
    """Say to which level of a model an attribute belongs: without a PATIENT level, the patient's are the study's."""
    level = _LEVELS[entity_of(path[0])]
    return level if level in model.levels else model.levels[0]


def read_unique_above(keys: Keys, model: InformationModel, level: QueryLevel) -> dict[QueryLevel, str]:
    """Read the unique keys of all levels above. Raises BadIdentifier unless each has one value."""
    return {above: _one_value(keys, above) for above in model.above(level)}


def _one_value(keys: Keys, level: QueryLevel) -> str:
    path = unique_path(level)
    keyword, value = level.unique_keyword, keys.get(path, "")
    if isinstance(value, tuple):
        if len([text for text in value if text]) > 1:
            raise BadIdentifier(f"{keyword} has {len(value)} values, above the level it must have one", path)
        value = "".join(value)
    value = value.strip()
    if not value:
        raise BadIdentifier(f"{keyword} is missing, it must have one value", path)
    if is_wild(value) or (level is not QueryLevel.PATIENT and not is_valid_uid(value, odd=True)):
        raise BadIdentifier(f"{keyword} must have one value, no wild cards", path)
    return value
