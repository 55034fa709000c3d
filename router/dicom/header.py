"""A bounded, iterative, push-fed reader of the attributes that the index and the rules need (PS3.5 §7).

It keeps nothing but wanted values, skips by length what nobody wants, never allocates by a claimed length and never recurses
or raises. The result is the same however the bytes are cut. B30-B43.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from router.dicom.attributes import AttributePath, path_name, vr_of
from router.dicom.elements import SPECIFIC_CHARACTER_SET, Element, Flaw, Header
from router.dicom.encoding import (
    BULK_VRS,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
)
from router.dicom.inflate import BoundedInflater
from router.dicom.transfer_syntax import is_big_endian, is_deflated, is_implicit
from router.dicom.uids import Uid

__all__ = ["AttributePath", "Element", "Flaw", "Header", "HeaderScanner", "ScanLimits"]

_START_BYTES: Final = 134
"""Preamble, "DICM" and the first tag: enough to know a PS3.10 file that came as a data set."""
_NO_END: Final = 1 << 64
_ITEM_COST: Final = 512
_ELEMENT_COST: Final = 128
"""Bytes that a kept item or nested element is charged besides its value, so that many tiny ones are bounded too."""

Tree = dict[int, "Tree"]
"""What is wanted: tag → what is wanted in its items ({} for the attribute itself)."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """How far a scan goes. Values that are skipped by their length cost nothing and do not count."""

    elements: int = 65_536
    """Elements, items and delimiters looked at; a header has some hundreds, and more take longer than a router should spend (B33)."""
    depth: int = 64
    """Sequences in sequences; SR documents in the field reach about twenty (B32)."""
    value_bytes: int = 64 * 1024
    """Of one wanted value; index and rules compare names and codes, not documents (B38)."""
    kept_bytes: int = 1024 * 1024
    """Of all wanted values of one data set with their bookkeeping: the memory that one instance in hand may take."""
    inflated_bytes: int = 64 * 1024 * 1024
    inflate_ratio: int = 200
    """Deflated data sets only: bytes that come out at most, and how many for each byte that went in (B34)."""


class _Frame:
    """A sequence, a run of fragments, or an item that the scan is inside of."""

    __slots__ = ("elements", "encoding", "end", "is_item", "items", "tag", "tree")

    def __init__(self, *, is_item: bool, end: int, encoding: Encoding, tree: Tree | None, tag: int):
        self.is_item, self.end, self.encoding, self.tree, self.tag = is_item, end, encoding, tree, tag
        self.elements: dict[int, Element] = {}
        self.items: list[Header] = []


class HeaderScanner:
    """Takes the bytes of one data set as they arrive; `done` says that more of them cannot change the result.

    `wanted` paths may go through sequences. Specific Character Set is always read along, at every level.
    """

    __slots__ = (
        "_elements",
        "_encoding",
        "_flaw",
        "_inflater",
        "_kept_left",
        "_last",
        "_left",
        "_limits",
        "_need",
        "_odd_length",
        "_position",
        "_problem",
        "_rest",
        "_skip",
        "_stack",
        "_started",
        "_tree",
        "done",
    )

    def __init__(
        self, transfer_syntax_uid: Uid, wanted: frozenset[AttributePath], limits: ScanLimits = _DEFAULT_LIMITS
    ):
        self.done = False
        self._tree, self._last = _tree(wanted)
        self._limits = limits
        self._encoding = _encoding_of(transfer_syntax_uid)
        self._inflater: BoundedInflater | None = None
        if is_deflated(transfer_syntax_uid):
            self._inflater = BoundedInflater(limits.inflated_bytes, limits.inflate_ratio)
        self._elements: dict[int, Element] = {}
        self._stack: list[_Frame] = []
        self._left, self._kept_left = limits.elements, limits.kept_bytes
        self._position = 0  # of the next byte to look at, in the (inflated) data set
        self._skip = 0  # bytes to come that are not looked at
        self._rest = bytearray()  # bytes from _position on that were too few to go on
        self._need = _START_BYTES  # as many from _position on are needed to go on
        self._started = self._odd_length = False
        self._flaw: Flaw | None = None
        self._problem: str | None = None

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. They are used at once or copied."""
        if self.done:
            return
        if self._inflater is None:
            self._take(chunk)
            return
        for piece in self._inflater.feed(chunk):
            self._take(piece)
            if self.done:
                return
        self._stop_if_inflater_did()

    def finish(self) -> Header:
        """Say what was found. No bytes may be fed afterwards."""
        if self._inflater is not None and not self.done:
            for piece in self._inflater.finish():
                self._take(piece)
                if self.done:
                    break
            self._stop_if_inflater_did()
        if not self.done:
            self._end_of_data()
        while self._stack:
            self._leave()
        self.done = True
        if self._odd_length:
            self._note(Flaw.ODD_LENGTH)
        header = Header(
            self._elements, big_endian=self._encoding.big_endian, flaw=self._flaw, problem=self._problem
        )
        header.inherit_charsets()
        return header

    def _take(self, chunk: bytes | bytearray | memoryview) -> None:
        start, size = self._skip, len(chunk)
        if size <= start:
            self._skip -= size
            return
        self._skip = 0
        missing = self._need - len(self._rest)
        if size - start < missing:
            self._rest += chunk[start:]
            return
        if self._rest:
            data = b"".join((self._rest, chunk[start:]))
            start = 0
            self._rest.clear()
        else:
            data = bytes(chunk)
        self._scan(data, start)

    def _scan(self, data: bytes, pos: int) -> None:
        base = self._position - pos
        if not self._started:
            self._started = True
            self._check_start(data)
        self._need = 0
        while not (self._need or self.done):
            if self._stack:
                pos = self._scan_nested(data, pos, base)
                continue
            pos = self._skim_implicit(data, pos) if self._encoding.implicit else self._skim_explicit(data, pos)
            if not (self._need or self.done):
                pos = self._read_element(data, pos, base, self._encoding, self._tree, self._elements)
        self._position = base + pos
        if pos > len(data):
            self._skip = pos - len(data)
        elif not self.done:
            self._rest += data[pos:]

    def _skim_explicit(self, data: bytes, pos: int) -> int:
        """Hurry through elements of the outermost level that are skipped, or kept at once. The rest is left to `_read_element`."""
        encoding, tree, elements = self._encoding, self._tree, self._elements
        head, length_of, short, long = encoding.head, encoding.length, encoding.short, encoding.long
        last, size, value_bytes = self._last, len(data), self._limits.value_bytes
        kept_left, odd = self._kept_left, 0
        for left in range(self._left, -1, -1):  # noqa: B007 (used after the loop)
            if size - pos < 8:
                self._need = 8
                break
            group, element, code, length = head(data, pos)
            tag = group << 16 | element
            if tag > last or not left:
                break
            if code in short:
                after = pos + 8 + length
                if tag in tree:
                    if after > size or length > value_bytes or length > kept_left or tag in elements or tree[tag]:
                        break
                    kept_left -= length
                    elements[tag] = Element(short[code], data[pos + 8 : after])
            elif code in long and tag not in tree:
                if size - pos < 12:
                    self._need = 12
                    break
                (length,) = length_of(data, pos + 8)
                if length == UNDEFINED_LENGTH:
                    break
                after = pos + 12 + length
            else:
                break
            odd |= length
            pos = after
        self._left, self._kept_left = left, kept_left
        if odd & 1:
            self._odd_length = True
        return pos

    def _skim_implicit(self, data: bytes, pos: int) -> int:
        """Do what `_skim_explicit` does, for Implicit VR."""
        plain, tree, elements = self._encoding.plain, self._tree, self._elements
        last, size, value_bytes = self._last, len(data), self._limits.value_bytes
        kept_left, odd = self._kept_left, 0
        for left in range(self._left, -1, -1):  # noqa: B007 (used after the loop)
            if size - pos < 8:
                self._need = 8
                break
            group, element, length = plain(data, pos)
            tag = group << 16 | element
            if tag > last or not left or length == UNDEFINED_LENGTH:
                break
            after = pos + 8 + length
            if tag in tree:
                if after > size or length > value_bytes or length > kept_left or tag in elements or tree[tag]:
                    break
                vr = vr_of(tag)
                if vr == "SQ":
                    break
                kept_left -= length
                elements[tag] = Element(vr, data[pos + 8 : after])
            odd |= length
            pos = after
        self._left, self._kept_left = left, kept_left
        if odd & 1:
            self._odd_length = True
        return pos

    def _scan_nested(self, data: bytes, pos: int, base: int) -> int:
        """Walk sequences and items until they are left again, or the data run out."""
        while self._stack and not (self._need or self.done):
            frame = self._stack[-1]
            if base + pos >= frame.end:
                if base + pos > frame.end:
                    self._stop(Flaw.PAST_END, frame.tag, base + pos)
                else:
                    self._leave()
                continue
            if len(data) - pos < 8:
                self._need = 8
                continue
            group, element, length = frame.encoding.plain(data, pos)
            if group != 0xFFFE:
                if frame.is_item:
                    pos = self._read_element(data, pos, base, frame.encoding, frame.tree, frame.elements)
                else:
                    self._stop(Flaw.STRUCTURE, frame.tag, base + pos)
                continue
            if not self._spend(base + pos):
                continue
            pos += 8
            match group << 16 | element:
                case 0xFFFEE000 if not frame.is_item:
                    pos = self._enter_item(frame, length, pos, base)
                case 0xFFFEE00D if frame.is_item:
                    if frame.end == _NO_END:
                        self._leave()
                case 0xFFFEE0DD if not frame.is_item:
                    if frame.end == _NO_END:
                        self._leave()
                case _:
                    self._stop(Flaw.STRUCTURE, frame.tag, base + pos)
        return pos
