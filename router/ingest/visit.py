"""CONTRACT STUB (the owner replaces the bodies): see docs/architecture.md.

A `Visit` is one association or one STOW request; a `Reception` is one instance within it. Fronts know nothing else of the core.
"""

from __future__ import annotations

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid


class Reception:
    """One instance being received. Exactly one of `accept` and `discard` ends it."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take bytes of the data set. Raises Refused (too large, disk full) or StorageError; then call `discard`."""
        raise NotImplementedError

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        """Check, decide, make durable, journal. When it returns, the sender may hear Success.

        `study_instance_uid` is the one that the data set must have (STOW to /studies/{study}).
        Raises Refused with the status for the sender (PS3.4 Table B.2-1); the instance is then gone.
        """
        raise NotImplementedError

    async def discard(self) -> None:
        """The sender broke off: leave nothing behind. Never raises."""
        raise NotImplementedError


class Visit:
    """What one sender brings in one association or request; its send requests close with it."""

    def receive(self, declared: Declared) -> Reception:
        """Begin an instance. Raises Refused (bad UIDs, no room on the disk)."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the send requests that this visit opened. Never raises."""
        raise NotImplementedError


class Ingest:
    def open_visit(self, source: Source) -> Visit:
        raise NotImplementedError

    def has_room(self) -> bool:
        """Whether new associations and requests should be let in: free space above the floor. Cached for 200 ms."""
        raise NotImplementedError
