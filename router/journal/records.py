"""The shapes that cross the journal's border. Frozen; no sqlite type leaves this package."""

from __future__ import annotations

from typing import Literal, Self

import msgspec

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid

SubOperationState = Literal["remaining", "completed", "warning", "failed"]


class StudyRow(msgspec.Struct, frozen=True):
    study_instance_uid: Uid
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    referring_physician_name: str = ""
    study_id: str = ""
    study_description: str = ""
    timezone_offset_from_utc: str = ""


class SeriesRow(msgspec.Struct, frozen=True):
    series_instance_uid: Uid
    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    body_part_examined: str = ""
    performed_procedure_step_start_date: str = ""
    performed_procedure_step_start_time: str = ""
    request_attributes: str = "[]"


class InstanceRow(msgspec.Struct, frozen=True):
    """One stored file. `file` is relative to the store; offset and sizes in bytes; `data_set_sha256` 32 bytes."""

    declared: Declared
    source: Source
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes
    received_at: float
    instance_number: str = ""
    number_of_frames: str = ""
    rows: str = ""
    columns: str = ""
    bits_allocated: str = ""
    note: str = ""


class NonPatientRow(msgspec.Struct, frozen=True):
    """What a non-patient instance is searched by: its npi-name, and its keys as DICOM JSON."""

    category: str
    keys: str


class RouteRow(msgspec.Struct, frozen=True):
    """One destination that a rule wants an instance sent to.

    `transaction_uid` is the send request that it goes with, made when it is new.
    """

    rule: str
    destination: str
    transaction_uid: Uid


class QuietUnitRow(msgspec.Struct, frozen=True):
    """A series or study rule that saw this instance; the clock of its quiet period starts anew at `due_at`."""

    rule: str
    level: Literal["series", "study"]
    destinations: tuple[str, ...]
    matched: bool
    vetoed: bool
    due_at: float


class Acceptance(msgspec.Struct, frozen=True):
    """All facts of one received instance, journalled in one transaction.

    `study` and `series` are None for a non-patient instance, `non_patient` for any other.
    """

    study: StudyRow | None
    series: SeriesRow | None
    instance: InstanceRow
    routes: tuple[RouteRow, ...] = ()
    units: tuple[QuietUnitRow, ...] = ()
    non_patient: NonPatientRow | None = None


class Accepted(msgspec.Struct, frozen=True):
    """What became of an `Acceptance`.

    `coalesced`: the same content was there already, `instance_id` is the earlier row and the new file may be unlinked.
    `conflict`: the SOP Instance UID was there with other content (D13). `destinations` got a new sub-operation.
    `file` is the one that the row points to, its data set begins at `data_set_offset`.
    """

    instance_id: int
    coalesced: bool
    conflict: bool
    destinations: tuple[str, ...]
    file: str = ""
    data_set_offset: int = 0


class Delivery(msgspec.Struct, frozen=True):
    """One claimed sub-operation, with all that a courier needs to send its instance.

    `originator_aet` and `originator_message_id` are those of a C-MOVE, else "" and None (O-46).
    """

    sub_operation_id: int
    attempt_id: int
    attempts: int
    instance_failures: int
    created_at: float
    instance_id: int
    declared: Declared
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes
    study_instance_uid: Uid = Uid("")
    originator_aet: str = ""
    originator_message_id: int | None = None
    priority: int = 0
    last: bool = False
    """No other sub-operation of this instance remains: nobody else is going to read its file soon."""

    @classmethod
    def of_file(
        cls, number: int, declared: Declared, file: str, *, offset: int, size: int, sha256: bytes = b""
    ) -> Self:
        """A file that the journal does not know, sent as `number`; `offset` and `size` of its data set in bytes."""
        return cls(
            sub_operation_id=number,
            attempt_id=number,
            attempts=1,
            instance_failures=0,
            created_at=0.0,
            instance_id=number,
            declared=declared,
            file=file,
            data_set_offset=offset,
            data_set_bytes=size,
            data_set_sha256=sha256,
        )

    @property
    def is_of_move(self) -> bool:
        """Somebody waits on an association for the end of it."""
        return self.originator_message_id is not None
