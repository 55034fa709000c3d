"""What a Store request is answered with (PS3.18 §10.5.3, Table 10.5.3-1): one module for all its instances, or why not.

The module is one JSON object under a bare application/dicom+json, which is what clients read (B.3); in XML for those
that ask for that and not for JSON.
"""

from __future__ import annotations

import re

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from router.dicom.json_model import JsonDataSet
from router.dicom.transfer_syntax import is_web_transferable
from router.dicomweb.accept import DICOM_XML, MixedTypes, NotAcceptable, Offer
from router.dicomweb.media_types import DICOM_JSON
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.store_response import FailedInstance, StoredInstance, store_response
from router.web.accepting import CANNOT_UNDERSTAND, PartResult
from router.web.problem import problem
from router.web.rendering import negotiate

log = structlog.get_logger()

RETRY_AFTER_S = 60
"""When to come again while the disk is full: somebody has to make room first."""

_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_OFFERS = (Offer(DICOM_JSON), Offer(DICOM_XML))


def answer(
    request: Request, results: list[PartResult], ending: str, retrieve_url: str, early: Response | None
) -> Response:
    """Say what became of the instances. A broken body (`ending`) leaves stored what was stored (B57).

    `early` is what to say of a request that was given up, when nothing was stored.
    """
    stored = [result for result in results if result.stored]
    failed = [result for result in results if result.failure is not None]
    if stored:
        return _module(request, 202 if failed or ending else 200, results, ending, retrieve_url)
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
        return problem(400, "The body has no part with an instance.", where="body", allowed="one part or more")
    if all(result.wrong_media_type for result in failed):
        return problem(
            415,
            f"Nothing was stored: {failed[0].reason}.",
            where="part head",
            allowed="Content-Type: application/dicom",
        )
    if all(result.unreadable for result in failed):
        return problem(400, f"Nothing was stored: {failed[0].reason}.", where="body")
    if all(result.failure in _OUT_OF_RESOURCES for result in failed):
        return _module(request, 503, results, ending, retrieve_url)
    return _module(request, 409, results, ending, retrieve_url)


def note(results: list[PartResult], address: str) -> None:
    """Log what was refused, and what came in a transfer syntax that is not meant for the web."""
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
        elif result.stored and declared is not None:
            not_for_the_web += not is_web_transferable(declared.transfer_syntax_uid)
    if not_for_the_web:
        log.info("instances in a transfer syntax not meant for the web", peer=address, instances=not_for_the_web)


def no_room() -> Response:
    """Say that the disk is full."""
    return problem(
        503,
        "The disk is nearly full; nothing is taken until there is room.",
        next_step=f"Send it again after {RETRY_AFTER_S} s.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _module(request: Request, status: int, results: list[PartResult], ending: str, retrieve_url: str) -> Response:
    stored, failed, others = [], [], []
    for result in results:
        declared = result.declared
        if result.failure is not None and declared is None:
            others.append(result.failure)
        elif result.failure is not None and declared is not None:
            failed.append(FailedInstance(declared.sop_class_uid, declared.sop_instance_uid, result.failure))
        elif result.stored and declared is not None:
            stored.append(StoredInstance(declared.sop_class_uid, declared.sop_instance_uid))
    if ending and not failed and not others:
        others.append(CANNOT_UNDERSTAND)
    module = store_response(retrieve_url=retrieve_url, stored=stored, failed=failed, other_failures=others)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    if reason := next((result.reason for result in results if result.reason), ending):
        headers["Warning"] = f'299 sendrs "{_header_text(reason)}"'
    media_type, content = _encoded(request, module)
    return Response(content, status_code=status, headers=headers, media_type=media_type)


def _encoded(request: Request, module: JsonDataSet) -> tuple[str, bytes]:
    """Encode the module as the client likes it. What was stored is never answered with 406."""
    try:
        offer = negotiate(request, None, _OFFERS)
    except (NotAcceptable, MixedTypes):
        offer = _OFFERS[0]
    if offer.media_type == DICOM_XML:
        return DICOM_XML, encode_xml(module)
    return DICOM_JSON, msgspec.json.encode(module)


def _header_text(text: str) -> str:
    return re.sub(r"[^ !#-\[\]-~]", "?", text)[:200]
