"""The HTTP front as one Starlette app: routes, and what every error looks like. Knows the core only as `Door`."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.config.model import HttpConfig
from router.dicomweb.multipart import PartLimits
from router.ingest.door import Door
from router.net.callers import Callers
from router.web.callers import MayCall, OnlyCallers
from router.web.capabilities import DocumentedRoute, with_capabilities
from router.web.hosts import IsOurs, OnlyOurHosts
from router.web.problem import problem
from router.web.stow import OpenSpool, store_routes
from router.web.urls import BASE_PATH, PUBLIC_URL

log = structlog.get_logger()

DEFAULT_LIMITS = PartLimits()
LOOPBACK_ONLY = Callers({}).allows_request


def make_app(
    config: HttpConfig,
    door: Door,
    *,
    may_call: MayCall = LOOPBACK_ONLY,
    limits: PartLimits = DEFAULT_LIMITS,
    is_our_host: IsOurs | None = None,
    open_spool: OpenSpool | None = None,
    services: Sequence[DocumentedRoute] = (),
    hidden: Sequence[BaseRoute] = (),
) -> Starlette:
    """Make the app that takes instances over STOW-RS and has `services` besides, which its capabilities tell of.

    `door` is `ingest.Ingest` in the daemon, `open_spool` `Store.spool`; without it metadata with bulk data is not
    taken. Without `is_our_host` any Host will do. `hidden` routes go before all others and are not told of.
    """
    documented = [*store_routes(config, door, limits, open_spool), *services]
    app = Starlette(
        routes=[*hidden, *with_capabilities(config.base_path, documented)],
        middleware=[
            Middleware(LastResort),
            Middleware(OnlyCallers, may_call),
            *([Middleware(OnlyOurHosts, is_our_host)] if is_our_host else ()),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    setattr(app.state, PUBLIC_URL, config.public_url)
    setattr(app.state, BASE_PATH, config.base_path)
    return app


class LastResort:
    """The loop edge of the web front: what nobody foresaw costs one request, not the process."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:  # the stage's loop edge
            log.exception("request failed", path=scope.get("path", ""))
            if not begun and scope["type"] == "http":
                answer = problem(
                    500, "Something went wrong here, not with the request.", next_step="See the log of the router."
                )
                await answer(scope, receive, send)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            detail, next_step = "There is no such resource.", "Check the path and the base path ([http] base_path)."
        case 405:
            detail, next_step = f"{request.method[:20]} is not possible here.", ""
        case _:
            detail, next_step = error.detail, ""
    headers = dict(error.headers or {})
    return problem(
        error.status_code,
        detail,
        where=request.url.path,
        allowed=headers.get("Allow", ""),
        next_step=next_step,
        headers=headers,
    )
