"""What the journal knows of an instance that somebody wants committed: where it is, and how far it was delivered."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from router.dicom.uids import Uid


class OpenItem(msgspec.Struct, frozen=True):
    """An instance of a request that has no ruling yet, and its place in it."""

    position: int
    sop_class_uid: Uid
    sop_instance_uid: Uid
    study: Uid
    series: Uid


class Deliveries(msgspec.Struct, frozen=True):
    """What rules did with an instance: destinations that have it, that may still get it, that will not (parked).

    `undecided`: a series or study rule that matched waits for it to be quiet.
    """

    done: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    undecided: bool = False


class StoredInstance(msgspec.Struct, frozen=True):
    """Where it is in the store (a `store.stored.Located`), and what it is. `study` and `series` are "" for a
    non-patient instance.
    """

    instance_id: int
    sop_class_uid: Uid
    study: Uid
    series: Uid
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes
    deliveries: Deliveries


def open_items(conn: sqlite3.Connection, request_id: int, *, after: int, limit: int) -> list[OpenItem]:
    """List instances of a request without a ruling, in its order, from behind position `after`."""
    rows = conn.execute(
        "SELECT position, sop_class_uid, sop_instance_uid, study, series FROM commitment_item"
        " WHERE request_id = ? AND ruled = 0 AND position > ? ORDER BY position LIMIT ?",
        (request_id, after, limit),
    )
    return [OpenItem(*row) for row in rows]


# The newest version, if there are several (D13).
_INSTANCE = """
SELECT i.id, i.sop_class_uid, coalesce(t.study_instance_uid, ''), coalesce(r.series_instance_uid, ''),
       i.file, i.data_set_offset, i.data_set_bytes, i.data_set_sha256, i.series_id, r.study_id
  FROM instance i LEFT JOIN series r ON r.id = i.series_id LEFT JOIN study t ON t.id = r.study_id
 WHERE i.sop_instance_uid = ? AND i.superseded = 0
 ORDER BY i.arrival DESC LIMIT 1
"""
# Delivered once is delivered: what a repeat of the same content did later takes nothing away.
_DELIVERIES = """
SELECT s.destination, max(s.state IN ('completed', 'warning')), max(s.state = 'remaining')
  FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id
 WHERE s.instance_id = ? AND q.origin = 'rule'
 GROUP BY s.destination
"""
_UNDECIDED = """
SELECT 1 FROM quiet_unit
 WHERE waiting = 1 AND matched = 1 AND vetoed = 0
   AND (level = 'series' AND unit_id = ? OR level = 'study' AND unit_id = ?) LIMIT 1
"""


def instances(conn: sqlite3.Connection, sop_instance_uids: Sequence[Uid]) -> list[StoredInstance | None]:
    """Look instances up; None in the place of one that is not there."""
    return [_instance(conn, uid) for uid in sop_instance_uids]


def _instance(conn: sqlite3.Connection, uid: Uid) -> StoredInstance | None:
    row = conn.execute(_INSTANCE, (uid,)).fetchone()
    if row is None:
        return None
    instance_id, sop_class, study, series, file, offset, size, sha256, series_id, study_id = row
    delivered: dict[str, list[str]] = {"done": [], "waiting": [], "failed": []}
    for destination, done, waiting in conn.execute(_DELIVERIES, (instance_id,)):
        delivered["done" if done else "waiting" if waiting else "failed"].append(destination)
    undecided = conn.execute(_UNDECIDED, (series_id, study_id)).fetchone() is not None
    return StoredInstance(
        instance_id=instance_id,
        sop_class_uid=sop_class,
        study=study,
        series=series,
        file=file,
        data_set_offset=offset,
        data_set_bytes=size,
        data_set_sha256=sha256,
        deliveries=Deliveries(
            tuple(delivered["done"]), tuple(delivered["waiting"]), tuple(delivered["failed"]), undecided
        ),
    )


class Answers(msgspec.Struct, frozen=True):
    """What a destination that we asked said of an instance. `answered` False: it has not yet."""

    asker: str
    answered: bool
    failure_reason: int | None


def answers(conn: sqlite3.Connection, request_id: int, position: int) -> list[Answers]:
    """List the questions about an instance of a request."""
    rows = conn.execute(
        "SELECT q.asker, a.answered, a.failure_reason FROM commitment_question q"
        " JOIN commitment_answer a ON a.question_id = q.id AND a.position = ? WHERE q.request_id = ?",
        (position, request_id),
    )
    return [Answers(asker, bool(answered), reason) for asker, answered, reason in rows]
