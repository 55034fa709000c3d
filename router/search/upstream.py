"""The match set of a send request at another archive, found by C-FIND (Sup 248 B.X3, O-23, O-56).

Level by level from the highest down, with one value of each unique key above (hierarchical, REQ-022); across levels
only what was negotiated. Ends at instances, which are what C-MOVE is asked for and what is counted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import anyio
import msgspec

from router.dicom.attributes import AttributePath, path_name
from router.dicom.identifier import BadIdentifier
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher import Key
from router.dicom.query_retrieve import QueryLevel
from router.dicom.uids import Uid
from router.journal.proxied import ProxiedInstance
from router.journal.readers import QueryTooLong
from router.search.index import TooMany
from router.search.levels import Entity, Level, Scope, entity_of
from router.search.plan import Asked, BadKeys, Plan
from router.search.upstream_keys import Value, agrees, identifier, is_within, uid_of

SEARCH_S: Final = 120.0
"""Longest search: a client waits for it, and C-FIND is asked once a series."""
MAX_MATCHES: Final = 100_000
"""Most matches among which limit and offset choose."""

_STUDY, _SERIES, _IMAGE = (level.unique_key for level in (QueryLevel.STUDY, QueryLevel.SERIES, QueryLevel.IMAGE))
_LEVELS: Final = {Level.STUDY: QueryLevel.STUDY, Level.SERIES: QueryLevel.SERIES, Level.INSTANCE: QueryLevel.IMAGE}
_ASKED_AT: Final = {
    Entity.PATIENT: QueryLevel.STUDY,
    Entity.STUDY: QueryLevel.STUDY,
    Entity.SERIES: QueryLevel.SERIES,
    Entity.INSTANCE: QueryLevel.IMAGE,
}
"""At which level of Study Root the attributes of an entity are keys."""


class Archive(Protocol):
    """Asks one archive, as `delivery.query.FindClient` does. All but the fields raise Transient and Misconfigured."""

    granted_relational: bool
    granted_date_time: bool
    cut_short: bool

    async def open(self) -> None: ...

    def find(
        self, level: str, keys: JsonDataSet, *, relational: bool = False, limit: int | None = None
    ) -> AsyncGenerator[JsonDataSet, None]: ...


class UpstreamMatches(msgspec.Struct, frozen=True):
    """The instances of one page of matches, and how many matches are behind it."""

    instances: tuple[ProxiedInstance, ...]
    remaining: int


_Found = tuple[Uid, ...]
"""UIDs of study, series and instance, as many as the level has."""


def is_relational(level: Level, scope: Scope) -> bool:
    """Say whether a resource is searched across levels (Table 10.X.1-1)."""
    above = {Level.STUDY: True, Level.SERIES: scope.study is not None, Level.INSTANCE: scope.series is not None}
    return not above[level]


async def match_upstream(
    archive: Archive, plan: Plan, asked: Sequence[Asked], *, limit: int | None, offset: int, most: int
) -> UpstreamMatches:
    """Give the instances of the page of `limit` matches behind the first `offset`, in the order of their UIDs.

    Raises BadKeys for a key that the archive does not support, TooMany above `most` instances, QueryTooLong; Transient
    and Misconfigured when it cannot be asked.
    """
    try:
        with anyio.fail_after(SEARCH_S):
            await archive.open()
            search = _Search(
                archive, plan, {one.path: one.value for one in asked}, most if limit is None else MAX_MATCHES
            )
            found = sorted(await search.matches())
            page = found[offset : None if limit is None else offset + limit]
            instances = await search.instances_of(page, most)
    except BadIdentifier as error:
        names = [path_name((tag,)) for tag in error.tags]
        raise BadKeys(names, ["has a value that its VR cannot have"] * len(names)) from error
    except TimeoutError:
        raise QueryTooLong(f"the archive behind this proxy needs more than {SEARCH_S:g} s for it") from None
    return UpstreamMatches(instances, max(0, len(found) - offset - len(page)))


class _Search:
    """One request. `bound` is how many matches it may have."""

    def __init__(self, archive: Archive, plan: Plan, asked: Mapping[AttributePath, Value], bound: int):
        self._archive, self._plan, self._asked, self._bound = archive, plan, asked, bound
        self._keys: dict[QueryLevel, list[Key]] = {level: [] for level in _ASKED_AT.values()}
        for key in plan.keys:
            self._keys[_ASKED_AT[entity_of(key.path[0])]].append(key)

    async def matches(self) -> set[_Found]:
        """Give what matches at the level of the resource."""
        level, scope = self._plan.level, self._plan.scope
        if is_relational(level, scope):
            return await self._across(_LEVELS[level], scope)
        found = await self._studies(scope)
        if level is not Level.STUDY:
            found = {(study, scope.series) for (study,) in found} if scope.series else await self._below(found)
        if level is Level.INSTANCE:
            found = await self._below(found)
        return found

    async def instances_of(self, page: Sequence[_Found], most: int) -> tuple[ProxiedInstance, ...]:
        """Go down to instances, each once. Raises TooMany."""
        self._keys = {level: [] for level in self._keys}
        instances: dict[Uid, ProxiedInstance] = {}
        self._bound = most
        for found in page:
            below = {found}
            for _ in range(len(_LEVELS) - len(found)):
                below = await self._below(below)
            for study, series, instance in sorted(below):
                instances.setdefault(instance, ProxiedInstance(study, series, instance))
            if len(instances) > most:
                raise TooMany(len(instances))
        return tuple(instances.values())

    async def _studies(self, scope: Scope) -> set[_Found]:
        keys = self._keys[QueryLevel.STUDY]
        if scope.study is None:
            return await self._find(QueryLevel.STUDY, (), keys)
        if not keys:
            return {(scope.study,)}
        given = {_STUDY: {"vr": "UI", "Value": [scope.study]}}
        return {one for one in await self._find(QueryLevel.STUDY, (), keys, given) if one == (scope.study,)}

    async def _below(self, above: set[_Found]) -> set[_Found]:
        """Give what matches one level below."""
        found: set[_Found] = set()
        for uids in sorted(above):
            level = (QueryLevel.STUDY, QueryLevel.SERIES, QueryLevel.IMAGE)[len(uids)]
            found |= await self._find(level, uids, self._keys[level])
            self._check(len(found))
        return found

    async def _find(
        self, level: QueryLevel, above: _Found, keys: Sequence[Key], given: JsonDataSet | None = None
    ) -> set[_Found]:
        """Ask hierarchically, for what is within `above`."""
        names = dict(zip((_STUDY, _SERIES), above, strict=False))
        question = {name: {"vr": "UI", "Value": [uid]} for name, uid in names.items()} | (given or {})
        question |= {name: one for name, one in self._identifier(keys).items() if name not in question}
        found: set[_Found] = set()
        async with aclosing(self._archive.find(level.lower(), question, limit=self._bound + 1)) as answers:
            async for answer in answers:
                if all(is_within(answer, name, uid) for name, uid in names.items()) and agrees(keys, answer):
                    found.add((*above, uid_of(answer, level.unique_key)))
        self._check(len(found))
        return found

    async def _across(self, level: QueryLevel, scope: Scope) -> set[_Found]:
        """Ask relationally: keys of all levels at once."""
        keys = self._plan.keys
        names = (_STUDY, _SERIES, _IMAGE)[: 2 if level is QueryLevel.SERIES else 3]
        question: JsonDataSet = {name: {"vr": "UI"} for name in names} | self._identifier(keys)
        if scope.study is not None:
            question[_STUDY] = {"vr": "UI", "Value": [scope.study]}
        found: set[_Found] = set()
        asking = self._archive.find(level.lower(), question, relational=True, limit=self._bound + 1)
        async with aclosing(asking) as answers:
            async for answer in answers:
                within = scope.study is None or uid_of(answer, _STUDY) == scope.study
                if within and agrees(keys, answer):
                    found.add(tuple(uid_of(answer, name) for name in names))
        self._check(len(found))
        return found

    def _identifier(self, keys: Sequence[Key]) -> JsonDataSet:
        return identifier(keys, self._asked, combined=self._archive.granted_date_time)

    def _check(self, count: int) -> None:
        if self._archive.cut_short or count > self._bound:
            raise TooMany(max(count, self._bound + 1))
