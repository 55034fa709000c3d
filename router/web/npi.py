"""The Non-Patient Instance service (PS3.18 chapter 12; Sup 248 §12.X, §12.Y): Store, Search, Retrieve, Send and Check
for each of the six categories, with the same code as the Studies service.

What differs: one level, keys of each category, JSON unless DICOM is asked for, 200 as soon as one instance is stored.
A whole category may be sent without any key: it is no archive (O-21 is about studies).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config.model import Config, Destination
from router.dicom.matcher import MatchOptions
from router.dicom.non_patient import CATEGORIES, Category
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import DICOM_XML, OCTET_STREAM, Offer
from router.dicomweb.capabilities import SEARCH_PARAMETERS, Parameter, Transaction, attribute_parameters
from router.dicomweb.media_types import DICOM, DICOM_JSON
from router.dicomweb.multipart import PartLimits
from router.dicomweb.query_string import SearchParameters, read_accept
from router.ingest.door import Door
from router.search import Asked, BadKeys, Found, Result, Scope, StoredInstance
from router.search.non_patient import NonPatientIndex, NonPatientPlan, plan_non_patient
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.admission import only_of
from router.web.capabilities import DocumentedRoute, documented
from router.web.problem import problem
from router.web.rendering import SEARCH_OFFERS, negotiate
from router.web.retrieve import Resources
from router.web.retrieve_answers import answering_errors
from router.web.search import NO_FUZZY, search_endpoint
from router.web.send_service import FindTarget, Meant, SendService, meant_by, no_collections
from router.web.stow import OpenSpool, StoreService
from router.web.urls import npi_url

RETRIEVE_OFFERS: Final = (*SEARCH_OFFERS, Offer(DICOM), Offer(DICOM, multipart=True))
"""Table 12.1.3-1, the default first; DICOM in parts is ours, for clients that know nothing else."""
SINGLE_PARTS: Final = (DICOM, DICOM_JSON)
"""What Store takes besides multipart bodies."""

Endpoint = Callable[[Request], Awaitable[Response]]


def npi_routes(
    config: Config,
    door: Door,
    limits: PartLimits,
    open_spool: OpenSpool | None,
    index: NonPatientIndex,
    store: Store,
    requests: SendRequests,
    destinations: Callable[[], Mapping[str, Destination]],
) -> list[DocumentedRoute]:
    """Make the routes of all transactions; those of `npi_collection_routes` go before them."""
    base_path = config.http.base_path
    sending = SendService(base_path, requests, destinations, config)
    storing = StoreService(config.http, door, limits, open_spool, SINGLE_PARTS)
    routes = []
    for category in CATEGORIES.values():
        routes += [
            *sending.routes(
                category.name,
                _finder(category, index, requests),
                name=category.title,
                parameters=_match_parameters(category),
            ),
            *_store_routes(base_path, category, storing),
            _search_route(base_path, category, index),
            *_retrieve_routes(base_path, category, index, store),
        ]
    return routes


def npi_collection_routes(base_path: str) -> list[Route]:
    """Make the routes that say that send requests cannot be listed, nor named behind a question mark (O-01, O-12)."""
    return no_collections(base_path, list(CATEGORIES))


def _id_of(category: Category) -> str:
    return category.title.replace(" ", "")


def _match_parameters(category: Category) -> list[Parameter]:
    return [*attribute_parameters(category.matched), Parameter("TimezoneOffsetFromUTC"), *SEARCH_PARAMETERS]


def _store_routes(base_path: str, category: Category, storing: StoreService) -> list[DocumentedRoute]:
    async def store(request: Request) -> Response:
        uid = request.path_params.get("uid")
        if uid is not None and not is_valid_uid(uid, odd=True):
            return problem(
                400, "The UID in the path is not one.", where=request.url.path, allowed="digits and dots, 64 at most"
            )
        response = await storing.store(request, only_of(category, uid))
        if response.status_code == 202:  # of studies: some are not stored. Here: none is, yet (Table 12.5.3-1)
            response.status_code = 200
        return response

    def transaction(suffix: str, title: str) -> Transaction:
        return Transaction(
            id=f"store{_id_of(category)}{suffix}",
            title=title,
            consumes=storing.consumes,
            produces=[DICOM_JSON, DICOM_XML],
            statuses=[200, 400, 408, 409, 413, 415, 503],
        )

    path = f"{base_path}/{category.name}"
    return [
        documented("POST", path, store, transaction("", f"Store {category.title}")),
        documented("POST", f"{path}/{{uid}}", store, transaction("Instance", f"Store one of {category.title}")),
    ]


def _search_route(base_path: str, category: Category, index: NonPatientIndex) -> DocumentedRoute:
    async def look(request: Request, asked: SearchParameters, limit: int) -> tuple[Found, Sequence[str]]:
        plan = _plan(category, asked, strict=False)
        found = await index.find(
            plan, include=asked.include, include_all=asked.include_all, limit=limit, offset=asked.offset
        )
        return found, plan.ignored

    def url_of(base: str, result: Result) -> str:
        return npi_url(base, category.name, result.instance or Uid(""))

    transaction = Transaction(
        id=f"searchFor{_id_of(category)}",
        title=f"Search for {category.title}",
        parameters=[*_match_parameters(category), Parameter("includefield")],
        produces=list(map(str, SEARCH_OFFERS)),
        statuses=[200, 204, 400, 406, 413, 414, 503],
    )
    return documented("GET", f"{base_path}/{category.name}", search_endpoint(base_path, look, url_of), transaction)


def _plan(category: Category, asked: SearchParameters, *, strict: bool) -> NonPatientPlan:
    options = MatchOptions(
        empty_value=asked.empty_value, multiple_value=asked.multiple_value, offset_min=asked.timezone_offset_min
    )
    keys = [Asked(one.path, one.value, one.name) for one in asked.match]
    return plan_non_patient(category.name, keys, options=options, strict=strict)


class _OneOf:
    """What Retrieve finds in a category."""

    def __init__(self, category: Category, index: NonPatientIndex):
        self._category, self._index = category, index

    async def stored(self, scope: Scope) -> list[StoredInstance]:
        """Give the instance, or nothing."""
        found = await self._index.stored(self._category.name, scope.instance or Uid(""))
        return [found] if found else []


def _retrieve_routes(base_path: str, category: Category, index: NonPatientIndex, store: Store) -> list[DocumentedRoute]:
    resources = Resources(base_path, _OneOf(category, index), store)

    async def retrieve(request: Request) -> Response:
        offer = negotiate(request, read_accept(request.scope["query_string"]), RETRIEVE_OFFERS)
        return await (resources.instances if offer.media_type == DICOM else resources.metadata)(request)

    def route(path: str, endpoint: Endpoint, suffix: str, title: str, produces: list[str]) -> DocumentedRoute:
        transaction = Transaction(
            id=f"retrieve{_id_of(category)}{suffix}",
            title=title,
            produces=produces,
            statuses=[200, 400, 404, 406, 500, 501],
        )
        return documented("GET", f"{base_path}/{category.name}/{{uid}}{path}", answering_errors(endpoint), transaction)

    title = f"Retrieve one of {category.title}"
    return [
        route("", retrieve, "", title, list(map(str, RETRIEVE_OFFERS))),
        # no resource of chapter 12, but what the BulkDataURIs in the metadata point to
        route(
            "/bulkdata/{pointer:path}",
            resources.value,
            "Bulkdata",
            f"{title}: Bulkdata",
            [str(Offer(OCTET_STREAM, multipart=True))],
        ),
    ]


class NonPatientTarget:
    """A `SendTarget`: what matches in a category."""

    def __init__(self, category: Category, index: NonPatientIndex, requests: SendRequests):
        self.resource = category.name
        self._category, self._index, self._requests = category, index, requests

    async def match(self, parameters: SearchParameters, destination: str, most: int) -> Meant:
        """See `SendTarget.match`."""
        if parameters.unknown:
            raise BadKeys(parameters.unknown, ["is not an attribute"] * len(parameters.unknown))
        plan = _plan(self._category, parameters, strict=True)
        found = await self._index.match_set(plan, limit=parameters.limit, offset=parameters.offset, most=most)
        return meant_by(found, self._requests, [NO_FUZZY] if parameters.fuzzy else [])


def _finder(category: Category, index: NonPatientIndex, requests: SendRequests) -> FindTarget:
    return lambda request: NonPatientTarget(category, index, requests)
