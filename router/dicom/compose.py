"""A data set in the DICOM JSON Model and its bulk data become the bytes of a data set (PS3.5 §7, §A.2, §A.4).

Explicit VR Little Endian, ascending tags, sequences of undefined length; pixel data that came compressed is
encapsulated, a frame a fragment, with an empty Basic Offset Table. Bulk data is only pointed at, never read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from router.dicom.compose_values import (
    KNOWN_VRS,
    UTF8_VRS,
    BadValue,
    check_length,
    decode_inline,
    encode_values,
    is_ascii,
    padded,
    padding_of,
)
from router.dicom.encoding import ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION, SHORT_VR_CODES, UNDEFINED_LENGTH
from router.dicom.explicit_vr import MAX_SHORT_LENGTH, bare_header, element_header
from router.dicom.json_model import BULK_DATA_VRS, JsonDataSet
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.errors import Refused

CANNOT_UNDERSTAND: Final = 0xC000
TRANSFER_SYNTAX: Final = 0xC122
"""Failure Reasons (PS3.18 Table I.2-2)."""

MAX_DEPTH: Final = 64
"""Sequences within sequences; a header scan goes no deeper."""
MAX_LENGTH: Final = 0xFFFF_FFFE
"""Most bytes of one value or fragment."""

PIXEL_DATA: Final = 0x7FE0_0010
_NUMBER_OF_FRAMES: Final = "00280008"
_CHARACTER_SET: Final = 0x0008_0005
_UTF8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_NO_GROUPS: Final = frozenset({0x0000, 0x0002, 0xFFFE})
"""Command, File Meta and delimiters: in a data set they would make it another."""
_MEMBERS: Final = ("Value", "InlineBinary", "BulkDataURI")
_ITEM_HEADER: Final = bare_header(ITEM, UNDEFINED_LENGTH)
_ITEM_TRAILER: Final = bare_header(ITEM_DELIMITATION, 0)
_SEQUENCE_TRAILER: Final = bare_header(SEQUENCE_DELIMITATION, 0)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes that stand elsewhere, wherever the caller keeps them."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bulk data of one value: an extent a part. `transfer_syntax_uid` is that of compressed frames, else None."""

    extents: tuple[Extent, ...]
    transfer_syntax_uid: Uid | None = None
    is_stream: bool = False
    """Video: one part holds all frames."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The data set in order: bytes, and extents of bulk data to be put between them."""

    transfer_syntax_uid: Uid
    pieces: tuple[bytes | Extent, ...]


def compose(data_set: JsonDataSet, bulk_of: Callable[[str, int], Bulk]) -> Composed:
    """Put a data set together. `bulk_of(uri, tag)` gives what a BulkDataURI refers to, or raises Refused.

    Raises Refused (C000H, C122H) naming the attribute that is wrong.
    """
    writer = _Writer(bulk_of)
    if not _needs_utf8(data_set, 0):
        writer.data_set(data_set, 0)
    else:
        writer.drop_charsets = True
        writer.data_set({**data_set, f"{_CHARACTER_SET:08X}": _UTF8}, 0)
    return Composed(writer.transfer_syntax_uid, writer.finish())


class _Writer:
    def __init__(self, bulk_of: Callable[[str, int], Bulk]):
        self.transfer_syntax_uid = EXPLICIT_VR_LITTLE_ENDIAN
        self.drop_charsets = False
        """Everything is UTF-8, whatever an item says of itself."""
        self._bulk_of = bulk_of
        self._pieces: list[bytes | Extent] = []
        self._bytes = bytearray()

    def finish(self) -> tuple[bytes | Extent, ...]:
        self._flush()
        return tuple(self._pieces)

    def data_set(self, data_set: JsonDataSet, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Refused(CANNOT_UNDERSTAND, f"more than {MAX_DEPTH} sequences within each other")
        for tag, element in _sorted(data_set):
            if tag & 0xFFFF == 0 or (depth and self.drop_charsets and tag == _CHARACTER_SET):
                continue  # group lengths are never written
            try:
                self._element(tag, element, depth, data_set)
            except BadValue as error:
                raise _refused(tag, str(error)) from error

    def _element(self, tag: int, element: Mapping[str, Any], depth: int, data_set: JsonDataSet) -> None:
        vr, member, value = _read(element)
        if member == "BulkDataURI":
            self._bulk(tag, vr, value, depth, data_set)
        elif vr == "SQ":
            self._sequence(tag, member, value, depth)
        else:
            raw = decode_inline(vr, value) if member == "InlineBinary" else encode_values(vr, value or [])
            self._head(tag, vr, len(raw) + len(raw) % 2)
            self._bytes += padded(vr, raw)

    def _sequence(self, tag: int, member: str, items: Any, depth: int) -> None:
        if member not in ("Value", ""):
            raise BadValue(f'a sequence has "Value", never "{member}"')
        if not items:
            self._bytes += element_header(tag, b"SQ", 0)
            return
        self._bytes += element_header(tag, b"SQ", UNDEFINED_LENGTH)
        for item in items:
            if item is not None and not isinstance(item, dict):
                raise BadValue("an item of the sequence is not an object")
            self._bytes += _ITEM_HEADER
            self.data_set(item or {}, depth + 1)
            self._bytes += _ITEM_TRAILER
        self._bytes += _SEQUENCE_TRAILER

    def _bulk(self, tag: int, vr: str, uri: Any, depth: int, data_set: JsonDataSet) -> None:
        if vr not in BULK_DATA_VRS:
            raise BadValue(f"{vr} cannot refer to bulk data")
        if not isinstance(uri, str) or not uri:
            raise BadValue("its BulkDataURI is not a string")
        bulk = self._bulk_of(uri, tag)
        if bulk.transfer_syntax_uid is not None:
            if tag != PIXEL_DATA or depth:
                raise _refused(tag, "compressed bulk data is for the pixel data of the instance alone", TRANSFER_SYNTAX)
            self._encapsulated(bulk, data_set)
            return
        if len(bulk.extents) != 1:
            raise BadValue(f"{len(bulk.extents)} parts have its Content-Location")
        [extent] = bulk.extents
        check_length(vr, extent.length)
        self._head(tag, vr, extent.length + extent.length % 2)
        self._extent(extent, padding_of(vr))

    def _encapsulated(self, bulk: Bulk, data_set: JsonDataSet) -> None:
        """Write frames as fragments (PS3.5 §A.4)."""
        frames = _number_of_frames(data_set)
        if not bulk.is_stream and frames != len(bulk.extents):
            raise _refused(PIXEL_DATA, f"{len(bulk.extents)} parts for {frames} compressed frames")
        if bulk.is_stream and len(bulk.extents) != 1:
            raise _refused(PIXEL_DATA, f"{len(bulk.extents)} parts for one video stream")
        assert bulk.transfer_syntax_uid is not None
        self.transfer_syntax_uid = bulk.transfer_syntax_uid
        self._bytes += element_header(PIXEL_DATA, b"OB", UNDEFINED_LENGTH) + bare_header(ITEM, 0)
        for extent in bulk.extents:
            if not extent.length:
                raise _refused(PIXEL_DATA, "a compressed frame is empty")
            for fragment in _fragments(extent):
                self._bytes += bare_header(ITEM, fragment.length + fragment.length % 2)
                self._extent(fragment, b"\0")
        self._bytes += _SEQUENCE_TRAILER

    def _head(self, tag: int, vr: str, length: int) -> None:
        code = vr.encode()
        if length > (MAX_SHORT_LENGTH if code in SHORT_VR_CODES else MAX_LENGTH):
            raise BadValue(f"a value of {length} bytes is too long for {vr}")
        self._bytes += element_header(tag, code, length)

    def _extent(self, extent: Extent, padding: bytes) -> None:
        self._flush()
        if extent.length:
            self._pieces.append(extent)
        if extent.length % 2:
            self._bytes += padding

    def _flush(self) -> None:
        if self._bytes:
            self._pieces.append(bytes(self._bytes))
            self._bytes.clear()


def _sorted(data_set: JsonDataSet) -> list[tuple[int, Mapping[str, Any]]]:
    """Give the elements in ascending order of their tags. Raises Refused for what is no tag or may not stand there."""
    elements: dict[int, Mapping[str, Any]] = {}
    for name, element in data_set.items():
        if not _TAG.fullmatch(name):
            raise Refused(CANNOT_UNDERSTAND, "a name in the metadata is not a tag of eight hexadecimal digits")
        tag = int(name, 16)
        if tag >> 16 == 0x0002:
            raise _refused(tag, "File Meta Information is not part of metadata")
        if tag >> 16 in _NO_GROUPS:
            raise _refused(tag, "its group is not part of a data set")
        if tag in elements:
            raise _refused(tag, "it occurs twice")
        if not isinstance(element, Mapping):
            raise _refused(tag, "it is not an object")
        elements[tag] = element
    return sorted(elements.items())


def _read(element: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Give VR, the member that holds the value ("" when it is empty), and that. Raises BadValue."""
    vr = element.get("vr")
    if not isinstance(vr, str) or vr not in KNOWN_VRS:
        raise BadValue('its "vr" is missing or no value representation')
    if unknown := next((name for name in element if name != "vr" and name not in _MEMBERS), None):
        raise BadValue(f'it has a member "{unknown[:20]}"')
    present = [name for name in _MEMBERS if name in element]
    if len(present) > 1:
        raise BadValue(f"it has {' and '.join(present)}")
    if not present:
        return vr, "", None
    value = element[present[0]]
    if present[0] == "Value" and not isinstance(value, list):
        raise BadValue('its "Value" is not an array')
    return vr, present[0], value


def _needs_utf8(data_set: JsonDataSet, depth: int) -> bool:
    """Say whether some text is, or may be, outside of the default repertoire. What is malformed is found later."""
    for element in data_set.values():
        if not isinstance(element, Mapping):
            continue
        vr, values = element.get("vr"), element.get("Value")
        if vr == "SQ" and isinstance(values, list) and depth < MAX_DEPTH:
            if any(_needs_utf8(item, depth + 1) for item in values if isinstance(item, dict)):
                return True
        elif isinstance(vr, str) and vr in UTF8_VRS:
            if "BulkDataURI" in element:
                return True
            try:
                if isinstance(values, list) and not is_ascii(vr, values):
                    return True
            except BadValue:
                continue
    return False


def _number_of_frames(data_set: JsonDataSet) -> int:
    """Read Number of Frames; 1 when it is absent or empty. Raises Refused."""
    element = data_set.get(_NUMBER_OF_FRAMES)
    values = element.get("Value") if isinstance(element, Mapping) else None
    if not values:
        return 1
    try:
        return int(str(values[0]))
    except ValueError as error:
        raise _refused(int(_NUMBER_OF_FRAMES, 16), "it is not a number") from error


def _fragments(extent: Extent) -> Iterator[Extent]:
    """Cut what is too long for one fragment."""
    for start in range(0, extent.length, MAX_LENGTH):
        yield Extent(extent.offset + start, min(MAX_LENGTH, extent.length - start))


def _refused(tag: int, problem: str, status: int = CANNOT_UNDERSTAND) -> Refused:
    return Refused(status, f"({tag >> 16:04X},{tag & 0xFFFF:04X}): {problem}")
