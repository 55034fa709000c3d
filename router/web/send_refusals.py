"""Why a send request is not taken, or not shown: the error answers of Send and Check Send Result (Sup 248 §10.X.3.1).

What is said names no destination and no request that the caller may not know of.
"""

from __future__ import annotations

from functools import partial

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from router.dicom.uids import Uid
from router.dicomweb.destinations import ALLOWED, BadDestination, ForbiddenDestination
from router.dicomweb.send_rs import DESTINATION
from router.errors import DeliveryError, Transient
from router.search import TooMany
from router.web.body import TooSlow, paced
from router.web.problem import problem

log = structlog.get_logger()

UPSTREAM_RETRY_AFTER_S = 30
"""When to come again while the archive behind a proxy cannot be asked."""


async def refuse_body(request: Request) -> Response | None:
    """Give the answer to a request that has a body (§10.X.1.4), None when it has none."""
    problem_400 = partial(
        problem,
        400,
        where="body",
        allowed="no body; all that is asked for stands in the URL",
        headers={"Connection": "close"},
    )
    if request.headers.get("content-length", "0").strip() != "0":
        return problem_400("A send request has no body.")
    try:
        async for chunk in paced(request.stream()):
            if chunk:
                return problem_400("A send request has no body.")
    except (TooSlow, ClientDisconnect):
        return problem_400("A send request has no body, and this one did not end.")
    return None


def bad_destination(error: BadDestination) -> Response:
    """400: not one URL (B73, B76, B77)."""
    return problem(
        400,
        f"The destination {error.problem}.",
        where=f"query parameter {DESTINATION}",
        allowed=ALLOWED,
        next_step="Encode ? & = # , [ ] and % in the URL as %XX.",
    )


def forbidden(request: Request, error: ForbiddenDestination) -> Response:
    """403: not registered, or this router (B75, B90)."""
    log.warning(  # a Security Alert (O-11); what was asked for is not repeated: it may be anything
        "send request to a destination that is not allowed",
        peer=request.client.host if request.client else "",
        problem=error.problem,
    )
    return problem(
        403,
        error.problem,
        where=f"query parameter {DESTINATION}",
        next_step="Ask the router's administrator to register it ([destinations.…], aliases).",
    )


def unfiltered() -> Response:
    """400: nothing narrows what would be sent (O-21)."""
    return problem(
        400,
        "There is no search key, so everything that is stored here would be sent.",
        where="query",
        allowed="one matching attribute or more, with a value",
        next_step="Name what to send, such as PatientID=… or StudyInstanceUID=….",
    )


def too_many(error: TooMany, most: int) -> Response:
    """413: more than the counters can say, or than is allowed (O-19)."""
    return problem(
        413,
        f"At least {error.count:,} instances match.",
        where="query",
        allowed=f"{most:,} instances in one send request",
        next_step="Narrow the search, or split it with limit and offset.",
    )


def upstream_unavailable(error: DeliveryError) -> Response:
    """503: the archive behind a proxy cannot say what matches (B.X3, O-23)."""
    wait_s = UPSTREAM_RETRY_AFTER_S
    if isinstance(error, Transient) and error.retry_after_s is not None:
        wait_s = round(error.retry_after_s)
    log.error("the archive behind a proxy cannot be asked", problem=error.problem)
    return problem(
        503,
        f"The archive behind this proxy cannot be asked at the moment: {error.problem}."[:500],
        next_step=f"Come again after {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
    )


def uid_in_use(uid: Uid) -> Response:
    """409 (O-25)."""
    return problem(
        409,
        f"The Transaction UID {uid} is in use.",
        where="path",
        next_step="If it is your own request, ask how far it is with GET; otherwise choose another Transaction UID.",
    )


def unknown(request: Request) -> Response:
    """404: never seen, forgotten, of another resource or of another requester: which of them is not told."""
    return problem(404, "There is no such send request here.", where=request.url.path)


def gone(request: Request) -> Response:
    """410: the result was given up (O-26)."""
    return problem(
        410,
        "The result of this send request is no longer kept.",
        where=request.url.path,
        next_step="To send again, make a new request with another Transaction UID.",
    )


def too_often(per_s: float, what: str = "send request") -> Response:
    """429 (B89)."""
    return problem(
        429,
        f"This {what} was asked for too often.",
        allowed=f"{per_s:g} times a second",
        next_step="Wait as long as Retry-After says.",
        headers={"Retry-After": "1"},
    )
