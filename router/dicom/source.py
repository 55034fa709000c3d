"""The bytes of a stored data set from front to back: taken or skipped, never all in memory, inflated if need be.

Nothing is allocated by a length that the data set claims before so many bytes are known to be there.
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Final

from router.errors import PeerError

FIRST_READ_BYTES: Final = 512
"""Read where the position has jumped: a fragment's header, or the few elements behind a skipped value."""
READ_BYTES: Final = 64 * 1024
"""Read at most at once: the header of most instances."""
MAX_INFLATED_BYTES: Final = 1024 * 1024 * 1024
"""Of a deflated data set, what is looked at: two or three seconds of work."""


class Unreadable(PeerError):
    """The bytes break the encoding at one place. What encloses it and tells its own length can still be read on."""


class Source:
    """A plain data set, from where `file` stands to its end. The file stays the caller's, who closes it."""

    __slots__ = ("_at", "_base", "_data", "_file", "_next_read", "end")

    def __init__(self, file: BinaryIO):
        start = file.tell()
        self.end: int = file.seek(0, io.SEEK_END) - start
        """Where the data set ends, in bytes from its start."""
        file.seek(start)
        self._file = file
        self._base = 0  # of `_data`, in bytes from the start of the data set
        self._data = b""
        self._at = 0  # within `_data`
        self._next_read = FIRST_READ_BYTES

    @property
    def position(self) -> int:
        """Bytes of the data set that are behind us."""
        return self._base + self._at

    def take(self, size: int) -> bytes:
        """Give the next `size` bytes, which the caller may allocate. Raises Unreadable when there are fewer."""
        start, after = self._at, self._at + size
        if after > len(self._data):
            self._fill(size)
            start, after = self._at, self._at + size
            if after > len(self._data):
                raise Unreadable(f"the data set ends within an element (at byte {self.position})")
        self._at = after
        taken: bytes = self._data[start:after]
        return taken

    def peek(self, size: int) -> bytes:
        """Give the next `size` bytes, or as many as there are, and stay before them."""
        if self._at + size > len(self._data):
            self._fill(size)
        return self._data[self._at : self._at + size]

    def skip(self, size: int) -> bool:
        """Go on by `size` bytes, or to the end; say whether so many were there."""
        whole = size <= self.end - self.position
        if not whole:
            size = self.end - self.position
        self._at += size
        if self._at > len(self._data):
            self._file.seek(self._at - len(self._data), io.SEEK_CUR)
            self._base, self._data, self._at = self.position, b"", 0
            self._next_read = FIRST_READ_BYTES
        return whole

    def _fill(self, size: int) -> None:
        """Read on, so that `size` bytes are at hand if the data set has them."""
        rest = self._data[self._at :]
        self._base += self._at
        parts, missing = [rest], max(size, self._next_read) - len(rest)
        while missing > 0 and (piece := self._file.read(missing)):
            parts.append(piece)
            missing -= len(piece)
        self._data, self._at = b"".join(parts), 0
        self._next_read = READ_BYTES


class InflatedSource(Source):
    """A deflated data set (PS3.5 §A.5), inflated piece by piece. Where it ends, nobody knows before."""

    __slots__ = ("_deflated", "_inflater")

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.end = MAX_INFLATED_BYTES
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflated = b""

    def skip(self, size: int) -> bool:
        """Inflate `size` bytes and forget them; False when there are fewer, or too many to inflate."""
        while size:
            if self._at == len(self._data):
                self._fill(1)
            step = min(size, len(self._data) - self._at)
            if not step:
                return False
            self._at += step
            size -= step
        return True

    def _fill(self, size: int) -> None:
        parts = [self._data[self._at :]]
        self._base += self._at
        missing = min(size, self.end - self._base) - len(parts[0])
        while missing > 0 and (piece := self._piece()):
            parts.append(piece)
            missing -= len(piece)
        self._data, self._at = b"".join(parts), 0

    def _piece(self) -> bytes:
        while not self._inflater.eof:
            block = self._deflated or self._file.read(READ_BYTES)
            try:
                piece = self._inflater.decompress(block, READ_BYTES)
            except zlib.error as error:
                raise PeerError("the data set cannot be inflated") from error
            self._deflated = self._inflater.unconsumed_tail
            if piece or not block:
                return piece
        return b""
