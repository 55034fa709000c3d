"""Searching the index: studies, series and instances that match, their rows, their counts, where their files are.

All functions only read; they are meant for the reading connection. Superseded instances (D13), and series and studies
that have no others, are never found. The order is that of the row ids, so the same search gives the same order as long
as nothing comes or goes (PS3.18 §8.3.4.4.1).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.matcher import Key
from router.dicom.uids import Uid
from router.journal.search_conditions import Column, Condition, Parameters, Table, Way, condition, register

Sought = Literal["patient", "study", "series", "instance"]
"""What is looked for. A patient has no row: the first of those of its studies that match stands for it."""

LETTER: Final[Mapping[Table, str]] = {"study": "s", "series": "r", "instance": "i"}
_ORDER: Final[tuple[Table, ...]] = ("study", "series", "instance")
_JOINS: Final[Mapping[tuple[Table, Table], str]] = {
    ("study", "series"): "CROSS JOIN series r ON r.study_id = s.id",
    ("series", "instance"): "CROSS JOIN instance i ON i.series_id = r.id",
    ("series", "study"): "CROSS JOIN study s ON s.id = r.study_id",
    ("instance", "series"): "CROSS JOIN series r ON r.id = i.series_id",
}
"""CROSS JOIN: SQLite keeps the order that is written."""
_ALIVE: Final[Mapping[Table, str]] = {
    "study": "EXISTS (SELECT 1 FROM series l CROSS JOIN instance j ON j.series_id = l.id AND j.superseded = 0"
    " WHERE l.study_id = s.id)",
    "series": "EXISTS (SELECT 1 FROM instance j WHERE j.series_id = r.id AND j.superseded = 0)",
    "instance": "i.superseded = 0 AND i.series_id IS NOT NULL",
}
_ONE_PATIENT: Final = "s.patient_id, s.issuer_of_patient_id, CASE s.patient_id WHEN '' THEN s.patient_name ELSE '' END"
"""What studies of one patient have in common: Patient ID and its issuer; without a Patient ID the name."""
SAME_PATIENT: Final = (
    "s.patient_id = p.patient_id AND s.issuer_of_patient_id = p.issuer_of_patient_id"
    " AND (s.patient_id <> '' OR s.patient_name = p.patient_name)"
)
"""That the studies s and p are of one patient."""
_MODALITIES: Final = """
coalesce((SELECT group_concat(m.modality, '\\') FROM (
  SELECT DISTINCT l.modality FROM series l WHERE l.study_id = s.id AND l.modality <> ''
     AND EXISTS (SELECT 1 FROM instance j WHERE j.series_id = l.id AND j.superseded = 0)) m), '')"""


def _columns(table: Table, keywords: str, **settings: Any) -> dict[AttributePath, Column]:
    """Map keywords to the columns that are called after them."""
    pairs = (pair.split("=") for pair in keywords.split())
    return {
        attribute_path(keyword): Column(table, f"{LETTER[table]}.{column}", **settings) for column, keyword in pairs
    }


def _indexed(table: Table, column: str, keyword: str, odd: str = "") -> dict[AttributePath, Column]:
    return {attribute_path(keyword): Column(table, f"{LETTER[table]}.{column}", index=column, odd=odd)}


COLUMNS: Final[Mapping[AttributePath, Column]] = {
    **_indexed("study", "study_instance_uid", "StudyInstanceUID"),
    **_indexed("study", "patient_id", "PatientID", "odd"),
    **_indexed("study", "accession_number", "AccessionNumber", "odd"),
    **_indexed("study", "study_date", "StudyDate", "odd"),
    **_columns(
        "study",
        "issuer_of_patient_id=IssuerOfPatientID patient_name=PatientName patient_birth_date=PatientBirthDate "
        "patient_sex=PatientSex study_time=StudyTime referring_physician_name=ReferringPhysicianName study_id=StudyID "
        "study_description=StudyDescription timezone_offset_from_utc=TimezoneOffsetFromUTC",
    ),
    attribute_path("ModalitiesInStudy"): Column("study", _MODALITIES, is_computed=True),
    **_indexed("series", "series_instance_uid", "SeriesInstanceUID"),
    **_columns(
        "series",
        "modality=Modality series_number=SeriesNumber series_description=SeriesDescription "
        "body_part_examined=BodyPartExamined "
        "performed_procedure_step_start_date=PerformedProcedureStepStartDate "
        "performed_procedure_step_start_time=PerformedProcedureStepStartTime",
    ),
    **_columns(
        "series",
        "request_attributes=RequestAttributesSequence",
        items=(attribute_path("ScheduledProcedureStepID"), attribute_path("RequestedProcedureID")),
    ),
    **_indexed("instance", "sop_instance_uid", "SOPInstanceUID"),
    **_columns(
        "instance",
        "sop_class_uid=SOPClassUID instance_number=InstanceNumber number_of_frames=NumberOfFrames rows=Rows "
        "columns=Columns bits_allocated=BitsAllocated",
    ),
}
"""What can be matched, and where it is."""


class Question(msgspec.Struct, frozen=True):
    """What is looked for: patients, studies, series or instances, those within the UIDs given that match all keys."""

    level: Sought
    study: Uid | None = None
    series: Uid | None = None
    instance: Uid | None = None
    keys: tuple[Key, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """The row ids of one page of the matches, in order, and how many matches there are in all."""

    ids: tuple[int, ...]
    total: int


class InstancePage(msgspec.Struct, frozen=True):
    """As `Page`, with the row ids of the instances. Where these are too many there are none, and `instances`, else
    their number, is more than may be.
    """

    ids: tuple[int, ...]
    total: int
    instance_ids: tuple[int, ...]
    instances: int


def find(conn: sqlite3.Connection, question: Question, *, limit: int, offset: int = 0) -> Page:
    """Give the page of `limit` matches (all when it is negative) behind the first `offset`."""
    select, parameters = matches(conn, question)
    rows = conn.execute(
        f"WITH m(id) AS MATERIALIZED ({select}) SELECT count(*) FROM m"
        " UNION ALL SELECT id FROM (SELECT id FROM m ORDER BY id LIMIT :limit OFFSET :offset)",
        {**parameters, "limit": limit, "offset": offset},
    ).fetchall()
    return Page(tuple(row[0] for row in rows[1:]), rows[0][0])


def find_instances(
    conn: sqlite3.Connection, question: Question, *, limit: int | None, offset: int, most: int
) -> InstancePage:
    """Give a page of matches with all their instances, in the order of the page; without these when above `most`.

    What matches has at least one instance each, so that no more than `most` matches need to be looked at.
    """
    within = most + 1 if limit is None else min(limit, most + 1)
    page = find(conn, question, limit=within, offset=offset)
    if question.level == "instance" or len(page.ids) > most:
        return InstancePage(page.ids, page.total, page.ids if len(page.ids) <= most else (), len(page.ids))
    instances = f"FROM json_each(:ids) e {_DOWN[question.level]} AND i.superseded = 0"
    parameters = {"ids": msgspec.json.encode(page.ids).decode(), "most": most + 1}
    found = conn.execute(f"SELECT i.id {instances} ORDER BY e.key, i.id LIMIT :most", parameters).fetchall()
    ids = tuple(row[0] for row in found) if len(found) <= most else ()
    return InstancePage(page.ids, page.total, ids, len(found))


_DOWN: Final[Mapping[Sought, str]] = {
    "patient": f"CROSS JOIN study p ON p.id = e.value CROSS JOIN study s ON {SAME_PATIENT}"
    " CROSS JOIN series r ON r.study_id = s.id CROSS JOIN instance i ON i.series_id = r.id",
    "study": "CROSS JOIN series r ON r.study_id = e.value CROSS JOIN instance i ON i.series_id = r.id",
    "series": "CROSS JOIN instance i ON i.series_id = e.value",
}


def matches(conn: sqlite3.Connection, question: Question) -> tuple[str, Parameters]:
    """Write the query of all row ids that match, and teach the connection its keys."""
    register(conn, question.keys, COLUMNS)
    conditions = [condition(number, key, COLUMNS) for number, key in enumerate(question.keys)]
    conditions += _scope(question)
    ways = sorted((one.way for one in conditions if one.way is not None), key=lambda way: way.rank)
    way = ways[0] if ways else None
    table = table_of(question.level)
    tables = {table}.union(*(one.tables for one in conditions))
    start = way.table if way else min(tables, key=_ORDER.index)
    where = [_ALIVE[table], *(one.sql for one in conditions)]
    if way:
        where.insert(0, f"{LETTER[start]}.id IN ({way.sql})")
    parameters: Parameters = {}
    for one in conditions:
        parameters.update(one.parameters)
    rows = f"FROM {_joined(start, tables)} WHERE {' AND '.join(where)}"
    if question.level == "patient":
        return f"SELECT min(s.id) AS id {rows} GROUP BY {_ONE_PATIENT}", parameters
    return f"SELECT {LETTER[table]}.id AS id {rows}", parameters


def table_of(sought: Sought) -> Table:
    """Say in which table the rows of what is looked for are."""
    return "study" if sought == "patient" else sought


def _joined(start: Table, tables: set[Table]) -> str:
    """Join the tables, from the one to start with upwards and then downwards."""
    at = _ORDER.index(start)
    wanted = [_ORDER.index(table) for table in tables]
    text = f"{start} {LETTER[start]}"
    for here in range(at, min(wanted), -1):
        text += " " + _JOINS[_ORDER[here], _ORDER[here - 1]]
    for here in range(at, max(wanted)):
        text += " " + _JOINS[_ORDER[here], _ORDER[here + 1]]
    return text


def _scope(question: Question) -> list[Condition]:
    """Make the conditions of the UIDs that come with the path of a resource."""
    conditions = []
    given: Sequence[tuple[int, Table, str, Uid | None]] = (
        (2, "study", "study_instance_uid", question.study),
        (1, "series", "series_instance_uid", question.series),
        (0, "instance", "sop_instance_uid", question.instance),
    )
    for rank, table, column, uid in given:
        if uid is not None:
            name = f"scope_{table}"
            way = Way(rank, table, f"SELECT id FROM {table} WHERE {column} = :{name}")
            conditions.append(Condition(f"{LETTER[table]}.{column} = :{name}", {name: uid}, frozenset({table}), way))
    return conditions
