"""The study and series that an instance belongs to: found or made, and brought up to date. Part of one transaction.

What was seen lately is kept in the connection's memory, so that a second instance of a series costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import msgspec

from router.journal.connection import WritingConnection, remember
from router.journal.records import SeriesRow, StudyRow

Row = TypeVar("Row", StudyRow, SeriesRow)


def insert_into(table: str, columns: Sequence[str]) -> str:
    """Give the statement that inserts one row of these columns."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def row_id(lastrowid: int | None) -> int:
    """Give the id of the row that was just inserted."""
    assert lastrowid is not None
    return lastrowid


class _Level(Generic[Row]):
    """The statements of one table. Its `key`: the columns of what is above, which are not in `kind`, then its UID."""

    def __init__(self, table: str, kind: type[Row], *key: str):
        columns: tuple[str, ...] = kind.__struct_fields__
        self.kind: type[Row] = kind
        self.select = (
            f"SELECT id, {', '.join(columns)} FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in key)}"
        )
        self.insert = insert_into(table, (*key[:-1], *columns))
        self.update = f"UPDATE {table} SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?"


_STUDY: Final = _Level("study", StudyRow, "study_instance_uid")
_SERIES: Final = _Level("series", SeriesRow, "study_id", "series_instance_uid")


def study_id(conn: WritingConnection, offered: StudyRow) -> int:
    """Give the row id of a study, which has then what is `offered` of it."""
    uid = offered.study_instance_uid
    known = conn.memory.studies.get(uid)
    if known is None or offered != known[2]:
        known = _settle(conn, _STUDY, known, (uid,), offered)
        remember(conn.memory.studies, uid, known)
    return known[0]


def series_id(conn: WritingConnection, study: int, offered: SeriesRow) -> int:
    """Give the row id of a series of a study, which has then what is `offered` of it."""
    key = (study, offered.series_instance_uid)
    known = conn.memory.series.get(key)
    if known is None or offered != known[2]:
        known = _settle(conn, _SERIES, known, key, offered)
        remember(conn.memory.series, key, known)
    return known[0]


def _settle(
    conn: WritingConnection,
    level: _Level[Row],
    known: tuple[int, Row, Row | None] | None,
    key: tuple[object, ...],
    offered: Row,
) -> tuple[int, Row, Row | None]:
    """Give row id, row as stored, and row as offered."""
    if known is None:
        found = conn.execute(level.select, key).fetchone()
        if found is None:
            made = conn.execute(level.insert, (*key[:-1], *msgspec.structs.astuple(offered)))
            return row_id(made.lastrowid), offered, offered
        known = (found[0], level.kind(*found[1:]), None)
    number, stored, _ = known
    merged: Row = _merge(stored, offered)
    if merged != stored:
        conn.execute(level.update, (*msgspec.structs.astuple(merged), number))
    return number, merged, offered


def _merge(stored: Row, offered: Row) -> Row:
    """The newest value wins, but an absent one never wipes out one that is there."""
    kind = type(stored)
    pairs = zip(msgspec.structs.astuple(stored), msgspec.structs.astuple(offered), strict=True)
    return kind(*(old if new in ("", "[]") else new for old, new in pairs))
