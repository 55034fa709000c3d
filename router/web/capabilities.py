"""OPTIONS on the base URI: the Capabilities Description of the routes that are really there (PS3.18 §8.9, O-13).

How to use it. A web module makes its routes with `documented`, a transaction beside each endpoint; GET brings HEAD::

    documented("GET", f"{base_path}/studies", search, Transaction(
        id="searchForStudies", title="Search for Studies", parameters=[...], produces=[DICOM_JSON, ...],
        statuses=[200, 204, 400, 406, 413]))

Only `app` (and `proxy_send`, for the base path of a proxy) calls `with_capabilities(base_path, routes)`: it gives what
Starlette takes, one route a path, so that 405 names every method in Allow, and adds OPTIONS. One method a route; the
same path is written in the same way by everyone: {study}, {series}, {instance}, {frames}, {uid}, {transaction}. There
is no CORS: pre-flight requests get no Access-Control field.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from router.dicomweb.accept import MixedTypes, NotAcceptable, Offer
from router.dicomweb.capabilities import JSON, WADL, Operation, Transaction, encode_wadl, encode_wadl_json
from router.dicomweb.query_string import BadQuery, read_accept
from router.web.rendering import negotiate, problem_of
from router.web.urls import base_url

Endpoint = Callable[[Request], Awaitable[Response]]

OFFERS = (Offer(WADL), Offer(JSON))
CAPABILITIES = Transaction(
    id="retrieveCapabilities",
    title="Retrieve Capabilities",
    produces=[WADL, JSON],
    statuses=[200, 400, 406],
)


class DocumentedRoute(Route):
    """A route of one method that knows what to say of itself."""

    def __init__(self, method: str, path: str, endpoint: Endpoint, transaction: Transaction):
        super().__init__(path, endpoint, methods=[method], name=transaction.id)
        self.method, self.transaction = method, transaction


def documented(method: str, path: str, endpoint: Endpoint, transaction: Transaction) -> DocumentedRoute:
    """Make a route that the Capabilities Description tells of. `path` includes the base path."""
    return DocumentedRoute(method, path, endpoint, transaction)


IsOffered = Callable[[DocumentedRoute], Awaitable[bool]]
"""Says whether a route is to be told of just now."""


def with_capabilities(
    base_path: str, routes: Sequence[DocumentedRoute], *, is_offered: IsOffered | None = None
) -> list[Route]:
    """Join the routes of one path, in the order of their first, and put OPTIONS on the base URI before them.

    Raises ValueError when two routes have the same method and path, or write the same path with other names.
    """
    capabilities = capabilities_routes(base_path, routes, is_offered=is_offered)
    by_path: dict[str, list[DocumentedRoute]] = {}
    written: dict[str, str] = {}
    for route in [*capabilities, *routes]:
        shape = route.path_regex.pattern
        for name in route.param_convertors:
            shape = shape.replace(f"?P<{name}>", "")
        if written.setdefault(shape, route.path) != route.path:
            raise ValueError(f"one path, written in two ways: {written[shape]} and {route.path}")
        by_path.setdefault(route.path, []).append(route)
    return [Route(path, _Methods(same), name=path) for path, same in by_path.items()]


def capabilities_routes(
    base_path: str, routes: Sequence[DocumentedRoute], *, is_offered: IsOffered | None = None
) -> list[DocumentedRoute]:
    """Make OPTIONS of the base URI, with and without the slash at its end, which describes `routes` and itself."""

    async def endpoint(request: Request) -> Response:
        try:
            offer = negotiate(request, read_accept(request.scope["query_string"]), OFFERS)
        except (BadQuery, NotAcceptable, MixedTypes) as error:
            return problem_of(error)
        told = [route for route in routes if is_offered is None or await is_offered(route)]
        described = [Operation(route.path.removeprefix(base_path), route.method, route.transaction) for route in told]
        operations = [Operation("/", "OPTIONS", CAPABILITIES), *described]
        base = base_url(request, base_path) or base_path or "/"
        content = (encode_wadl if offer.media_type == WADL else encode_wadl_json)(base, operations)
        return Response(content, headers={"Content-Type": offer.media_type, "Vary": "Accept"})

    paths = [f"{base_path}/", base_path] if base_path else ["/"]
    return [documented("OPTIONS", path, endpoint, CAPABILITIES) for path in paths]


class _Methods:
    """One resource: its methods, HEAD where there is GET, and 405 with all of them for any other."""

    def __init__(self, routes: Sequence[DocumentedRoute]):
        self._apps: dict[str, ASGIApp] = {}
        for route in routes:
            if route.method in self._apps:
                raise ValueError(f"two routes for {route.method} {route.path}")
            self._apps[route.method] = route.app
            if route.method == "GET":
                self._apps["HEAD"] = request_response(_head_of(route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(scope["method"])
        if app is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._apps))})
        await app(scope, receive, send)


def _head_of(endpoint: Endpoint) -> Endpoint:
    async def head(request: Request) -> Response:
        return _HeadOnly(await endpoint(request))

    return head


class _HeadOnly(Response):
    """The head of another answer. Its body is never begun, so that HEAD of a study reads no instance."""

    def __init__(self, answer: Response):
        super().__init__(status_code=answer.status_code)
        self.raw_headers = answer.raw_headers
