"""The command set of a DIMSE message, read and written (PS3.7 §6.3.1, §9.3, Annex E): Implicit VR LE, group 0000.

Our own few lines and not `pynetdicom.dimse_messages`, which builds a pydicom Dataset for each (70 µs for
a message and its answer, against 4).
Elements that `Command` has no field for are checked for form and skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from router.dicom.uids import AETitle, Uid
from router.dimse.events import Command
from router.dimse.pdu import INVALID_PARAMETER
from router.errors import PeerError

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000  # the bit that makes a response of a request's Command Field

NO_DATA_SET = 0x0101
DATA_SET_FOLLOWS = 0x0102  # any other value says the same; old peers expect this one
MAX_COMMENT_CHARACTERS = 64  # LO

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_REQUESTED_SOP_CLASS_UID = 0x0003
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_MOVE_DESTINATION = 0x0600
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_OFFENDING_ELEMENT = 0x0901
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000
_REQUESTED_SOP_INSTANCE_UID = 0x1001
_EVENT_TYPE_ID = 0x1002
_ACTION_TYPE_ID = 0x1008
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023
_MOVE_ORIGINATOR_AET = 0x1030
_MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

_HEAD = struct.Struct("<HHI")  # group, element, value length
_LENGTH_ELEMENT = struct.Struct("<HHII")
_SHORT_ELEMENT = struct.Struct("<HHIH")
_TAG = struct.Struct("<HH")
_HEAD_BYTES = 8
_LENGTH_ELEMENT_BYTES = 12


def decode_command(data: bytes) -> Command:
    """Decode a whole command set.

    Raises PeerError: with abort reason 6 when it is no command set (B23), 0 when a required element is absent (B22). A
    missing Affected SOP Class or Instance UID is left "": the SCP answers that with a status.
    """
    values = _split(data)
    field = _unsigned_short(values, _COMMAND_FIELD)
    if field is None:
        raise PeerError("command set without Command Field")
    message_id = _unsigned_short(values, _MESSAGE_ID)
    responded_to = _unsigned_short(values, _MESSAGE_ID_RESPONDED_TO)
    if field & RESPONSE or field == C_CANCEL_RQ:
        if responded_to is None:
            raise PeerError(f"command {field:04X}H without Message ID Being Responded To")
    elif message_id is None:
        raise PeerError(f"command {field:04X}H without Message ID")
    data_set_type = _unsigned_short(values, _DATA_SET_TYPE)
    if data_set_type is None:
        raise PeerError(f"command {field:04X}H without Command Data Set Type")
    return Command(
        field,
        message_id,
        responded_to,
        _uid(values.pop(_AFFECTED_SOP_CLASS_UID, b"")),
        _uid(values.pop(_AFFECTED_SOP_INSTANCE_UID, b"")),
        _unsigned_short(values, _PRIORITY),
        _unsigned_short(values, _STATUS),
        has_data_set=data_set_type != NO_DATA_SET,
        **_further(values) if values else _NOTHING_FURTHER,
    )


def encode_command(command: Command) -> bytes:
    """Encode a command set with its group length; what is None or "" is left out."""
    short = _SHORT_ELEMENT.pack
    parts = []
    if command.affected_sop_class_uid:
        parts.append(_encode_uid(_AFFECTED_SOP_CLASS_UID, command.affected_sop_class_uid))
    if command.requested_sop_class_uid:
        parts.append(_encode_uid(_REQUESTED_SOP_CLASS_UID, command.requested_sop_class_uid))
    parts.append(short(0, _COMMAND_FIELD, 2, command.field))
    if command.message_id is not None:
        parts.append(short(0, _MESSAGE_ID, 2, command.message_id))
    if command.message_id_responded_to is not None:
        parts.append(short(0, _MESSAGE_ID_RESPONDED_TO, 2, command.message_id_responded_to))
    if command.move_destination:
        parts.append(_encode_ae_title(_MOVE_DESTINATION, command.move_destination))
    if command.priority is not None:
        parts.append(short(0, _PRIORITY, 2, command.priority))
    parts.append(short(0, _DATA_SET_TYPE, 2, DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET))
    if command.status is not None:
        parts.append(short(0, _STATUS, 2, command.status))
    if command.offending_elements:
        parts.append(_encode_tags(_OFFENDING_ELEMENT, command.offending_elements))
    if command.error_comment:
        parts.append(_encode_comment(command.error_comment))
    if command.affected_sop_instance_uid:
        parts.append(_encode_uid(_AFFECTED_SOP_INSTANCE_UID, command.affected_sop_instance_uid))
    parts += _encode_end(command)
    body = b"".join(parts)
    return _LENGTH_ELEMENT.pack(0, _GROUP_LENGTH, 4, len(body)) + body


def _encode_end(command: Command) -> list[bytes]:
    """Encode what comes after Affected SOP Instance UID."""
    parts = []
    if command.requested_sop_instance_uid:
        parts.append(_encode_uid(_REQUESTED_SOP_INSTANCE_UID, command.requested_sop_instance_uid))
    for element, value in (
        (_EVENT_TYPE_ID, command.event_type_id),
        (_ACTION_TYPE_ID, command.action_type_id),
        (_REMAINING, command.remaining),
        (_COMPLETED, command.completed),
        (_FAILED, command.failed),
        (_WARNING, command.warning),
    ):
        if value is not None:
            parts.append(_SHORT_ELEMENT.pack(0, element, 2, value))
    if command.move_originator_aet:
        parts.append(_encode_ae_title(_MOVE_ORIGINATOR_AET, command.move_originator_aet))
    if command.move_originator_message_id is not None:
        parts.append(_SHORT_ELEMENT.pack(0, _MOVE_ORIGINATOR_MESSAGE_ID, 2, command.move_originator_message_id))
    return parts


def _split(data: bytes) -> dict[int, bytes]:
    end = len(data)
    if end < _LENGTH_ELEMENT_BYTES:
        raise PeerError(f"command set of {end} bytes", INVALID_PARAMETER)
    group, element, length, group_length = _LENGTH_ELEMENT.unpack_from(data)
    if group or element != _GROUP_LENGTH or length != 4:
        detail = "in Explicit VR" if data[4:6] == b"UL" else "that does not start with its group length"
        raise PeerError(f"command set {detail}", INVALID_PARAMETER)
    if group_length != end - _LENGTH_ELEMENT_BYTES:
        raise PeerError(
            f"command group length {group_length} where {end - _LENGTH_ELEMENT_BYTES} bytes follow", INVALID_PARAMETER
        )
    values: dict[int, bytes] = {}
    head, before, position = _HEAD.unpack_from, _GROUP_LENGTH, _LENGTH_ELEMENT_BYTES
    while position < end:
        start = position + _HEAD_BYTES
        if start > end:
            raise PeerError("command set ends inside an element", INVALID_PARAMETER)
        group, element, length = head(data, position)
        if group:
            raise PeerError(f"group {group:04X}H in a command set", INVALID_PARAMETER)
        if element <= before:
            raise PeerError(f"command element {element:04X}H after {before:04X}H", INVALID_PARAMETER)
        position = start + length
        if position > end:
            raise PeerError(f"command element {element:04X}H of {length} bytes runs over the end", INVALID_PARAMETER)
        values[element] = data[start:position]
        before = element
    return values


def _unsigned_short(values: dict[int, bytes], element: int) -> int | None:
    """Take a US out of `values`."""
    value = values.pop(element, None)
    if value is None:
        return None
    if len(value) != 2:
        raise PeerError(f"command element {element:04X}H of {len(value)} bytes instead of 2", INVALID_PARAMETER)
    return value[0] | value[1] << 8


def _uid(value: bytes) -> Uid:
    # Latin-1 decodes anything: whether it is a UID is the SCP's question, and it answers with a status.
    return Uid(value.rstrip(b"\0 ").decode("latin-1"))


def _ae_title(value: bytes) -> AETitle:
    return AETitle(value.strip(b"\0 ").decode("latin-1"))


def _comment(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("latin-1")[:MAX_COMMENT_CHARACTERS]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _number(value: bytes) -> int | None:
    if not value:
        return None  # a counter that some leave empty instead of out
    if len(value) != 2:
        raise PeerError(f"US command element of {len(value)} bytes instead of 2", INVALID_PARAMETER)
    return value[0] | value[1] << 8


def _tags(value: bytes) -> tuple[int, ...]:
    if len(value) % _TAG.size:
        raise PeerError(f"offending elements of {len(value)} bytes", INVALID_PARAMETER)
    return tuple(group << 16 | element for group, element in _TAG.iter_unpack(value))


_FURTHER: Final[Mapping[int, tuple[str, Callable[[bytes], Any]]]] = {
    _REQUESTED_SOP_CLASS_UID: ("requested_sop_class_uid", _uid),
    _MOVE_DESTINATION: ("move_destination", _ae_title),
    _OFFENDING_ELEMENT: ("offending_elements", _tags),
    _ERROR_COMMENT: ("error_comment", _comment),
    _REQUESTED_SOP_INSTANCE_UID: ("requested_sop_instance_uid", _uid),
    _EVENT_TYPE_ID: ("event_type_id", _number),
    _ACTION_TYPE_ID: ("action_type_id", _number),
    _REMAINING: ("remaining", _number),
    _COMPLETED: ("completed", _number),
    _FAILED: ("failed", _number),
    _WARNING: ("warning", _number),
    _MOVE_ORIGINATOR_AET: ("move_originator_aet", _ae_title),
    _MOVE_ORIGINATOR_MESSAGE_ID: ("move_originator_message_id", _number),
}
"""What a C-STORE and a C-ECHO go without, or mostly: field of `Command`, and how its value is read."""
_NOTHING_FURTHER: Final[dict[str, Any]] = {}


def _further(values: dict[int, bytes]) -> dict[str, Any]:
    known = ((_FURTHER.get(element), value) for element, value in values.items())
    return {field[0]: field[1](value) for field, value in known if field is not None}


def _encode_uid(element: int, uid: str) -> bytes:
    value = uid.encode("latin-1", "replace")
    if len(value) & 1:
        value += b"\0"
    return _HEAD.pack(0, element, len(value)) + value


def _encode_ae_title(element: int, title: str) -> bytes:
    value = title.encode("latin-1", "replace")
    if len(value) & 1:
        value += b" "
    return _HEAD.pack(0, element, len(value)) + value


def _encode_tags(element: int, tags: tuple[int, ...]) -> bytes:
    value = b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    return _HEAD.pack(0, element, len(value)) + value


def _encode_comment(text: str) -> bytes:
    allowed = (c if " " <= c <= "~" and c != "\\" else "?" for c in text[:MAX_COMMENT_CHARACTERS])
    value = "".join(allowed).encode("ascii")
    if len(value) & 1:
        value += b" "
    return _HEAD.pack(0, _ERROR_COMMENT, len(value)) + value
