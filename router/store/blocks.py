"""Blocks of an instance in memory: gathered from chunks as they come, on the event loop; written by a thread."""

from __future__ import annotations

import mmap
from typing import Final

BLOCK_BYTES: Final = 256 * 1024
"""Gathered before a thread is troubled. Smaller blocks begin sooner and cost more changes between threads: 64 and 128
KiB were not faster.
"""
SLAB_FROM_BYTES: Final = 64 * 1024
"""Up to here an instance is gathered in memory of its own size, beyond in slabs."""
KEPT_SLABS: Final = 16
"""Slabs kept for those who come next; more are made, and let go, while many large instances come in at once."""


class Slabs:
    """Memory for blocks, used again and again, so that none is asked of the system, and filled with zeros by it, for
    each large instance. For any thread.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def take(self) -> mmap.mmap:
        """Give BLOCK_BYTES of memory; what is in it is left from somebody else."""
        try:
            return self._free.pop()
        except IndexError:
            return mmap.mmap(-1, BLOCK_BYTES)

    def give_back(self, block: memoryview) -> None:
        """Take back the slab that a block lies in, if it is one; nobody may look at the block any more."""
        slab = block.obj
        block.release()
        if isinstance(slab, mmap.mmap) and len(self._free) < KEPT_SLABS:
            self._free.append(slab)


class Gathering:
    """The bytes of one instance that no thread has yet."""

    __slots__ = ("_filled", "_slab", "_slabs", "_small")

    def __init__(self, beginning: bytes, slabs: Slabs):
        self._slabs = slabs
        self._small: bytearray | None = bytearray(beginning)
        self._slab: memoryview | None = None
        self._filled = 0

    def add(self, chunk: bytes | bytearray | memoryview) -> memoryview | None:
        """Copy a chunk; give what of it did not fit: then there is a whole block to `take`. None when all of it did."""
        slab = self._slab
        if slab is None:
            if self._small is not None and len(self._small) + len(chunk) <= SLAB_FROM_BYTES:
                self._small += chunk
                return None
            slab = self._use_slab()
        filled = self._filled
        room = BLOCK_BYTES - filled
        if len(chunk) <= room:
            self._filled = filled + len(chunk)
            slab[filled : self._filled] = chunk
            return None
        view = memoryview(chunk)
        slab[filled:] = view[:room]
        self._filled = BLOCK_BYTES
        return view[room:]

    def take(self) -> memoryview:
        """Give what was gathered: a whole block, or at the end less. What follows is gathered anew."""
        slab, self._slab = self._slab, None
        if slab is None:
            block, self._small = memoryview(self._small or bytearray()), None
        else:
            block, self._filled = slab[: self._filled], 0
            slab.release()
        return block

    def drop(self) -> None:
        """Let go of what was gathered."""
        self._slabs.give_back(self.take())

    def _use_slab(self) -> memoryview:
        small, self._small = self._small or b"", None
        slab = self._slab = memoryview(self._slabs.take())
        self._filled = len(small)
        slab[: len(small)] = small
        return slab
