"""Inflate a Deflated data set (PS3.5 §A.5) as far as its header goes, within bounds (B34).

The result does not depend on how the input is cut: it is inflated in blocks that start at multiples of `BLOCK_BYTES`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

BLOCK_BYTES: Final = 512
"""One block inflates to half a megabyte at most, since deflate cannot expand more than 1032 times."""
PIECE_BYTES: Final = 64 * 1024
"""What is handed on at once: the most memory that inflating takes besides zlib's own window."""
RATIO_FREE_BYTES: Final = 1024 * 1024
"""The ratio is not judged before so much has come out: a header full of padding may well compress 500:1."""

TOO_MUCH = "it inflates to more than {limit} bytes before the header ends"
TOO_DENSE = "it inflates more than {limit} times"
BROKEN = "it cannot be inflated"


class BoundedInflater:
    """Raw deflate in, pieces of data set out. `problem` says why it stopped for good."""

    __slots__ = ("_block", "_consumed", "_max_bytes", "_max_ratio", "_produced", "_zlib", "problem")

    def __init__(self, max_bytes: int, max_ratio: int):
        self._max_bytes, self._max_ratio = max_bytes, max_ratio
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._block = bytearray()
        self._consumed = self._produced = 0
        self.problem = ""

    @property
    def ended(self) -> bool:
        """Whether the stream came to its own end."""
        return self._zlib.eof

    def feed(self, chunk: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Yield what comes out. Stop iterating when nothing more is wanted."""
        view = memoryview(chunk)
        while len(view) and not self.problem and not self._zlib.eof:
            room = BLOCK_BYTES - len(self._block)
            self._block += view[:room]
            view = view[room:]
            if len(self._block) == BLOCK_BYTES:
                yield from self._inflate_block()

    def finish(self) -> Iterator[bytes]:
        """Yield what the last, shorter block gives."""
        yield from self._inflate_block()

    def _inflate_block(self) -> Iterator[bytes]:
        block = bytes(self._block)
        self._block.clear()
        self._consumed += len(block)
        while not self.problem and not self._zlib.eof:
            try:
                piece = self._zlib.decompress(block, PIECE_BYTES)
            except zlib.error:
                self.problem = BROKEN
                return
            if not piece:
                return
            self._produced += len(piece)
            if self._produced > self._max_bytes:
                self.problem = TOO_MUCH.format(limit=self._max_bytes)
                piece = piece[: self._max_bytes - self._produced]
            elif self._produced > max(RATIO_FREE_BYTES, self._consumed * self._max_ratio):
                self.problem = TOO_DENSE.format(limit=self._max_ratio)
            yield piece
            block = self._zlib.unconsumed_tail
