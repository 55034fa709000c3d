"""WADO-RS: instances, metadata, frames and bulk data below {base}/studies/{study} (PS3.18 §10.4).

Nothing is rendered and no pixel decoded: a compressed instance is sent as stored when its own transfer syntax, "*" or
none is asked for. Of several instances those that cannot be had as asked are left out: 206 (Table 10.4.3-1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from router.dicom.bulk import is_pointer
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dicomweb.accept import DICOM_XML, OCTET_STREAM, Offer
from router.dicomweb.capabilities import Transaction
from router.dicomweb.media_types import DICOM, DICOM_JSON, multipart_related
from router.dicomweb.multipart_writer import new_boundary
from router.dicomweb.query_string import read_accept
from router.search import Index, Scope, StoredInstance
from router.store.files import Store
from router.web.bulk_parts import Part, find_frames, find_value, label, send_all, send_parts
from router.web.capabilities import DocumentedRoute, documented
from router.web.instance_parts import InstanceParts, Outgoing
from router.web.metadata_parts import MetadataParts
from router.web.rendering import SEARCH_OFFERS, negotiate, warning, with_warnings
from router.web.retrieve_answers import BadPath, NotFound, answering_errors, scope_of
from router.web.retrieve_choice import Choice, choose_bulk_data, choose_instances, code_stream_names
from router.web.streaming import Chunks, begin_streaming
from router.web.urls import base_reference

MAX_FRAMES_ASKED: Final = 100_000
"""In one frame list; a longer one does not fit into a request line."""
_FRAME_LIST: Final = re.compile(r"[1-9][0-9]{0,8}(?:,[1-9][0-9]{0,8})*", re.ASCII)

_BULK: Final = (str(Offer(OCTET_STREAM, multipart=True)),)
_FILES: Final = (str(Offer(DICOM, multipart=True)), *_BULK)

Endpoint = Callable[[Request], Awaitable[Response]]


def retrieve_routes(base_path: str, index: Index, store: Store) -> list[DocumentedRoute]:
    """Make the routes of Retrieve, without rendered resources and thumbnails."""
    resources = Resources(base_path, index, store)
    study = f"{base_path}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    routes = []
    for path, name in ((study, "Study"), (series, "Series"), (instance, "Instance")):
        files = [*_FILES, DICOM] if name == "Instance" else _FILES
        routes += [
            _route(path, resources.instances, f"Retrieve {name}", files, or_some=True),
            _route(f"{path}/metadata", resources.metadata, f"Retrieve {name} Metadata", list(map(str, SEARCH_OFFERS))),
            _route(f"{path}/bulkdata", resources.bulk_data, f"Retrieve {name} Bulkdata", _BULK, or_some=True),
            _route(f"{path}/pixeldata", resources.pixel_data, f"Retrieve {name} Pixel Data", _BULK, or_some=True),
        ]
    return [
        *routes,
        _route(f"{instance}/frames/{{frames}}", resources.frames, "Retrieve Frames", _BULK),
        _route(f"{instance}/bulkdata/{{pointer:path}}", resources.value, "Retrieve Bulkdata", _BULK),
    ]


def _route(
    path: str, endpoint: Endpoint, title: str, produces: Sequence[str], *, or_some: bool = False
) -> DocumentedRoute:
    statuses = [200, *([206] if or_some else []), 400, 404, 406, 500, 501]
    name = "r" + title[1:].replace(" ", "")
    return documented(
        "GET",
        path,
        answering_errors(endpoint),
        Transaction(id=name, title=title, produces=produces, statuses=statuses),
    )


class FindsStored(Protocol):
    """What is needed of an index."""

    async def stored(self, scope: Scope) -> list[StoredInstance]: ...


class Resources:
    """The endpoints."""

    def __init__(self, base_path: str, index: FindsStored, store: Store):
        self._base_path, self._index, self._store = base_path, index, store

    async def instances(self, request: Request) -> Response:
        """Answer with PS3.10 files, or with bulk data when application/octet-stream is preferred."""
        stored = await self._stored(request)
        choice = choose_instances(stored, self._negotiate(request))
        if choice.kind.media_type == OCTET_STREAM:
            return await self._several_bulk(request, choice, len(stored), pixel_data_only=False)
        outgoing = [Outgoing(one, Uid(offer.transfer_syntax_uid or "")) for one, offer in choice.chosen]
        body = InstanceParts(self._store, outgoing, self._base(request))
        if choice.kind.multipart:
            boundary = new_boundary()
            return await self._several(request, choice, len(stored), body.parts(boundary), boundary)
        [one] = outgoing
        return await begin_streaming(
            body.alone(),
            content_type=one.content_type,
            length=one.length(),
            headers={"Vary": "Accept", "Content-Location": one.location(self._base(request))},
        )

    async def metadata(self, request: Request) -> Response:
        """Answer with the metadata of all instances: JSON, or XML in parts."""
        stored = await self._stored(request)
        offer = self._negotiate(request)(SEARCH_OFFERS)
        body = MetadataParts(self._store, stored, self._base(request))
        if offer.media_type == DICOM_XML:
            boundary = new_boundary()
            return await begin_streaming(
                body.xml(boundary),
                content_type=multipart_related(DICOM_XML, boundary),
                headers={"Vary": "Accept"},
            )
        return await begin_streaming(body.json(), content_type=DICOM_JSON, headers={"Vary": "Accept"})

    async def bulk_data(self, request: Request) -> Response:
        """Answer with all that the metadata has a BulkDataURI for."""
        stored = await self._stored(request)
        choice = choose_bulk_data(stored, self._negotiate(request), pixel_data_only=False)
        return await self._several_bulk(request, choice, len(stored), pixel_data_only=False)

    async def pixel_data(self, request: Request) -> Response:
        """Answer with the pixel data, of compressed ones a part for each frame."""
        stored = await self._stored(request)
        choice = choose_bulk_data(stored, self._negotiate(request), pixel_data_only=True)
        return await self._several_bulk(request, choice, len(stored), pixel_data_only=True)

    async def frames(self, request: Request) -> Response:
        """Answer with the frames asked for, one a part, in the order of the list."""
        text = request.path_params["frames"]
        numbers = [int(number) for number in text.split(",")] if _FRAME_LIST.fullmatch(text) else []
        if not 0 < len(numbers) <= MAX_FRAMES_ASKED:
            raise BadPath("The frame list cannot be read.", "frame numbers from 1, separated by commas: 1,2,5")
        instance = (await self._stored(request))[0]
        parts = await find_frames(self._store, instance, numbers, self._base(request))
        return await self._parts(request, instance, parts)

    async def value(self, request: Request) -> Response:
        """Answer with one bulk value: the target of a BulkDataURI."""
        pointer = request.path_params["pointer"]
        if not is_pointer(pointer):
            raise NotFound("There is no such bulk data.", "Take the BulkDataURI as it stands in the metadata.")
        instance = (await self._stored(request))[0]
        parts = await find_value(self._store, instance, pointer, self._base(request))
        return await self._parts(request, instance, parts)

    async def _parts(self, request: Request, instance: StoredInstance, parts: Sequence[Part]) -> Response:
        """Answer with frames or a value of one instance."""
        compressed = any(part.compressed for part in parts)
        syntax = instance.transfer_syntax_uid if compressed else EXPLICIT_VR_LITTLE_ENDIAN
        names = code_stream_names(syntax) if compressed else [OCTET_STREAM]
        multipart = [True, False] if len(parts) == 1 else [True]
        offer = self._negotiate(request)([Offer(name, several, syntax) for several in multipart for name in names])
        if offer.multipart:
            boundary = new_boundary()
            return await begin_streaming(
                send_parts(self._store, instance, parts, offer.media_type, boundary),
                content_type=multipart_related(offer.media_type, boundary),
                headers={"Vary": "Accept"},
            )
        [part] = parts
        return await begin_streaming(
            send_parts(self._store, instance, parts, offer.media_type, None),
            content_type=label(instance, part, offer.media_type),
            length=part.frame.length,
            headers={"Vary": "Accept", "Content-Location": part.location},
        )

    async def _several_bulk(self, request: Request, choice: Choice, asked: int, *, pixel_data_only: bool) -> Response:
        boundary = new_boundary()
        chosen = [(one, offer.media_type) for one, offer in choice.chosen]
        body = send_all(self._store, chosen, self._base(request), boundary, pixel_data_only=pixel_data_only)
        return await self._several(request, choice, asked, body, boundary)

    async def _several(self, request: Request, choice: Choice, asked: int, body: Chunks, boundary: str) -> Response:
        """Answer in parts; 206 when some of the instances asked for cannot be had so."""
        missing = asked - len(choice.chosen)
        response = await begin_streaming(
            body,
            content_type=multipart_related(choice.kind.media_type, boundary),
            status=206 if missing else 200,
            headers={"Vary": "Accept"},
        )
        if not missing:
            return response
        text = (
            f"{missing} of {asked} instances are left out: they are not stored in a transfer syntax that was asked for"
        )
        return with_warnings(response, [warning(self._base(request), text)])

    async def _stored(self, request: Request) -> list[StoredInstance]:
        """Find what the path names. Raises BadPath, NotFound."""
        scope = scope_of(request)
        stored = await self._index.stored(scope)
        if not stored:
            raise NotFound("There is no such study, series or instance.", "Search for what there is: GET …/studies")
        return stored

    def _negotiate(self, request: Request) -> Callable[[Sequence[Offer]], Offer]:
        accept = read_accept(request.scope["query_string"])
        return lambda offers: negotiate(request, accept, offers)

    def _base(self, request: Request) -> str:
        return base_reference(request, self._base_path)
