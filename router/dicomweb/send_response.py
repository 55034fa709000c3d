"""The Send Request Response Module (Sup 248 Annex @): written as a data set, read as JSON or as XML.

One serializer for the answers of Send and of Check Send Result (REQ-068, REQ-105). Its group 0000 attributes stand in
no instance (REQ-103).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.dicom.json_model import JsonDataSet
from router.dicom.sub_operation_status import PENDING_STATUSES
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb import media_types, native_model
from router.dicomweb.multipart import PartData, PartLimits, PartReader
from router.errors import PeerError

MAX_BYTES: Final = 16 * 1024**2
"""Answers longer than this are not read: 65,535 failed instances take 8 MB of XML."""
MAX_COUNT: Final = 0xFFFF
"""The counters are US (O-19)."""

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
    data_set = _data_set(content_type, body)
    status = _count(data_set, STATUS)
    if status is None:
        raise PeerError("the answer holds no Send Request Response Module: it has no Status (0000,0900)")
    uids = (value.strip(" \0") for value in _values(data_set, FAILED_UIDS) if isinstance(value, str))
    return SendResult(
        status=status,
        remaining=_count(data_set, REMAINING),
        completed=_count(data_set, COMPLETED) or 0,
        failed=_count(data_set, FAILED) or 0,
        warning=_count(data_set, WARNING) or 0,
        failed_uids=tuple(dict.fromkeys(Uid(uid) for uid in uids if is_valid_uid(uid, odd=True))),
    )


def _number(value: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [min(value, MAX_COUNT)]}


def _data_set(content_type: str, body: bytes) -> Mapping[str, Any]:
    try:
        media_type = media_types.parse_media_type(content_type)
    except PeerError:
        media_type = media_types.MediaType("", {})
    if media_type.name == media_types.MULTIPART_RELATED:
        body = _first_part(media_type.parameters.get("boundary", ""), body)
    if body.lstrip()[:1] == b"<":
        return native_model.decode(body)
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError("the answer is neither JSON nor XML") from error
    if isinstance(decoded, list) and len(decoded) == 1:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        raise PeerError("the answer is JSON, but not one data set")
    return {tag.upper(): element for tag, element in decoded.items()}


def _first_part(boundary: str, body: bytes) -> bytes:
    reader = PartReader(boundary, PartLimits(parts=1))
    events = reader.feed(body)
    part = b"".join(bytes(event.data) for event in events if isinstance(event, PartData))
    reader.finish()
    return part


def _values(data_set: Mapping[str, Any], tag: str) -> list[Any]:
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _count(data_set: Mapping[str, Any], tag: str) -> int | None:
    """Read a US value; some write it as text or as 5.0."""
    match _values(data_set, tag)[:1]:
        case [bool()]:
            return None
        case [int(value) | float(value)] if 0 <= value <= MAX_COUNT:
            return int(value)
        case [str(text)] if len(text) <= 5 and text.isascii() and text.isdigit() and int(text) <= MAX_COUNT:
            return int(text)
        case _:
            return None
