"""The parts of one STOW request into the door: each part a reception, each with what became of it.

A part is written as it arrives. Making it durable goes on while the next ones arrive: flushes and commits are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, assert_never

import anyio

from router.dicom.part10 import PrefaceReader
from router.dicomweb.media_types import DICOM, parse_media_type
from router.dicomweb.multipart import BodyEnded, PartBegun, PartData, PartEnded, PartEvent
from router.errors import PeerError, Refused, StorageError
from router.ingest.door import Reception, Visit
from router.web.accepting import CANNOT_UNDERSTAND, Acceptances, PartResult

_PLAIN_ENCODINGS = ("", "binary", "8bit", "7bit", "identity")


class Intake(Protocol):
    """Takes part events in their order."""

    @property
    def results(self) -> list[PartResult]:
        """One for each instance; complete when the task group of the acceptances has ended."""

    async def take(self, event: PartEvent) -> None:
        """Take one event. Raises PeerError when the body as a whole is of no use, StorageError when it has no place."""

    async def finish(self) -> None:
        """All has come."""

    async def break_off(self, reason: str) -> None:
        """The body broke or its sender has gone. Does nothing after `finish`."""


@dataclass(slots=True)
class _Part:
    """The part that is arriving."""

    result: PartResult
    preface: PrefaceReader = field(default_factory=PrefaceReader)
    reception: Reception | None = None


class FileIntake:
    """Takes PS3.10 files, one a part. What is wrong with a part ends in its result."""

    def __init__(self, visit: Visit, acceptances: Acceptances):
        self.results: list[PartResult] = []
        self._visit, self._acceptances = visit, acceptances
        self._part: _Part | None = None

    async def take(self, event: PartEvent) -> None:
        """Take one event."""
        match event:
            case PartBegun(headers):
                result = PartResult()
                self.results.append(result)
                self._part = _Part(result)
                if problem := _wrong_head(headers):
                    result.wrong_media_type = True
                    await self._fail(Refused(CANNOT_UNDERSTAND, problem))
            case PartData(data):
                await self._write(data)
            case PartEnded():
                await self._end()
            case BodyEnded():
                pass
            case _:
                assert_never(event)

    async def finish(self) -> None:
        """Nothing is left to do: parts were taken as they came."""

    async def break_off(self, reason: str) -> None:
        """The part in hand is lost."""
        if self._part is not None and self._part.result.failure is None:
            await self._fail(Refused(CANNOT_UNDERSTAND, reason))
        self._part = None

    async def _write(self, data: bytes | memoryview) -> None:
        part = self._part
        if part is None or part.result.failure is not None:
            return
        try:
            data_set = part.preface.feed(data)
            if data_set:
                await self._reception(part).write(data_set)
        except (Refused, StorageError) as error:
            await self._fail(error)

    async def _end(self) -> None:
        part = self._part
        if part is None or part.result.failure is not None:
            return
        try:
            part.preface.finish()
            reception = self._reception(part)
        except Refused as error:
            await self._fail(error)
            return
        assert part.result.declared is not None  # _reception saw to it
        uid = part.result.declared.sop_instance_uid
        await self._acceptances.wait_for_place(uid)
        self._part = None
        self._acceptances.begin(part.result, reception, uid)

    def _reception(self, part: _Part) -> Reception:
        if part.reception is None:
            declared = part.result.declared = part.preface.declared
            if declared is None:
                raise Refused(CANNOT_UNDERSTAND, "the part has no File Meta Information")
            part.reception = self._visit.receive(declared)
        return part.reception

    async def _fail(self, error: Refused | StorageError) -> None:
        part = self._part
        assert part is not None
        part.result.declared = part.preface.declared
        part.result.fail(error)
        if part.reception is not None:
            reception, part.reception = part.reception, None
            with anyio.CancelScope(shield=True):
                await reception.discard()


def encoded_problem(headers: Mapping[str, str]) -> str:
    """Say that the bytes of a part are wrapped in an encoding that is not undone here; "" when they are not."""
    for name in ("content-transfer-encoding", "content-encoding"):
        if headers.get(name, "").lower() not in _PLAIN_ENCODINGS:
            return f"a part has a {name}, which is not undone here"
    return ""


def _wrong_head(headers: Mapping[str, str]) -> str:
    """Say why a part cannot be an instance; "" when it can. Without a Content-Type it is what the request says."""
    content_type = headers.get("content-type", DICOM)
    try:
        media_type = parse_media_type(content_type).name
    except PeerError as error:
        return f"Content-Type of a part: {error.problem}"
    if media_type != DICOM:
        return f"a part is {media_type}, not {DICOM}"
    return encoded_problem(headers)
