"""Metadata and bulk data of one STOW request into the door (PS3.18 §10.5.1): each data set is put together, then taken
like any other instance.

Parts are kept in a file without a name as they arrive, metadata is read with bounds and checked at once, and nothing is
stored before the whole body is there: a bulk data part may come last. B57, B58, B62, B63.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, assert_never

import anyio
import anyio.to_thread

from router.dicom.compose import Composed, Extent, compose
from router.dicom.envelope import Declared
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dicomweb.accept import OCTET_STREAM
from router.dicomweb.media_types import DICOM_JSON, MediaType, parse_media_type
from router.dicomweb.metadata_parts import MAX_METADATA_BYTES, TooMuchMetadata, json_instances, read_xml
from router.dicomweb.multipart import BodyEnded, PartBegun, PartData, PartEnded, PartEvent
from router.errors import PeerError, Refused, StorageError
from router.ingest.door import Reception, Visit
from router.store.disk import NoSpace
from router.store.spool import Spool
from router.web.accepting import CANNOT_UNDERSTAND, Acceptances, PartResult
from router.web.bulk_references import BulkReferences, ReceivedBulk
from router.web.intake import encoded_problem

COMPOSING = 2
"""Requests whose metadata is in memory at once; some 100 MiB each at the worst."""
MAX_INSTANCES = 10_000
"""Of one request, as many as there may be parts: the answer names each in some 300 bytes."""
CHUNK_BYTES = 256 * 1024
"""Bulk data is passed on in pieces of this size."""
ROOM_CHECK_BYTES = 64 * 1024**2
"""Kept between two looks at the free space (D7)."""

_SOP_CLASS_UID, _SOP_INSTANCE_UID = "00080016", "00080018"


@dataclass(slots=True)
class _Metadata:
    """A metadata part: where it is kept, and the instances in it, in their order."""

    extent: Extent
    results: list[PartResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Arriving:
    """The part that is arriving."""

    offset: int
    media_type: MediaType
    location: str
    problem: str


class MetadataIntake:
    """`metadata_type` is the type parameter of the request: application/dicom+json or …+xml. `composing` is shared by
    all requests; `has_room` says whether the disk has room for more.
    """

    def __init__(
        self,
        visit: Visit,
        acceptances: Acceptances,
        spool: Spool,
        *,
        metadata_type: str,
        request_url: str,
        composing: anyio.Semaphore,
        has_room: Callable[[], bool],
    ):
        self._visit, self._acceptances, self._spool = visit, acceptances, spool
        self._type, self._composing, self._has_room = metadata_type, composing, has_room
        self._bulk = BulkReferences(request_url)
        self._metadata: list[_Metadata] = []
        self._others: list[PartResult] = []
        self._arriving: _Arriving | None = None
        self._next_room_check = ROOM_CHECK_BYTES

    @property
    def results(self) -> list[PartResult]:
        """One for each instance, then one for what belongs to none."""
        return [result for part in self._metadata for result in part.results] + self._others

    async def take(self, event: PartEvent) -> None:
        """Take one event. Raises PeerError (TooMuchMetadata) and StorageError (NoSpace): the request is lost."""
        match event:
            case PartBegun(headers):
                self._arriving = self._begin(headers)
            case PartData(data):
                await self._keep(data)
            case PartEnded():
                arriving, self._arriving = self._arriving, None
                assert arriving is not None
                await self._end(arriving)
            case BodyEnded():
                pass
            case _:
                assert_never(event)

    async def break_off(self, reason: str) -> None:
        """Nothing was stored, nothing is left to undo."""

    async def finish(self) -> None:
        """Put the instances together and begin to accept them."""
        await self._spool.settle()
        async with self._composing:
            for part in self._metadata:
                await self._store_all(part)
        instances = (result for part in self._metadata for result in part.results)
        if all(result.failure is None for result in instances):  # else it may be that of one that failed
            self._others += [
                PartResult(failure=CANNOT_UNDERSTAND, reason="bulk data that no metadata refers to")
                for _ in range(self._bulk.unused())
            ]

    def _begin(self, headers: Any) -> _Arriving:
        content_type = headers.get("content-type", OCTET_STREAM if self._metadata else self._type)
        problem = encoded_problem(headers)
        try:
            media_type = parse_media_type(content_type)
        except PeerError as error:
            media_type, problem = MediaType("", {}), f"Content-Type of a part: {error.problem}"
        if not self._metadata and (media_type.name != self._type or problem):
            raise PeerError(problem or f"its first part is not {self._type}")
        return _Arriving(self._spool.size, media_type, headers.get("content-location", ""), problem)

    async def _keep(self, data: bytes | memoryview) -> None:
        arriving = self._arriving
        assert arriving is not None
        if self._is_metadata(arriving) and self._spool.size + len(data) - arriving.offset > MAX_METADATA_BYTES:
            raise TooMuchMetadata(f"a metadata part of more than {MAX_METADATA_BYTES} bytes")
        if self._spool.size > self._next_room_check:
            self._next_room_check = self._spool.size + ROOM_CHECK_BYTES
            if not self._has_room():
                raise NoSpace("disk is full")
        await self._spool.write(data)

    async def _end(self, arriving: _Arriving) -> None:
        extent = Extent(arriving.offset, self._spool.size - arriving.offset)
        if self._is_metadata(arriving):
            part = _Metadata(extent)
            self._metadata.append(part)
            await self._spool.settle()
            async with self._composing:
                part.results = await anyio.to_thread.run_sync(self._examine, extent)
            if len(self.results) > MAX_INSTANCES:
                raise TooMuchMetadata(f"more than {MAX_INSTANCES} instances in one request")
        elif arriving.location:
            self._bulk.add(arriving.location, ReceivedBulk(arriving.media_type, extent, arriving.problem))
        else:
            self._others.append(PartResult(failure=CANNOT_UNDERSTAND, reason="bulk data without a Content-Location"))

    def _is_metadata(self, arriving: _Arriving) -> bool:
        return arriving.media_type.name == self._type

    def _examine(self, extent: Extent) -> list[PartResult]:
        """Read a metadata part to its end. JSON that is none makes the whole request useless. Runs on a thread."""
        try:
            return [_examined(data_set) for data_set in self._instances(extent)]
        except TooMuchMetadata:
            raise
        except PeerError as error:
            if self._type == DICOM_JSON:
                raise
            return [PartResult(failure=CANNOT_UNDERSTAND, reason=error.problem, unreadable=True)]

    def _instances(self, extent: Extent) -> Iterator[dict[str, Any]]:
        document = self._spool.read_now(extent.offset, extent.length)
        if self._type == DICOM_JSON:
            yield from json_instances(document)
        else:
            yield read_xml(document)

    async def _store_all(self, part: _Metadata) -> None:
        if all(result.failure is not None for result in part.results):
            return
        instances = self._instances(part.extent)
        for result in part.results:
            try:
                composed = await anyio.to_thread.run_sync(self._compose_next, instances, result)
                if composed is not None:
                    await self._store(result, composed)
            except (Refused, StorageError) as error:
                result.fail(error)

    def _compose_next(self, instances: Iterator[dict[str, Any]], result: PartResult) -> Composed | None:
        """Put the next instance together; None when it has failed already. Runs on a thread."""
        data_set = next(instances, None)
        if data_set is None:
            raise StorageError("metadata that was kept cannot be read again")
        if result.failure is not None:
            return None
        return compose(data_set, lambda uri, tag: self._bulk.find(uri, tag, self._spool.read_now))

    async def _store(self, result: PartResult, composed: Composed) -> None:
        """Receive it, as if it had come as a file. Raises Refused, StorageError."""
        declared = result.declared
        assert declared is not None  # _examined saw to it
        uid = declared.sop_instance_uid
        result.declared = declared = Declared(declared.sop_class_uid, uid, composed.transfer_syntax_uid)
        reception = self._visit.receive(declared)
        try:
            await self._write(reception, composed)
            await self._acceptances.wait_for_place(uid)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await reception.discard()
            raise
        self._acceptances.begin(result, reception, uid)

    async def _write(self, reception: Reception, composed: Composed) -> None:
        for piece in composed.pieces:
            if isinstance(piece, bytes):
                for at in range(0, len(piece), CHUNK_BYTES):
                    await reception.write(piece[at : at + CHUNK_BYTES])
                continue
            async with aclosing(self._read(piece)) as chunks:
                async for chunk in chunks:
                    await reception.write(chunk)

    async def _read(self, extent: Extent) -> Any:
        at, end = extent.offset, extent.offset + extent.length
        while at < end:
            chunk = await self._spool.read(at, min(CHUNK_BYTES, end - at))
            if not chunk:
                raise StorageError("bulk data that was kept is not there")
            at += len(chunk)
            yield chunk


def _examined(data_set: dict[str, Any]) -> PartResult:
    """Say which instance it is."""
    sop_class, sop_instance = _uid(data_set, _SOP_CLASS_UID), _uid(data_set, _SOP_INSTANCE_UID)
    if not sop_class or not sop_instance:
        missing = "Instance" if sop_class else "Class"
        return PartResult(failure=CANNOT_UNDERSTAND, reason=f"the metadata has no SOP {missing} UID")
    return PartResult(Declared(sop_class, sop_instance, EXPLICIT_VR_LITTLE_ENDIAN))


def _uid(data_set: dict[str, Any], tag: str) -> Uid:
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and len(values) == 1 else ""
    return Uid(value.strip(" \0")) if isinstance(value, str) else Uid("")
