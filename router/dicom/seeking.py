"""Element heads of a data set in a file, read one after the other; values are passed over by seeking (PS3.5 §7).

For what stands far behind in a big file: one frame, one bulk value. Nothing is kept of what is passed over, and nothing
recurses. Offsets count from the data set's first byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from router.dicom.attributes import path_name, vr_of
from router.dicom.encoding import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    encoding_of,
)
from router.dicom.uids import Uid
from router.errors import PeerError

MAX_HEADS: Final = 4_000_000
"""Elements, items and delimiters passed in one search: an enhanced image of 10,000 frames has some 500,000."""
MAX_DEPTH: Final = 64
"""Sequences within sequences; the deepest real ones (structured reports) have a dozen."""


@dataclass(frozen=True, slots=True)
class Head:
    """One element: `length` bytes of value from `offset`; UNDEFINED_LENGTH when delimiters end it."""

    tag: int
    vr: str
    offset: int
    length: int

    @property
    def in_fragments(self) -> bool:
        """Whether the value is encapsulated pixel data (PS3.5 §A.4) and not a sequence."""
        return self.length == UNDEFINED_LENGTH and (self.tag in PIXEL_DATA or self.vr in ("OB", "OW"))


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of a data set."""

    offset: int
    length: int


class ElementFile:
    """Where a search stands in a data set. `file` must stand at its first byte, and end with it."""

    def __init__(self, file: BinaryIO, transfer_syntax_uid: Uid):
        self._file, self._base = file, file.tell()
        self.size = file.seek(0, 2) - self._base
        self._left = MAX_HEADS
        self.encoding = encoding_of(transfer_syntax_uid)
        self.position = 0

    def read(self, offset: int, length: int) -> bytes:
        """Read a value. Raises PeerError when the data set ends before."""
        self._file.seek(self._base + offset)
        content = self._file.read(length)
        if len(content) < length:
            raise self.error("the data set ends within a value")
        return content

    def next(self, end: int | None = None) -> Head | None:
        """Read the head at the position, which is then at its value; None at `end` (the data set's, when it is None)
        or behind an item delimiter. Raises PeerError.
        """
        end = self.size if end is None else end
        if self.position >= end:
            return None
        self._count()
        self._file.seek(self._base + self.position)
        data = self._file.read(12)
        if not any(data[:8]):
            return None  # padding behind the last element
        if len(data) < 8:
            raise self.error("the data set ends within an element")
        encoding = self.encoding
        group, element, length = encoding.plain(data, 0)
        tag = group << 16 | element
        if tag == ITEM_DELIMITATION:
            self.position += 8
            return None
        if encoding.implicit:
            taken, vr = 8, vr_of(tag)
        else:
            taken, vr, length = self._explicit(encoding, data)
        self.position += taken
        if length != UNDEFINED_LENGTH and self.position + length > end:
            raise self.error(f"{path_name((tag,))} is longer than what it stands in")
        return Head(tag, vr, self.position, length)

    def item(self, end: int | None = None) -> Head | None:
        """Read the head of an item or fragment; None at the end of the sequence. Raises PeerError."""
        end = self.size if end is None else end
        while self.position < end:
            self._count()
            self._file.seek(self._base + self.position)
            data = self._file.read(8)
            if len(data) < 8:
                raise self.error("the data set ends within a sequence")
            group, element, length = self.encoding.plain(data, 0)
            tag = group << 16 | element
            self.position += 8
            if tag == SEQUENCE_DELIMITATION:
                return None
            if tag == ITEM_DELIMITATION and not length:
                continue  # some write one behind an item that told its length
            if tag != ITEM:
                raise self.error("something else where an item should begin")
            if length != UNDEFINED_LENGTH and self.position + length > end:
                raise self.error("an item is longer than what it stands in")
            return Head(tag, "", self.position, length)
        return None

    def skip(self, head: Head) -> None:
        """Go behind a value. Raises PeerError."""
        if head.length != UNDEFINED_LENGTH:
            self.position = head.offset + head.length
            return
        outside, is_sequence = [self.encoding], [True]
        self.encoding = self.inner_encoding(head)
        while is_sequence:
            if len(is_sequence) > 2 * MAX_DEPTH:
                raise self.error(f"more than {MAX_DEPTH} sequences within each other")
            inner = self.item() if is_sequence[-1] else self.next()
            if inner is None:
                is_sequence.pop()
                self.encoding = outside.pop()
            elif inner.length != UNDEFINED_LENGTH:
                self.position = inner.offset + inner.length
            else:
                outside.append(self.encoding)
                is_sequence.append(not is_sequence[-1])
                self.encoding = self.inner_encoding(inner)

    def inner_encoding(self, head: Head) -> Encoding:
        """Give the encoding inside a sequence: in UN always Implicit VR Little Endian (PS3.5 §6.2.2)."""
        return IMPLICIT_LITTLE if head.vr == "UN" and not self.encoding.implicit else self.encoding

    def error(self, problem: str) -> PeerError:
        """Make the error that tells where the data set breaks its encoding."""
        return PeerError(f"{problem} (at byte {self.position} of the data set)")

    def _explicit(self, encoding: Encoding, data: bytes) -> tuple[int, str, int]:
        _, _, code, length = encoding.head(data, 0)
        vr = encoding.short.get(code)
        if vr is not None:
            return 8, vr, length
        vr = encoding.long.get(code)
        tag, letters = encoding.plain(data, 0), data[4:6]
        if vr is None and not (letters.isalpha() and letters.isupper()):
            return 8, vr_of(tag[0] << 16 | tag[1]), tag[2]  # of Implicit VR; some writers mix them
        if vr is None and length:  # where a VR with a 32-bit length has its reserved zeros
            return 8, "UN", length
        if len(data) < 12:
            raise self.error("the data set ends within an element")
        return 12, vr or "UN", encoding.length(data, 8)[0]

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self.error(f"more than {MAX_HEADS} elements")
