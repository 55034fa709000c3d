"""The Send Request Response Module (Sup 248 Annex @): written as a data set, read as JSON or as XML.

One serializer for the answers of Send and of Check Send Result (REQ-068, REQ-105). Its group 0000 attributes stand in
no instance (REQ-103).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from router.dicom.json_model import JsonDataSet
from router.dicom.sub_operation_status import PENDING_STATUSES
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb import lenient
from router.dicomweb.one_data_set import read_one
from router.errors import PeerError

MAX_BYTES: Final = 16 * 1024**2
"""Answers longer than this are not read: 65,535 failed instances take 8 MB of XML."""

STATUS: Final = "00000900"
REMAINING: Final = "00001020"
COMPLETED: Final = "00001021"
FAILED: Final = "00001022"
WARNING: Final = "00001023"
FAILED_UIDS: Final = "00080058"


class SendResult(msgspec.Struct, frozen=True):
    """A module. `remaining` is None when it is not there; `failed_uids` is Failed SOP Instance UID List."""

    status: int
    remaining: int | None
    completed: int
    failed: int
    warning: int
    failed_uids: tuple[Uid, ...] = ()

    @property
    def is_pending(self) -> bool:
        """More is to come: ask again."""
        return self.status in PENDING_STATUSES


def module(result: SendResult) -> JsonDataSet:
    """Write the module (Table @.1-1). Remaining stands in it while pending, the failed UIDs only at the end (O-04)."""
    data_set: JsonDataSet = {STATUS: _number(result.status)}
    if result.is_pending:
        data_set[REMAINING] = _number(result.remaining or 0)
    data_set[COMPLETED] = _number(result.completed)
    data_set[FAILED] = _number(result.failed)
    data_set[WARNING] = _number(result.warning)
    if result.failed_uids and not result.is_pending:
        data_set[FAILED_UIDS] = {"vr": "UI", "Value": list(result.failed_uids)}
    return data_set


def read_module(content_type: str, body: bytes) -> SendResult:
    """Read a module: a JSON array or object, Native DICOM Model, or a multipart of one of them (O-14, O-16).

    Numbers may be written as text. Raises PeerError when `body` holds no module.
    """
    if len(body) > MAX_BYTES:
        raise PeerError(f"an answer of more than {MAX_BYTES} bytes")
    data_set = read_one(content_type, body)
    status = lenient.us_of(data_set, STATUS)
    if status is None:
        raise PeerError("the answer holds no Send Request Response Module: it has no Status (0000,0900)")
    uids = (value.strip(" \0") for value in lenient.values_of(data_set, FAILED_UIDS) if isinstance(value, str))
    return SendResult(
        status=status,
        remaining=lenient.us_of(data_set, REMAINING),
        completed=lenient.us_of(data_set, COMPLETED) or 0,
        failed=lenient.us_of(data_set, FAILED) or 0,
        warning=lenient.us_of(data_set, WARNING) or 0,
        failed_uids=tuple(dict.fromkeys(Uid(uid) for uid in uids if is_valid_uid(uid, odd=True))),
    )


def _number(value: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [min(value, lenient.MAX_US)]}
