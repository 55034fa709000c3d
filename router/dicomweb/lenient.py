"""Modules that other servers wrote, read as they come: tags in any case, numbers as text, one data set or an array.

What the attributes mean is for the readers of each module to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.errors import PeerError

MAX_US: Final = 0xFFFF


def read_json(body: bytes, what: str = "the answer") -> list[Mapping[str, Any]]:
    """Read DICOM JSON: an array of data sets, or one alone. Raises PeerError, which calls the body `what`."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(f"{what} is neither JSON nor XML") from error
    data_sets = decoded if isinstance(decoded, list) else [decoded]
    if not all(isinstance(data_set, dict) for data_set in data_sets):
        raise PeerError(f"{what} is JSON, but not a data set")
    return [with_upper_case_tags(data_set) for data_set in data_sets]


def with_upper_case_tags(data_set: Mapping[str, Any]) -> dict[str, Any]:
    """Give the data set as Annex F has it, at this level."""
    return {tag.upper(): element for tag, element in data_set.items()}


def values_of(data_set: Mapping[str, Any], tag: str) -> list[Any]:
    """Give the values of an attribute; none when it is absent, empty or out of shape."""
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def items_of(data_set: Mapping[str, Any], tag: str) -> list[dict[str, Any]]:
    """Give the items of a sequence."""
    return [with_upper_case_tags(item) for item in values_of(data_set, tag) if isinstance(item, dict)]


def text_of(data_set: Mapping[str, Any], tag: str) -> str:
    """Give the first value without its padding; "" when it is none or no text."""
    value = next(iter(values_of(data_set, tag)), None)
    return value.strip(" \0") if isinstance(value, str) else ""


def us_of(data_set: Mapping[str, Any], tag: str) -> int | None:
    """Give the first value of a US attribute; some write it as text or as 45056.0."""
    match values_of(data_set, tag)[:1]:
        case [bool()]:
            return None
        case [int(value) | float(value)] if 0 <= value <= MAX_US:
            return int(value)
        case [str(text)] if len(text) <= 5 and text.isascii() and text.isdigit() and int(text) <= MAX_US:
            return int(text)
        case _:
            return None
