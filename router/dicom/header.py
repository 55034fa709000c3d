"""A bounded, iterative, push-fed reader of the attributes that the index and the rules need (PS3.5 §7).

It keeps nothing but wanted values, skips by length what nobody wants, never allocates by a claimed length and never
raises. The result is the same however the bytes are cut. B30-B43.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from router.dicom.attributes import AttributePath
from router.dicom.elements import SPECIFIC_CHARACTER_SET, Element, Flaw, Header
from router.dicom.encoding import PIXEL_DATA, encoding_of
from router.dicom.inflate import BoundedInflater
from router.dicom.skim import skim_explicit, skim_implicit
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.dicom.walk import ScanLimits, Tree, Walk

__all__ = ["AttributePath", "Element", "Flaw", "Header", "HeaderScanner", "ScanLimits"]

_START_BYTES: Final = 134
"""Preamble, "DICM" and the first tag: enough to know a PS3.10 file that came as a data set."""
_DEFAULT_LIMITS: Final = ScanLimits()


class HeaderScanner:
    """Takes the bytes of one data set as they arrive; `done` says that more of them cannot change the result.

    `wanted` paths may go through sequences. Specific Character Set is always read along, at every level.
    """

    __slots__ = ("_inflater", "_needed", "_position", "_rest", "_skip", "_started", "_walk", "done")

    def __init__(
        self, transfer_syntax_uid: Uid, wanted: frozenset[AttributePath], limits: ScanLimits = _DEFAULT_LIMITS
    ):
        self.done = False
        tree, last = _tree(wanted)
        self._walk = Walk(encoding_of(transfer_syntax_uid), tree, last, limits)
        self._inflater: BoundedInflater | None = None
        if is_deflated(transfer_syntax_uid):
            self._inflater = BoundedInflater(limits.inflated_bytes, limits.inflate_ratio)
        self._position = 0  # of the next byte to look at, in the (inflated) data set
        self._skip = 0  # bytes to come that are not looked at
        self._rest = bytearray()  # bytes from _position on that were too few to go on
        self._needed = _START_BYTES  # as many from _position on are needed to go on
        self._started = False

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. They are used at once or copied."""
        if self.done:
            return
        if self._inflater is None:
            self._take(chunk)
        else:
            self._take_inflated(self._inflater, chunk)

    def finish(self) -> Header:
        """Say what was found. No bytes may be fed afterwards."""
        walk = self._walk
        if self._inflater is not None and not self.done:
            self._take_inflated(self._inflater, None)
        if not self.done:
            self._end_of_data()
        self.done = True
        walk.leave_all()
        if walk.odd_length:
            walk.note(Flaw.ODD_LENGTH)
        header = Header(walk.elements, big_endian=walk.encoding.big_endian, flaw=walk.flaw, problem=walk.problem)
        header.inherit_charsets()
        return header

    def _take(self, chunk: bytes | bytearray | memoryview) -> None:
        start, size = self._skip, len(chunk)
        if size <= start:
            self._skip -= size
            return
        self._skip = 0
        if size - start < self._needed - len(self._rest):
            self._rest += chunk[start:]
            return
        if self._rest:
            data = b"".join((self._rest, chunk[start:]))
            start = 0
            self._rest.clear()
        else:
            data = bytes(chunk)
        self._scan(data, start)

    def _take_inflated(self, inflater: BoundedInflater, chunk: bytes | bytearray | memoryview | None) -> None:
        """Take what a chunk of deflated bytes gives; None ends them."""
        for piece in inflater.finish() if chunk is None else inflater.feed(chunk):
            self._take(piece)
            if self.done:
                return
        if inflater.problem:
            self._walk.stop(Flaw.INFLATION, detail=inflater.problem)
            self.done = True
        elif chunk is None and not inflater.ended:
            self._walk.note(Flaw.PAST_END, detail="the deflated stream is cut off")

    def _scan(self, data: bytes, pos: int) -> None:
        walk, base = self._walk, self._position - pos
        if not self._started:
            self._started = True
            _check_start(walk, data)
        skim = skim_implicit if walk.encoding.implicit else skim_explicit
        walk.need = 0
        while not (walk.need or walk.done):
            if walk.inside:
                pos = walk.scan_nested(data, pos, base)
                continue
            pos = skim(walk, data, pos)
            if not walk.need:
                pos = walk.read_element(data, pos, base, walk.encoding, walk.tree, walk.elements)
        self.done = walk.done
        self._needed, self._position = walk.need, base + pos
        if pos > len(data):
            self._skip = pos - len(data)
        elif not walk.done:
            self._rest += data[pos:]

    def _end_of_data(self) -> None:
        if not self._started:
            data = bytes(self._rest)
            self._rest.clear()
            if not data:
                self._walk.note(Flaw.EMPTY)
                return
            self._scan(data, 0)
        cut_off = self._skip or self._walk.inside or any(self._rest)  # a few zeros at the end are padding
        if cut_off and not self.done:
            self._walk.note(Flaw.PAST_END, None, self._position)


def _check_start(walk: Walk, data: bytes) -> None:
    first = data[:2]
    if data[128:_START_BYTES] == b"DICM\x02\x00" or first in (b"\x02\x00", b"\x00\x02"):
        walk.stop(Flaw.PART10)
    elif first == b"\x00\x00":
        walk.stop(Flaw.COMMAND_GROUP)


@lru_cache(maxsize=32)
def _tree(wanted: frozenset[AttributePath]) -> tuple[Tree, int]:
    """Turn paths into a tree, and give the last tag of the outermost level that is worth waiting for."""
    root: Tree = {SPECIFIC_CHARACTER_SET: {}}
    for path in wanted:
        branch = root
        for depth, tag in enumerate(path):
            branch = branch.setdefault(tag, {})
            if depth < len(path) - 1:
                branch.setdefault(SPECIFIC_CHARACTER_SET, {})
    return root, min(max(root), min(PIXEL_DATA) - 1)
