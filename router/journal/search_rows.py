"""The rows behind a page of matches: texts, counts, files. Never says what matches.

All functions only read; they are meant for the reading connection. Counts cost only what is on the page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath
from router.dicom.uids import Uid
from router.journal.search import COLUMNS, LETTER, SAME_PATIENT, Question, Sought, find, matches, table_of
from router.journal.search_conditions import Table


class Row(msgspec.Struct, frozen=True):
    """The texts of one row by attribute; those of the rows above are not among them.

    `parent_id` is the row of the series of an instance, of the study of a series.
    """

    parent_id: int | None
    texts: dict[AttributePath, str]


class FileRow(msgspec.Struct, frozen=True):
    """One instance and where its data set is."""

    instance_id: int
    study_instance_uid: Uid
    series_instance_uid: Uid
    series_number: str
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    instance_number: str
    number_of_frames: str
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes


class PageRows(msgspec.Struct, frozen=True):
    """A page of matches, `ids` in order, `total` in all; with the rows above them, by row id.

    `study_counts` has modality and number of instances of each series; `patient_counts` how many studies, series and
    instances the patient of a study has. `files` has one instance of each match.
    """

    ids: tuple[int, ...]
    total: int
    studies: dict[int, Row]
    series: dict[int, Row]
    instances: dict[int, Row]
    patient_counts: dict[int, tuple[int, int, int]]
    study_counts: dict[int, list[tuple[str, int]]]
    series_counts: dict[int, int]
    files: dict[int, FileRow]


PageReader = Callable[[sqlite3.Connection], PageRows]
"""Reads a page on the journal's thread."""


class Wanted(msgspec.Struct, frozen=True):
    """What a page has besides the rows."""

    patient_counts: bool = False
    study_counts: bool = False
    series_counts: bool = False
    files: bool = False


def read_page(conn: sqlite3.Connection, question: Question, wanted: Wanted, *, limit: int, offset: int) -> PageRows:
    """Read a page with all that is needed of it."""
    page = find(conn, question, limit=limit, offset=offset)
    return read_rows(conn, question.level, page.ids, wanted, total=page.total)


def read_rows(conn: sqlite3.Connection, level: Sought, ids: Sequence[int], wanted: Wanted, *, total: int) -> PageRows:
    """Read these matches, without those of them that are gone since they were found."""
    table = table_of(level)
    by_table: dict[Table, dict[int, Row]] = {"study": {}, "series": {}, "instance": {}}
    above: Iterable[int] = ids
    for one in (("instance", "series", "study"), ("series", "study"), ("study",))[_DEPTH[table]]:
        by_table[one] = _rows(conn, one, above)
        above = {row.parent_id for row in by_table[one].values() if row.parent_id is not None}
    files = _newest_files(conn, table, ids) if wanted.files else {}
    there = files if wanted.files else by_table[table]
    return PageRows(
        tuple([row_id for row_id in ids if row_id in there]),
        total,
        by_table["study"],
        by_table["series"],
        by_table["instance"],
        _patient_counts(conn, by_table["study"]) if wanted.patient_counts else {},
        _study_counts(conn, by_table["study"]) if wanted.study_counts else {},
        _series_counts(conn, by_table["series"]) if wanted.series_counts else {},
        files,
    )


_DEPTH: Final[Mapping[Table, int]] = {"instance": 0, "series": 1, "study": 2}
_PARENT: Final[Mapping[Table, str]] = {"study": "NULL", "series": "r.study_id", "instance": "i.series_id"}


def _rows(conn: sqlite3.Connection, table: Table, ids: Iterable[int]) -> dict[int, Row]:
    paths = [path for path, column in COLUMNS.items() if column.table == table and not column.is_computed]
    texts, letter = ", ".join(COLUMNS[path].expression for path in paths), LETTER[table]
    found = conn.execute(
        f"SELECT {letter}.id, {_PARENT[table]}, {texts} FROM {table} {letter}"
        f" WHERE {letter}.id IN (SELECT value FROM json_each(?))",
        (_listed(ids),),
    )
    return {row[0]: Row(row[1], dict(zip(paths, row[2:], strict=True))) for row in found}


def _series_counts(conn: sqlite3.Connection, series_ids: Iterable[int]) -> dict[int, int]:
    found = conn.execute(
        "SELECT e.value, count(*) FROM json_each(?) e"
        " CROSS JOIN instance i ON i.series_id = e.value AND i.superseded = 0 GROUP BY e.value",
        (_listed(series_ids),),
    )
    return dict(found.fetchall())


def _study_counts(conn: sqlite3.Connection, study_ids: Iterable[int]) -> dict[int, list[tuple[str, int]]]:
    found = conn.execute(
        "SELECT r.study_id, r.modality, count(*) FROM json_each(?) e CROSS JOIN series r ON r.study_id = e.value"
        " CROSS JOIN instance i ON i.series_id = r.id AND i.superseded = 0 GROUP BY r.id",
        (_listed(study_ids),),
    )
    counts: dict[int, list[tuple[str, int]]] = {}
    for study_id, modality, instances in found:
        counts.setdefault(study_id, []).append((modality, instances))
    return counts


def _patient_counts(conn: sqlite3.Connection, study_ids: Iterable[int]) -> dict[int, tuple[int, int, int]]:
    found = conn.execute(
        "SELECT e.value, count(DISTINCT s.id), count(DISTINCT r.id), count(*) FROM json_each(?) e"
        f" CROSS JOIN study p ON p.id = e.value CROSS JOIN study s ON {SAME_PATIENT}"
        " CROSS JOIN series r ON r.study_id = s.id"
        " CROSS JOIN instance i ON i.series_id = r.id AND i.superseded = 0 GROUP BY e.value",
        (_listed(study_ids),),
    )
    return {row[0]: row[1:] for row in found}


_FILE: Final = """
SELECT i.id, s.study_instance_uid, r.series_instance_uid, r.series_number, i.sop_instance_uid, i.sop_class_uid,
       i.transfer_syntax_uid, i.instance_number, i.number_of_frames, i.file, i.data_set_offset, i.data_set_bytes,
       i.data_set_sha256"""
_ABOVE: Final = "CROSS JOIN series r ON r.id = i.series_id CROSS JOIN study s ON s.id = r.study_id"
_NEWEST: Final[Mapping[Table, str]] = {
    "study": "(SELECT max(j.id) FROM series l CROSS JOIN instance j ON j.series_id = l.id AND j.superseded = 0"
    " WHERE l.study_id = e.value)",
    "series": "(SELECT max(j.id) FROM instance j WHERE j.series_id = e.value AND j.superseded = 0)",
    "instance": "e.value",
}


def files_within(conn: sqlite3.Connection, question: Question) -> list[FileRow]:
    """Give all instances that match, in no order. The question must be one for instances."""
    select, parameters = matches(conn, question)
    found = conn.execute(f"{_FILE} FROM ({select}) e CROSS JOIN instance i ON i.id = e.id {_ABOVE}", parameters)
    return [FileRow(*row) for row in found]


def files_of(conn: sqlite3.Connection, instance_ids: Iterable[int]) -> list[FileRow]:
    """Give these instances, in their order; a non-patient one has no study and series ("")."""
    found = conn.execute(
        "SELECT i.id, coalesce(s.study_instance_uid, ''), coalesce(r.series_instance_uid, ''),"
        " coalesce(r.series_number, ''), i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,"
        " i.instance_number, i.number_of_frames, i.file, i.data_set_offset, i.data_set_bytes, i.data_set_sha256"
        " FROM json_each(?) e CROSS JOIN instance i ON i.id = e.value"
        " LEFT JOIN series r ON r.id = i.series_id LEFT JOIN study s ON s.id = r.study_id ORDER BY e.key",
        (_listed(instance_ids),),
    )
    return [FileRow(*row) for row in found]


def _newest_files(conn: sqlite3.Connection, table: Table, ids: Iterable[int]) -> dict[int, FileRow]:
    """Give, for each of these rows, the instance in it that came last."""
    found = conn.execute(
        f"{_FILE}, e.value FROM json_each(?) e CROSS JOIN instance i ON i.id = {_NEWEST[table]} {_ABOVE}",
        (_listed(ids),),
    )
    return {row[-1]: FileRow(*row[:-1]) for row in found}


def _listed(ids: Iterable[int]) -> str:
    return msgspec.json.encode(list(ids)).decode()
