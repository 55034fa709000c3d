"""SEND-RS for an archive that has only DIMSE (Sup 248 B.X3): below the base path of a proxy, the machinery of `send`.

Three resources are always there, the other three when the archive has granted relational queries (Table 10.X.1-1,
O-58). The match set is fixed by C-FIND before anything is answered (O-23); C-MOVE carries it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config.model import Config, Destination
from router.config.titles import ae_title_of
from router.dicom.uids import AETitle
from router.dicomweb.query_string import SearchParameters
from router.errors import DeliveryError
from router.search import Asked, Level, Plan, Scope
from router.search.upstream import Archive, UpstreamMatches, is_relational, match_upstream
from router.sending.proxied import ProxiedRequests
from router.sending.requests import SendRequests
from router.web.capabilities import DocumentedRoute, Endpoint, documented, with_capabilities
from router.web.search import NO_FUZZY, RESOURCES, Searched, read_scope
from router.web.send import strict_plan
from router.web.send_refusals import upstream_unavailable
from router.web.send_service import FindTarget, Meant, SendService

log = structlog.get_logger()

SEARCHES_AT_ONCE: Final = 2
"""Associations for C-FIND with one archive: a typical one allows ten for everybody."""
GRANTED_S: Final = 600.0
"""For how long it is believed that relational queries are granted, or not."""

OpenArchive = Callable[[], AbstractAsyncContextManager[Archive]]


class Upstream:
    """The archive behind a proxy, as far as it is searched."""

    def __init__(self, name: str, open_archive: OpenArchive, *, clock: Callable[[], float] = time.monotonic):
        self.name = name
        self._open, self._clock = open_archive, clock
        self._searches = anyio.Semaphore(SEARCHES_AT_ONCE)
        self._relational, self._learnt_at = False, -GRANTED_S

    async def match(
        self, plan: Plan, asked: Sequence[Asked], *, limit: int | None, offset: int, most: int
    ) -> UpstreamMatches:
        """See `match_upstream`."""
        async with self._searches, self._open() as archive:
            found = await match_upstream(archive, plan, asked, limit=limit, offset=offset, most=most)
            self._learn(archive)
            return found

    async def is_relational(self) -> bool:
        """Say whether it grants relational queries, as it did when last asked. Raises Transient, Misconfigured."""
        if self._clock() - self._learnt_at >= GRANTED_S:
            async with self._searches, self._open() as archive:
                await archive.open()
                self._learn(archive)
        return self._relational

    def _learn(self, archive: Archive) -> None:
        self._relational, self._learnt_at = archive.granted_relational, self._clock()


def proxy_routes(
    base_path: str,
    upstream: Upstream,
    requests: SendRequests,
    proxied: ProxiedRequests,
    destinations: Callable[[], Mapping[str, Destination]],
    config: Config,
    more: Sequence[DocumentedRoute] = (),
) -> list[Route]:
    """Make all that stands below the base path of a proxy, its Capabilities Description included.

    `more` are the routes of other services there.
    """
    service = SendService(base_path, requests, destinations, config)
    routes: list[DocumentedRoute] = []
    optional: set[str] = set()
    for one in RESOURCES:
        find = _finder(base_path, one, upstream, proxied, destinations, allow_all=config.http.allow_unfiltered_send)
        made = service.routes(one.path.removeprefix("/"), find, name=one.name, parameters=one.match_parameters())
        if _needs_relational(one):
            optional.update(route.path for route in made)
            made = [_if_relational(route, upstream) for route in made]
        routes += made

    async def is_offered(route: DocumentedRoute) -> bool:
        if route.path not in optional:
            return True
        try:
            return await upstream.is_relational()
        except DeliveryError as error:
            log.warning("archive behind a proxy cannot be asked", proxy=upstream.name, problem=error.problem)
            return False

    return with_capabilities(base_path, [*routes, *more], is_offered=is_offered)


class ProxyTarget:
    """A `SendTarget`: one resource, with the UIDs of its path."""

    def __init__(
        self,
        upstream: Upstream,
        proxied: ProxiedRequests,
        destinations: Callable[[], Mapping[str, Destination]],
        level: Level,
        scope: Scope,
        resource: str,
        *,
        allow_all: bool,
    ):
        self.resource = resource
        self._upstream, self._proxied, self._destinations = upstream, proxied, destinations
        self._level, self._scope, self._allow_all = level, scope, allow_all

    async def match(self, parameters: SearchParameters, destination: str, most: int) -> Meant:
        """See `SendTarget.match`."""
        plan = strict_plan(self._level, self._scope, parameters, allow_unfiltered=self._allow_all)
        title = AETitle(ae_title_of(self._destinations()[destination]))
        asked = [Asked(one.path, one.value, one.name) for one in parameters.match]
        found = await self._upstream.match(plan, asked, limit=parameters.limit, offset=parameters.offset, most=most)
        submit = partial(
            self._proxied.submit, proxy=self._upstream.name, move_destination=title, instances=found.instances
        )
        return Meant(len(found.instances), found.remaining, submit, [NO_FUZZY] if parameters.fuzzy else [])


def _finder(
    base_path: str,
    one: Searched,
    upstream: Upstream,
    proxied: ProxiedRequests,
    destinations: Callable[[], Mapping[str, Destination]],
    *,
    allow_all: bool,
) -> FindTarget:
    def find(request: Request) -> ProxyTarget:
        scope = read_scope(request)
        resource = base_path + one.path.format(study=scope.study, series=scope.series)
        return ProxyTarget(upstream, proxied, destinations, one.level, scope, resource, allow_all=allow_all)

    return find


def _needs_relational(one: Searched) -> bool:
    return is_relational(one.level, one.scope)


def _if_relational(route: DocumentedRoute, upstream: Upstream) -> DocumentedRoute:
    """Have a route not be there while the archive grants no relational queries. What was taken can be asked for."""
    if route.method != "POST":
        return route

    async def endpoint(request: Request) -> Response:
        try:
            offered = await upstream.is_relational()
        except DeliveryError as error:
            return upstream_unavailable(error)
        if not offered:
            raise HTTPException(404)
        return await inner(request)

    inner: Endpoint = route.endpoint
    return documented(route.method, route.path, endpoint, route.transaction)
