"""The DICOM JSON Model (PS3.18 Annex F) as Python: the neutral form of a data set until a writer renders it.

It shapes values; it reads no file and knows no query. A value that does not fit its VR stays the text that it is.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from router.dicom.attributes import vr_of

JsonDataSet = dict[str, Any]
"""{"00080020": {"vr": "DA", "Value": ["20260101"]}, …}: 8 upper-case hexadecimal digits, in ascending order."""

INLINE_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""Value representations whose value is InlineBinary, never Value (Table F.2.3-1)."""
BULK_DATA_VRS: Final = INLINE_VRS.union(
    ["DS", "FL", "FD", "IS", "LT", "SL", "SS", "ST", "SV", "UC", "UL", "US", "UT", "UV"]
)
"""Value representations whose value may be a BulkDataURI (§F.2.2)."""
NAMES_OF_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
"""The component groups of a person's name (PS3.5 §6.2.1.2), in the order of the text."""

_EXACT_INTEGER: Final = 2**53
"""Integers beyond it lose digits in many readers of JSON; the standard allows strings for SV and UV because of that."""
_PADDING: Final = " \0"
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_WHOLE: Final = re.compile(r"([+-]?[0-9]{1,20})\.0*", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?", re.ASCII)


def element(tag: int, values: Sequence[str | int | float], vr: str | None = None) -> dict[str, Any]:
    """Shape one attribute, its values as they stand in DICOM; `vr` is the dictionary's if none is given.

    No values, or only empty ones: an element without Value. Sequences: `sequence`.
    """
    if vr is None:
        vr = vr_of(tag)
    if vr in INLINE_VRS:
        return inline_binary(vr, "\\".join(map(str, values)).encode())
    return valued(vr, shaped(vr, [value.rstrip(_PADDING) if isinstance(value, str) else value for value in values]))


def sequence(items: Iterable[JsonDataSet]) -> dict[str, Any]:
    """Shape a sequence of these items."""
    return valued("SQ", list(items))


def inline_binary(vr: str, raw: bytes) -> dict[str, Any]:
    """Shape a value of bytes, which must be little endian."""
    return {"vr": vr, "InlineBinary": b64encode(raw).decode("ascii")} if raw else {"vr": vr}


def valued(vr: str, values: list[Any]) -> dict[str, Any]:
    """Make an element of values already shaped (§F.2.5): without Value when all of them are None."""
    return {"vr": vr, "Value": values} if values.count(None) < len(values) else {"vr": vr}


def shaped(vr: str, values: Iterable[str | int | float]) -> list[Any]:
    """Give each value the JSON type of its VR (Table F.2.3-1): an empty one is None, one that does not fit is text."""
    shape = _SHAPES.get(vr, _text)
    return [None if value == "" else shape(value) for value in values]


def in_order(data_set: JsonDataSet) -> JsonDataSet:
    """Give a data set its tags in ascending order, at every level; the one given is not changed."""
    return {tag: _element_in_order(data_set[tag]) for tag in sorted(data_set)}


def encode_json(data_sets: Sequence[JsonDataSet]) -> bytes:
    """Write one array of data sets, in UTF-8."""
    return msgspec.json.encode(data_sets)


def encode_object(data_set: JsonDataSet) -> bytes:
    """Write one data set by itself, in UTF-8."""
    return msgspec.json.encode(data_set)


def _element_in_order(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("vr") != "SQ" or "Value" not in given:
        return given
    return {**given, "Value": [None if item is None else in_order(item) for item in given["Value"]]}


def _text(value: str | int | float) -> str:
    return str(value)


def _name(value: str | int | float) -> dict[str, str] | None:
    groups = str(value).split("=", 2)
    return {key: group.rstrip(_PADDING) for key, group in zip(NAMES_OF_GROUPS, groups, strict=False) if group} or None


def _tag(value: str | int | float) -> str:
    if isinstance(value, int):
        return f"{value:08X}"
    match = _TAG.fullmatch(str(value).strip(_PADDING))
    return (match[1] + match[2]).upper() if match else str(value)


def _integer(value: str | int | float) -> int | str:
    """Read 5, +5, " 5" and 5.0 as 5; what is out of a 64-bit range or no integer stays text."""
    if isinstance(value, int):
        return value
    text = str(value).strip(_PADDING)
    match = _INTEGER.fullmatch(text) or _WHOLE.fullmatch(text)
    if match is None:
        return str(value)
    number = int(match[match.lastindex or 0])
    return number if -(2**63) <= number < 2**64 else text


def _long_integer(value: str | int | float) -> int | str:
    number = _integer(value)
    return number if isinstance(number, str) or abs(number) <= _EXACT_INTEGER else str(number)


def _decimal(value: str | int | float) -> int | float | str:
    """Read a decimal string as a number: an integer where it is written as one of at most 15 digits."""
    if not isinstance(value, str):
        return _real(value)
    text = value.strip(_PADDING)
    if len(text) <= 15 and _INTEGER.fullmatch(text):
        return int(text)
    return _real(text) if _DECIMAL.fullmatch(text) else value


def _real(value: str | int | float) -> int | float | str:
    """Give a number; one that JSON has no number for is the text NaN, Infinity or -Infinity."""
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except ValueError:
        return str(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


_SHAPES: Final[dict[str, Callable[[str | int | float], Any]]] = {
    "AT": _tag,
    "DS": _decimal,
    "FD": _real,
    "FL": _real,
    "IS": _integer,
    "PN": _name,
    "SL": _integer,
    "SS": _integer,
    "SV": _long_integer,
    "UL": _integer,
    "US": _integer,
    "UV": _long_integer,
}
