"""The commands of the Storage Commitment Push Model SOP Class (PS3.4 §J.3), and what their answers mean."""

from __future__ import annotations

from typing import Final

from router.dicom.commitment import DUPLICATE_TRANSACTION_UID, PROCESSING_FAILURE, RESOURCE_LIMITATION
from router.dicom.commitment_information import PUSH_MODEL, PUSH_MODEL_INSTANCE, REQUEST_STORAGE_COMMITMENT
from router.dimse.commands import N_ACTION_RQ, N_EVENT_REPORT_RQ
from router.dimse.events import Command
from router.errors import Misconfigured, Refused, Transient

_TAKEN: Final = frozenset({0x0000, 0x0001, 0x0107, 0x0116})
"""Success and the warnings of PS3.7 §C.3; Bxxx are warnings too."""
_TRY_LATER: Final = frozenset({PROCESSING_FAILURE, RESOURCE_LIMITATION})

ACTION: Final = Command(
    N_ACTION_RQ,
    requested_sop_class_uid=PUSH_MODEL,
    requested_sop_instance_uid=PUSH_MODEL_INSTANCE,
    action_type_id=REQUEST_STORAGE_COMMITMENT,
)
"""The N-ACTION-RQ that asks for commitment."""


def event_report(event_type: int) -> Command:
    """Make the N-EVENT-REPORT-RQ of the one instance of the Push Model."""
    return Command(
        N_EVENT_REPORT_RQ,
        affected_sop_class_uid=PUSH_MODEL,
        affected_sop_instance_uid=PUSH_MODEL_INSTANCE,
        event_type_id=event_type,
    )


def check_action_answer(response: Command) -> None:
    """Raise Transient or Misconfigured when the SCP does not take the request. It may have it already (0131H)."""
    if _was_taken(response) or response.status == DUPLICATE_TRANSACTION_UID:
        return
    words = _words("N-ACTION", response)
    raise Transient(words) if response.status in _TRY_LATER else Misconfigured(words)


def check_event_answer(response: Command) -> None:
    """Raise when the SCU does not take the report: Transient (again later), or Refused (it never will)."""
    if _was_taken(response):
        return
    if response.status in _TRY_LATER:
        raise Transient(_words("N-EVENT-REPORT", response))
    raise Refused(response.status or 0, response.error_comment or "to the N-EVENT-REPORT")


def _was_taken(response: Command) -> bool:
    status = response.status
    return status is not None and (status in _TAKEN or status >> 12 == 0xB)


def _words(message: str, response: Command) -> str:
    return f"{message} answered with status {response.status or 0:04X}H {response.error_comment}".rstrip()
