"""QIDO-RS: the six resources that are searched (PS3.18 §10.6), over `router.search`. Parses, asks, renders; no SQL.

A page has at most MAX_RESULTS results, which is also the default: memory stays bounded, and a `Warning: 299` says how
many more there are (§8.3.4.4.1). What cannot be matched is ignored, with a warning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response

from router.dicom.attributes import path_name
from router.dicom.json_model import JsonDataSet, element
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb.accept import MixedTypes, NotAcceptable
from router.dicomweb.capabilities import SEARCH_PARAMETERS, Parameter, Transaction, attribute_parameters
from router.dicomweb.query_string import BadQuery, SearchParameters, read_search
from router.errors import StorageError
from router.search import Asked, BadKeys, Found, Index, Level, Plan, QueryTooLong, Result, Scope, plan
from router.search.levels import entity_of, matched_entities
from router.search.plan import MATCHED
from router.web.capabilities import DocumentedRoute, Endpoint, documented
from router.web.problem import problem, unavailable
from router.web.rendering import SEARCH_OFFERS, negotiate, problem_of, render, warning, with_warnings
from router.web.urls import base_url, instance_url, series_url, study_url

log = structlog.get_logger()

MAX_RESULTS = 1000
"""Results of one answer, also without a limit: 2 MB of JSON for instances."""

MAX_WHOLE_RESULTS = 100
"""The same with includefield=all, for which a file is read a result and 50 kB of attributes are nothing special."""

_RETRIEVE_URL = 0x00081190
NO_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_MORE = "There are {} additional results that can be requested"

Look = Callable[[Request, SearchParameters, int], Awaitable[tuple[Found, Sequence[str]]]]
"""Looks for a page of so many results; gives it and the names of what it could not match. Raises BadQuery, BadKeys,
QueryTooLong, StorageError."""

_ANY = Uid("1.2")
"""Stands for the UID in a path where only its being there counts."""


@dataclass(frozen=True)
class Searched:
    """One of the six resources (Table 10.6.1-2), which send requests have too."""

    path: str
    level: Level
    name: str

    @property
    def scope(self) -> Scope:
        """Within what it is searched; the UIDs themselves mean nothing."""
        return Scope(study=_ANY if "{study}" in self.path else None, series=_ANY if "{series}" in self.path else None)

    def match_parameters(self) -> list[Parameter]:
        """Give the query parameters that choose from this resource; includefield is not among them."""
        entities = matched_entities(self.level, self.scope)
        paths = sorted((path for path in MATCHED if entity_of(path[0]) in entities), key=path_name)
        return [*attribute_parameters(paths), Parameter("TimezoneOffsetFromUTC"), *SEARCH_PARAMETERS]


RESOURCES = (
    Searched("/studies", Level.STUDY, "Studies"),
    Searched("/studies/{study}/series", Level.SERIES, "Study's Series"),
    Searched("/studies/{study}/instances", Level.INSTANCE, "Study's Instances"),
    Searched("/series", Level.SERIES, "Series"),
    Searched("/studies/{study}/series/{series}/instances", Level.INSTANCE, "Study's Series' Instances"),
    Searched("/instances", Level.INSTANCE, "Instances"),
)


def search_routes(base_path: str, index: Index) -> list[DocumentedRoute]:
    """Make the six resources."""
    return [
        documented("GET", base_path + resource.path, _endpoint(base_path, index, resource), _transaction(resource))
        for resource in RESOURCES
    ]


def read_scope(request: Request) -> Scope:
    """Read study and series of the path. Raises BadQuery when one is no UID."""
    uids = {}
    for name in ("study", "series"):
        uid = request.path_params.get(name)
        if uid is not None and not is_valid_uid(uid, odd=True):
            raise BadQuery(f"The {name} in the path", "is not a UID", "digits and dots, 64 at most")
        uids[name] = None if uid is None else Uid(uid)
    return Scope(study=uids["study"], series=uids["series"])


def make_plan(level: Level, scope: Scope, asked: SearchParameters, *, strict: bool) -> Plan:
    """Plan what a query string asks for. Raises BadKeys."""
    options = MatchOptions(
        empty_value=asked.empty_value, multiple_value=asked.multiple_value, offset_min=asked.timezone_offset_min
    )
    keys = [Asked(one.path, one.value, one.name) for one in asked.match]
    return plan(level, scope, keys, options=options, strict=strict)


def _endpoint(base_path: str, index: Index, resource: Searched) -> Endpoint:
    async def look(request: Request, asked: SearchParameters, limit: int) -> tuple[Found, Sequence[str]]:
        planned = make_plan(resource.level, read_scope(request), asked, strict=False)
        found = await index.find(
            planned, include=asked.include, include_all=asked.include_all, limit=limit, offset=asked.offset
        )
        return found, planned.ignored

    return search_endpoint(base_path, look, _url_of)


def search_endpoint(base_path: str, look: Look, url_of: Callable[[str, Result], str]) -> Endpoint:
    """Make the endpoint of any search (§8.3.4): `url_of` gives the URL of a result below the Base URI."""

    async def search(request: Request) -> Response:
        try:
            asked = read_search(request.scope["query_string"])
            offer = negotiate(request, asked.accept, SEARCH_OFFERS)
            most = MAX_WHOLE_RESULTS if asked.include_all else MAX_RESULTS
            limit = most if asked.limit is None else min(asked.limit, most)
            found, not_matched = await look(request, asked, limit)
        except (BadQuery, NotAcceptable, MixedTypes) as error:
            return problem_of(error)
        except BadKeys as error:
            return bad_keys(error)
        except QueryTooLong as error:
            return too_broad(error)
        except StorageError:
            log.exception("search failed", path=request.url.path)
            return unavailable()
        base = base_url(request, base_path)
        ignored = dict.fromkeys((*not_matched, *asked.unknown))
        warnings = _warnings(base or base_path, asked.fuzzy, list(ignored), found.remaining)
        if not found.results:
            return with_warnings(Response(status_code=204), warnings)
        data_sets = [_with_retrieve_url(result, url_of(base, result) if base else "") for result in found.results]
        return render(request, data_sets, offer=offer, warnings=warnings)

    return search


def bad_keys(error: BadKeys, next_step: str = "") -> Response:
    """Answer 400 for matching attributes that cannot be used."""
    return problem(
        400,
        " ".join(f"{name} {text}." for name, text in zip(error.names, error.problems, strict=True))[:2000],
        where="query parameters " + ", ".join(error.names)[:500],
        allowed="the matching attributes that OPTIONS on the base URI lists for this resource",
        next_step=next_step,
    )


def too_broad(error: QueryTooLong) -> Response:
    """Answer 413 for a search that takes too long."""
    return problem(
        413,
        f"The search takes too long: {error}.",
        where="query",
        next_step="Narrow it down, by PatientID, AccessionNumber, a range of StudyDate or a UID, and put fewer wild "
        "cards at the front of values.",
    )


def _url_of(base: str, result: Result) -> str:
    if result.series is None:
        return study_url(base, result.study)
    if result.instance is None:
        return series_url(base, result.study, result.series)
    return instance_url(base, result.study, result.series, result.instance)


def _with_retrieve_url(result: Result, url: str) -> JsonDataSet:
    """Add Retrieve URL (0008,1190), as the client reached us; without a value when that cannot be told."""
    return {**result.data_set, f"{_RETRIEVE_URL:08X}": element(_RETRIEVE_URL, [url] if url else [])}


def _warnings(service: str, fuzzy: bool, ignored: Sequence[str], remaining: int) -> list[str]:
    texts = []
    if fuzzy:
        texts.append(NO_FUZZY)
    if ignored:
        texts.append(f"The following parameters cannot be matched here and were ignored: {', '.join(ignored)}")
    if remaining > 0:
        texts.append(_MORE.format(remaining))
    return [warning(service, text) for text in texts]


def _transaction(resource: Searched) -> Transaction:
    name = "".join(word.capitalize() for word in resource.name.replace("'", "").split())
    return Transaction(
        id=f"searchFor{name}",
        title=f"Search for {resource.name}",
        parameters=[*resource.match_parameters(), Parameter("includefield")],
        produces=[str(offer) for offer in SEARCH_OFFERS],
        statuses=[200, 204, 400, 406, 413, 414, 503],
    )
