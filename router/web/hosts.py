"""Answer only for ourselves: 421 for requests to another host, 400 for a Host that is none (RFC 9110 §7.2, §15.5.20).

A page in somebody's browser may have its own name resolve to this machine and then ask what programs here may ask (DNS
rebinding, B70). Addresses cannot be lied about in that way; names are ours when the machine or [http] names says so.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from router.web.problem import problem

IsOurs = Callable[[str], bool]
"""Whether a host, without its port and in lower case, is this router."""

_AUTHORITY = re.compile(r"([0-9a-z._\-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)


def our_names(names: Sequence[str], public_url: str = "") -> IsOurs:
    """Take any IP address, localhost, the machine's own names, `names`, and the host of `public_url`."""
    machine = socket.gethostname().lower()
    ours = {"localhost", machine, machine.partition(".")[0], *(name.lower().rstrip(".") for name in names)}
    ours.add((urlsplit(public_url).hostname or "localhost").rstrip("."))
    return lambda host: _is_address(host) or host in ours


class OnlyOurHosts:
    """ASGI middleware. The absolute form of a request's target is brought into the usual one (RFC 9112 §3.2.2)."""

    def __init__(self, app: ASGIApp, is_ours: IsOurs):
        self._app, self._is_ours = app, is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")
        if absolute := _ABSOLUTE.fullmatch(scope.get("raw_path", b"")):
            host = absolute[1].decode("latin-1")  # it counts, whatever Host says
            path = absolute[2] or b"/"
            headers = [(b"host", absolute[1]), *(pair for pair in scope["headers"] if pair[0] != b"host")]
            text = unquote_to_bytes(path).decode("utf-8", "replace")
            scope = {**scope, "raw_path": path, "path": text, "headers": headers}
        if not host and scope.get("http_version") == "1.0":
            await self._app(scope, receive, send)
            return
        named = _AUTHORITY.fullmatch(host)
        if named is None:
            answer = problem(400, "The Host is no host.", where="Host", allowed="a name or an address, and a port")
        elif self._is_ours(named[1].lower().rstrip(".")):
            await self._app(scope, receive, send)
            return
        else:
            answer = problem(
                421,
                "This router does not go by that name.",
                where="Host",
                allowed="its address, the name of its machine, and what stands in router.toml under [http] names",
                next_step="Use the address, or ask the router's administrator to add the name.",
                headers={"Connection": "close"},
            )
        await answer(scope, receive, send)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
