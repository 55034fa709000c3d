"""Implicit VR Little Endian or Explicit VR Big Endian to Explicit VR Little Endian, streamed (PS3.5 §7, §A.1 to A.3).

Values and their order stay as they are; group lengths go; sequences get undefined length, so that one pass is enough.
Memory is one chunk and an element header. PS3.18 §8.7.3 forbids the first two syntaxes on the web.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import Final

from router.dicom.encoding import (
    ITEM,
    ITEM_DELIMITATION,
    LONG_VR_CODES,
    SEQUENCE_DELIMITATION,
    SHORT_VR_CODES,
    UNDEFINED_LENGTH,
)
from router.dicom.explicit_vr import SWAP_UNIT, bare_header, element_header, explicit_vr
from router.dicom.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.errors import RouterError

MAX_DEPTH: Final = 64
"""Sequences within sequences; the deepest real ones (structured reports) have a dozen."""

_DELIMITERS: Final = (ITEM_DELIMITATION, SEQUENCE_DELIMITATION)
_PIXEL_DATA: Final = 0x7FE0_0010
_PIXEL_REPRESENTATION: Final = 0x0028_0103
_ITEM_HEADER: Final = bare_header(ITEM, UNDEFINED_LENGTH)
_ITEM_TRAILER: Final = bare_header(ITEM_DELIMITATION, 0)
_SEQUENCE_TRAILER: Final = bare_header(SEQUENCE_DELIMITATION, 0)

_LITTLE: Final = struct.Struct("<HHL")
_BIG: Final = struct.Struct(">HHL")
_LONG_LENGTH: Final = struct.Struct(">L")
_ARRAY_CODE: Final = {2: "H", 4: "I", 8: "Q"}


class CannotReencode(RouterError):
    """The data set breaks its encoding. `position` counts bytes from its start."""

    def __init__(self, problem: str, position: int):
        self.problem, self.position = problem, position
        super().__init__(f"{problem} (at byte {position} of the data set)")


@dataclass(slots=True)
class _Level:
    """An open sequence or data set. `end` is where it ends, None when a delimiter ends it (at the root: the data)."""

    is_sequence: bool
    end: int | None
    signed: bool
    verbatim: bool
    """Inside a UN of undefined length: Implicit VR Little Endian, copied as it is (PS3.5 §6.2.2)."""


class Reencoder:
    """Push the data set in, take the re-encoded one out: `feed` … `feed`, `finish`. Raises CannotReencode."""

    def __init__(self, transfer_syntax_uid: Uid):
        if transfer_syntax_uid not in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN):
            raise ValueError(f"{transfer_syntax_uid} is not re-encoded")
        self._implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        self._levels = [_Level(is_sequence=False, end=None, signed=False, verbatim=False)]
        self._held = b""
        self._position = 0
        self._value_left = 0
        self._swap_unit = 1
        self._out: list[bytes | memoryview] = []

    def feed(self, chunk: bytes | bytearray | memoryview) -> bytes:
        """Take bytes of the data set, give what they became; together with later calls nothing is lost or repeated."""
        data = self._held + chunk if self._held else bytes(chunk)
        view = memoryview(data)
        at = 0
        while True:
            if self._value_left:
                taken = self._value(view[at:])
                at += taken
                self._position += taken
                if self._value_left:
                    break
            self._close_ended_levels()
            taken = self._header(data, at)
            if not taken:
                break
            at += taken
            self._position += taken
        self._held = data[at:]
        return self._take_output()

    def finish(self) -> bytes:
        """Say that no more bytes come, take the rest."""
        if self._value_left:
            raise self._error("the data set ends in the middle of a value")
        if len(self._levels) > 1:
            raise self._error("the data set ends in the middle of a sequence")
        if self._held.strip(b"\0"):
            raise self._error("the data set ends in the middle of an element")
        return self._take_output()

    def _header(self, data: bytes, at: int) -> int:
        """Read one element, item or delimiter header; give its length in bytes, 0 when it is not whole yet."""
        level = self._levels[-1]
        if level.end is not None and self._position + 8 > level.end:
            raise self._error("bytes that are no element at the end of a sequence or item")
        if len(data) - at < 8:
            return 0
        little = self._implicit or level.verbatim
        group, element, length = (_LITTLE if little else _BIG).unpack_from(data, at)
        tag = group << 16 | element
        if level.is_sequence:
            self._in_sequence(level, tag, length)
            return 8
        if tag in _DELIMITERS:
            self._delimiter(level, tag, length)
            return 8
        if tag == ITEM:
            raise self._error("an item outside of a sequence")
        if level.verbatim:
            self._copied_element(tag, length)
            return 8
        if self._implicit:
            taken, vr = 8, explicit_vr(tag, level.signed)
        else:
            vr = data[at + 4 : at + 6]
            taken = 12 if vr in LONG_VR_CODES else 8
            if taken == 8 and vr not in SHORT_VR_CODES:
                raise self._error(f"{_name(tag)} has the unknown value representation {vr!r}")
            if len(data) - at < taken:
                return 0
            length = _LONG_LENGTH.unpack_from(data, at + 8)[0] if taken == 12 else length & 0xFFFF
        if tag == _PIXEL_REPRESENTATION and length == 2:
            value = data[at + taken : at + taken + 2]
            if len(value) < 2:
                return 0
            level.signed = any(value)
        self._element(level, tag, vr, length, taken)
        return taken

    def _element(self, level: _Level, tag: int, vr: bytes, length: int, taken: int) -> None:
        if length == UNDEFINED_LENGTH:
            if tag == _PIXEL_DATA:
                raise self._error("pixel data in fragments, which this transfer syntax does not allow")
            if not self._implicit and vr not in (b"SQ", b"UN"):
                raise self._error(f"{_name(tag)} has no length")
            is_sequence = vr == b"SQ"
            self._out.append(element_header(tag, b"SQ" if is_sequence else b"UN", UNDEFINED_LENGTH))
            self._open(_Level(is_sequence=True, end=None, signed=level.signed, verbatim=not is_sequence))
            return
        end = self._position + taken + length
        self._check_end(level, end, tag)
        if vr == b"SQ":
            self._out.append(element_header(tag, b"SQ", UNDEFINED_LENGTH))
            self._open(_Level(is_sequence=True, end=end, signed=level.signed, verbatim=False))
            return
        self._value_left = length
        if tag & 0xFFFF == 0:  # a group length, wrong as soon as any element of the group is written otherwise
            self._swap_unit = 0
        else:
            self._swap_unit = 1 if self._implicit else SWAP_UNIT.get(vr, 1)
            self._out.append(element_header(tag, vr, length))

    def _in_sequence(self, level: _Level, tag: int, length: int) -> None:
        if tag == ITEM:
            end = None if length == UNDEFINED_LENGTH else self._position + 8 + length
            if end is not None:
                self._check_end(level, end, tag)
            if level.verbatim and end is not None:
                self._out.append(bare_header(tag, length))
                self._value_left, self._swap_unit = length, 1
            else:
                self._out.append(_ITEM_HEADER)
                self._open(_Level(is_sequence=False, end=end, signed=level.signed, verbatim=level.verbatim))
        elif tag == SEQUENCE_DELIMITATION and level.end is None and not length:
            self._levels.pop()
            self._out.append(_SEQUENCE_TRAILER)
        elif tag != ITEM_DELIMITATION or length or level.verbatim:  # some write one after an item that told its length
            raise self._error(f"{_name(tag)} where an item should begin")

    def _delimiter(self, level: _Level, tag: int, length: int) -> None:
        if length:
            raise self._error("a delimiter with a length")
        if level.end is None and len(self._levels) > 1:
            if tag != ITEM_DELIMITATION:
                raise self._error("a sequence ends within its item")
            self._levels.pop()
            self._out.append(_ITEM_TRAILER)
        # else it delimits nothing: some write one at the end of an item or sequence that told its length

    def _copied_element(self, tag: int, length: int) -> None:
        self._out.append(bare_header(tag, length))
        if length == UNDEFINED_LENGTH:
            self._open(_Level(is_sequence=True, end=None, signed=False, verbatim=True))
        else:
            self._value_left, self._swap_unit = length, 1

    def _value(self, data: memoryview) -> int:
        """Pass on value bytes, turned to little endian; give how many were taken."""
        unit = self._swap_unit
        taken = min(self._value_left, len(data))
        if unit == 0:
            self._value_left -= taken
            return taken
        if unit > 1 and taken < self._value_left:
            taken -= taken % unit
        self._value_left -= taken
        if unit == 1:
            self._out.append(data[:taken])
        else:
            whole = taken - taken % unit
            numbers = array(_ARRAY_CODE[unit])
            numbers.frombytes(data[:whole])
            numbers.byteswap()
            self._out += (numbers.tobytes(), data[whole:taken])
        return taken

    def _open(self, level: _Level) -> None:
        if len(self._levels) > 2 * MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} sequences within each other")
        self._levels.append(level)

    def _close_ended_levels(self) -> None:
        while self._levels[-1].end == self._position:
            level = self._levels.pop()
            self._out.append(_SEQUENCE_TRAILER if level.is_sequence else _ITEM_TRAILER)

    def _check_end(self, level: _Level, end: int, tag: int) -> None:
        if level.end is not None and end > level.end:
            raise self._error(f"{_name(tag)} is longer than what it stands in")

    def _take_output(self) -> bytes:
        output = b"".join(self._out)
        self._out.clear()
        return output

    def _error(self, problem: str) -> CannotReencode:
        return CannotReencode(problem, self._position)


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
