"""P-DATA-TF, the hot path: PDVs to commands and data-set fragments, and back (PS3.8 §9.3.5, Annex E.2).

Fragments are slices of what was received and never copied; only a command set (at most 64 KiB) is put together.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from router.dimse.commands import decode_command
from router.dimse.events import CommandReceived, DataReceived, Event
from router.dimse.pdu import INVALID_PARAMETER, P_DATA_TF, UNEXPECTED_PDU
from router.errors import PeerError

MAX_COMMAND_BYTES = 65_536  # a C-STORE-RQ has some 200; bounds what an unfinished command set may hold (B19)
MAX_SENT_PDU_BYTES = 262_144  # what we send at most to a peer without limit, so that no peer must hold more at once
MIN_PDU_BYTES = 12  # room for one PDV with a fragment of six bytes; what a peer must at least be ready to take (B13)

_COMMAND = 0x01
_LAST = 0x02
_PDV_HEAD = struct.Struct(">IBB")  # item length, presentation context id, message control header
_PDU_HEAD = struct.Struct(">BxIIBB")  # the same behind a PDU header, for a PDU of one PDV
_PDV_HEAD_BYTES = 6
_ITEM_LENGTH_BYTES = 4
_CONTROL_BYTES = 2  # context id and message control header, which the item length counts
_NO_CONTEXT = 0  # never accepted, so no PDV has it


class MessageReader:
    """Reads one message after the other, command set then data set, all on one presentation context each."""

    def __init__(self, accepted: Collection[int]):
        self._accepted = accepted
        self._data_context = _NO_CONTEXT
        self._command_context = _NO_CONTEXT
        self._command = bytearray()

    def read(self, view: memoryview, position: int, end: int, events: list[Event]) -> None:
        """Append the events of the PDVs in view[position:end], the body of one P-DATA-TF.

        Raises PeerError (B17 to B19, B21 to B23).
        """
        if position == end:
            raise PeerError("P-DATA-TF without a PDV", INVALID_PARAMETER)
        while position < end:
            start = position + _PDV_HEAD_BYTES
            if start > end:
                raise PeerError(f"{end - position} bytes of P-DATA-TF that are no PDV", INVALID_PARAMETER)
            length, context_id, control = _PDV_HEAD.unpack_from(view, position)
            position += _ITEM_LENGTH_BYTES + length
            if length < _CONTROL_BYTES or position > end:
                raise PeerError(f"PDV length {length} does not fit its PDU", INVALID_PARAMETER)
            if context_id not in self._accepted:
                raise PeerError(f"PDV on presentation context {context_id}, which is not accepted", INVALID_PARAMETER)
            last = control & _LAST != 0
            if control & _COMMAND:
                self._read_command(context_id, view[start:position], last, events)
            elif context_id != self._data_context:
                raise PeerError(f"data set fragment on presentation context {context_id} out of turn", UNEXPECTED_PDU)
            elif last:
                self._data_context = _NO_CONTEXT
                events.append(DataReceived(context_id, view[start:position], True))
            elif start < position:
                events.append(DataReceived(context_id, view[start:position], False))

    def _read_command(self, context_id: int, fragment: memoryview, last: bool, events: list[Event]) -> None:
        if self._data_context or self._command_context not in (_NO_CONTEXT, context_id):
            raise PeerError("command before the message under way has ended", UNEXPECTED_PDU)
        if len(self._command) + len(fragment) > MAX_COMMAND_BYTES:
            raise PeerError(f"command set of more than {MAX_COMMAND_BYTES} bytes", INVALID_PARAMETER)
        if not last:
            self._command_context = context_id
            self._command += fragment
            return
        command = decode_command(bytes(self._command) + fragment)
        self._command_context = _NO_CONTEXT
        self._command.clear()
        if command.has_data_set:
            self._data_context = context_id
        events.append(CommandReceived(context_id, command))


def encode_command_pdus(context_id: int, command: bytes, peer_max_pdu_bytes: int) -> list[bytes | memoryview]:
    """Wrap a whole command set; `peer_max_pdu_bytes` 0 is no limit."""
    return _encode_pdus(context_id, command, _COMMAND, True, peer_max_pdu_bytes)


def encode_data_pdus(
    context_id: int, data: bytes | memoryview, last: bool, peer_max_pdu_bytes: int
) -> list[bytes | memoryview]:
    """Wrap a piece of a data set, one PDV a PDU; the parts are headers of ours and slices of `data`, not copies."""
    if not data and not last:
        return []
    return _encode_pdus(context_id, data, 0, last, peer_max_pdu_bytes)


def _encode_pdus(
    context_id: int, data: bytes | memoryview, kind: int, last: bool, peer_max_pdu_bytes: int
) -> list[bytes | memoryview]:
    limit = min(peer_max_pdu_bytes or MAX_SENT_PDU_BYTES, MAX_SENT_PDU_BYTES)
    room = (limit - _PDV_HEAD_BYTES) & ~1  # fragments are of even length (PS3.8 Annex E.2)
    size = len(data)
    final = kind | _LAST if last else kind
    if size <= room:
        return [_encode_head(context_id, size, final), data]
    whole = _encode_head(context_id, room, kind)
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    before_last = (size - 1) // room * room  # at least one byte is left for the last fragment
    for start in range(0, before_last, room):
        parts.append(whole)
        parts.append(view[start : start + room])
    parts.append(_encode_head(context_id, size - before_last, final))
    parts.append(view[before_last:])
    return parts


def _encode_head(context_id: int, size: int, control: int) -> bytes:
    return _PDU_HEAD.pack(P_DATA_TF, size + _PDV_HEAD_BYTES, size + _CONTROL_BYTES, context_id, control)
