"""Values of the DICOM JSON Model (PS3.18 Annex F) as the bytes of an element in Explicit VR Little Endian (PS3.5 §6.2).

Numbers may also be written as text: a Native DICOM Model has nothing else, and JSON allows it for DS, IS, SV and UV.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydicom.valuerep import format_number_as_ds

from router.dicom.encoding import LONG_VRS, SHORT_VRS
from router.dicom.explicit_vr import SWAP_UNIT
from router.dicom.json_model import INLINE_VRS, NAMES_OF_GROUPS
from router.dicom.values import NUMBERS

KNOWN_VRS: Final = frozenset(SHORT_VRS) | frozenset(LONG_VRS)
UTF8_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Those that Specific Character Set applies to (PS3.5 §6.1.2.2)."""
_UNIT: Final = {vr.decode(): unit for vr, unit in SWAP_UNIT.items()} | {"AT": 4}
"""Bytes of one value of a binary VR."""
_ASCII_VRS: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"})
_SEVERAL_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"})
_ONE_VALUE: Final = frozenset({"LT", "ST", "UR", "UT"})
_INTEGER: Final = re.compile(r"[ ]*[+-]?[0-9]{1,20}[ ]*", re.ASCII)
_REAL: Final = re.compile(
    r"[ ]*(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|-?inf(?:inity)?|nan)[ ]*", re.IGNORECASE | re.ASCII
)
_AT: Final = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_WHITE: Final = re.compile(r"[ \t\r\n]+")
_IS_LIMIT: Final = 2**31
_DS_CHARACTERS: Final = 16


class BadValue(ValueError):
    """A value that its value representation cannot have. The text says so for a person, without the value."""


def padding_of(vr: str) -> bytes:
    """Give the byte that makes a value's length even (PS3.5 §6.2): a space for text, else NUL."""
    return b"\0" if vr in _UNIT or vr in ("OB", "UN", "UI") else b" "


def padded(vr: str, value: bytes) -> bytes:
    """Make the length even."""
    return value + padding_of(vr) if len(value) & 1 else value


def check_length(vr: str, length: int) -> None:
    """Refuse bytes that are no whole number of values of a binary VR. Raises BadValue."""
    unit = _UNIT.get(vr, 1)
    if length % unit:
        raise BadValue(f"{length} bytes are no whole number of {vr} values")


def encode_values(vr: str, values: list[Any]) -> bytes:
    """Encode the members of "Value" (any VR but SQ), not yet padded. Raises BadValue."""
    if all(value is None or value == "" for value in values) and (len(values) < 2 or vr not in _SEVERAL_TEXTS):
        return b""
    if vr in NUMBERS:
        return b"".join(_number(vr, value) for value in values)
    if vr == "AT":
        return b"".join(map(_tag, values))
    if vr in INLINE_VRS:
        raise BadValue(f'{vr} has "InlineBinary" or "BulkDataURI", never "Value"')
    text_of = _TEXTS.get(vr, _text)
    texts = [text_of(value) for value in values]
    if len(texts) > 1 and vr in _ONE_VALUE:
        raise BadValue(f"{vr} has one value at most")
    text = "\\".join(texts)
    try:
        return text.encode("ascii" if vr in _ASCII_VRS else "utf-8")
    except UnicodeEncodeError as error:
        raise BadValue("characters that are not allowed there") from error


def decode_inline(vr: str, text: object) -> bytes:
    """Decode "InlineBinary". Raises BadValue."""
    if vr not in INLINE_VRS:
        raise BadValue(f'{vr} has no "InlineBinary"')
    if not isinstance(text, str):
        raise BadValue('"InlineBinary" is not a string')
    try:
        value = base64.b64decode(_WHITE.sub("", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadValue('"InlineBinary" is not Base64') from error
    check_length(vr, len(value))
    return value


def is_ascii(vr: str, values: list[Any]) -> bool:
    """Say whether the default repertoire is enough for these values of a text VR."""
    if vr == "PN":
        return all(name.isascii() for name in map(_person_name, values))
    return all(value.isascii() for value in values if isinstance(value, str))


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadValue("a value is not a string")
    return value


def _person_name(value: object) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    if not value.keys() <= set(NAMES_OF_GROUPS):
        raise BadValue(f"a person name has other members than {', '.join(NAMES_OF_GROUPS)}")
    groups = [_text(value.get(name)) for name in NAMES_OF_GROUPS]
    if any("=" in group for group in groups):
        raise BadValue('a component group of a person name contains "="')
    return "=".join(groups).rstrip("=")


def _decimal_string(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    text = str(value).removesuffix(".0")
    if len(text) <= _DS_CHARACTERS:
        return text
    try:
        return format_number_as_ds(float(value))
    except (ValueError, OverflowError) as error:
        raise BadValue("a number that no DS can tell") from error


def _integer_string(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    number = _whole(value)
    if not -_IS_LIMIT <= number < _IS_LIMIT:
        raise BadValue("a number that is too large for IS")
    return str(number)


_TEXTS: Final[Mapping[str, Callable[[object], str]]] = {
    "PN": _person_name,
    "DS": _decimal_string,
    "IS": _integer_string,
}


def _number(vr: str, value: object) -> bytes:
    code = NUMBERS[vr]
    try:
        if code in "fd":
            return struct.pack("<" + code, _real(value))
        return struct.pack("<" + code, _whole(value))
    except (struct.error, OverflowError) as error:
        raise BadValue(f"a number that is too large for {vr}, or negative") from error


def _whole(value: object) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadValue("a value is not a whole number")


def _real(value: object) -> float:
    if isinstance(value, str) and len(value) <= 64 and _REAL.fullmatch(value):
        number = float(value)
        if math.isinf(number) and "n" not in value.lower():
            raise OverflowError
        return number
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise BadValue("a value is not a number")


def _tag(value: object) -> bytes:
    if not isinstance(value, str) or not _AT.fullmatch(value):
        raise BadValue("a value is not a tag of eight hexadecimal digits")
    return struct.pack("<HH", int(value[:4], 16), int(value[4:], 16))
