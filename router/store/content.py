"""The bytes of one instance as they go into its file: hashed, written, sealed. On a thread, one call at a time."""

from __future__ import annotations

import hashlib
from typing import Final

from router.dicom.part10 import Preface
from router.store.disk import Disk, pwrite_all

SYNC_BYTES: Final = 64 * 1024**2
"""A large instance is flushed every so often while it comes in, so that its answer does not wait for gigabytes at
the end.
"""


class Content:
    """Any number of whole blocks to `write`, then the last one to `seal`. Every method raises OSError."""

    __slots__ = ("_at", "_disk", "_fd", "_hash", "_preface", "_unsynced")

    def __init__(self, preface: Preface, disk: Disk, fd: int):
        self._preface, self._disk, self._fd = preface, disk, fd
        self._hash = hashlib.sha256()
        self._at = 0
        self._unsynced = 0

    def write(self, block: memoryview) -> None:
        """Write a whole block and have the system send it on to the disk; more will follow."""
        at = self._at
        self._hash_block(block)
        self._append(block)
        self._unsynced += len(block)
        if self._unsynced >= SYNC_BYTES:
            self._unsynced = 0
            self._disk.fdatasync(self._fd)
        else:
            self._disk.start_writing_back(self._fd, at, len(block))

    def seal(self, block: memoryview) -> tuple[int, bytes]:
        """Write the last block, which may be empty, and what says that the file is whole: in memory while nothing was
        written, else in the file. Give size and SHA-256 of the data set.
        """
        self._hash_block(block)
        size, digest = self._at + len(block) - len(self._preface.data), self._hash.digest()
        place, seal = self._preface.seal(size, digest)
        if not self._at:
            block[place : place + len(seal)] = seal
            self._append(block)
        else:
            self._append(block)
            pwrite_all(self._disk, self._fd, seal, place)
        return size, digest

    def _hash_block(self, block: memoryview) -> None:
        self._hash.update(block if self._at else block[len(self._preface.data) :])  # the preface is not part of it

    def _append(self, block: memoryview) -> None:
        pwrite_all(self._disk, self._fd, block, self._at)
        self._at += len(block)
