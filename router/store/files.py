"""CONTRACT STUB (the owner replaces the bodies): see docs/architecture.md.

Write, flush and read instance files. Files live in `<state>/store/<shard>/<32 hex>.dcm`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid


class StoredFile(msgspec.Struct, frozen=True):
    """A finished file: `file` relative to the store, offset and size of the data set in bytes, SHA-256 of the data set."""

    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes


class Writer:
    """One instance on its way to the disk. Not durable before `flush` returned."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take data-set bytes; spills to a thread in blocks, so memory is bounded. Raises StorageError."""
        raise NotImplementedError

    async def finish(self) -> StoredFile:
        """All bytes written and the hash filled in; not yet flushed. Raises StorageError."""
        raise NotImplementedError

    async def flush(self) -> None:
        """fdatasync the file and fsync its folder (grouped with others). Raises StorageError; never retried."""
        raise NotImplementedError

    async def discard(self) -> None:
        """Forget the file and unlink it. Safe at any time before the instance is journalled; never raises."""
        raise NotImplementedError


class Store:
    """The folder of instance files."""

    root: Path

    def begin(self, declared: Declared, source: Source, received_at: float) -> Writer:
        raise NotImplementedError

    def path_of(self, file: str) -> Path:
        raise NotImplementedError
