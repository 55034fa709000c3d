"""Where one bulk value stands in a data set: the target of a BulkDataURI (PS3.18 §8.7.3.3, Annex F.2.6).

A pointer names it: "7FE00010", or through sequences "00409096/1/00281056" with the number of the item, from 1.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, overload

from router.dicom.encoding import UNDEFINED_LENGTH
from router.dicom.explicit_vr import SWAP_UNIT
from router.dicom.seeking import MAX_DEPTH, ByteRange, ElementFile, Head
from router.dicom.uids import Uid
from router.errors import PeerError

_POINTER: Final = re.compile(r"[0-9A-F]{8}(?:/[1-9][0-9]{0,8}/[0-9A-F]{8})*", re.ASCII)


MAX_FRAGMENTS: Final = 1_000_000
"""Of one value: a whole slide image has some 100,000."""


class NoSuchValue(LookupError):
    """The data set has no value there."""


class Fragments(Sequence[ByteRange]):
    """Where the fragments of a value are, in 16 bytes each."""

    def __init__(self) -> None:
        self._offsets, self._lengths = array("Q"), array("Q")

    def add(self, offset: int, length: int) -> None:
        """Note the next fragment's content."""
        self._offsets.append(offset)
        self._lengths.append(length)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, at: int) -> ByteRange: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[ByteRange, ...]: ...

    def __getitem__(self, at: int | slice) -> ByteRange | tuple[ByteRange, ...]:
        if isinstance(at, int):
            return ByteRange(self._offsets[at], self._lengths[at])
        return tuple(map(ByteRange, self._offsets[at], self._lengths[at]))


@dataclass(frozen=True, slots=True)
class BulkPlace:
    """Bytes `offset` to `offset + length` of the data set; of encapsulated pixel data the items with their heads.

    `fragments` are the items' contents without the offset table, None when the value is native. `swap_unit` is the size
    of the numbers to turn to little endian, 1 when there is nothing to turn.
    """

    tag: int
    vr: str
    offset: int
    length: int
    swap_unit: int = 1
    offset_table: ByteRange | None = None
    fragments: Fragments | None = None


def is_pointer(text: str) -> bool:
    """Say whether `text` can be the pointer of a bulk value."""
    return len(text) <= 20 * MAX_DEPTH and _POINTER.fullmatch(text) is not None


def locate_bulk(file: BinaryIO, transfer_syntax_uid: Uid, pointer: str) -> BulkPlace:
    """Find a value. `file` stands at the first byte of the data set, which must not be deflated (any more).

    Raises NoSuchValue, also for a sequence, ValueError when it is no pointer, PeerError for an unreadable data set.
    """
    if not is_pointer(pointer):
        raise ValueError(f"{pointer[:100]!r} is no pointer to a bulk value")
    *way, last = pointer.split("/")
    elements, end = ElementFile(file, transfer_syntax_uid), None
    for tag, number in zip(way[::2], way[1::2], strict=True):
        end = _enter(elements, _find(elements, int(tag, 16), end), int(number))
    head = _find(elements, int(last, 16), end)
    if head.vr == "SQ" or (head.length == UNDEFINED_LENGTH and not head.in_fragments):
        raise NoSuchValue("a sequence is no bulk value")
    return place_of(elements, head)


def place_of(elements: ElementFile, head: Head) -> BulkPlace:
    """Say where the value is whose head was read last; goes through its fragments. Raises PeerError."""
    if not head.in_fragments:
        swap_unit = SWAP_UNIT.get(head.vr.encode(), 1) if elements.encoding.big_endian else 1
        return BulkPlace(head.tag, head.vr, head.offset, head.length, swap_unit)
    table, fragments = None, Fragments()
    while (item := elements.item()) is not None:
        if item.length == UNDEFINED_LENGTH:
            raise elements.error("a fragment without a length")
        if table is None:
            table = ByteRange(item.offset, item.length)
        else:
            fragments.add(item.offset, item.length)
        if len(fragments) > MAX_FRAGMENTS:
            raise elements.error(f"more than {MAX_FRAGMENTS} fragments")
        elements.position = item.offset + item.length
    if table is None:
        raise elements.error("pixel data in fragments without an offset table")
    return BulkPlace(head.tag, head.vr, head.offset, elements.position - head.offset, 1, table, fragments)


def little_endian(data: bytes, swap_unit: int) -> bytes:
    """Turn big-endian numbers of `swap_unit` bytes; a rest that is no whole number stays as it is."""
    if swap_unit == 1:
        return data
    whole = len(data) - len(data) % swap_unit
    turned = bytearray(data)
    for at in range(swap_unit):
        turned[at:whole:swap_unit] = data[swap_unit - 1 - at : whole : swap_unit]
    return bytes(turned)


def read_value(file: BinaryIO, place: BulkPlace, part: ByteRange) -> bytes:
    """Read a part of a value in little endian; `file` stands at the first byte of the data set."""
    before = (part.offset - place.offset) % place.swap_unit
    after = -(before + part.length) % place.swap_unit
    file.seek(part.offset - before, 1)
    data = file.read(before + part.length + after)
    if len(data) < before + part.length:
        raise PeerError("the data set ends within a value")
    return little_endian(data, place.swap_unit)[before : before + part.length] if place.swap_unit > 1 else data


def _find(elements: ElementFile, tag: int, end: int | None) -> Head:
    while (head := elements.next(end)) is not None:
        if head.tag == tag:
            return head
        elements.skip(head)
    raise NoSuchValue(f"no ({tag >> 16:04X},{tag & 0xFFFF:04X}) there")


def _enter(elements: ElementFile, sequence: Head, number: int) -> int | None:
    """Go to the first element of item `number`; give where the item ends, None when a delimiter ends it."""
    undefined = sequence.length == UNDEFINED_LENGTH
    if sequence.in_fragments or (sequence.vr not in ("SQ", "UN") and not undefined):
        raise NoSuchValue("not a sequence")
    elements.encoding = elements.inner_encoding(sequence)
    end = None if undefined else sequence.offset + sequence.length
    for passed in range(number):
        item = elements.item(end)
        if item is None:
            raise NoSuchValue(f"no item {number}")
        if passed + 1 == number:
            return None if item.length == UNDEFINED_LENGTH else item.offset + item.length
        _pass(elements, item)
    raise NoSuchValue(f"no item {number}")


def _pass(elements: ElementFile, item: Head) -> None:
    """Go behind an item."""
    if item.length != UNDEFINED_LENGTH:
        elements.position = item.offset + item.length
        return
    while (head := elements.next()) is not None:
        elements.skip(head)
