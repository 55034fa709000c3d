"""The information models of Query/Retrieve: SOP classes, levels, unique keys, and what its statuses mean (PS3.4
Annex C). Pure tables; no identifier is read here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from router.dicom.attributes import attribute_path
from router.dicom.uids import Uid

QUERY_RETRIEVE_LEVEL: Final = "00080052"
"""As JSON data sets name it."""


class QueryLevel(StrEnum):
    """(0008,0052), from the highest down."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def unique_key(self) -> str:
        """The attribute that names one of this level, as JSON data sets name it."""
        return f"{attribute_path(_UNIQUE_KEYWORDS[self])[0]:08X}"

    @property
    def unique_keyword(self) -> str:
        return _UNIQUE_KEYWORDS[self]


_UNIQUE_KEYWORDS: Final = {
    QueryLevel.PATIENT: "PatientID",
    QueryLevel.STUDY: "StudyInstanceUID",
    QueryLevel.SERIES: "SeriesInstanceUID",
    QueryLevel.IMAGE: "SOPInstanceUID",
}


class InformationModel(msgspec.Struct, frozen=True):
    """One Query/Retrieve information model (PS3.4 §C.6)."""

    name: str
    find: Uid
    move: Uid
    get: Uid
    levels: tuple[QueryLevel, ...]

    def above(self, level: QueryLevel) -> tuple[QueryLevel, ...]:
        """Give the levels above one, from the highest down."""
        return self.levels[: self.levels.index(level)]


PATIENT_ROOT: Final = InformationModel(
    "Patient Root",
    Uid("1.2.840.10008.5.1.4.1.2.1.1"),
    Uid("1.2.840.10008.5.1.4.1.2.1.2"),
    Uid("1.2.840.10008.5.1.4.1.2.1.3"),
    (QueryLevel.PATIENT, QueryLevel.STUDY, QueryLevel.SERIES, QueryLevel.IMAGE),
)
STUDY_ROOT: Final = InformationModel(
    "Study Root",
    Uid("1.2.840.10008.5.1.4.1.2.2.1"),
    Uid("1.2.840.10008.5.1.4.1.2.2.2"),
    Uid("1.2.840.10008.5.1.4.1.2.2.3"),
    (QueryLevel.STUDY, QueryLevel.SERIES, QueryLevel.IMAGE),
)

CANCELLED: Final = 0xFE00

_WORDS: Final = {
    0x0000: "success",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0110: "processing failure",
    0xA700: "out of resources",
    0xA701: "out of resources: it cannot count what matches",
    0xA702: "out of resources: it cannot perform the sub-operations",
    0xA801: "move destination unknown",
    0xA900: "identifier does not match the SOP class",
    0xB000: "sub-operations complete, one or more with a failure or a warning",
    CANCELLED: "cancelled",
    0xFF00: "pending",
    0xFF01: "pending; a key that was asked for is not supported",
}


def status_words(status: int) -> str:
    """Say what a status of C-FIND, C-MOVE or C-GET means (Tables C.4-1 and C.4-2, PS3.7 Annex C); never ""."""
    words = _WORDS.get(status)
    if words is None:
        words = "unable to process" if 0xC000 <= status <= 0xCFFF else "an unknown status"
    return words
