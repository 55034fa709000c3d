"""What the journal keeps of an instance, read from its header, and the checks that it must pass to be taken.

Pure: no file, no clock, no rule. Statuses of PS3.4 Table B.2-1; rows B28 to B34, B40, B42 and B60 of the catalogue.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.elements import SPECIFIC_CHARACTER_SET, Flaw, Header
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid, is_valid_uid
from router.errors import Refused
from router.ingest.non_patient_facts import read_non_patient
from router.journal.records import InstanceRow, NonPatientRow, SeriesRow, StudyRow
from router.store.stored import StoredFile

Row = TypeVar("Row", StudyRow, SeriesRow)

OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH: Final = 0xA900
"""Data set does not match SOP class; also for UIDs that do not fit."""
CANNOT_UNDERSTAND: Final = 0xC000

INDEXED_CHARACTERS: Final = 1_024
"""Longer texts are cut in the index (never in the file): the longest legal ones have 194 (PN) or 64 (LO) characters."""
MAX_REQUESTS: Final = 16
"""Items of Request Attributes Sequence that are indexed; a series seldom has two."""
MAX_NOTE: Final = 512
REMEMBERED: Final = 256
"""Rows kept by their bytes; a few for each association at work."""

_BROKEN_STRUCTURE: Final = frozenset({Flaw.STRUCTURE, Flaw.UNDEFINED_LENGTH, Flaw.PAST_END})


def _paths(keywords: str) -> tuple[AttributePath, ...]:
    return tuple(map(attribute_path, keywords.split()))


# in the order of the fields of StudyRow, SeriesRow and InstanceRow
_STUDY: Final = _paths(
    "PatientID IssuerOfPatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber "
    "ReferringPhysicianName StudyID StudyDescription TimezoneOffsetFromUTC"
)
_SERIES: Final = _paths(
    "Modality SeriesNumber SeriesDescription BodyPartExamined PerformedProcedureStepStartDate "
    "PerformedProcedureStepStartTime"
)
_INSTANCE: Final = _paths("InstanceNumber NumberOfFrames Rows Columns BitsAllocated")
_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_UID, _SERIES_UID, _REQUESTS, _STEP, _PROCEDURE = _paths(
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID RequestAttributesSequence ScheduledProcedureStepID "
    "RequestedProcedureID"
)


class Facts(msgspec.Struct, frozen=True):
    """The index rows of one instance; `instance` holds the five texts of its row. `note` says what was odd, for
    people.
    """

    study: StudyRow | None
    series: SeriesRow | None
    instance: tuple[str, ...]
    note: str
    non_patient: NonPatientRow | None = None

    def instance_row(
        self, declared: Declared, source: Source, received_at: float, stored: StoredFile, note: str
    ) -> InstanceRow:
        """Make the row, now that it is known where the content is."""
        instance_number, number_of_frames, rows, columns, bits_allocated = self.instance
        return InstanceRow(
            declared,
            source,
            stored.file,
            stored.data_set_offset,
            stored.data_set_bytes,
            stored.data_set_sha256,
            received_at,
            instance_number,
            number_of_frames,
            rows,
            columns,
            bits_allocated,
            note,
        )


def check_declared(declared: Declared, *, odd_uids: bool) -> None:
    """Check the UIDs that an instance comes with, before any byte of it. Raises Refused A900H (B29)."""
    for name, uid in (
        ("SOP Instance UID", declared.sop_instance_uid),
        ("SOP Class UID", declared.sop_class_uid),
        ("transfer syntax UID", declared.transfer_syntax_uid),
    ):
        if not is_valid_uid(uid, odd=odd_uids):
            raise Refused(DOES_NOT_MATCH, f"invalid UID: {name}")


class RowMemory:
    """Rows of lately, by the bytes that they were read from: most instances repeat those of the last."""

    def __init__(self) -> None:
        self.studies: dict[tuple[object, ...], StudyRow] = {}
        self.series: dict[tuple[object, ...], SeriesRow] = {}


def read_facts(
    declared: Declared,
    header: Header,
    study_instance_uid: Uid | None = None,
    *,
    odd_uids: bool = True,
    memory: RowMemory | None = None,
) -> Facts:
    """Read the rows from a scanned header. `study_instance_uid` is the one that the instance was sent to.

    Raises Refused: A900H when UIDs do not fit or the data set is empty, C000H when it cannot be understood.
    """
    _refuse_fatal(header)
    _check_identity(declared, header)
    note = header.problem or ""
    sop_classes = header.texts(_SOP_CLASS_UID)
    if sop_classes != (declared.sop_class_uid,):
        note = joined(note, "SOP Class UID of the data set is not the one announced")
    study_uid, series_uid = _single(header, _STUDY_UID), _single(header, _SERIES_UID)
    if study_instance_uid is not None and study_uid != study_instance_uid:
        raise Refused(DOES_NOT_MATCH, "Study Instance UID is not that of the request")
    instance = _texts(header, _INSTANCE)
    if (non_patient := read_non_patient(declared, header)) is not None:
        if study_uid:
            note = joined(note, "Study Instance UID in a non-patient instance")
        return Facts(None, None, instance, note, non_patient)
    if study_uid and series_uid:
        if not (is_valid_uid(study_uid, odd=odd_uids) and is_valid_uid(series_uid, odd=odd_uids)):
            note = joined(note, "Study or Series Instance UID is not a valid UID")
        memory = memory or RowMemory()
        study = _study(header, declared, study_uid, memory)
        return Facts(study, _series(header, declared, series_uid, memory), instance, note)
    missing = "Series" if study_uid else "Study"
    raise Refused(CANNOT_UNDERSTAND, f"{missing} Instance UID is missing or has several values")


def _study(header: Header, declared: Declared, uid: str, memory: RowMemory) -> StudyRow:
    key = _bytes_of(header, declared, uid, _STUDY)
    row = memory.studies.get(key)
    if row is None:
        row = StudyRow(Uid(uid), *_texts(header, _STUDY))
        _remember(memory.studies, key, row)
    return row


def _series(header: Header, declared: Declared, uid: str, memory: RowMemory) -> SeriesRow:
    if header.items(_REQUESTS[0]):
        return SeriesRow(Uid(uid), *(*_texts(header, _SERIES), _requests(header)))
    key = _bytes_of(header, declared, uid, _SERIES)
    row = memory.series.get(key)
    if row is None:
        row = SeriesRow(Uid(uid), *_texts(header, _SERIES))
        _remember(memory.series, key, row)
    return row


def _bytes_of(header: Header, declared: Declared, uid: str, paths: tuple[AttributePath, ...]) -> tuple[object, ...]:
    """All that the texts depend on: the values as they came, their character set and byte order."""
    find = header.elements.get
    values = [None if (found := find(path[0])) is None else (found.vr, found.value) for path in paths]
    charset = find(SPECIFIC_CHARACTER_SET)
    return (uid, declared.transfer_syntax_uid, charset and charset.value, *values)


def _remember(rows: dict[tuple[object, ...], Row], key: tuple[object, ...], row: Row) -> None:
    rows[key] = row
    if len(rows) > REMEMBERED:
        del rows[next(iter(rows))]


def is_broken(header: Header) -> bool:
    """Whether the header breaks off in the middle, so that rules may have missed what they ask for (B31)."""
    return header.flaw in _BROKEN_STRUCTURE


def joined(*notes: str) -> str:
    """Put notes together, bounded."""
    return "; ".join(note for note in notes if note)[:MAX_NOTE]


def _refuse_fatal(header: Header) -> None:
    if header.flaw is Flaw.EMPTY:
        raise Refused(DOES_NOT_MATCH, "empty data set")
    if header.fatal:
        raise Refused(CANNOT_UNDERSTAND, header.problem or "data set cannot be understood")


def _check_identity(declared: Declared, header: Header) -> None:
    uids = header.texts(_SOP_INSTANCE_UID)
    if uids == (declared.sop_instance_uid,):
        return
    if not uids and not header.complete:
        raise Refused(CANNOT_UNDERSTAND, header.problem or "data set cannot be understood")
    raise Refused(DOES_NOT_MATCH, "UID mismatch: SOP Instance UID of the data set is not the one announced")


def _single(header: Header, path: AttributePath) -> str:
    texts = header.texts(path)
    return texts[0] if len(texts) == 1 else ""


def _texts(header: Header, paths: tuple[AttributePath, ...]) -> tuple[str, ...]:
    """Give each attribute's text; several values with backslashes between them."""
    values = map(header.texts, paths)
    texts = [found[0] if len(found) == 1 else "\\".join(found) for found in values]
    if any(map(INDEXED_CHARACTERS.__lt__, map(len, texts))):
        texts = [text[:INDEXED_CHARACTERS] for text in texts]
    return tuple(texts)


def _requests(header: Header) -> str:
    items = header.items(_REQUESTS[0])[:MAX_REQUESTS]
    if not items:
        return "[]"
    pairs = [_texts(item, (_STEP, _PROCEDURE)) for item in items]
    return msgspec.json.encode(pairs).decode() if any(map(any, pairs)) else "[]"
