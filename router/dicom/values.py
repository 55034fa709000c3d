"""The bytes of one element as texts (PS3.5 §6.2): decoded, split, padding off, numbers spelled out.

Total: never raises, whatever the bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

from router.dicom.charset import decode

NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
"""Value representations that hold binary numbers, with their struct format."""

_BULK: Final = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "SQ"})
_ONE_VALUE: Final = frozenset({"ST", "LT", "UT", "UR"})
_LEADING_SPACE_COUNTS: Final = frozenset({"PN", "UC"})
_PADDING: Final = " \0"
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that PS3.5 §6.1.3 does not allow: an UN value that has one is binary."""


def texts_of(vr: str, raw: bytes, *, big_endian: bool, charsets: Sequence[str]) -> tuple[str, ...]:
    """Spell out an element's values; () if it is empty or its VR has no text (OB, OW …)."""
    if not raw or vr in _BULK:
        return ()
    if vr in NUMBERS:
        return _numbers(NUMBERS[vr], raw, big_endian)
    if vr == "AT":
        pairs = _unpack("H", raw[: len(raw) // 4 * 4], big_endian)
        return tuple(f"{group:04X}{element:04X}" for group, element in zip(pairs[::2], pairs[1::2], strict=True))
    text = decode(raw, vr, charsets)
    if vr in _ONE_VALUE:
        text = text.rstrip(_PADDING)
        return (text,) if text else ()
    if vr in _LEADING_SPACE_COUNTS:
        values = tuple([value.rstrip(_PADDING) for value in text.split("\\")])
    else:
        values = tuple([value.strip(_PADDING) for value in text.split("\\")])
    if values == ("",) or (vr == "UN" and any(map(_NOT_TEXT.search, values))):
        return ()
    return values


def _numbers(code: str, raw: bytes, big_endian: bool) -> tuple[str, ...]:
    numbers = _unpack(code, raw, big_endian)
    if code == "f":
        return tuple(_shortest_single(number) for number in numbers)
    if code == "d":
        return tuple(repr(number).removesuffix(".0") for number in numbers)
    return tuple(map(str, numbers))


def _unpack(code: str, raw: bytes, big_endian: bool) -> tuple[float, ...]:
    """Unpack as many whole numbers as there are; bytes left over at the end are dropped."""
    count = len(raw) // struct.calcsize("=" + code)
    return struct.unpack_from(f"{'>' if big_endian else '<'}{count}{code}", raw)


def _shortest_single(number: float) -> str:
    """Spell a 32-bit float as a person would have typed it: 0.1, not 0.10000000149011612."""
    for digits in (6, 7, 8):
        text = f"{number:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", number):
            return text
    return f"{number:.9g}"
