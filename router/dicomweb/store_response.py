"""The Store Instances Response Module (PS3.18 Table I.1-1): made as one data set, read as JSON or as XML.

It says nothing about what an answer means for a delivery; that is the courier's. PS3.18 §10.5.3, Annex F.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal

import msgspec

from router.dicom.json_model import JsonDataSet, in_order
from router.dicom.uids import Uid
from router.dicomweb import lenient, media_types, native_model
from router.errors import PeerError

MAX_BYTES = 4 * 1024 * 1024
"""Answers longer than this are not read: 10,000 instances take 3 MB."""

_RETRIEVE_URL = "00081190"
_FAILED_SOP_SEQUENCE = "00081198"
_REFERENCED_SOP_SEQUENCE = "00081199"
_OTHER_FAILURES_SEQUENCE = "0008119A"
_REFERENCED_SOP_CLASS_UID = "00081150"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_WARNING_REASON = "00081196"
_FAILURE_REASON = "00081197"


class StoredInstance(msgspec.Struct, frozen=True):
    """One item of the Referenced SOP Sequence. `retrieve_url` may be empty (type 2)."""

    sop_class_uid: Uid
    sop_instance_uid: Uid
    retrieve_url: str = ""
    warning_reason: int | None = None


class FailedInstance(msgspec.Struct, frozen=True):
    """One item of the Failed SOP Sequence."""

    sop_class_uid: Uid
    sop_instance_uid: Uid
    failure_reason: int


class Verdict(Enum):
    """What a module says of one instance."""

    STORED = "stored"
    WARNING = "warning"
    FAILED = "failed"
    CONTRADICTORY = "contradictory"
    """Named as stored and as failed."""


class InstanceResult(msgspec.Struct, frozen=True):
    """`reason` is the Warning Reason or the Failure Reason; None when a failure gives none."""

    verdict: Verdict
    reason: int | None = None


class StoreResponse(msgspec.Struct, frozen=True):
    """A module as read. `other_failures` are the reasons of failures that name no instance."""

    instances: Mapping[Uid, InstanceResult]
    other_failures: tuple[int | None, ...] = ()


def store_response(
    *,
    retrieve_url: str = "",
    stored: Sequence[StoredInstance] = (),
    failed: Sequence[FailedInstance] = (),
    other_failures: Sequence[int] = (),
) -> JsonDataSet:
    """Make the module as a data set. `retrieve_url` is the study's, empty when there are several."""
    module: JsonDataSet = {_RETRIEVE_URL: _element("UR", retrieve_url)}
    if failed:
        items = [
            _reference(entry.sop_class_uid, entry.sop_instance_uid)
            | {_FAILURE_REASON: _element("US", entry.failure_reason)}
            for entry in failed
        ]
        module[_FAILED_SOP_SEQUENCE] = {"vr": "SQ", "Value": items}
    if stored:
        module[_REFERENCED_SOP_SEQUENCE] = {"vr": "SQ", "Value": [_stored_item(entry) for entry in stored]}
    if other_failures:
        items = [{_FAILURE_REASON: _element("US", reason)} for reason in other_failures]
        module[_OTHER_FAILURES_SEQUENCE] = {"vr": "SQ", "Value": items}
    return in_order(module)


def decode_store_response(content_type: str, body: bytes) -> StoreResponse:
    """Read a module: a JSON object, an array of objects, or Native DICOM Model. PeerError when `body` holds none."""
    if len(body) > MAX_BYTES:
        raise PeerError(f"an answer of more than {MAX_BYTES} bytes")
    try:
        media_type = media_types.parse_media_type(content_type).name
    except PeerError:
        media_type = ""
    start = body.lstrip()[:1]
    if media_type == "text/html" or not start:
        raise PeerError("the answer holds no Store Instances Response Module")
    modules = [native_model.decode(body)] if start == b"<" else lenient.read_json(body)
    instances: dict[Uid, InstanceResult] = {}
    others: list[int | None] = []
    named = False
    for module in modules:
        named = named or not module.keys().isdisjoint(
            (_RETRIEVE_URL, _FAILED_SOP_SEQUENCE, _REFERENCED_SOP_SEQUENCE, _OTHER_FAILURES_SEQUENCE)
        )
        for item in lenient.items_of(module, _REFERENCED_SOP_SEQUENCE):
            reason = lenient.us_of(item, _WARNING_REASON)
            _note(instances, item, InstanceResult(Verdict.STORED if reason is None else Verdict.WARNING, reason))
        for item in lenient.items_of(module, _FAILED_SOP_SEQUENCE):
            _note(instances, item, InstanceResult(Verdict.FAILED, lenient.us_of(item, _FAILURE_REASON)))
        others += [lenient.us_of(item, _FAILURE_REASON) for item in lenient.items_of(module, _OTHER_FAILURES_SEQUENCE)]
    if not named:
        raise PeerError("the answer holds no Store Instances Response Module")
    return StoreResponse(instances, tuple(others))


def _note(instances: dict[Uid, InstanceResult], item: Mapping[str, Any], result: InstanceResult) -> None:
    uid = lenient.text_of(item, _REFERENCED_SOP_INSTANCE_UID)
    if not uid:
        return
    earlier = instances.get(Uid(uid))
    if earlier is not None and (earlier.verdict is Verdict.FAILED) != (result.verdict is Verdict.FAILED):
        result = InstanceResult(Verdict.CONTRADICTORY, result.reason)
    elif earlier is not None and earlier.verdict in (Verdict.CONTRADICTORY, Verdict.WARNING):
        result = earlier
    instances[Uid(uid)] = result


def _element(vr: Literal["UI", "UR", "US"], value: str | int) -> dict[str, Any]:
    return {"vr": vr} if value == "" else {"vr": vr, "Value": [value]}


def _reference(sop_class_uid: Uid, sop_instance_uid: Uid) -> dict[str, Any]:
    return {
        _REFERENCED_SOP_CLASS_UID: _element("UI", sop_class_uid),
        _REFERENCED_SOP_INSTANCE_UID: _element("UI", sop_instance_uid),
    }


def _stored_item(entry: StoredInstance) -> dict[str, Any]:
    item = _reference(entry.sop_class_uid, entry.sop_instance_uid)
    item[_RETRIEVE_URL] = _element("UR", entry.retrieve_url)
    if entry.warning_reason is not None:
        item[_WARNING_REASON] = _element("US", entry.warning_reason)
    return dict(sorted(item.items()))
