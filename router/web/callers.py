"""Turn away requests from addresses that are not registered ([peers]), before anything of them is read."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from router.web.problem import problem

log = structlog.get_logger()

MayCall = Callable[[str], bool]
"""Whether a request may come from this address."""


class OnlyCallers:
    """ASGI middleware: 403 for strangers."""

    def __init__(self, app: ASGIApp, may_call: MayCall):
        self._app, self._may_call = app, may_call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        if self._may_call(address):
            await self._app(scope, receive, send)
            return
        log.warning("request from an unregistered address", peer=address)
        refusal = problem(
            403,
            "This address is not registered here.",
            where=address,
            allowed="loopback, and the addresses under [peers] in router.toml",
            next_step="Ask the router's administrator to add this address to a [peers.…] table.",
            headers={"Connection": "close"},
        )
        await refusal(scope, receive, send)
