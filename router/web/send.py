"""What a send request of the Studies service means: the six resources of Table 10.X.1-1, searched like QIDO-RS.

Unlike a search it is strict (O-30): a key that is unknown, or belongs to another level, is refused and never ignored,
because ignoring it would widen what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.routing import Route

from router.config.model import Config, Destination
from router.dicom.matcher import InvalidKey, parse_key
from router.dicom.matcher_keys import Universal
from router.dicomweb.query_string import MatchParameter, SearchParameters
from router.search import BadKeys, Index, Level, Plan, Scope
from router.sending.requests import SendRequests
from router.web.capabilities import DocumentedRoute
from router.web.search import NO_FUZZY, RESOURCES, make_plan, read_scope
from router.web.send_service import FindTarget, Meant, SendService, Unfiltered, meant_by, no_collections


def send_routes(
    base_path: str,
    index: Index,
    requests: SendRequests,
    destinations: Callable[[], Mapping[str, Destination]],
    config: Config,
) -> list[DocumentedRoute]:
    """Make the routes of Send and Check Send Result for the Studies service: the resources that can be searched.

    `destinations` gives those that are registered just now; a reload gives another mapping.
    """
    service = SendService(base_path, requests, destinations, config)
    allow = config.http.allow_unfiltered_send
    routes = []
    for one in RESOURCES:
        find = _finder(one.path.removeprefix("/"), one.level, index, requests, allow_unfiltered=allow)
        routes += service.routes(one.path.removeprefix("/"), find, name=one.name, parameters=one.match_parameters())
    return routes


def collection_routes(base_path: str) -> list[Route]:
    """Make the routes that say that send requests cannot be listed. They go before those of Retrieve."""
    return no_collections(base_path, [one.path.removeprefix("/") for one in RESOURCES])


class StudiesTarget:
    """One resource, with the UIDs of its path."""

    def __init__(
        self,
        index: Index,
        requests: SendRequests,
        level: Level,
        scope: Scope,
        resource: str,
        *,
        allow_unfiltered: bool,
    ):
        self.resource = resource
        self._index, self._requests, self._level, self._scope = index, requests, level, scope
        self._allow_unfiltered = allow_unfiltered

    async def match(self, parameters: SearchParameters, destination: str, most: int) -> Meant:
        """See `SendTarget.match`."""
        plan = strict_plan(self._level, self._scope, parameters, allow_unfiltered=self._allow_unfiltered)
        found = await self._index.match_set(plan, limit=parameters.limit, offset=parameters.offset, most=most)
        return meant_by(found, self._requests, [NO_FUZZY] if parameters.fuzzy else [])


def strict_plan(level: Level, scope: Scope, parameters: SearchParameters, *, allow_unfiltered: bool) -> Plan:
    """Plan the search of a send request. Raises BadKeys, and Unfiltered when nothing keeps the whole archive from being
    sent: neither a study in the path nor a key (O-21).
    """
    if parameters.unknown:
        raise BadKeys(parameters.unknown, ["is not an attribute"] * len(parameters.unknown))
    if not (allow_unfiltered or scope.study is not None or any(map(_asks_something, parameters.match))):
        raise Unfiltered
    return make_plan(level, scope, parameters, strict=True)


def _asks_something(key: MatchParameter) -> bool:
    try:
        return not isinstance(parse_key(key.path, key.value), Universal)
    except InvalidKey:
        return True  # `make_plan` will say why


def _finder(template: str, level: Level, index: Index, requests: SendRequests, *, allow_unfiltered: bool) -> FindTarget:
    def find(request: Request) -> StudiesTarget:
        scope = read_scope(request)
        resource = template.format(study=scope.study, series=scope.series)
        return StudiesTarget(index, requests, level, scope, resource, allow_unfiltered=allow_unfiltered)

    return find
