"""The identifier of one C-FIND answer (PS3.4 §C.4.1.1.3.2): what was asked for, empty where it is not known, and from
whom it can be retrieved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from router.dicom.attributes import attribute_path, vr_of
from router.dicom.json_model import JsonDataSet, element
from router.dicom.query_retrieve import QueryLevel
from router.dicom.uids import AETitle
from router.scp.find_non_patient import NonPatientQuery
from router.scp.find_question import Query
from router.scp.query_levels import LEVEL

_RETRIEVE_AE_TITLE: Final = attribute_path("RetrieveAETitle")[0]
_AVAILABILITY: Final = attribute_path("InstanceAvailability")[0]
_ALSO: Final = frozenset(f"{attribute_path(name)[0]:08X}" for name in ("SpecificCharacterSet", "TimezoneOffsetFromUTC"))


def answer_patient(query: Query, found: JsonDataSet, called_aet: AETitle) -> JsonDataSet:
    """Make the answer of Patient Root or Study Root from what the search found."""
    available = () if query.level is QueryLevel.PATIENT else ("ONLINE",)
    return {
        **_empty(query.wanted),
        **found,
        **({f"{_AVAILABILITY:08X}": element(_AVAILABILITY, available)} if available else {}),
        f"{LEVEL[0]:08X}": element(LEVEL[0], (query.level,)),
        f"{_RETRIEVE_AE_TITLE:08X}": element(_RETRIEVE_AE_TITLE, (called_aet,)),
    }


def answer_non_patient(query: NonPatientQuery, found: JsonDataSet, called_aet: AETitle) -> JsonDataSet:
    """Make the answer of a model of non-patient instances, of all that is kept of the instance."""
    return {
        **_empty(query.wanted),
        **{tag: one for tag, one in found.items() if int(tag, 16) in query.wanted or tag in _ALSO},
        f"{_RETRIEVE_AE_TITLE:08X}": element(_RETRIEVE_AE_TITLE, (called_aet,)),
    }


def _empty(tags: Iterable[int]) -> JsonDataSet:
    """Give elements without a value; not of private attributes, which mean nothing without their creator."""
    return {f"{tag:08X}": {"vr": vr_of(tag)} for tag in tags if not tag >> 16 & 1}
