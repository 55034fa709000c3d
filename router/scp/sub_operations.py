"""The responses of C-MOVE and C-GET: one set of counters, one status, one list of what failed (PS3.4 §C.4.2.1.4.2 to
§C.4.2.1.9, §C.4.2.3.1; C.4.3 likewise).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from router.dicom.identifier import write_identifier
from router.dicom.json_model import element
from router.dicom.query_retrieve import CANCELLED
from router.dicom.sub_operation_status import PENDING, final_status
from router.dicom.uids import Uid
from router.dimse.commands import RESPONSE
from router.dimse.events import Command

_FAILED_UIDS: Final = 0x00080058


class Counters(msgspec.Struct, frozen=True):
    """Each sub-operation stands in one of the four (REQ-130); together they are always the number of matches."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0


def pending(request: Command, counters: Counters) -> Command:
    """Say how far it is: all four counters, and no data set."""
    return _response(request, PENDING, counters, remaining=counters.remaining)


def final(request: Command, counters: Counters) -> Command:
    """Say that all is done; Remaining has no place there (REQ-114)."""
    status = final_status(completed=counters.completed, warning=counters.warning, failed=counters.failed)
    return _response(request, status, counters, remaining=None)


def cancelled(request: Command, counters: Counters) -> Command:
    """Say that it was interrupted; Remaining counts what was not initiated (REQ-120)."""
    return _response(request, CANCELLED, counters, remaining=counters.remaining)


def failed_list(uids: Sequence[Uid], transfer_syntax_uid: Uid) -> bytes:
    """Write the Failed SOP Instance UID List; b"", no data set at all, when nothing failed (O-04)."""
    if not uids:
        return b""
    return write_identifier({f"{_FAILED_UIDS:08X}": element(_FAILED_UIDS, list(uids))}, transfer_syntax_uid)


def _response(request: Command, status: int, counters: Counters, *, remaining: int | None) -> Command:
    return Command(
        request.field | RESPONSE,
        status=status,
        remaining=remaining,
        completed=counters.completed,
        failed=counters.failed,
        warning=counters.warning,
    )
