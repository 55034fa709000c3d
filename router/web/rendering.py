"""DICOM JSON data sets as answers: application/dicom+json, or application/dicom+xml in parts (PS3.18 §8.7.3, F.2).

Bare media types, without charset: clients compare them as texts (B.3). More than a few data sets are encoded on a
thread, when the answer goes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.dicom.json_model import JsonDataSet, encode_json, encode_object, in_order
from router.dicomweb.accept import DICOM_XML, MixedTypes, NotAcceptable, Offer, choose
from router.dicomweb.media_types import DICOM_JSON, multipart_related
from router.dicomweb.multipart_writer import closing, new_boundary, part_head
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.query_string import BadQuery, read_accept
from router.web.problem import problem

SEARCH_OFFERS = (Offer(DICOM_JSON), Offer(DICOM_XML, multipart=True))
"""Search results and metadata (Tables 10.6.4-1 and 10.4.4-1)."""
MODULE_OFFERS = (*SEARCH_OFFERS, Offer(DICOM_XML))
"""One module: the Send Request Response Module (O-14)."""

FEW = 16
"""So many data sets are encoded at once, on the loop: 2 ms."""

_NOT_IN_A_HEADER = re.compile(r"[^ -~]")
_MAX_WARNING = 500


def negotiate(request: Request, accept_parameter: str | None, offers: Sequence[Offer]) -> Offer:
    """Choose the offer that this request wants. Raises NotAcceptable and MixedTypes."""
    headers = request.headers.getlist("accept")
    return choose(", ".join(headers) if headers else None, accept_parameter, offers)


def render(
    request: Request,
    data_sets: Sequence[JsonDataSet],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    offers: Sequence[Offer] = SEARCH_OFFERS,
    offer: Offer | None = None,
) -> Response:
    """Answer with data sets, as the request's Accept wants them. Raises NotAcceptable, MixedTypes and BadQuery.

    `offer` is what `negotiate` gave, if it was asked before. `warnings` are the values of Warning fields (`warning`).
    """
    if offer is None:
        offer = negotiate(request, read_accept(request.scope["query_string"]), offers)
    boundary = new_boundary() if offer.multipart else ""
    content_type = multipart_related(offer.media_type, boundary) if offer.multipart else offer.media_type
    response: Response
    if len(data_sets) <= FEW:
        response = Response(_encode(data_sets, offer, boundary), status_code=status)
    else:
        response = _EncodedOnThread(data_sets, offer, boundary, status)
    response.headers["Content-Type"] = content_type
    response.headers["Vary"] = "Accept"
    response.headers.update(headers or {})
    return with_warnings(response, warnings)


def render_one(data_set: JsonDataSet, *, offer: Offer, headers: Mapping[str, str] | None = None) -> Response:
    """Answer 200 with one module that is a bare object in JSON, not an array (PS3.17 B.27)."""
    if offer.media_type == DICOM_JSON:
        content, content_type = encode_object(in_order(data_set)), DICOM_JSON
    else:
        boundary = new_boundary() if offer.multipart else ""
        content = _encode([data_set], offer, boundary)
        content_type = multipart_related(offer.media_type, boundary) if offer.multipart else offer.media_type
    return Response(content, headers={"Content-Type": content_type, "Vary": "Accept", **(headers or {})})


def warning(service: str, text: str) -> str:
    """Make the value of a Warning field (§8.3.4): `service` is the base URI."""
    return _NOT_IN_A_HEADER.sub("?", f"299 {service}: {text}")[:_MAX_WARNING]


def with_warnings(response: Response, warnings: Sequence[str]) -> Response:
    """Give an answer a Warning field for each."""
    for text in warnings:
        response.headers.append("Warning", text)
    return response


def problem_of(error: BadQuery | NotAcceptable | MixedTypes) -> Response:
    """Say what is wrong with a query string or an Accept header: 400, 406, or 414."""
    match error:
        case BadQuery():
            where = f"query parameter {error.parameter[:80]}" if error.parameter else "query"
            subject = f"{error.parameter[:80]} " if error.parameter else ""
            return problem(
                414 if error.too_long else 400, f"{subject}{error.problem}.", where=where, allowed=error.allowed
            )
        case NotAcceptable():
            return problem(
                406, error.problem, where="Accept", allowed=error.allowed, next_step="Name one of these in Accept."
            )
        case MixedTypes():
            return problem(400, str(error), where="Accept", next_step="Ask for one kind at a time.")


def _encode(data_sets: Sequence[JsonDataSet], offer: Offer, boundary: str) -> bytes:
    if offer.media_type != DICOM_XML:
        return encode_json([in_order(data_set) for data_set in data_sets])
    if not offer.multipart:
        [only] = data_sets
        return encode_xml(in_order(only))
    pieces = []
    for data_set in data_sets:
        content = encode_xml(in_order(data_set))
        pieces += [part_head(boundary, DICOM_XML, length=len(content)), content]
    return b"".join((*pieces, closing(boundary)))


class _EncodedOnThread(Response):
    """An answer whose body is made, and so its Content-Length is known, when it is sent."""

    def __init__(self, data_sets: Sequence[JsonDataSet], offer: Offer, boundary: str, status: int):
        super().__init__(status_code=status)
        del self.headers["content-length"]
        self._data_sets, self._offer, self._boundary = data_sets, offer, boundary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body = await to_thread.run_sync(_encode, self._data_sets, self._offer, self._boundary)
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)
