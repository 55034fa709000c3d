"""A DICOM JSON data set (PS3.18 Annex F) as the matcher looks at one: the texts of its attributes, the items in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.dicom.attributes import AttributePath
from router.dicom.json_model import NAMES_OF_GROUPS, JsonDataSet
from router.dicom.matcher_keys import TIMEZONE_OFFSET_FROM_UTC


class JsonAttributes:
    """`Attributes` of a data set, or of an item in one. TimezoneOffsetFromUTC holds for all its items."""

    __slots__ = ("_data_set", "_zone")

    def __init__(self, data_set: JsonDataSet, zone: tuple[str, ...] = ()):
        self._data_set, self._zone = data_set, zone

    def texts(self, path: AttributePath, /) -> tuple[str, ...]:
        """Give all values of an attribute, through sequences those of all items; () if it is absent or empty."""
        if len(path) > 1:
            return tuple(text for item in self.items(path[0]) for text in item.texts(path[1:]))
        found = tuple(map(_text, self._values(path[0])))
        return found or (self._zone if path == TIMEZONE_OFFSET_FROM_UTC else ())

    def items(self, tag: int, /) -> tuple[JsonAttributes, ...]:
        """Give the items of a sequence; () if it is absent or empty."""
        values = self._values(tag)
        if not values:
            return ()
        zone = self.texts(TIMEZONE_OFFSET_FROM_UTC)
        return tuple(JsonAttributes(item or {}, zone) for item in values)

    def _values(self, tag: int) -> Sequence[Any]:
        element = self._data_set.get(f"{tag:08X}")
        return element.get("Value", ()) if element else ()


def _text(value: Any) -> str:
    """Spell a value as DICOM does."""
    match value:
        case None:
            return ""
        case dict():
            return "=".join(str(value.get(group, "")) for group in NAMES_OF_GROUPS).rstrip("=")
        case float():
            return repr(value).removesuffix(".0")
        case _:
            return str(value)
