"""STOW-RS: POST {base}/studies and {base}/studies/{study} (PS3.18 §10.5).

Takes PS3.10 files, in any transfer syntax, also those that PS3.18 §8.7.3 forbids on the web, and stores them as they
came; and metadata in JSON or XML with bulk data, which is put together first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from router.config.model import HttpConfig
from router.dicom.envelope import Source
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import DICOM_XML
from router.dicomweb.capabilities import Transaction
from router.dicomweb.media_types import DICOM, DICOM_JSON, MULTIPART_RELATED, MediaType
from router.dicomweb.metadata_parts import TooMuchMetadata
from router.dicomweb.multipart import PartLimits, PartReader
from router.errors import PeerError, StorageError
from router.ingest.door import Door, Visit
from router.store.disk import NoSpace
from router.store.spool import Spool
from router.web.accepting import STORAGE_FAILED, Acceptances, PartResult
from router.web.admission import Check, CheckedVisit, patients_only
from router.web.body import TooSlow, media_type_of, paced
from router.web.capabilities import DocumentedRoute, documented
from router.web.intake import FileIntake, Intake
from router.web.intake_metadata import COMPOSING, MetadataIntake
from router.web.problem import problem
from router.web.single_part import as_multipart
from router.web.stow_answer import RETRY_AFTER_S, answer, no_room, note
from router.web.urls import base_url, study_url

log = structlog.get_logger()

OpenSpool = Callable[[], AbstractAsyncContextManager[Spool]]
"""Gives a place for parts that must be put together: `Store.spool`."""

MAX_BODY_BYTES = 2**50
"""A Content-Length beyond it is a mistake or an attack (B50); how much is really taken, the disk decides."""

_METADATA_TYPES = (DICOM_JSON, DICOM_XML)


class _Refusal(Exception):
    """The request as such is not taken."""

    def __init__(self, response: Response):
        super().__init__()
        self.response = response


class StoreService:
    """Takes Store requests. Without `open_spool`, metadata with bulk data is not taken (415). `single_parts` are media
    types of bodies that are taken without being multipart.
    """

    def __init__(
        self,
        config: HttpConfig,
        door: Door,
        limits: PartLimits,
        open_spool: OpenSpool | None = None,
        single_parts: Sequence[str] = (),
    ):
        self._config, self._door, self._limits, self._open_spool = config, door, limits, open_spool
        self._single_parts = single_parts
        self._composing = anyio.Semaphore(COMPOSING)
        types = (DICOM, *(_METADATA_TYPES if open_spool else ()))
        self.consumes = (*single_parts, *(f'{MULTIPART_RELATED}; type="{name}"' for name in types))

    async def store(self, request: Request, check: Check = patients_only) -> Response:
        """Answer one request; `check` says which instances it may bring."""
        request = as_multipart(request, self._single_parts)
        try:
            study = _study(request)
            media_type = self._media_type(request)
            reader = self._reader(media_type)
        except _Refusal as refusal:
            return refusal.response
        if not self._door.has_room():
            return no_room()
        address = request.client.host if request.client else ""
        visit = CheckedVisit(self._door.open_visit(Source("STOW-RS", address)), check)
        try:
            return await self._receive(request, reader, media_type, visit, study, address)
        finally:
            with anyio.CancelScope(shield=True):
                await visit.close()

    async def _receive(
        self,
        request: Request,
        reader: PartReader,
        media_type: MediaType,
        visit: Visit,
        study: Uid | None,
        address: str,
    ) -> Response:
        ending, early = "", None
        results: list[PartResult] = []
        try:
            async with (
                anyio.create_task_group() as accepting,
                self._intake(request, media_type, visit, study, accepting) as intake,
            ):
                ending, early = await _take_all(request, reader, intake)
                results = intake.results
        except* NoSpace:
            ending, early = "the disk is full", no_room()
        except* StorageError as errors:  # no place could even be opened
            log.error("no place for a stow request", error=str(errors.exceptions[0]))
            ending, early = STORAGE_FAILED, _storage_failed()
        note(results, address)
        if ending:
            log.warning("stow request broke", peer=address, problem=ending)
        response = answer(request, results, ending, self._retrieve_url(request, study), early)
        log.info(
            "stow request answered",
            peer=address,
            status=response.status_code,
            stored=sum(result.stored for result in results),
            failed=sum(result.failure is not None for result in results),
        )
        return response

    @asynccontextmanager
    async def _intake(
        self, request: Request, media_type: MediaType, visit: Visit, study: Uid | None, accepting: TaskGroup
    ) -> AsyncIterator[Intake]:
        acceptances = Acceptances(study, accepting)
        metadata_type = _root_type(media_type)
        if metadata_type == DICOM:
            yield FileIntake(visit, acceptances)
            return
        assert self._open_spool is not None  # _media_type saw to it
        async with self._open_spool() as spool:
            yield MetadataIntake(
                visit,
                acceptances,
                spool,
                metadata_type=metadata_type,
                request_url=str(request.url.replace(query="")),
                composing=self._composing,
                has_room=self._door.has_room,
            )

    def _media_type(self, request: Request) -> MediaType:
        """Check what the head says of the body."""
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise _Refusal(
                problem(
                    415,
                    "Compressed bodies are not taken.",
                    where="Content-Encoding",
                    allowed="identity",
                    headers={"Accept-Encoding": "identity"},
                )
            )
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES):
            raise _Refusal(
                problem(
                    413,
                    "No request is that long.",
                    where="Content-Length",
                    allowed=f"{MAX_BODY_BYTES} bytes",
                    headers={"Connection": "close"},
                )
            )
        try:
            media_type = media_type_of(request)
        except PeerError as error:
            raise self._bad_content_type(error) from error
        if f'{media_type.name}; type="{_root_type(media_type)}"' in self.consumes:
            return media_type
        raise _Refusal(
            problem(
                415,
                "The body is neither a multipart/related of DICOM files nor one of metadata with bulk data.",
                where="Content-Type",
                allowed=self._allowed,
                next_step="Send PS3.10 files, one a part, or metadata and its bulk data parts. Archives are not taken.",
                headers={"Accept-Post": ", ".join(self.consumes)},
            )
        )

    def _reader(self, media_type: MediaType) -> PartReader:
        try:
            return PartReader(media_type.parameters.get("boundary", ""), self._limits)
        except PeerError as error:
            raise self._bad_content_type(error) from error

    def _bad_content_type(self, error: PeerError) -> _Refusal:
        detail = f"The Content-Type cannot be used: {error.problem}."
        return _Refusal(problem(400, detail, where="Content-Type", allowed=self._allowed))

    @property
    def _allowed(self) -> str:
        return ", or ".join(name if name in self._single_parts else f"{name}; boundary=…" for name in self.consumes)

    def _retrieve_url(self, request: Request, study: Uid | None) -> str:
        """Give the study's URL as the client reached us; "" when only the data sets tell the study (type 2)."""
        base = base_url(request, self._config.base_path)
        return study_url(base, study) if study is not None and base else ""


def store_routes(
    config: HttpConfig, door: Door, limits: PartLimits, open_spool: OpenSpool | None = None
) -> list[DocumentedRoute]:
    """Make the two resources of the Store transaction (Table 10.5.1-1)."""
    service = StoreService(config, door, limits, open_spool)

    def route(path: str, name: str, title: str) -> DocumentedRoute:
        transaction = Transaction(
            id=name,
            title=title,
            consumes=service.consumes,
            produces=[DICOM_JSON, DICOM_XML],
            statuses=[200, 202, 400, 408, 409, 413, 415, 503],
        )
        return documented("POST", f"{config.base_path}{path}", service.store, transaction)

    return [
        route("/studies", "storeInstances", "Store Instances"),
        route("/studies/{study}", "storeInstancesInStudy", "Store Instances in a Study"),
    ]


async def _take_all(request: Request, reader: PartReader, intake: Intake) -> tuple[str, Response | None]:
    """Bring the whole body in. Gives why it ended early, "" when it did not, and what to say then."""
    ending, early = "", None
    try:
        async for chunk in paced(request.stream()):
            for event in reader.feed(chunk):
                await intake.take(event)
        reader.finish()
        await intake.finish()
    except TooMuchMetadata as error:
        ending = error.problem
        early = problem(
            413,
            f"There is too much metadata: {ending}.",
            where="body",
            next_step="Send fewer instances a request, and long values as bulk data.",
            headers={"Connection": "close"},
        )
    except PeerError as error:
        ending = error.problem
    except StorageError as error:
        log.error("stow request could not be kept", error=str(error))
        ending = STORAGE_FAILED
        early = no_room() if isinstance(error, NoSpace) else _storage_failed()
    except TooSlow as error:
        ending = str(error)
        early = problem(408, f"The body came too slowly: {ending}.", headers={"Connection": "close"})
    except ClientDisconnect:
        ending = "the sender has gone"
    finally:
        await intake.break_off(ending or "interrupted")
    return ending, early


def _storage_failed() -> Response:
    return problem(
        503,
        "The router's disk failed; nothing was stored.",
        next_step="See the log of the router.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _root_type(media_type: MediaType) -> str:
    return media_type.parameters.get("type", "").strip().lower()


def _study(request: Request) -> Uid | None:
    study = request.path_params.get("study")
    if study is not None and not is_valid_uid(study, odd=True):
        raise _Refusal(
            problem(
                400,
                "The study in the path is not a UID.",
                where=request.url.path,
                allowed="digits and dots, 64 at most",
            )
        )
    return None if study is None else Uid(study)
