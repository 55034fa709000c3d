"""The parts of one STOW request into the door: each part a reception, each with what became of it.

A part is written as it arrives. Making it durable goes on while the next ones arrive: flushes and commits are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

import anyio
import structlog
from anyio.abc import TaskGroup

from router.dicom.envelope import Declared
from router.dicom.part10 import PrefaceReader
from router.dicom.uids import Uid
from router.dicomweb.media_types import DICOM, parse_media_type
from router.dicomweb.multipart import BodyEnded, PartBegun, PartData, PartEnded, PartEvent
from router.errors import PeerError, Refused, StorageError
from router.ingest.door import Reception, Visit

log = structlog.get_logger()

OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
"""Failure Reasons (PS3.18 Table I.2-2)."""

STORAGE_FAILED = "the router could not store it"

MAX_ACCEPTING = 16
"""Instances of one request that are being made durable at once: enough to fill a group commit."""

_PLAIN_ENCODINGS = ("", "binary", "8bit", "7bit", "identity")


@dataclass(slots=True)
class PartResult:
    """What became of one part. `declared` is None when it could not be told; `failure` is the Failure Reason."""

    declared: Declared | None = None
    stored: bool = False
    failure: int | None = None
    reason: str = ""
    wrong_media_type: bool = False


@dataclass(slots=True)
class _Part:
    """The part that is arriving."""

    result: PartResult
    preface: PrefaceReader = field(default_factory=PrefaceReader)
    reception: Reception | None = None


class Intake:
    """Takes part events in their order. `results` are complete when `accepting`, the task group, has ended."""

    def __init__(self, visit: Visit, study_instance_uid: Uid | None, accepting: TaskGroup):
        self.results: list[PartResult] = []
        self._visit, self._study, self._tasks = visit, study_instance_uid, accepting
        self._part: _Part | None = None
        self._accepting: set[Uid] = set()
        self._freed = anyio.Event()

    async def take(self, event: PartEvent) -> None:
        """Take one event. What is wrong with a part ends in its result."""
        match event:
            case PartBegun(headers):
                result = PartResult()
                self.results.append(result)
                self._part = _Part(result)
                if problem := _wrong_head(headers):
                    result.wrong_media_type = True
                    await self._fail(CANNOT_UNDERSTAND, problem)
            case PartData(data):
                await self._write(data)
            case PartEnded():
                await self._end()
            case BodyEnded():
                pass
            case _:
                assert_never(event)

    async def break_off(self, reason: str) -> None:
        """The body broke or its sender has gone: the part in hand is lost."""
        if self._part is not None and self._part.result.failure is None:
            await self._fail(CANNOT_UNDERSTAND, reason)
        self._part = None

    async def _write(self, data: bytes | memoryview) -> None:
        part = self._part
        if part is None or part.result.failure is not None:
            return
        try:
            data_set = part.preface.feed(data)
            if data_set:
                await self._reception(part).write(data_set)
        except Refused as error:
            await self._fail(error.status, error.reason)
        except StorageError as error:
            _note_storage(error)
            await self._fail(OUT_OF_RESOURCES, STORAGE_FAILED)

    async def _end(self) -> None:
        part = self._part
        if part is None or part.result.failure is not None:
            return
        try:
            part.preface.finish()
            reception = self._reception(part)
        except Refused as error:
            await self._fail(error.status, error.reason)
            return
        assert part.result.declared is not None  # _reception saw to it
        uid = part.result.declared.sop_instance_uid
        while uid in self._accepting or len(self._accepting) >= MAX_ACCEPTING:  # one UID keeps its order (D6)
            self._freed = anyio.Event()
            await self._freed.wait()
        self._part = None
        self._accepting.add(uid)
        self._tasks.start_soon(self._accept, part.result, reception, uid)

    async def _accept(self, result: PartResult, reception: Reception, uid: Uid) -> None:
        try:
            with anyio.CancelScope(shield=True):  # it takes a flush and a commit, and what is journalled is wanted
                await reception.accept(study_instance_uid=self._study)
            result.stored = True
        except Refused as error:
            result.failure, result.reason = error.status, error.reason
        except StorageError as error:
            _note_storage(error)
            result.failure, result.reason = OUT_OF_RESOURCES, STORAGE_FAILED
        finally:
            self._accepting.discard(uid)
            self._freed.set()

    def _reception(self, part: _Part) -> Reception:
        if part.reception is None:
            declared = part.result.declared = part.preface.declared
            if declared is None:
                raise Refused(CANNOT_UNDERSTAND, "the part has no File Meta Information")
            part.reception = self._visit.receive(declared)
        return part.reception

    async def _fail(self, failure: int, reason: str) -> None:
        part = self._part
        assert part is not None
        part.result.declared = part.preface.declared
        part.result.failure, part.result.reason = failure, reason
        if part.reception is not None:
            reception, part.reception = part.reception, None
            with anyio.CancelScope(shield=True):
                await reception.discard()


def _note_storage(error: StorageError) -> None:
    log.error("instance could not be stored", error=str(error))  # says paths: for our log only


def _wrong_head(headers: Mapping[str, str]) -> str:
    """Say why a part cannot be an instance; "" when it can. Without a Content-Type it is what the request says."""
    content_type = headers.get("content-type", DICOM)
    try:
        media_type = parse_media_type(content_type).name
    except PeerError as error:
        return f"Content-Type of a part: {error.problem}"
    if media_type != DICOM:
        return f"a part is {media_type}, not {DICOM}"
    for name in ("content-transfer-encoding", "content-encoding"):
        if headers.get(name, "").lower() not in _PLAIN_ENCODINGS:
            return f"a part has a {name}, which is not undone here"
    return ""
