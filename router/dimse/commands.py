"""The command set of a DIMSE message, read and written (PS3.7 §6.3.1, §9.3, Annex E): Implicit VR LE, group 0000.

Our own few lines and not `pynetdicom.dimse_messages`, which builds a pydicom Dataset for each (70 µs for
a message and its answer, against 4).
Elements that `Command` has no field for are checked for form and skipped.
"""

from __future__ import annotations

import struct

from router.dicom.uids import Uid
from router.dimse.events import Command
from router.dimse.pdu import INVALID_PARAMETER
from router.errors import PeerError

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_GET_RQ, N_GET_RSP = 0x0110, 0x8110
N_SET_RQ, N_SET_RSP = 0x0120, 0x8120
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
N_CREATE_RQ, N_CREATE_RSP = 0x0140, 0x8140
N_DELETE_RQ, N_DELETE_RSP = 0x0150, 0x8150
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000  # the bit that makes a response of a request's Command Field

NO_DATA_SET = 0x0101
DATA_SET_FOLLOWS = 0x0102  # any other value says the same; old peers expect this one
MAX_COMMENT_CHARACTERS = 64  # LO

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000

_HEAD = struct.Struct("<HHI")  # group, element, value length
_LENGTH_ELEMENT = struct.Struct("<HHII")
_SHORT_ELEMENT = struct.Struct("<HHIH")
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
        _uid(values, _AFFECTED_SOP_CLASS_UID),
        _uid(values, _AFFECTED_SOP_INSTANCE_UID),
        _unsigned_short(values, _PRIORITY),
        _unsigned_short(values, _STATUS),
        _comment(values),
        data_set_type != NO_DATA_SET,
    )


def encode_command(command: Command) -> bytes:
    """Encode a command set with its group length; what is None or "" is left out."""
    short = _SHORT_ELEMENT.pack
    parts = []
    if command.affected_sop_class_uid:
        parts.append(_encode_uid(_AFFECTED_SOP_CLASS_UID, command.affected_sop_class_uid))
    parts.append(short(0, _COMMAND_FIELD, 2, command.field))
    if command.message_id is not None:
        parts.append(short(0, _MESSAGE_ID, 2, command.message_id))
    if command.message_id_responded_to is not None:
        parts.append(short(0, _MESSAGE_ID_RESPONDED_TO, 2, command.message_id_responded_to))
    if command.priority is not None:
        parts.append(short(0, _PRIORITY, 2, command.priority))
    parts.append(short(0, _DATA_SET_TYPE, 2, DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET))
    if command.status is not None:
        parts.append(short(0, _STATUS, 2, command.status))
    if command.error_comment:
        parts.append(_encode_comment(command.error_comment))
    if command.affected_sop_instance_uid:
        parts.append(_encode_uid(_AFFECTED_SOP_INSTANCE_UID, command.affected_sop_instance_uid))
    body = b"".join(parts)
    return _LENGTH_ELEMENT.pack(0, _GROUP_LENGTH, 4, len(body)) + body


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
    value = values.get(element)
    if value is None:
        return None
    if len(value) != 2:
        raise PeerError(f"command element {element:04X}H of {len(value)} bytes instead of 2", INVALID_PARAMETER)
    return value[0] | value[1] << 8


def _uid(values: dict[int, bytes], element: int) -> Uid:
    # Latin-1 decodes anything: whether it is a UID is the SCP's question, and it answers with a status.
    return Uid(values.get(element, b"").rstrip(b"\0 ").decode("latin-1"))


def _comment(values: dict[int, bytes]) -> str:
    text = values.get(_ERROR_COMMENT, b"").rstrip(b"\0 ").decode("latin-1")[:MAX_COMMENT_CHARACTERS]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _encode_uid(element: int, uid: str) -> bytes:
    value = uid.encode("latin-1", "replace")
    if len(value) & 1:
        value += b"\0"
    return _HEAD.pack(0, element, len(value)) + value


def _encode_comment(text: str) -> bytes:
    allowed = (c if " " <= c <= "~" and c != "\\" else "?" for c in text[:MAX_COMMENT_CHARACTERS])
    value = "".join(allowed).encode("ascii")
    if len(value) & 1:
        value += b" "
    return _HEAD.pack(0, _ERROR_COMMENT, len(value)) + value
