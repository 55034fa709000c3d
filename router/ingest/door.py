"""The door as both fronts see it: what they ask of whoever takes the instances.

`ingest.visit.Ingest` is the door in the daemon; the demo's receivers put a folder in its place.
"""

from __future__ import annotations

from typing import Protocol

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid


class Reception(Protocol):
    """One instance being received. Exactly one of `accept` and `discard` ends it."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take bytes of the data set; the view holds only until this returns. Raises Refused or StorageError."""

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        """Make it durable: when this returns, the sender may hear Success.

        `study_instance_uid` is the one that it must have. Raises Refused or StorageError; the instance is then gone.
        """

    async def discard(self) -> None:
        """Leave nothing behind. Never raises."""


class Visit(Protocol):
    """What one association or request brings."""

    def receive(self, declared: Declared) -> Reception:
        """Begin an instance. Raises Refused."""

    async def close(self) -> None:
        """The association or request is over. Never raises."""


class Door(Protocol):
    """The way in."""

    def open_visit(self, source: Source) -> Visit:
        """Begin what one sender brings."""

    def has_room(self) -> bool:
        """Whether new associations and requests should be let in."""
