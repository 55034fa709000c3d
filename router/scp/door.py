"""What the DIMSE front asks of whoever takes the instances: `router.ingest` in the daemon, a folder in the demo's
receiver.
"""

from __future__ import annotations

from typing import Protocol

from router.dicom.envelope import Declared, Source


class Reception(Protocol):
    """One instance being received. Exactly one of `accept` and `discard` ends it."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take bytes of the data set; the view holds only until this returns. Raises Refused or StorageError."""

    async def accept(self) -> None:
        """Make it durable: when this returns the sender hears Success. Raises Refused or StorageError; the instance is
        then gone.
        """

    async def discard(self) -> None:
        """Leave nothing behind. Never raises."""


class Visit(Protocol):
    """What one association brings."""

    def receive(self, declared: Declared) -> Reception:
        """Begin an instance. Raises Refused."""

    async def close(self) -> None:
        """The association is over. Never raises."""


class Door(Protocol):
    """The way in."""

    def open_visit(self, source: Source) -> Visit: ...

    def has_room(self) -> bool:
        """Whether new associations should be let in."""
