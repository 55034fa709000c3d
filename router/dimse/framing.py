"""A byte stream cut into PDUs, wherever the reads split it (PS3.8 §9.3.1).

A PDU that came whole is passed on where it lies; one that came in pieces is copied together once. Nothing of a body is
kept before its header was admitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.dimse.pdu import HEADER, HEADER_BYTES

# Judges a PDU by type, body length and header: True to read it, False to skip it, PeerError to give up.
Admit = Callable[[int, int, bytearray | memoryview], bool]


class Framer:
    """Cuts one stream."""

    def __init__(self) -> None:
        self._tail = bytearray()  # the beginning of a PDU that has not come whole
        self._skip = 0  # bytes still to come of a PDU that is skipped

    def lacking(self, data: bytes | bytearray | memoryview, size: int) -> tuple[int, int, int]:
        """Give type, body length and missing bytes of the PDU that `data[:size]`, not yet given to `pdus`, begins or
        goes on with. None are missing when it is whole there, or its header is not.
        """
        have = len(self._tail)
        if have < HEADER_BYTES and (have or self._skip or size < HEADER_BYTES):
            return 0, 0, 0
        kind, length = HEADER.unpack_from(self._tail or data)
        return kind, length, max(0, HEADER_BYTES + length - have - size)

    def pdus(self, view: memoryview, admit: Admit) -> Iterator[tuple[int, memoryview, int, int]]:
        """Yield type, buffer, start and end of each body that `view` completes; stopping early drops the rest."""
        position, size = 0, len(view)
        if self._tail:
            position, whole = self._complete(view, admit)
            if whole is not None:
                yield whole[0], whole, HEADER_BYTES, len(whole)
        while position < size:
            if self._skip:
                skipped = min(self._skip, size - position)
                self._skip -= skipped
                position += skipped
                continue
            start = position + HEADER_BYTES
            if start > size:
                break
            kind, length = HEADER.unpack_from(view, position)
            if not admit(kind, length, view[position:start]):
                self._skip = HEADER_BYTES + length
                continue
            if start + length > size:
                break
            yield kind, view, start, start + length
            position = start + length
        if position < size:
            self._tail += view[position:]

    def _complete(self, view: memoryview, admit: Admit) -> tuple[int, memoryview | None]:
        """Read on at the tail; return how much of `view` that took, and the PDU when it is whole."""
        tail = self._tail
        taken = max(0, min(HEADER_BYTES - len(tail), len(view)))
        tail += view[:taken]
        if len(tail) < HEADER_BYTES:
            return taken, None
        kind, length = HEADER.unpack_from(tail)
        if not admit(kind, length, tail[:HEADER_BYTES]):
            self._skip = HEADER_BYTES + length - len(tail)
            self._tail = bytearray()
            return taken, None
        missing = HEADER_BYTES + length - len(tail)
        piece = view[taken : taken + missing]
        tail += piece
        if len(piece) < missing:
            return taken + len(piece), None
        self._tail = bytearray()  # the old one lives on in the fragments
        return taken + len(piece), memoryview(tail)
