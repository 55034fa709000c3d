"""STOW-RS: POST {base}/studies and {base}/studies/{study} with multipart/related of application/dicom (PS3.18 §10.5).

Takes any transfer syntax, also those that PS3.18 §8.7.3 forbids on the web, and stores it as it came. Metadata with
bulk data is not taken here (415).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from router.config.model import HttpConfig
from router.dicom.envelope import Source
from router.dicom.transfer_syntax import is_web_transferable
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.media_types import DICOM, DICOM_JSON, MULTIPART_RELATED, parse_media_type
from router.dicomweb.multipart import PartLimits, PartReader
from router.dicomweb.store_response import FailedInstance, StoredInstance, encode_store_response
from router.errors import PeerError
from router.ingest.door import Door, Visit
from router.web.body import TooSlow, paced
from router.web.intake import CANNOT_UNDERSTAND, Intake, PartResult
from router.web.problem import problem

log = structlog.get_logger()

RETRY_AFTER_S = 60
"""When to come again while the disk is full: somebody has to make room first."""

_ALLOWED = f'{MULTIPART_RELATED}; type="{DICOM}"; boundary=…'
_HOST = re.compile(r"[0-9A-Za-z.\-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?", re.ASCII)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


class _Refusal(Exception):
    """The request as such is not taken."""

    def __init__(self, response: Response):
        super().__init__()
        self.response = response


def store_instances(config: HttpConfig, door: Door, limits: PartLimits) -> Callable[[Request], Awaitable[Response]]:
    """Make the endpoint of both resources."""

    async def endpoint(request: Request) -> Response:
        try:
            study = _study(request)
            reader = _reader(request, limits)
        except _Refusal as refusal:
            return refusal.response
        if not door.has_room():
            return _no_room()
        address = request.client.host if request.client else ""
        visit = door.open_visit(Source("STOW-RS", address))
        try:
            return await _receive(request, reader, visit, study, address, _retrieve_url(request, config, study))
        finally:
            with anyio.CancelScope(shield=True):
                await visit.close()

    return endpoint


async def _receive(
    request: Request, reader: PartReader, visit: Visit, study: Uid | None, address: str, retrieve_url: str
) -> Response:
    ending, early = "", None
    async with anyio.create_task_group() as accepting:
        intake = Intake(visit, study, accepting)
        try:
            async for chunk in paced(request.stream()):
                for event in reader.feed(chunk):
                    await intake.take(event)
            reader.finish()
        except PeerError as error:
            ending = error.problem
        except TooSlow as error:
            ending = str(error)
            early = problem(408, f"The body came too slowly: {ending}.", headers={"Connection": "close"})
        except ClientDisconnect:
            ending = "the sender has gone"
        finally:
            await intake.break_off(ending or "interrupted")
    _note(intake.results, address)
    if ending:
        log.warning("stow request broke", peer=address, problem=ending)
    response = _answer(intake.results, ending, retrieve_url, early)
    log.info(
        "stow request answered",
        peer=address,
        status=response.status_code,
        stored=sum(result.stored for result in intake.results),
        failed=sum(result.failure is not None for result in intake.results),
    )
    return response


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


def _reader(request: Request, limits: PartLimits) -> PartReader:
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
    values = request.headers.getlist("content-type")
    try:
        if len(values) > 1:
            raise PeerError("there is more than one")
        media_type = parse_media_type(values[0]) if values else None
        if (
            media_type is not None
            and media_type.name == MULTIPART_RELATED
            and media_type.parameters.get("type", "").lower() == DICOM
        ):
            return PartReader(media_type.parameters.get("boundary", ""), limits)
    except PeerError as error:
        raise _Refusal(
            problem(400, f"The Content-Type cannot be used: {error.problem}.", where="Content-Type", allowed=_ALLOWED)
        ) from error
    raise _Refusal(
        problem(
            415,
            "The body is not a multipart/related of DICOM files.",
            where="Content-Type",
            allowed=_ALLOWED,
            next_step="Send PS3.10 files, one a part. Metadata with bulk data (JSON, XML) and archives are not taken.",
            headers={"Accept-Post": f'{MULTIPART_RELATED}; type="{DICOM}"'},
        )
    )


def _answer(results: list[PartResult], ending: str, retrieve_url: str, early: Response | None) -> Response:
    """Say what became of the parts (PS3.18 Table 10.5.3-1). A broken body leaves stored what was stored (B57)."""
    stored = [result for result in results if result.stored]
    failed = [result for result in results if result.failure is not None]
    if stored:
        return _module(202 if failed or ending else 200, results, ending, retrieve_url)
    if early is not None:
        return early
    if ending:
        return problem(
            400,
            f"The body cannot be read: {ending}.",
            where="body",
            next_step="Nothing was stored; send it again whole.",
        )
    if not failed:
        return problem(400, "The body has no part.", where="body", allowed="one part or more")
    if all(result.wrong_media_type for result in failed):
        return problem(
            415, f"Nothing was stored: {failed[0].reason}.", where="part head", allowed=f"Content-Type: {DICOM}"
        )
    if all(result.failure in _OUT_OF_RESOURCES for result in failed):
        return _module(503, results, ending, retrieve_url)
    return _module(409, results, ending, retrieve_url)


def _module(status: int, results: list[PartResult], ending: str, retrieve_url: str) -> Response:
    stored, failed, others = [], [], []
    for result in results:
        declared = result.declared
        if result.failure is not None and declared is None:
            others.append(result.failure)
        elif result.failure is not None and declared is not None:
            failed.append(FailedInstance(declared.sop_class_uid, declared.sop_instance_uid, result.failure))
        elif declared is not None:
            stored.append(StoredInstance(declared.sop_class_uid, declared.sop_instance_uid))
    if ending and not failed and not others:
        others.append(CANNOT_UNDERSTAND)
    content = encode_store_response(retrieve_url=retrieve_url, stored=stored, failed=failed, other_failures=others)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    if reason := next((result.reason for result in results if result.reason), ending):
        headers["Warning"] = f'299 sendrs "{_header_text(reason)}"'
    return Response(content, status_code=status, headers=headers, media_type=DICOM_JSON)


def _no_room() -> Response:
    return problem(
        503,
        "The disk is nearly full; nothing is taken until there is room.",
        next_step=f"Send it again after {RETRY_AFTER_S} s.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _retrieve_url(request: Request, config: HttpConfig, study: Uid | None) -> str:
    """Give the study's URL as the client reached us; "" when only the data sets tell the study (type 2)."""
    host = request.headers.get("host", "")
    if study is None or not _HOST.fullmatch(host):
        return ""
    return f"{request.url.scheme}://{host}{config.base_path}/studies/{study}"


def _note(results: list[PartResult], address: str) -> None:
    not_for_the_web = 0
    for result in results:
        declared = result.declared
        if result.failure is not None:
            log.warning(
                "instance refused",
                peer=address,
                sop_instance_uid="" if declared is None else declared.sop_instance_uid,
                status=f"{result.failure:04X}H",
                reason=result.reason,
            )
        elif declared is not None:
            not_for_the_web += not is_web_transferable(declared.transfer_syntax_uid)
    if not_for_the_web:
        log.info("instances in a transfer syntax not meant for the web", peer=address, instances=not_for_the_web)


def _header_text(text: str) -> str:
    return re.sub(r"[^ !#-\[\]-~]", "?", text)[:200]
