"""Non-patient instances in the journal: their keys are written when they are accepted, and searched by category.

The keys are DICOM JSON, and the one matcher looks at each of a category: there are hundreds of them at most sites, as
there are protocols and implants, not studies. Superseded instances (D13) are never found; the order is that of arrival.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.matcher import Key
from router.dicom.matcher_keys import UidList
from router.dicom.uids import Uid
from router.journal.records import NonPatientRow
from router.journal.search_rows import FileRow

MAX_PAGE_CHARACTERS: Final = 16 * 1024 * 1024
"""Of JSON on one page: 1,000 of the largest protocols in the field have 5 MB of keys, hostile ones a gigabyte."""

_SOP_INSTANCE_UID: Final = (0x00080018,)
_INSERT: Final = "INSERT INTO non_patient (instance_id, category, keys) VALUES (?, ?, ?)"
_FILE: Final = """
SELECT i.id, '', '', '', i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.instance_number,
       i.number_of_frames, i.file, i.data_set_offset, i.data_set_bytes, i.data_set_sha256, n.keys
"""
_ALL: Final = f"""{_FILE}
  FROM non_patient n CROSS JOIN instance i ON i.id = n.instance_id
 WHERE n.category = :category AND i.superseded = 0
 ORDER BY n.instance_id
"""
_SOME: Final = f"""{_FILE}
  FROM instance i CROSS JOIN non_patient n ON n.instance_id = i.id
 WHERE i.sop_instance_uid IN (SELECT value FROM json_each(:uids)) AND n.category = :category AND i.superseded = 0
 ORDER BY n.instance_id
"""


class Match(msgspec.Struct, frozen=True):
    """One instance that matches."""

    file: FileRow
    keys: JsonDataSet


class Matches(msgspec.Struct, frozen=True):
    """One page of the matches, in order, and how many there are in all. It may be shorter than was asked for."""

    page: tuple[Match, ...]
    total: int


def insert(conn: sqlite3.Connection, instance_id: int, row: NonPatientRow) -> None:
    """Write the keys of an instance that has just been journalled; they go when it goes."""
    conn.execute(_INSERT, (instance_id, row.category, row.keys))


def find(conn: sqlite3.Connection, category: str, keys: Sequence[Key], *, limit: int, offset: int = 0) -> Matches:
    """Give the page of `limit` matches behind the first `offset`; it ends sooner at MAX_PAGE_CHARACTERS."""
    page: list[Match] = []
    total, room = 0, MAX_PAGE_CHARACTERS
    for total, (file, text, data_set) in enumerate(_matching(conn, category, keys), start=1):
        if offset < total <= offset + limit and room > 0:
            page.append(Match(FileRow(*file), data_set))
            room -= len(text)
    return Matches(tuple(page), total)


def find_ids(conn: sqlite3.Connection, category: str, keys: Sequence[Key]) -> list[int]:
    """Give the row ids of the instances that match, in order."""
    return [file[0] for file, _, _ in _matching(conn, category, keys)]


def stored(conn: sqlite3.Connection, category: str, sop_instance_uid: Uid) -> FileRow | None:
    """Say where one instance of a category is; None when there is none."""
    uids = UidList(_SOP_INSTANCE_UID, frozenset({sop_instance_uid}))
    matches = find(conn, category, [uids], limit=1)
    return matches.page[0].file if matches.page else None


def _matching(
    conn: sqlite3.Connection, category: str, keys: Sequence[Key]
) -> Iterator[tuple[Sequence[Any], str, JsonDataSet]]:
    for *file, text in _rows(conn, category, keys):
        data_set = msgspec.json.decode(text)
        attributes = JsonAttributes(data_set)
        if all(key.matches(attributes) for key in keys):
            yield file, text, data_set


def _rows(conn: sqlite3.Connection, category: str, keys: Sequence[Key]) -> Iterator[tuple[Any, ...]]:
    """Read the rows that may match: those of the category, or of the SOP Instance UIDs that are asked for."""
    for key in keys:
        if isinstance(key, UidList) and key.path == _SOP_INSTANCE_UID:
            uids = msgspec.json.encode(sorted(key.uids)).decode()
            return conn.execute(_SOME, {"category": category, "uids": uids})
    return conn.execute(_ALL, {"category": category})
