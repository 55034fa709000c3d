"""The general half of the header scan: any element, and the way through sequences, items and fragments (PS3.5 §7.5).

`Walk` also holds what was found and what is left of the limits. It sees a buffer and a position, gives back a position,
and says in `need` how many bytes from there it must have to go on. It keeps a stack of its own and never recurses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from router.dicom.attributes import path_name, vr_of
from router.dicom.elements import Element, Flaw, Header
from router.dicom.encoding import (
    BULK_VRS,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
)

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
    """Elements, items and delimiters looked at: a header has some hundreds, and more take too long (B33)."""
    depth: int = 64
    """Sequences in sequences; SR documents in the field reach about twenty (B32)."""
    value_bytes: int = 64 * 1024
    """Of one wanted value; index and rules compare names and codes, not documents (B38)."""
    kept_bytes: int = 1024 * 1024
    """Of all wanted values of one data set with their bookkeeping: the memory that one instance in hand may take."""
    inflated_bytes: int = 64 * 1024 * 1024
    inflate_ratio: int = 200
    """Deflated data sets only: bytes that come out at most, and how many for each byte that went in (B34)."""


_Kind = Enum("_Kind", "SEQUENCE FRAGMENTS ITEM")


class _Frame:
    """A sequence, a run of fragments, or an item that the scan is inside of.

    `end` is a position, or _NO_END while a delimiter is awaited. `tree` is None when nothing inside is wanted;
    `recorded` says that a sequence itself is.
    """

    __slots__ = ("elements", "encoding", "end", "items", "kind", "recorded", "tag", "tree")

    def __init__(
        self, kind: _Kind, tag: int, end: int, encoding: Encoding, tree: Tree | None, *, recorded: bool = False
    ):
        self.kind, self.tag, self.end = kind, tag, end
        self.encoding, self.tree, self.recorded = encoding, tree, recorded
        self.elements: dict[int, Element] = {}
        self.items: list[Header] = []


class Walk:
    """One data set being read: what is wanted (`tree`), what was found (`elements`), and where the scan stands.

    `last` is the last tag of the outermost level that is worth waiting for. `need` is 0 while the walk can go on.
    """

    __slots__ = (
        "_stack",
        "done",
        "elements",
        "encoding",
        "flaw",
        "kept_left",
        "last",
        "left",
        "limits",
        "need",
        "odd_length",
        "problem",
        "tree",
    )

    def __init__(self, encoding: Encoding, tree: Tree, last: int, limits: ScanLimits):
        self.encoding, self.tree, self.last, self.limits = encoding, tree, last, limits
        self.left, self.kept_left = limits.elements, limits.kept_bytes
        self.elements: dict[int, Element] = {}
        self._stack: list[_Frame] = []
        self.need = 0
        self.done = self.odd_length = False
        self.flaw: Flaw | None = None
        self.problem: str | None = None

    @property
    def inside(self) -> bool:
        """Whether the position is inside a sequence."""
        return bool(self._stack)

    def leave_all(self) -> None:
        """Come out of all sequences, keeping what was found in them."""
        while self._stack:
            self._leave()

    def scan_nested(self, data: bytes, pos: int, base: int) -> int:
        """Walk sequences and items until they are left again, or the data run out."""
        while self._stack and not (self.need or self.done):
            frame = self._stack[-1]
            if base + pos >= frame.end:
                if base + pos > frame.end:
                    self.stop(Flaw.PAST_END, frame.tag, base + pos)
                else:
                    self._leave()
                continue
            if len(data) - pos < 8:
                self.need = 8
                continue
            group, element, length = frame.encoding.plain(data, pos)
            if group != 0xFFFE:
                if frame.kind is _Kind.ITEM:
                    pos = self.read_element(data, pos, base, frame.encoding, frame.tree, frame.elements)
                else:
                    self.stop(Flaw.STRUCTURE, frame.tag, base + pos)
                continue
            if not self.left:
                self.stop(Flaw.ELEMENTS, frame.tag, base + pos)
                continue
            self.left -= 1
            pos += 8
            tag = group << 16 | element
            if tag == ITEM and frame.kind is not _Kind.ITEM:
                pos = self._enter_item(frame, length, pos, base)
            elif tag != (ITEM_DELIMITATION if frame.kind is _Kind.ITEM else SEQUENCE_DELIMITATION):
                self.stop(Flaw.STRUCTURE, frame.tag, base + pos)
            elif frame.end == _NO_END:
                self._leave()
        return pos

    def read_element(
        self, data: bytes, pos: int, base: int, encoding: Encoding, tree: Tree | None, store: dict[int, Element]
    ) -> int:
        """Read the element at `pos`, whatever it is; give the position behind what was read (`pos`: too few data)."""
        size = len(data) - pos
        if size < 8:
            self.need = 8
            return pos
        group, element, length = encoding.plain(data, pos)
        tag, start = group << 16 | element, pos + 8
        if not self._stack and tag > self.last:
            self._reach_end(tag)
            return pos
        if not self.left:
            self.stop(Flaw.ELEMENTS, tag, base + pos)
            return pos
        if encoding.implicit:
            vr = vr_of(tag)
        else:
            _, _, code, short_length = encoding.head(data, pos)
            vr = encoding.short.get(code, "")
            if vr:
                length = short_length
            elif size < 12:
                self.need = 12
                return pos
            else:
                vr, length, start = self._read_long(data, pos, encoding, tag, code, short_length)
        wanted = None if tree is None else tree.get(tag)
        if wanted is not None and tag in store:
            self.note(Flaw.DUPLICATE, tag, base + pos)
            wanted = None
        if length == UNDEFINED_LENGTH or (wanted is not None and (vr == "SQ" or (wanted and vr == "UN"))):
            after = self._enter(tag, vr, length, start, base, encoding, wanted)
        elif wanted is not None:
            if vr == "UN" and not encoding.big_endian:
                vr = vr_of(tag)
            after = self._keep(store, tag, vr, data, start, length, base)
            if self.need:
                self.need += start - pos
                return pos
        else:
            after = start + length
        if length & 1 and length != UNDEFINED_LENGTH:
            self.odd_length = True
        self.left -= 1
        return after

    def _read_long(
        self, data: bytes, pos: int, encoding: Encoding, tag: int, code: int, length: int
    ) -> tuple[str, int, int]:
        """Give VR, length and where the value starts of an explicit element without a short VR."""
        vr = encoding.long.get(code)
        if vr is None:
            self.note(Flaw.VR, tag, None)
            letters = data[pos + 4 : pos + 6]
            if not (letters.isalpha() and letters.isupper()):  # an implicit element; some writers mix them
                return vr_of(tag), encoding.plain(data, pos)[2], pos + 8
            if length:  # where a VR with a 32-bit length has its reserved zeros
                return "UN", length, pos + 8
            vr = "UN"
        return vr, encoding.length(data, pos + 8)[0], pos + 12

    def _enter(
        self, tag: int, vr: str, length: int, start: int, base: int, encoding: Encoding, wanted: Tree | None
    ) -> int:
        """Go into a sequence or a run of fragments, or past one that is only wanted itself; give the position there."""
        if length != UNDEFINED_LENGTH and not wanted:
            self._record(tag, [])
            return start + length
        if len(self._stack) // 2 >= self.limits.depth:
            self.stop(Flaw.DEPTH, tag, base + start)
        elif vr in BULK_VRS:
            self._stack.append(_Frame(_Kind.FRAGMENTS, tag, _NO_END, encoding, None))
        elif vr in ("SQ", "UN"):
            if vr == "UN":
                encoding = IMPLICIT_LITTLE  # PS3.5 §6.2.2: whatever the data set itself is
            end = _NO_END if length == UNDEFINED_LENGTH else base + start + length
            self._stack.append(_Frame(_Kind.SEQUENCE, tag, end, encoding, wanted or None, recorded=wanted is not None))
        else:
            self.stop(Flaw.UNDEFINED_LENGTH, tag, base + start)
        return start

    def _enter_item(self, parent: _Frame, length: int, pos: int, base: int) -> int:
        """Go into an item, or past it when nothing in it is wanted; give the position to go on from."""
        if length == UNDEFINED_LENGTH:
            if parent.kind is _Kind.FRAGMENTS:
                self.stop(Flaw.STRUCTURE, parent.tag, base + pos)
                return pos
            end = _NO_END
        elif parent.tree is None:
            return pos + length
        else:
            end = base + pos + length
        if end != _NO_END and end > parent.end:
            self.stop(Flaw.PAST_END, parent.tag, base + pos)
            return pos
        if parent.tree is not None and not self._charge(_ITEM_COST, parent.tag, base + pos):
            return pos
        self._stack.append(_Frame(_Kind.ITEM, parent.tag, end, parent.encoding, parent.tree))
        return pos

    def _leave(self) -> None:
        """Come out of the innermost frame and hang what it held onto the one around it."""
        frame = self._stack.pop()
        if frame.kind is _Kind.ITEM:
            if frame.tree is not None:
                self._stack[-1].items.append(Header(frame.elements, big_endian=frame.encoding.big_endian))
        elif frame.recorded:
            self._record(frame.tag, frame.items)

    def _record(self, tag: int, items: list[Header]) -> None:
        store = self._stack[-1].elements if self._stack else self.elements
        store[tag] = Element("SQ", b"", tuple(items))

    def _keep(
        self, store: dict[int, Element], tag: int, vr: str, data: bytes, start: int, length: int, base: int
    ) -> int:
        """Keep a value, or as much of it as is allowed; give the position behind it."""
        kept = min(length, self.limits.value_bytes)
        if start + kept > len(data):
            self.need = kept
            return start
        if self._charge(kept + (_ELEMENT_COST if self._stack else 0), tag, base + start):
            if kept < length:
                self.note(Flaw.VALUE_TRUNCATED, tag, base + start)
            store[tag] = Element(vr, data[start : start + kept], truncated=kept < length)
        return start + length

    def _charge(self, cost: int, tag: int, at: int) -> bool:
        if cost > self.kept_left:
            self.stop(Flaw.KEPT, tag, at)
            return False
        self.kept_left -= cost
        return True

    def _reach_end(self, tag: int) -> None:
        """Nothing more is wanted. Of Pixel Data itself, only that it is there can be known."""
        self.done = True
        if tag in PIXEL_DATA and tag in self.tree:
            self.elements[tag] = Element(vr_of(tag), b"", truncated=True)

    def stop(self, flaw: Flaw, tag: int | None = None, at: int | None = None, detail: str = "") -> None:
        """Note a flaw that ends the scan."""
        self.done = True
        self.note(flaw, tag, at, detail)

    def note(self, flaw: Flaw, tag: int | None = None, at: int | None = None, detail: str = "") -> None:
        """Remember the gravest flaw, and among equals the first; `at` is a position in the data set."""
        if self.flaw is not None and _gravity(self.flaw) >= _gravity(flaw):
            return
        where = f": {path_name((tag,))}" if tag is not None else ""
        if at is not None:
            where += f" at byte {at}"
        self.flaw, self.problem = flaw, flaw.value + where + (f": {detail}" if detail else "")


def _gravity(flaw: Flaw) -> int:
    return flaw.fatal * 2 + flaw.stops
