"""The metadata of a stored instance (PS3.18 §10.4.1.1.2, Annex F): its data set as DICOM JSON.

One pass from front to back, in any transfer syntax. Values that become a BulkDataURI are skipped, not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, Final

from router.dicom.charset import MAX_TERMS
from router.dicom.encoding import (
    BULK_VRS,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    encoding_of,
)
from router.dicom.explicit_vr import MAX_SHORT_LENGTH
from router.dicom.json_model import BULK_DATA_VRS, JsonDataSet, valued
from router.dicom.metadata_values import BINARY_VRS, json_element, vr_without_one
from router.dicom.source import InflatedSource, Source, Unreadable
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.errors import PeerError

MAX_DEPTH: Final = 64
"""Sequences within sequences; the deepest real ones (structured reports) have a dozen."""
MAX_ELEMENTS: Final = 262_144
"""Elements and items: 3,000 frames of an enhanced multi-frame image; 100 MB and two seconds (XML: twice that)."""
MAX_INLINE_BYTES: Final = 32 * 1024 * 1024
"""Of all values that are not bulk data together."""
MAX_FRAGMENTS: Final = 1_000_000
"""Of encapsulated pixel data; what follows more of them (a digital signature at most) is not looked for."""

_SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_PIXEL_REPRESENTATION: Final = 0x0028_0103
_DATA_SET_TRAILING_PADDING: Final = 0xFFFC_FFFC
_FILE_META_GROUPS: Final = frozenset({0x0000, 0x0002})
_PADDING_LOOKED_AT: Final = 1024


def read_metadata(
    file: BinaryIO,
    transfer_syntax_uid: Uid,
    *,
    bulk_uri: Callable[[str], str],
    bulk_above_bytes: int = 1024,
    last_tag: int | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> JsonDataSet:
    """Read the data set that begins where `file` stands and goes to its end. Blocks: not for the loop's thread.

    Pixel data, and values of more than `bulk_above_bytes` where Annex F allows it, become `bulk_uri(pointer)`; a
    pointer is "7FE00010", or "00409096/1/00281056" in the first item of a sequence. Texts come as Unicode, and Specific
    Character Set says so. What stands wrong in a sequence that tells its length costs the rest of that sequence only.
    What comes behind `last_tag` is not read. Raises PeerError when the data set cannot be read to its end (pixel data
    cut off is no reason), has more than `max_elements` elements and items, or is too large.
    """
    source = InflatedSource(file) if is_deflated(transfer_syntax_uid) else Source(file)
    reading = _Reading(source, bulk_uri, bulk_above_bytes, last_tag, max_elements)
    return reading.root(encoding_of(transfer_syntax_uid))


class _Level:
    """A data set or item being read. It ends at `end`, or before that at its delimiter if it is `delimited`."""

    __slots__ = ("charsets", "delimited", "depth", "elements", "encoding", "end", "pointer", "signed")

    def __init__(self, encoding: Encoding, end: int, pointer: str, outer: _Level | None, *, delimited: bool = False):
        self.encoding, self.end, self.pointer, self.delimited = encoding, end, pointer, delimited
        self.depth: int = outer.depth + 1 if outer else 0
        self.charsets: tuple[str, ...] = outer.charsets if outer else ()
        self.signed: bool = outer.signed if outer else False
        self.elements: dict[int, dict[str, Any]] = {}


class _Reading:
    """One pass over one data set, and what is left of the limits."""

    def __init__(
        self,
        source: Source,
        bulk_uri: Callable[[str], str],
        bulk_above_bytes: int,
        last_tag: int | None,
        max_elements: int,
    ):
        self._last_tag = 0xFFFF_FFFF if last_tag is None else last_tag
        self._source, self._bulk_uri, self._bulk_above_bytes = source, bulk_uri, bulk_above_bytes
        self._max_elements = self._elements_left = max_elements
        self._inline_left, self._fragments_left = MAX_INLINE_BYTES, MAX_FRAGMENTS
        self._all_ascii = True
        self._cut_off = False

    def root(self, encoding: Encoding) -> JsonDataSet:
        level = _Level(encoding, self._source.end, "", None)
        self._read(level)
        if not self._all_ascii:
            level.elements[_SPECIFIC_CHARACTER_SET] = _utf_8()
        return _named(level.elements)

    def _read(self, level: _Level) -> None:
        """Read the elements of a level up to its end."""
        source, elements = self._source, level.elements
        while not self._cut_off and (start := source.position) < level.end:
            if not level.depth and not any(source.peek(8)):
                if any(source.peek(_PADDING_LOOKED_AT)):
                    raise Unreadable(f"zeros where an element should begin (at byte {start})")
                return  # the end, or padding behind it
            if level.end - start < 8:
                raise Unreadable(f"bytes that are no element (at byte {start})")
            tag, vr, length = self._header(level)
            self._charge()
            if tag > self._last_tag and not level.depth:
                return
            if tag >> 16 == 0xFFFE:
                if self._is_end(level, tag, length):
                    return
                continue
            if length != UNDEFINED_LENGTH and length > level.end - source.position and level.depth:
                raise Unreadable(f"{_name(tag)} is longer than what it stands in (at byte {start})")
            element = self._element(level, tag, vr, length)
            if tag & 0xFFFF and tag >> 16 not in _FILE_META_GROUPS and tag != _DATA_SET_TRAILING_PADDING:
                elements.setdefault(tag, element)
        if level.delimited:
            raise Unreadable(f"an item does not end (at byte {source.position})")

    def _header(self, level: _Level) -> tuple[int, str, int]:
        """Read tag, VR and length of an element, item or delimiter."""
        encoding, raw = level.encoding, self._source.take(8)
        group, element, length = encoding.plain(raw, 0)
        tag = group << 16 | element
        if encoding.implicit or group == 0xFFFE:
            return tag, vr_without_one(tag, level.signed), length
        _, _, code, short_length = encoding.head(raw, 0)
        vr = encoding.short.get(code)
        if vr is not None:
            return tag, vr, short_length
        vr = encoding.long.get(code)
        if vr is None:
            letters = raw[4:6]
            if not (letters.isalpha() and letters.isupper()):  # an element of Implicit VR; some writers mix them
                return tag, vr_without_one(tag, level.signed), length
            if short_length:  # where a VR with a 32-bit length has its reserved zeros
                return tag, "UN", short_length
            vr = "UN"
        if vr == "UN" and not encoding.big_endian:
            vr = vr_without_one(tag, level.signed)  # PS3.5 §6.2.2: the value is as in Implicit VR
            if vr == "SQ":
                vr = "UN SQ"
        if level.end - self._source.position < 4:
            raise Unreadable(f"bytes that are no element (at byte {self._source.position})")
        return tag, vr, encoding.length(self._source.take(4), 0)[0]

    def _is_end(self, level: _Level, tag: int, length: int) -> bool:
        """Say whether a delimiter ends the level; one at the end of an item that told its length ends nothing."""
        if length == 0 and tag == ITEM_DELIMITATION:
            return level.delimited
        if length == 0 and tag == SEQUENCE_DELIMITATION and not level.delimited:
            return False
        raise Unreadable(f"{_name(tag)} where an element should begin (at byte {self._source.position})")

    def _element(self, level: _Level, tag: int, vr: str, length: int) -> dict[str, Any]:
        """Read one value, or go past it."""
        if length == UNDEFINED_LENGTH:
            if vr in BULK_VRS:
                self._skip_fragments(level, tag)
                return self._bulk(level, tag, "OB")  # some write OW (PS3.5 §A.4)
            if vr in ("SQ", "UN", "UN SQ"):
                return self._sequence(level, tag, vr, None)
            raise Unreadable(f"{_name(tag)} has an undefined length, which its VR does not allow")
        if vr in ("SQ", "UN SQ"):
            return self._sequence(level, tag, vr, self._source.position + length)
        if length > MAX_SHORT_LENGTH and vr not in BULK_DATA_VRS:
            vr = "UN"  # as when it is sent with explicit VR (PS3.5 §6.2.2 note 2)
        if length and (tag in PIXEL_DATA or (vr in BULK_DATA_VRS and length > self._bulk_above_bytes)):
            if not self._source.skip(length):
                self._cut(level, tag)
            return self._bulk(level, tag, vr)
        return self._value(level, tag, vr, length)

    def _value(self, level: _Level, tag: int, vr: str, length: int) -> dict[str, Any]:
        self._inline_left -= length
        if self._inline_left < 0:
            raise PeerError(f"more than {MAX_INLINE_BYTES} bytes of values")
        raw = self._source.take(length)
        element = json_element(vr, raw, big_endian=level.encoding.big_endian, charsets=level.charsets)
        if not raw.isascii() and vr not in BINARY_VRS:
            self._all_ascii = False
        if tag == _SPECIFIC_CHARACTER_SET:
            level.charsets = tuple([str(term or "") for term in element.get("Value", ())[:MAX_TERMS]])
            return _utf_8()
        if tag == _PIXEL_REPRESENTATION:
            level.signed = element.get("Value") == [1]
        return element

    def _bulk(self, level: _Level, tag: int, vr: str) -> dict[str, Any]:
        return {"vr": vr, "BulkDataURI": self._bulk_uri(f"{level.pointer}{tag:08X}")}

    def _sequence(self, level: _Level, tag: int, vr: str, end: int | None) -> dict[str, Any]:
        """Read the items of a sequence; it ends at `end`, or at its delimiter when that is None."""
        if level.depth >= MAX_DEPTH:
            raise PeerError(f"more than {MAX_DEPTH} sequences within each other")
        items: list[JsonDataSet] = []
        encoding = level.encoding if vr == "SQ" else IMPLICIT_LITTLE
        if end is None:
            self._items(level, tag, encoding, level.end, items, delimited=True)
        else:
            try:
                self._items(level, tag, encoding, end, items, delimited=False)
            except Unreadable:
                if not self._source.skip(end - self._source.position):
                    raise
                if vr != "SQ":
                    return self._bulk(level, tag, "UN")
        return valued("SQ", list(items))

    def _items(
        self, level: _Level, tag: int, encoding: Encoding, end: int, items: list[JsonDataSet], *, delimited: bool
    ) -> None:
        source = self._source
        while source.position < end:
            if end - source.position < 8:
                raise Unreadable(f"bytes that are no item (at byte {source.position})")
            group, element, length = encoding.plain(source.take(8), 0)
            self._charge()
            found = group << 16 | element
            if found == SEQUENCE_DELIMITATION and delimited:
                return
            if found in (ITEM_DELIMITATION, SEQUENCE_DELIMITATION) and not length:
                continue  # some write one after an item or sequence that told its length
            undefined = length == UNDEFINED_LENGTH
            if found != ITEM:
                raise Unreadable(f"{_name(found)} where an item should begin (at byte {source.position})")
            item_end = end if undefined else min(end, source.position + length)  # the sequence's length prevails
            pointer = f"{level.pointer}{tag:08X}/{len(items) + 1}/"
            item = _Level(encoding, item_end, pointer, level, delimited=undefined)
            self._read(item)
            items.append(_named(item.elements))
        if delimited:
            raise Unreadable(f"{_name(tag)} does not end (at byte {source.position})")

    def _skip_fragments(self, level: _Level, tag: int) -> None:
        """Go past encapsulated pixel data (PS3.5 §A.4)."""
        source = self._source
        while level.end - source.position >= 8 and len(source.peek(8)) == 8:
            group, element, length = level.encoding.plain(source.take(8), 0)
            found = group << 16 | element
            if found == SEQUENCE_DELIMITATION:
                return
            if found != ITEM:
                raise Unreadable(f"{_name(found)} where a fragment should begin (at byte {source.position})")
            self._fragments_left -= 1
            if not source.skip(length) or self._fragments_left < 0:
                break
        self._cut(level, tag)

    def _cut(self, level: _Level, tag: int) -> None:
        """Take a value as the last one of the data set, if it is the pixel data."""
        if level.depth or tag not in PIXEL_DATA:
            raise Unreadable(f"{_name(tag)} is longer than what it stands in")
        self._cut_off = True

    def _charge(self) -> None:
        self._elements_left -= 1
        if self._elements_left < 0:
            raise PeerError(f"more than {self._max_elements} elements and items")


def _utf_8() -> dict[str, Any]:
    return {"vr": "CS", "Value": ["ISO_IR 192"]}


def _named(elements: dict[int, dict[str, Any]]) -> JsonDataSet:
    return {f"{tag:08X}": elements[tag] for tag in sorted(elements)}


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
