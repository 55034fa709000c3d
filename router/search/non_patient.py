"""Searching non-patient instances (PS3.18 §12.6, §12.X; PS3.4 U, X, BB, HH, JJ, II): one level, one category at a time.

They are matched as a worklist is (PS3.4 §K.2.2.1.1.1): what is stored empty meets no key that asks for anything. As in
`plan`, a search ignores what it cannot match, a request to send does not (O-30).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, attribute_path, path_name
from router.dicom.json_model import JsonDataSet, element
from router.dicom.matcher import InvalidKey, Key, MatchOptions, join_sequence_keys, parse_key
from router.dicom.matcher_keys import Universal
from router.dicom.non_patient import CATEGORIES, Category
from router.dicom.uids import Uid
from router.journal import non_patient
from router.journal.journal import Journal
from router.journal.non_patient import Match
from router.search.extra import read_extra
from router.search.index import Found, MatchSet, Result, StoredInstance, TooMany, stored_instance
from router.search.levels import Level
from router.search.plan import Asked, BadKeys, combined
from router.search.results import finished
from router.store.files import Store

_DATES_AND_TIMES: Final = tuple(
    (attribute_path(date), attribute_path(time))
    for date, time in (("InstanceCreationDate", "InstanceCreationTime"), ("ContentDate", "ContentTime"))
)
_IF_KNOWN: Final = frozenset(map(attribute_path, ("SpecificCharacterSet", "TimezoneOffsetFromUTC")))


class NonPatientPlan(msgspec.Struct, frozen=True):
    """A search that can be run. `ignored` names what was asked and cannot be matched.

    `include` are attributes that were asked back by matching them with nothing.
    """

    category: Category
    keys: tuple[Key, ...] = ()
    include: tuple[AttributePath, ...] = ()
    ignored: tuple[str, ...] = ()


def plan_non_patient(npi_name: str, asked: Sequence[Asked], *, options: MatchOptions, strict: bool) -> NonPatientPlan:
    """Check what is asked of a category and make the keys. `options.empty_matches` is not asked.

    Raises BadKeys for a value that cannot be matched and, if `strict`, for an attribute that is no matching key of the
    category (dicom-facts C.4).
    """
    category = CATEGORIES[npi_name]
    options = dataclasses.replace(options, empty_matches=False)
    keys: list[Key] = []
    include: list[AttributePath] = []
    ignored: list[str] = []
    bad: dict[str, str] = {}
    for one in asked:
        name = one.name or path_name(one.path)
        problem = _problem(category, one.path)
        try:
            key = parse_key(one.path, one.value, options=options)
        except InvalidKey as error:
            if strict or not problem:
                bad[name] = problem or f"has a value that cannot be matched: {error}"
            else:
                ignored.append(name)
            continue
        if problem and strict:
            bad[name] = problem
        elif isinstance(key, Universal):
            include.append(one.path)
        elif problem:
            ignored.append(name)
        else:
            keys.append(key)
    if bad:
        raise BadKeys(tuple(bad), tuple(bad.values()))
    made = combined(join_sequence_keys(keys), options.offset_min, _DATES_AND_TIMES)
    return NonPatientPlan(category, tuple(made), tuple(include), tuple(ignored))


class NonPatientIndex:
    """Searches the journal for non-patient instances, and reads from the store what only their files have."""

    def __init__(self, journal: Journal, store: Store):
        self._journal, self._store = journal, store

    async def find(
        self,
        plan: NonPatientPlan,
        *,
        include: Collection[AttributePath] = (),
        include_all: bool = False,
        limit: int,
        offset: int = 0,
    ) -> Found:
        """Give the page of `limit` results behind the first `offset`: all keys of their table, and what is asked for.

        A result has an `instance` and no study (""). Raises QueryTooLong, StorageError.
        """
        category = plan.category
        found = await self._journal.search(
            partial(non_patient.find, category=category.name, keys=plan.keys, limit=limit, offset=offset)
        )
        kept = {*category.matched, *category.returned}
        wanted = None if include_all else frozenset(path[0] for path in (*include, *plan.include) if path not in kept)
        extras: Sequence[JsonDataSet] = [{} for _ in found.page]
        if found.page and (wanted is None or wanted):
            files = [match.file for match in found.page]
            extras = await read_extra(self._store, files, Level.INSTANCE, wanted, {})
        results = tuple(_result(category, match, extra) for match, extra in zip(found.page, extras, strict=True))
        return Found(results, max(0, found.total - offset - len(results)))

    async def match_set(self, plan: NonPatientPlan, *, limit: int | None, offset: int, most: int) -> MatchSet:
        """Give the instances of the page of `limit` matches behind the first `offset`, in order.

        Raises TooMany above `most` instances, QueryTooLong, StorageError.
        """
        ids = await self._journal.search(
            partial(non_patient.find_ids, category=plan.category.name, keys=plan.keys),
        )
        page = ids[offset:] if limit is None else ids[offset : offset + limit]
        if len(page) > most:
            raise TooMany(len(page))
        return MatchSet(page, len(page), max(0, len(ids) - offset - len(page)))

    async def stored(self, npi_name: str, sop_instance_uid: Uid) -> StoredInstance | None:
        """Say where one instance of a category is; None when there is none. Raises StorageError."""
        row = await self._journal.search(
            partial(non_patient.stored, category=npi_name, sop_instance_uid=sop_instance_uid)
        )
        return None if row is None else stored_instance(row)


def _problem(category: Category, path: AttributePath) -> str:
    """Say why an attribute cannot be matched; "" if it can, or if it is a sequence around what can."""
    if any(key[: len(path)] == path for key in category.matched):
        return ""
    if path in category.returned:
        return "is answered, but cannot be matched"
    return f"is no matching key of {category.name}"


def _result(category: Category, match: Match, extra: JsonDataSet) -> Result:
    """Put together what is answered: the attributes of the table also when they are empty or absent."""
    sop_class = match.file.sop_class_uid
    top = sorted(path for path in category.kept(sop_class) - _IF_KNOWN)
    empty = {f"{path[0]:08X}": {"vr": "SQ"} if len(path) > 1 else element(path[0], ()) for path in top}
    return Result(finished({**empty, **match.keys, **extra}), Uid(""), None, match.file.sop_instance_uid)
