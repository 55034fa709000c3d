"""What a lane asks of a courier: carry these instances, say what became of each. The whole interface.

A courier never touches the journal, never decides about a retry and never raises for one instance: it reports. What concerns the
destination as such is raised from `deliver` as `Transient` or `Misconfigured`; deliveries not reported by then were not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from router.journal.records import Delivery


class Verdict(StrEnum):
    """What one answer means for one instance (reliability-study D12)."""

    COMPLETED = "completed"
    WARNING = "warning"
    """Stored, with something a person should see."""
    DESTINATION = "destination"
    """Their trouble: try again, blame the destination."""
    INSTANCE = "instance"
    """This instance's trouble: try again three times within an hour, then park it."""
    NEVER = "never"
    """It can never work: park it at once."""
    UNCERTAIN = "uncertain"
    """Sent whole, answer unknown: send it again."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one delivery. `status` is the DIMSE status, Failure Reason or HTTP status; `reason` the peer's words, bounded."""

    delivery: Delivery
    verdict: Verdict
    status: int | None = None
    reason: str = ""
    retry_after_s: float | None = None


Report = Callable[[Outcome], Awaitable[None]]


class Session(Protocol):
    """One association or HTTP connection, reused for batch after batch. Connects when first used."""

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Send `batch` in order and report each. Raises Transient or Misconfigured; what was not reported was not taken."""
        ...

    async def aclose(self) -> None:
        """Release and close; never raises, never takes longer than a few seconds."""
        ...


class Courier(Protocol):
    """Knows how to talk to one destination."""

    batch_instances: int
    """Most deliveries a lane should hand over at once."""
    batch_bytes: int
    sessions: int
    """Most sessions at once."""
    idle_s: float
    """A session without work is closed after so long."""

    def session(self) -> Session: ...

    async def probe(self) -> None:
        """Ask whether the destination is there and wants us (C-ECHO, OPTIONS). Raises Transient or Misconfigured."""
        ...
