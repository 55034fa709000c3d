"""SEND-RS: POST and GET of {resource}/send-requests/{transactionUID} (Sup 248 §10.X, §10.Y; Table 10.X.1-1).

A send request of this front and a job of a rule are the same thing in `sending.requests`; here is only HTTP. What a
resource is, and which instances it means, is a `SendTarget`'s: `send` has those of the Studies service.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config.model import Config, Destination
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import MixedTypes, NotAcceptable, Offer
from router.dicomweb.capabilities import Parameter, Transaction
from router.dicomweb.destinations import (
    BadDestination,
    Directory,
    ForbiddenDestination,
    OwnAddresses,
    read_destination,
)
from router.dicomweb.prefer import read_wait
from router.dicomweb.query_string import BadQuery, SearchParameters, read_search
from router.dicomweb.send_rs import DESTINATION, SEND_REQUESTS
from router.errors import DeliveryError, StorageError
from router.net.rate import ConnectionRate
from router.search import BadKeys, MatchSet, QueryTooLong, TooMany
from router.sending.requests import Gone, Progress, SendRequest, SendRequests, UidInUse, UnknownRequest
from router.web.capabilities import DocumentedRoute, documented
from router.web.principal import principal_of
from router.web.problem import unavailable
from router.web.rendering import MODULE_OFFERS, negotiate, problem_of, warning
from router.web.search import bad_keys, too_broad
from router.web.send_answer import answer
from router.web.send_refusals import (
    bad_destination,
    forbidden,
    gone,
    refuse_body,
    too_many,
    too_often,
    uid_in_use,
    unfiltered,
    unknown,
    upstream_unavailable,
)
from router.web.urls import base_reference

log = structlog.get_logger()

POLLS_PER_S: Final = 5.0
POLLS_AT_ONCE: Final = 20
"""How often one caller may ask for one send request; beyond this it is told so and the journal left alone (B89)."""
_NEVER_IGNORED: Final = "A key that is not understood is never ignored here: more would be sent than was meant."
MAX_QUERY_CHARACTERS: Final = 2_000
"""Of a query that is kept for people."""


class Unfiltered(Exception):
    """There is no search key, so everything there is would be sent (O-21)."""


@dataclass(frozen=True)
class Meant:
    """What is to be sent: how many instances, and how many matches there are besides. `submit` makes a request of it.

    `remarks` are sentences about what was not as asked for (Warning 299). `submit` raises UidInUse and StorageError.
    """

    instances: int
    remaining: int
    submit: Callable[[SendRequest], Awaitable[Progress]]
    remarks: Sequence[str] = ()


def meant_by(found: MatchSet, requests: SendRequests, remarks: Sequence[str]) -> Meant:
    """Have what was found here sent by our own lanes."""
    submit = partial(requests.submit, instance_ids=found.instance_ids)
    return Meant(len(found.instance_ids), found.remaining, submit, remarks)


class SendTarget(Protocol):
    """What a request wants sent, but for the destination. `resource` is its path, as `SendRequest` has it."""

    resource: str

    async def match(self, parameters: SearchParameters, destination: str, most: int) -> Meant:
        """Search. `destination` is the registered name of where it is to go.

        Raises BadKeys and Unfiltered (400), TooMany and QueryTooLong (413), StorageError and DeliveryError (503).
        """
        ...


FindTarget = Callable[[Request], SendTarget]
"""Reads the path of a request below the base path. Raises BadQuery for what cannot be a UID."""


class SendService:
    """The two transactions for whatever resources there are; `routes` makes them for one resource."""

    def __init__(
        self,
        base_path: str,
        requests: SendRequests,
        destinations: Callable[[], Mapping[str, Destination]],
        config: Config,
    ):
        self._base_path, self._requests, self._config = base_path, requests, config.http
        self._destinations = destinations
        self._listed: Mapping[str, Destination] = {}
        self._directory = Directory({})
        self._own = OwnAddresses((config.http.listen, config.dicom.listen), base_path, config.http.public_url)
        self._polls = ConnectionRate(per_s=POLLS_PER_S, burst=POLLS_AT_ONCE, clock=time.monotonic)

    def routes(
        self, resource: str, find: FindTarget, *, name: str, parameters: Sequence[Parameter]
    ) -> list[DocumentedRoute]:
        """Make POST and GET below `resource` ("studies/{study}/series"), for the Capabilities with its name ("Study's
        Series") and the parameters of a search in it.
        """
        of = "".join(word.capitalize() for word in name.replace("'", "").split())
        path = f"{self._base_path}/{resource}/{SEND_REQUESTS}/{{transaction}}"
        produces = list(map(str, MODULE_OFFERS))
        send = Transaction(
            id=f"send{of}",
            title=f"Send {name}",
            parameters=[Parameter(DESTINATION, required=True, kind="xs:anyURI"), *parameters],
            produces=produces,
            statuses=[200, 202, 400, 403, 406, 409, 413, 414, 503],
        )
        check = Transaction(
            id=f"checkSend{of}",
            title=f"Check Send Result for {name}",
            produces=produces,
            statuses=[200, 202, 400, 404, 406, 410, 429, 503],
        )
        return [
            documented("POST", path, self._endpoint(self._send, find), send),
            documented("GET", path, self._endpoint(self._check, find), check),
        ]

    def _endpoint(
        self, transaction: Callable[[Request, FindTarget], Awaitable[Response]], find: FindTarget
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return await transaction(request, find)
            except (BadQuery, NotAcceptable, MixedTypes) as error:
                return problem_of(error)
            except StorageError as error:
                log.error("send request could not be looked after", problem=str(error))
                return unavailable()

        return endpoint

    async def _send(self, request: Request, find: FindTarget) -> Response:
        """POST (§10.X): check, search, journal, answer. The order of the checks is that of dicom-facts I.4."""
        offer = negotiate(request, None, MODULE_OFFERS)
        uid, target = _transaction_uid(request), find(request)
        parameters = read_search(request.scope["query_string"], read_include=False)
        if parameters.accept is not None:
            offer = negotiate(request, parameters.accept, MODULE_OFFERS)
        try:
            destination = self._destination(request, parameters.destination)
        except BadDestination as error:
            return bad_destination(error)
        except ForbiddenDestination as error:
            return forbidden(request, error)
        if refusal := await refuse_body(request):
            return refusal
        try:
            meant = await target.match(parameters, destination, self._config.max_send_instances)
        except BadKeys as error:
            return bad_keys(error, _NEVER_IGNORED)
        except Unfiltered:
            return unfiltered()
        except QueryTooLong as error:
            return too_broad(error)
        except TooMany as error:
            return too_many(error, self._config.max_send_instances)
        except DeliveryError as error:
            return upstream_unavailable(error)
        asked = SendRequest(
            transaction_uid=uid,
            resource=target.resource,
            destination=destination,
            requester=principal_of(request),
            source=f"SEND-RS at {request.client.host if request.client else '?'}",
            query=request.scope["query_string"].decode("latin-1")[:MAX_QUERY_CHARACTERS],
        )
        return await self._take(request, asked, meant, offer)

    async def _take(self, request: Request, asked: SendRequest, meant: Meant, offer: Offer) -> Response:
        try:
            progress = await meant.submit(asked)
        except UidInUse:
            return uid_in_use(asked.transaction_uid)
        log.info(
            "send request taken",
            transaction_uid=asked.transaction_uid,
            resource=asked.resource,
            destination=asked.destination,
            instances=progress.remaining,
            peer=asked.source,
        )
        wait = read_wait(request.headers.getlist("prefer"))
        wait_s = self._config.sync_budget_s if wait is None else min(float(wait), self._config.max_sync_s)
        if wait_s > 0 and not progress.finished:
            progress = await self._requests.wait(asked.transaction_uid, wait_s)
        service = base_reference(request, self._base_path)
        said = [*meant.remarks, *_about(meant)]
        return await answer(
            request,
            progress,
            offer,
            now=self._requests.now(),
            headers={} if wait is None else {"Preference-Applied": f"wait={wait_s:.0f}"},
            warnings=[warning(service, text) for text in said],
        )

    async def _check(self, request: Request, find: FindTarget) -> Response:
        """GET (§10.Y): how far the request is, for who asked for it (O-28). Query parameters and body are ignored."""
        offer = negotiate(request, None, MODULE_OFFERS)
        uid, target, requester = _transaction_uid(request), find(request), principal_of(request)
        if self._polls.refusals(f"{requester} {uid}"):
            return too_often(POLLS_PER_S)
        try:
            progress = await self._requests.progress(uid, target.resource, requester)
        except UnknownRequest:
            return unknown(request)
        except Gone:
            return gone(request)
        return await answer(request, progress, offer, now=self._requests.now())

    def _destination(self, request: Request, values: Sequence[str]) -> str:
        """Give the registered name. Raises BadDestination, ForbiddenDestination."""
        target = read_destination(values)
        if self._own.has(target, request.headers.get("host", "")):
            raise ForbiddenDestination("The destination is this router itself: what it sends would come back (loop).")
        listed = self._destinations()
        if listed is not self._listed:
            self._listed, self._directory = listed, Directory(listed)
        return self._directory.find(target)


def no_collections(base_path: str, resources: Sequence[str]) -> list[Route]:
    """Answer 404 for the collections of send requests, which cannot be listed (O-12)."""

    async def nothing(request: Request) -> Response:
        raise HTTPException(404)

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return [Route(f"{base_path}/{resource}/{SEND_REQUESTS}", nothing, methods=methods) for resource in resources]


def _transaction_uid(request: Request) -> Uid:
    text = request.path_params["transaction"]
    if not is_valid_uid(text):
        raise BadQuery("The Transaction UID in the path", "is not a UID", "digits and dots, 64 at most")
    return Uid(text)


def _about(meant: Meant) -> list[str]:
    if not meant.instances:
        return ["There are no matching instances; nothing is sent."]
    if meant.remaining:
        return [f"There are {meant.remaining} additional results that can be requested."]
    return []
