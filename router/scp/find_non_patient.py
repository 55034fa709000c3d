"""What a C-FIND of non-patient instances asks (PS3.4 X, U, BB, HH, JJ, II): one level, matched as a worklist. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from router.dicom.attributes import attribute_path
from router.dicom.identifier import BadIdentifier, matching_keys
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher import MatchOptions
from router.dicom.non_patient_models import NonPatientModel
from router.scp.find_question import bad_identifier
from router.scp.query_levels import LEVEL
from router.search import Asked, BadKeys
from router.search.non_patient import NonPatientPlan, plan_non_patient

_SOP_CLASS_UID: Final = attribute_path("SOPClassUID")
_ALWAYS: Final = frozenset({*_SOP_CLASS_UID, *attribute_path("SOPInstanceUID")})
_OURS: Final = frozenset({attribute_path("RetrieveAETitle")})


class NonPatientQuery(msgspec.Struct, frozen=True):
    """As `find_question.Query`."""

    plan: NonPatientPlan
    wanted: frozenset[int]
    is_partly_ignored: bool


def read_non_patient_query(model: NonPatientModel, data_set: JsonDataSet) -> NonPatientQuery:
    """Read an identifier, which has no Query/Retrieve Level. Raises BadIdentifier."""
    if f"{LEVEL[0]:08X}" in data_set:
        raise BadIdentifier("this model has no Query/Retrieve Level", LEVEL)
    keys = {path: value for path, value in matching_keys(data_set) if path not in _OURS}
    asked = [Asked(path, value) for path, value in keys.items()]
    try:
        planned = plan_non_patient(
            model.category.name,
            [*asked, Asked(_SOP_CLASS_UID, model.sop_classes)],
            options=MatchOptions(),
            strict=False,
        )
    except BadKeys as error:
        raise bad_identifier(error, keys) from error
    return NonPatientQuery(planned, _ALWAYS.union(path[0] for path in keys), bool(planned.ignored))
