"""File Meta Information of any PS3.10 stream (PS3.10 §7.1), pushed in as it arrives: a STOW part or a file.

What precedes the data set is parsed and dropped, the preamble too (it can hide anything, §7.5). Bounded; writers that
get the group length wrong are forgiven.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from router.dicom.encoding import LONG_VR_CODES
from router.dicom.envelope import Declared
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Uid
from router.errors import Refused

MAX_META_BYTES: Final = 64 * 1024
"""Of preamble and File Meta together: real ones have 300 to 600 bytes, some with a private element of a few KiB."""

CANNOT_UNDERSTAND: Final = 0xC000
"""PS3.4 Table B.2-1; the same number as STOW Failure Reason (PS3.18 Table I.2-2)."""

_PREFIX_BYTES: Final = 132
_GROUP: Final = b"\x02\x00"
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sHI")
_GROUP_LENGTH: Final = struct.Struct("<HH2sHI")
_NEEDED: Final = (
    (0x0002, "Media Storage SOP Class UID"),
    (0x0003, "Media Storage SOP Instance UID"),
    (0x0010, "Transfer Syntax UID"),
)


class FileMeta(msgspec.Struct, frozen=True):
    """The elements of group 0002 by element number, as they came. `size` counts preamble, prefix and group."""

    elements: Mapping[int, bytes]
    size: int

    def text(self, element: int) -> str:
        """Give a UI, SH or AE element without its padding; "" if absent. What is not ASCII stays visible."""
        return self.elements.get(element, b"").strip(b" \0").decode("latin_1")


class PrefaceReader:
    """Takes a stream from its first byte; gives back what belongs to the data set, when `declared` is there too."""

    __slots__ = ("_buffer", "_elements", "_end", "_pos", "declared", "meta")

    def __init__(self) -> None:
        self.declared: Declared | None = None
        self.meta: FileMeta | None = None
        self._buffer = bytearray()
        self._elements: dict[int, bytes] = {}
        self._pos = _PREFIX_BYTES  # of the next element in _buffer
        self._end: int | None = None  # where the group length says that the group ends

    def feed(self, chunk: bytes | bytearray | memoryview) -> bytes | memoryview:
        """Take bytes; give those of the data set, b"" until it begins.

        Raises Refused (C000H) when this is no PS3.10 stream, or its File Meta is incomplete or too long.
        The view that is returned is one into `chunk`.
        """
        if self.meta is not None:
            return memoryview(chunk)
        before = len(self._buffer)
        self._buffer += memoryview(chunk)[: MAX_META_BYTES + 1 - before]
        if not self._parse(ended=False):
            if len(self._buffer) > MAX_META_BYTES:
                raise _refused(f"its File Meta Information is longer than {MAX_META_BYTES} bytes")
            return b""
        data_set_before = bytes(self._buffer[self._pos : before])
        self._complete()
        if data_set_before:  # at most one byte, that was not enough to see that the group had ended
            return data_set_before + bytes(chunk)
        return memoryview(chunk)[self._pos - before :]

    def finish(self) -> None:
        """Say that the stream has ended; `declared` is then there. Raises Refused when File Meta was not whole."""
        if self.meta is not None:
            return
        if not self._parse(ended=True):
            raise _refused("it ends within its File Meta Information")
        self._complete()

    def _parse(self, *, ended: bool) -> bool:
        """Go through elements as far as the buffer goes; say whether the data set begins at `_pos`."""
        buffer = self._buffer
        if len(buffer) < _PREFIX_BYTES:
            return False
        if buffer[128:_PREFIX_BYTES] != b"DICM":
            raise _refused('it is no PS3.10 file: "DICM" is missing')
        while True:
            pos, available = self._pos, len(buffer) - self._pos
            if pos == self._end and is_deflated(self._transfer_syntax_uid()):
                return True  # deflated bytes may look like group 0002
            if available < 2:
                return ended
            if buffer[pos : pos + 2] != _GROUP:
                return True
            if available < 8:
                return False
            _, element, vr, length = _SHORT.unpack_from(buffer, pos)
            start = pos + 8
            if not (vr.isalpha() and vr.isupper()):
                raise _refused("its File Meta Information is not in Explicit VR Little Endian")
            if vr in LONG_VR_CODES:
                if available < 12:
                    return False
                start, length = pos + 12, _LONG.unpack_from(buffer, pos)[4]
            after = start + length
            if after > MAX_META_BYTES:
                raise _refused(f"its File Meta Information is longer than {MAX_META_BYTES} bytes")
            if after > len(buffer):
                return False
            value = bytes(buffer[start:after])
            self._elements.setdefault(element, value)
            if element == 0 and length == 4:
                self._end = after + int.from_bytes(value, "little")
            self._pos = after

    def _transfer_syntax_uid(self) -> Uid:
        return Uid(self._elements.get(0x0010, b"").strip(b" \0").decode("latin_1"))

    def _complete(self) -> None:
        self._buffer.clear()
        meta = FileMeta(self._elements, self._pos)
        for element, name in _NEEDED:
            if not meta.text(element):
                raise _refused(f"its File Meta Information has no {name} (0002,{element:04X})")
        self.meta = meta
        self.declared = Declared(Uid(meta.text(0x0002)), Uid(meta.text(0x0003)), Uid(meta.text(0x0010)))


def meta_element(element: int, vr: bytes, value: bytes) -> bytes:
    """Write one element of group 0002, padded to an even length: UI and OB with NUL, the others with a space."""
    if len(value) & 1:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in LONG_VR_CODES:
        return _LONG.pack(2, element, vr, 0, len(value)) + value
    return _SHORT.pack(2, element, vr, len(value)) + value


def encode_file_meta(declared: Declared) -> bytes:
    """Write preamble, prefix and File Meta as any other writer would (PS3.10 §7.1): nothing says where we got it.

    Raises ValueError when a UID is not ASCII; check UIDs first.
    """
    meta = b"".join(
        (
            meta_element(0x0001, b"OB", b"\x00\x01"),
            meta_element(0x0002, b"UI", declared.sop_class_uid.encode("ascii")),
            meta_element(0x0003, b"UI", declared.sop_instance_uid.encode("ascii")),
            meta_element(0x0010, b"UI", declared.transfer_syntax_uid.encode("ascii")),
            meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return bytes(128) + b"DICM" + _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(meta)) + meta


def _refused(reason: str) -> Refused:
    return Refused(CANNOT_UNDERSTAND, reason)
