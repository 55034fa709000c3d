"""Storage commitment over the web: POST and GET of {base}/commitment-requests/{transactionUID} (PS3.18 §13.4, §13.5).

Who decides is told by the route: this router, or the upstream of a proxy (PS3.17 Annex B.30). Whatever the protocol, a
request is one thing in `commitment.requests`; here is only HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.commitment.requests import Commitments, CommitmentState, Gone, UidInUse, UnknownCommitment
from router.config.model import HttpConfig
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import MixedTypes, NotAcceptable, Offer
from router.dicomweb.capabilities import Transaction
from router.dicomweb.commitment_module import (
    COMMITMENT_REQUESTS,
    MAX_BYTES,
    BadModule,
    read_request,
    response_module,
)
from router.dicomweb.prefer import read_wait
from router.dicomweb.query_string import BadQuery, read_accept
from router.errors import StorageError
from router.net.rate import ConnectionRate
from router.web.capabilities import DocumentedRoute, documented
from router.web.module_body import CONSUMES, BodyRefused, ModuleBodies
from router.web.principal import principal_of
from router.web.problem import problem, unavailable
from router.web.rendering import MODULE_OFFERS, negotiate, problem_of, render_one
from router.web.send_refusals import too_often, uid_in_use

log = structlog.get_logger()

POLLS_PER_S: Final = 5.0
POLLS_AT_ONCE: Final = 20
"""How often one caller may ask for one result."""
POLL_FIRST_S: Final = 1
"""When to look first: what is stored here is read again in no time."""
MANY: Final = 1_000
"""Beyond so many rulings the answer is made on a thread."""


class CommitmentService:
    """The two transactions below one base path. `proxy` names whose upstream decides, "" when we do."""

    def __init__(self, commitments: Commitments, config: HttpConfig, proxy: str):
        self._commitments, self._config, self._proxy = commitments, config, proxy
        self._bodies = ModuleBodies(MAX_BYTES)
        self._polls = ConnectionRate(per_s=POLLS_PER_S, burst=POLLS_AT_ONCE, clock=time.monotonic)

    async def request(self, request: Request) -> Response:
        """POST (§13.4): check, read, journal, answer."""
        offer, uid = _negotiated(request), _transaction_uid(request)
        references = await self._bodies.read(request, read_request)
        requester = principal_of(request)
        try:
            await self._commitments.submit(
                transaction_uid=uid, origin="web", requester=requester, references=references, proxy=self._proxy
            )
        except UidInUse:
            return uid_in_use(uid)
        wait = read_wait(request.headers.getlist("prefer"))
        wait_s = self._config.sync_budget_s if wait is None else min(float(wait), self._config.max_sync_s)
        applied = {} if wait is None else {"Preference-Applied": f"wait={wait_s:.0f}"}
        if wait_s <= 0:
            return _pending(POLL_FIRST_S, applied)
        return await _answer(await self._commitments.wait(uid, wait_s), offer, applied)

    async def check(self, request: Request) -> Response:
        """GET (§13.5): the result, for who asked for it."""
        offer, uid, requester = _negotiated(request), _transaction_uid(request), principal_of(request)
        if self._polls.refusals(f"{requester} {uid}"):
            return too_often(POLLS_PER_S, "commitment request")
        try:
            return await _answer(await self._commitments.state(uid, requester), offer, {})
        except UnknownCommitment:
            return problem(
                404,
                "There is no such commitment request here.",
                where=request.url.path,
                next_step="If it was yours, ask anew with POST.",
            )
        except Gone:
            return problem(
                410,
                "The result of this commitment request is no longer kept.",
                where=request.url.path,
                next_step="To know again, make a new request with another Transaction UID.",
            )


def commitment_routes(
    base_path: str, commitments: Commitments, config: HttpConfig, *, proxy: str = ""
) -> list[DocumentedRoute]:
    """Make the two routes below `base_path`, which for a proxy is its own."""
    service = CommitmentService(commitments, config, proxy)
    path = f"{base_path}/{COMMITMENT_REQUESTS}/{{transaction}}"
    produces = list(map(str, MODULE_OFFERS))
    request = Transaction(
        id="requestStorageCommitment",
        title="Storage Commitment Request",
        consumes=CONSUMES,
        produces=produces,
        statuses=[200, 202, 400, 406, 408, 409, 413, 414, 415, 503],
    )
    check = Transaction(
        id="checkStorageCommitment",
        title="Storage Commitment Result Check",
        produces=produces,
        statuses=[200, 202, 400, 404, 406, 410, 414, 429, 503],
    )
    return [
        documented("POST", path, _endpoint(service.request), request),
        documented("GET", path, _endpoint(service.check), check),
    ]


def commitment_collection_routes(base_path: str) -> list[Route]:
    """Answer 404 for the collection of commitment requests, which cannot be listed."""

    async def nothing(request: Request) -> Response:
        raise HTTPException(404)

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return [Route(f"{base_path}/{COMMITMENT_REQUESTS}", nothing, methods=methods)]


def _endpoint(transaction: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await transaction(request)
        except (BadQuery, NotAcceptable, MixedTypes) as error:
            return problem_of(error)
        except BodyRefused as refused:
            return refused.response
        except BadModule as error:
            return _bad_module(error)
        except StorageError as error:
            log.error("commitment request could not be looked after", problem=str(error))
            return unavailable()

    return endpoint


def _bad_module(error: BadModule) -> Response:
    return problem(
        413 if error.too_many else 400,
        f"This is no Storage Commitment Request Module: {error.problem}.",
        where=error.where,
        allowed="Referenced SOP Sequence (0008,1199) or Referenced Study Sequence (0008,1110), each instance once "
        "(PS3.18 Table J.1-1)",
    )


def _negotiated(request: Request) -> Offer:
    return negotiate(request, read_accept(request.scope["query_string"]), MODULE_OFFERS)


def _transaction_uid(request: Request) -> Uid:
    text = request.path_params["transaction"]
    if not is_valid_uid(text):
        raise BadQuery("The Transaction UID in the path", "is not a UID", "digits and dots, 64 at most")
    return Uid(text)


async def _answer(state: CommitmentState, offer: Offer, headers: Mapping[str, str]) -> Response:
    """200 with the module, whatever was ruled, or 202 (§13.4.3, §13.5.3)."""
    if not state.finished:
        return _pending(state.poll_s, headers)
    fields = {"Cache-Control": "no-store", **headers}
    render = partial(render_one, offer=offer, headers=fields)
    if len(state.rulings) <= MANY:
        return render(response_module(state.rulings))
    return await to_thread.run_sync(lambda: render(response_module(state.rulings)))


def _pending(poll_s: int, headers: Mapping[str, str]) -> Response:
    """202, which unlike that of Send has no payload."""
    return Response(status_code=202, headers={"Cache-Control": "no-store", "Retry-After": str(poll_s), **headers})
