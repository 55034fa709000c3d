"""The items that association PDUs are made of: types, a bounded walk over them, and how one is written (PS3.8 §9.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from router.dicom.uids import Uid
from router.dimse.pdu import INVALID_PARAMETER
from router.errors import PeerError

MAX_ITEMS = 4_096  # items and sub-items of one PDU: 128 contexts of 30 transfer syntaxes fit (B3)

APPLICATION_CONTEXT_ITEM = 0x10
PROPOSED_CONTEXT_ITEM = 0x20
ANSWERED_CONTEXT_ITEM = 0x21
ABSTRACT_SYNTAX_ITEM = 0x30
TRANSFER_SYNTAX_ITEM = 0x40
USER_INFORMATION_ITEM = 0x50
MAXIMUM_LENGTH_ITEM = 0x51
IMPLEMENTATION_CLASS_ITEM = 0x52
OPERATIONS_WINDOW_ITEM = 0x53
ROLE_SELECTION_ITEM = 0x54
IMPLEMENTATION_VERSION_ITEM = 0x55
EXTENDED_NEGOTIATION_ITEM = 0x56
USER_IDENTITY_ITEM = 0x58

_ITEM_HEAD = struct.Struct(">BxH")


class Unacceptable(PeerError):
    """A well-formed request that is answered with this A-ASSOCIATE-RJ, whatever the policy (PS3.8 Table 9-21)."""

    def __init__(self, problem: str, result: int, source: int, reason: int):
        super().__init__(problem)
        self.result, self.source, self.reason = result, source, reason


class Walk:
    """Items within items, at most MAX_ITEMS of them in the whole PDU."""

    def __init__(self, body: bytes):
        self.body = body
        self._left = MAX_ITEMS

    def items(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield type, start and end of each item in body[start:end]."""
        while start < end:
            if end - start < _ITEM_HEAD.size:
                raise PeerError("association item cut short", INVALID_PARAMETER)
            kind, length = _ITEM_HEAD.unpack_from(self.body, start)
            start += _ITEM_HEAD.size
            if start + length > end:
                raise PeerError(f"association item {kind:02X}H of {length} bytes runs over the end", INVALID_PARAMETER)
            self._left -= 1
            if self._left < 0:
                raise PeerError(f"more than {MAX_ITEMS} items in an association PDU", INVALID_PARAMETER)
            yield kind, start, start + length
            start += length


def short(value: bytes, at: int) -> int:
    """Read a big-endian number of two bytes."""
    return value[at] << 8 | value[at + 1]


def uid(value: bytes) -> Uid:
    """Read a UID, or what stands for one."""
    # UIDs are not padded here, yet some peers do; Latin-1 decodes anything, and what is no UID is never accepted.
    return Uid(text_of(value.rstrip(b"\0 ")))


def text_of(value: bytes) -> str:
    """Read text of a peer, safe to show."""
    text = value.decode("latin-1")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def encode_item(kind: int, value: bytes) -> bytes:
    """Write one item; ValueError when it is longer than an item can be."""
    if len(value) > 0xFFFF:
        raise ValueError(f"association item {kind:02X}H of {len(value)} bytes")
    return _ITEM_HEAD.pack(kind, len(value)) + value
