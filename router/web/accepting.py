"""What became of the instances of one STOW request, and making them durable side by side, but not without bound."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskGroup

from router.dicom.envelope import Declared
from router.dicom.uids import Uid
from router.errors import Refused, StorageError
from router.ingest.door import Reception

log = structlog.get_logger()

OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
"""Failure Reasons (PS3.18 Table I.2-2)."""

STORAGE_FAILED = "the router could not store it"

MAX_ACCEPTING = 16
"""Instances of one request that are being made durable at once: enough to fill a group commit."""


@dataclass(slots=True)
class PartResult:
    """What became of one instance. `declared` is None when it could not be told; `failure` is the Failure Reason."""

    declared: Declared | None = None
    stored: bool = False
    failure: int | None = None
    reason: str = ""
    wrong_media_type: bool = False
    unreadable: bool = False
    """It is not even what its media type says: bad syntax, not a conflict (PS3.18 Table 10.5.3-1)."""

    def fail(self, error: Refused | StorageError) -> None:
        """Say why it is not stored. What a disk says is for our log only: it names paths."""
        if isinstance(error, Refused):
            self.failure, self.reason = error.status, error.reason
            return
        log.error("instance could not be stored", error=str(error))
        self.failure, self.reason = OUT_OF_RESOURCES, STORAGE_FAILED


class Acceptances:
    """Accepts receptions while the next ones arrive: flushes and commits are shared. One SOP Instance UID keeps its
    order (D6).
    """

    def __init__(self, study_instance_uid: Uid | None, tasks: TaskGroup):
        self._study, self._tasks = study_instance_uid, tasks
        self._under_way: set[Uid] = set()
        self._freed = anyio.Event()

    async def wait_for_place(self, uid: Uid) -> None:
        """Wait until this instance may be accepted."""
        while uid in self._under_way or len(self._under_way) >= MAX_ACCEPTING:
            self._freed = anyio.Event()
            await self._freed.wait()

    def begin(self, result: PartResult, reception: Reception, uid: Uid) -> None:
        """Accept a reception that has a place. `result` is complete when the task group has ended."""
        self._under_way.add(uid)
        self._tasks.start_soon(self._accept, result, reception, uid)

    async def _accept(self, result: PartResult, reception: Reception, uid: Uid) -> None:
        try:
            with anyio.CancelScope(shield=True):  # it takes a flush and a commit, and what is journalled is wanted
                await reception.accept(study_instance_uid=self._study)
            result.stored = True
        except (Refused, StorageError) as error:
            result.fail(error)
        finally:
            self._under_way.discard(uid)
            self._freed.set()
