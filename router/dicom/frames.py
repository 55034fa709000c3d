"""Frames of pixel data as byte ranges of the data set, native and encapsulated (PS3.5 §8, §A.4).

Nothing is decoded. Where it cannot be told which fragments make a frame, that is said instead of guessed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import BinaryIO, Final

from router.dicom.bulk import BulkPlace, Fragments, place_of
from router.dicom.encoding import PIXEL_DATA
from router.dicom.seeking import ByteRange, ElementFile
from router.dicom.uids import Uid
from router.errors import RouterError

MAX_FRAMES: Final = 2**24
"""More than any image has; what it takes to say where they are must be bounded."""
MAX_AT_ONCE: Final = 100_000
"""Frames whose places are told in one go."""
MAX_PACKED_BYTES: Final = 64 * 1024**2
"""Of one frame that begins within a byte, which has to be shifted as a whole."""

_VIDEO: Final = "1.2.840.10008.1.2.4.10"
"""What the UIDs of MPEG-2, MPEG-4 and HEVC begin with."""
_EXTENDED_OFFSETS: Final = 0x7FE00001
_EXTENDED_LENGTHS: Final = 0x7FE00002
_NATIVE_422: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_START: Final = {
    b"\xff\xd8": tuple(f"1.2.840.10008.1.2.4.{family}" for family in ("5", "7", "80", "81")),
    b"\xff\x4f": tuple(f"1.2.840.10008.1.2.4.{family}" for family in ("90", "91", "92", "93", "201", "202", "203")),
}
_END: Final = b"\xff\xd9"
"""JPEG and JPEG-LS begin with SOI and end with EOI, JPEG 2000 begins with SOC and ends with EOC, written like EOI."""

_IMAGE: Final = {
    0x00280002: "samples_per_pixel",
    0x00280004: "photometric_interpretation",
    0x00280008: "number_of_frames",
    0x00280010: "rows",
    0x00280011: "columns",
    0x00280100: "bits_allocated",
}


class NoPixelData(LookupError):
    """The instance is no image."""


class NoSuchFrame(LookupError):
    """The image has only `count` frames."""

    def __init__(self, number: int, count: int):
        self.number, self.count = number, count
        super().__init__(f"no frame {number}, there are {count}")


class CannotSeparate(RouterError):
    """The frames cannot be told from each other."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes of one frame. With `bits`, they are that many bits from bit `first_bit` of the first byte on."""

    ranges: tuple[ByteRange, ...]
    first_bit: int = 0
    bits: int = 0

    @property
    def length(self) -> int:
        """How many bytes the frame has."""
        return (self.bits + 7) // 8 if self.bits else sum(one.length for one in self.ranges)


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the frames asked for are. `place` is the whole of the pixel data, `count` all its frames."""

    place: BulkPlace
    count: int
    frames: tuple[Frame, ...]

    @property
    def compressed(self) -> bool:
        """Whether the frames are code streams and not pixels."""
        return self.place.fragments is not None


def locate_frames(file: BinaryIO, transfer_syntax_uid: Uid, numbers: Sequence[int] | None) -> Frames:
    """Find frames by their numbers, from 1; all of them for None, of a video as one. `file` as for `locate_bulk`.

    Raises NoPixelData, NoSuchFrame, CannotSeparate, and PeerError when the data set is unreadable.
    """
    elements = ElementFile(file, transfer_syntax_uid)
    image, offsets, lengths = {}, b"", b""
    while (head := elements.next()) is not None and head.tag not in PIXEL_DATA:
        if head.tag in _IMAGE and head.length <= 64:
            image[_IMAGE[head.tag]] = elements.read(head.offset, head.length)
        elif head.tag in (_EXTENDED_OFFSETS, _EXTENDED_LENGTHS) and head.length <= 8 * MAX_FRAMES:
            table = elements.read(head.offset, head.length)
            offsets, lengths = (table, lengths) if head.tag == _EXTENDED_OFFSETS else (offsets, table)
        elements.skip(head)
    if head is None:
        raise NoPixelData("the instance has no pixel data")
    place, count = place_of(elements, head), _frame_count(image)
    video = place.fragments is not None and transfer_syntax_uid.startswith(_VIDEO)
    if video and numbers is None:
        return Frames(place, count, (Frame(_all(place)),))
    wanted = range(1, count + 1) if numbers is None else numbers
    if len(wanted) > MAX_AT_ONCE:
        raise CannotSeparate(f"more than {MAX_AT_ONCE} frames at once")
    if beyond := [number for number in wanted if not 1 <= number <= count]:
        raise NoSuchFrame(beyond[0], count)
    if place.fragments is None:
        frames = _native(place, image, elements.encoding.big_endian, count, wanted)
    elif video and count > 1:
        raise CannotSeparate("the frames of a video are one stream")
    else:
        frames = _encapsulated(elements, place, transfer_syntax_uid, count, wanted, offsets, lengths)
    return Frames(place, count, frames)


def unpack(content: bytes, frame: Frame) -> bytes:
    """Cut the frame out of `content`, its bytes in little endian, when it begins or ends within a byte."""
    if not frame.bits:
        return content
    shifted = int.from_bytes(content, "little") >> frame.first_bit
    return (shifted & ((1 << frame.bits) - 1)).to_bytes(frame.length, "little")


def _frame_count(image: dict[str, bytes]) -> int:
    text = image.get("number_of_frames", b"").strip(b" \0")
    if not text:
        return 1
    try:
        count = int(text)
    except ValueError:
        raise CannotSeparate(f"Number of Frames is {text.decode('latin_1')!r}") from None
    if not 0 < count <= MAX_FRAMES:
        raise CannotSeparate(f"Number of Frames is {count}")
    return count


def _native(
    place: BulkPlace, image: dict[str, bytes], big_endian: bool, count: int, wanted: Sequence[int]
) -> tuple[Frame, ...]:
    bits = _frame_bits(place, image, big_endian, count)
    if (wanted and max(wanted) * bits > place.length * 8) or not bits:
        raise CannotSeparate(f"{place.length} bytes of pixel data are not {count} frames of {bits} bits")
    if bits % 8 == 0:
        size = bits // 8
        return tuple(Frame((ByteRange(place.offset + (number - 1) * size, size),)) for number in wanted)
    if bits > MAX_PACKED_BYTES * 8:
        raise CannotSeparate(f"frames of more than {MAX_PACKED_BYTES} bytes that begin within a byte")
    frames = []
    for number in wanted:
        first, last = (number - 1) * bits, number * bits
        start, end = first // 8, (last + 7) // 8
        frames.append(Frame((ByteRange(place.offset + start, end - start),), first % 8, bits))
    return tuple(frames)


def _frame_bits(place: BulkPlace, image: dict[str, bytes], big_endian: bool, count: int) -> int:
    """Say how many bits one frame takes; of 4:2:2, where writers differ, what the length of the whole tells."""
    order = "big" if big_endian else "little"

    def number(name: str, default: int) -> int:
        value = image.get(name, b"")
        return int.from_bytes(value[:2], order) if len(value) >= 2 else default  # type: ignore[arg-type]

    samples = number("samples_per_pixel", 1)
    pixels = number("rows", 0) * number("columns", 0) * number("bits_allocated", 0)
    whole = pixels * samples
    if samples != 3 or image.get("photometric_interpretation", b"").strip(b" \0").decode("latin_1") not in _NATIVE_422:
        return whole
    return whole if place.length >= count * whole // 8 else pixels * 2


def _all(place: BulkPlace) -> tuple[ByteRange, ...]:
    assert place.fragments is not None
    return place.fragments[:]


def _encapsulated(
    elements: ElementFile,
    place: BulkPlace,
    syntax: Uid,
    count: int,
    wanted: Sequence[int],
    offsets: bytes,
    lengths: bytes,
) -> tuple[Frame, ...]:
    """Take together the fragments of each frame; `offsets` and `lengths` are the Extended Offset Table."""
    fragments = place.fragments
    assert fragments is not None
    first = _first_fragments(elements, place, syntax, count, offsets)
    frames = [fragments[first[number - 1] : first[number]] for number in wanted]
    if not offsets or len(lengths) != 8 * count:
        return tuple(map(Frame, frames))
    sizes = _numbers(lengths, "Q")
    return tuple(Frame(_cut(frame, sizes[number - 1])) for frame, number in zip(frames, wanted, strict=True))


def _first_fragments(elements: ElementFile, place: BulkPlace, syntax: Uid, count: int, offsets: bytes) -> Sequence[int]:
    """Say with which fragment each frame begins, and last how many there are: by a table, by their number, or by what
    they begin and end with.
    """
    fragments, table = place.fragments, place.offset_table
    assert fragments is not None
    assert table is not None
    if offsets:
        return _by_table(place, table, _numbers(offsets, "Q"), count)
    if len(fragments) == count:
        return range(count + 1)
    if count == 1:
        return (0, len(fragments))
    if table.length == 4 * count:
        return _by_table(place, table, _numbers(elements.read(table.offset, table.length), "I"), count)
    return _by_markers(elements, fragments, syntax, count)


def _by_table(place: BulkPlace, table: ByteRange, offsets: Sequence[int], count: int) -> Sequence[int]:
    assert place.fragments is not None
    base = table.offset + table.length + 8
    starts = array("q", (fragment.offset - base for fragment in place.fragments))
    first = array("q", (bisect_left(starts, offset) for offset in offsets))
    first.append(len(starts))
    fits = len(offsets) == count and first[0] == 0 and all(a < b for a, b in pairwise(first))
    if not fits or any(starts[index] != offset for index, offset in zip(first, offsets, strict=False)):
        raise CannotSeparate("the offset table does not fit the fragments")
    return first


def _cut(frame: tuple[ByteRange, ...], length: int) -> tuple[ByteRange, ...]:
    """Leave out the padding behind a frame, told by the Extended Offset Table Lengths."""
    before = list(accumulate((one.length for one in frame), initial=0))
    if not 0 < length <= before[-1]:
        raise CannotSeparate("the lengths in the offset table do not fit the fragments")
    return tuple(
        ByteRange(one.offset, min(one.length, length - start))
        for one, start in zip(frame, before, strict=False)
        if start < length
    )


def _by_markers(elements: ElementFile, fragments: Fragments, syntax: Uid, count: int) -> Sequence[int]:
    start = _start_marker(syntax)
    first = [index for index, one in enumerate(fragments) if elements.read(one.offset, min(2, one.length)) == start]
    if not start or len(first) != count or first[0] != 0:
        raise CannotSeparate(f"{len(fragments)} fragments for {count} frames, without an offset table")
    first.append(len(fragments))
    for after in first[1:]:
        last = fragments[after - 1]
        tail = elements.read(last.offset + max(0, last.length - 4), min(4, last.length))
        if not tail.rstrip(b"\0").endswith(_END):
            raise CannotSeparate(f"{len(fragments)} fragments for {count} frames, which do not end where others begin")
    return first


def _start_marker(syntax: Uid) -> bytes:
    return next((marker for marker, syntaxes in _START.items() if syntax.startswith(syntaxes)), b"")


def _numbers(table: bytes, code: str) -> Sequence[int]:
    numbers = array(code)
    if numbers.itemsize * (len(table) // numbers.itemsize) != len(table):
        raise CannotSeparate("an offset table that does not consist of whole numbers")
    numbers.frombytes(table)
    return numbers
