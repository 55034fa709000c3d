"""The one way to search what is stored, for all fronts: what a search answers, a send request sends, Retrieve reads.

Order is that of arrival of what is found (its row id), the same again as long as nothing comes or goes. Only asks the
journal, which breaks off after two seconds (QueryTooLong), and the store; changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher_keys import read_number
from router.dicom.uids import Uid
from router.journal import search, search_rows
from router.journal.journal import Journal
from router.journal.search import Page, Question
from router.journal.search_rows import FileRow, PageReader, PageRows
from router.search.extra import read_extra
from router.search.levels import Level, Scope
from router.search.plan import Plan
from router.search.results import Answer, Entry, answer_to, exact_answer_to, finished
from router.store.files import Store
from router.store.stored import StoredFile

__all__ = ["Found", "Index", "MatchSet", "Result", "Scope", "StoredInstance", "TooMany"]

_STUDY_UID, _SERIES_UID, _INSTANCE_UID = (
    attribute_path(keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
)


class TooMany(ValueError):
    """More instances match than may be taken: at least `count`."""

    def __init__(self, count: int):
        self.count = count
        super().__init__(f"{count} instances or more match")


class Result(msgspec.Struct, frozen=True):
    """One match: its attributes, without Retrieve URL, and the UIDs that lead to it."""

    data_set: JsonDataSet
    study: Uid
    series: Uid | None = None
    instance: Uid | None = None


class Found(msgspec.Struct, frozen=True):
    """One page of results, and how many there are behind it."""

    results: tuple[Result, ...]
    remaining: int


class MatchSet(msgspec.Struct, frozen=True):
    """The instances (journal row ids) of one page of matches, how many matches that were, how many are behind them."""

    instance_ids: Sequence[int]
    entities: int
    remaining: int


class StoredInstance(msgspec.Struct, frozen=True):
    """One instance with all that is needed to read it. A non-patient one has no study and series ("").

    `number_of_frames` is 1 where none is given.
    """

    instance_id: int
    study: Uid
    series: Uid
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    located: StoredFile
    number_of_frames: int


class Index:
    """Searches the journal's index, and reads what only the files in the store have."""

    def __init__(self, journal: Journal, store: Store):
        self._journal, self._store = journal, store

    async def find(
        self,
        plan: Plan,
        *,
        include: Collection[AttributePath] = (),
        include_all: bool = False,
        limit: int,
        offset: int = 0,
    ) -> Found:
        """Give the page of `limit` results behind the first `offset`. Raises QueryTooLong, StorageError."""
        answer = answer_to(plan, include, include_all)
        page, results = await self._look(
            plan,
            answer,
            partial(search_rows.read_page, question=plan.question(), wanted=answer.wanted, limit=limit, offset=offset),
        )
        return Found(results, _remaining(page.total, offset, len(page.ids)))

    async def matches(self, plan: Plan, *, most: int) -> Page:
        """Give the row ids of the first `most` matches, and how many there are. Raises QueryTooLong, StorageError."""
        return await self._journal.search(partial(search.find, question=plan.question(), limit=most))

    async def results(self, plan: Plan, ids: Sequence[int], *, wanted: Collection[int]) -> tuple[Result, ...]:
        """Give those of these matches that are still there, with the attributes `wanted` and no others.

        Raises QueryTooLong, StorageError.
        """
        answer = exact_answer_to(plan, wanted)
        read = partial(
            search_rows.read_rows, level=plan.question().level, ids=ids, wanted=answer.wanted, total=len(ids)
        )
        return (await self._look(plan, answer, read))[1]

    async def _look(self, plan: Plan, answer: Answer, read: PageReader) -> tuple[PageRows, tuple[Result, ...]]:
        page, results = await self._journal.search(lambda conn: _results(answer, read(conn)))
        if answer.needs_files:
            files = [page.files[row_id] for row_id in page.ids]
            extras = await read_extra(self._store, files, plan.level, answer.from_file, plan.creators)
            results = tuple(_with_extra(result, extra) for result, extra in zip(results, extras, strict=True))
        return page, results

    async def match_set(self, plan: Plan, *, limit: int | None, offset: int, most: int) -> MatchSet:
        """Give the instances of the page of `limit` matches behind the first `offset`, in the order of the matches.

        Raises TooMany above `most` instances, QueryTooLong, StorageError.
        """
        page = await self._journal.search(
            partial(search.find_instances, question=plan.question(), limit=limit, offset=offset, most=most)
        )
        if page.instances > most:
            raise TooMany(page.instances)
        return MatchSet(page.instance_ids, len(page.ids), _remaining(page.total, offset, len(page.ids)))

    async def stored(self, scope: Scope) -> list[StoredInstance]:
        """Give all instances of a study, a series, or one; by series number, instance number and UID. Raises
        StorageError.
        """
        question = Question("instance", scope.study, scope.series, scope.instance)
        return await self._journal.search(lambda conn: _stored(search_rows.files_within(conn, question)))


def _results(answer: Answer, page: PageRows) -> tuple[PageRows, tuple[Result, ...]]:
    return page, tuple(_result(page, answer, row_id) for row_id in page.ids)


def _stored(rows: list[FileRow]) -> list[StoredInstance]:
    return [stored_instance(row) for row in sorted(rows, key=_reading_order)]


def _result(page: PageRows, answer: Answer, row_id: int) -> Result:
    entry = Entry(page, answer.level, row_id)
    is_instance = answer.level is Level.INSTANCE
    is_series = is_instance or answer.level is Level.SERIES
    return Result(
        finished(entry.data_set(answer)),
        Uid(entry.text(_STUDY_UID)),
        Uid(entry.text(_SERIES_UID)) if is_series else None,
        Uid(entry.text(_INSTANCE_UID)) if is_instance else None,
    )


def _with_extra(result: Result, extra: JsonDataSet) -> Result:
    return msgspec.structs.replace(result, data_set=finished({**extra, **result.data_set})) if extra else result


def _remaining(total: int, offset: int, given: int) -> int:
    return max(0, total - offset - given)


def _reading_order(row: FileRow) -> tuple[float, Uid, float, Uid]:
    return _number(row.series_number), row.series_instance_uid, _number(row.instance_number), row.sop_instance_uid


def _number(text: str) -> float:
    number = read_number(text)
    return float("inf") if number is None else number


def stored_instance(row: FileRow) -> StoredInstance:
    """Say where a row's data set is, as those who read it need it."""
    frames = row.number_of_frames
    return StoredInstance(
        row.instance_id,
        row.study_instance_uid,
        row.series_instance_uid,
        row.sop_instance_uid,
        row.sop_class_uid,
        row.transfer_syntax_uid,
        StoredFile(row.file, row.data_set_offset, row.data_set_bytes, row.data_set_sha256),
        int(frames) if frames.isascii() and frames.isdigit() and len(frames) <= 10 and int(frames) else 1,
    )
