"""Claim sub-operations: take what is due, and write an attempt down before it is made (D3, D6, D13).

Runs inside one transaction of the writer. A claimed row is in flight until it is concluded, released, or recovered
after a crash (`sub_operations`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from router.dicom.envelope import Declared
from router.dicom.uids import AETitle, Uid
from router.journal.records import Delivery

LEASE_FIRST_S = 5.0
LEASE_CAP_S = 3600.0
"""When an attempt is tried again whose process died: 5 s, doubling to an hour, so that a crash loop backs off too."""

WINDOW = 2
"""Due rows looked at for each one claimed, so that instances of one series can travel together."""


# Each of these is one step of SQLite for a whole batch, with JSON in or out: while it runs, the interpreter is free for
# the loop, which has instances on the wire. Row by row the loop would wait for the interpreter time and again
# (docs/decisions/0009).
#
# A row waits while an earlier one for the same SOP Instance UID is not ended, or any one is in flight (D6, D13). One
# that waits for commitment is not ended: what the destination commits to is told by UID alone.
_DUE = """
SELECT json_group_array(json_array(due_at, id, data_set_bytes, series_id)) FROM (
SELECT s.due_at, s.id, i.data_set_bytes, i.series_id
  FROM sub_operation s
  JOIN instance i ON i.id = s.instance_id
  JOIN send_request q ON q.id = s.send_request_id
 WHERE s.destination = :destination AND s.state = 'remaining' AND s.in_flight = 0 AND s.confirming = ''
   AND s.due_at <= :now AND q.cancelled = 0
   AND NOT EXISTS (SELECT 1 FROM sub_operation o
                    WHERE o.destination = s.destination AND o.sop_instance_uid = s.sop_instance_uid
                      AND o.state = 'remaining' AND (o.id < s.id OR o.in_flight = 1))
 ORDER BY s.due_at, s.id
 LIMIT :most)
"""
_DELIVERIES = """
SELECT json_group_array(json_array(
         c.key, s.id, s.attempts, s.instance_failures, s.created_at, s.instance_id, s.sop_instance_uid,
         i.sop_class_uid, i.transfer_syntax_uid, i.file, i.data_set_offset, i.data_set_bytes, hex(i.data_set_sha256),
         coalesce(t.study_instance_uid, ''), q.originator_aet, q.originator_message_id, q.priority,
         NOT EXISTS (SELECT 1 FROM sub_operation o
                      WHERE o.instance_id = s.instance_id AND o.state = 'remaining' AND o.id <> s.id)))
  FROM json_each(:claimed) c
  CROSS JOIN sub_operation s ON s.id = c.value
  JOIN send_request q ON q.id = s.send_request_id
  JOIN instance i ON i.id = s.instance_id
  LEFT JOIN series r ON r.id = i.series_id
  LEFT JOIN study t ON t.id = r.study_id
"""
_ATTEMPTS = """
INSERT INTO attempt (id, sub_operation_id, started_at)
SELECT :last + 1 + key, value, :now FROM json_each(:claimed)
"""
_CLAIM = """
UPDATE sub_operation
   SET in_flight = 1, attempts = attempts + 1, due_at = :now + min(:first * (1 << min(attempts, 20)), :cap)
 WHERE id IN (SELECT value FROM json_each(:claimed))
"""


class _Due(msgspec.Struct, array_like=True, order=True):
    due_at: float
    sub_operation_id: int
    data_set_bytes: int
    series_id: int | None


class _Claimed(msgspec.Struct, array_like=True):
    place: int
    sub_operation_id: int
    attempts: int
    instance_failures: int
    created_at: float
    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: str
    study_instance_uid: str
    originator_aet: str
    originator_message_id: int | None
    priority: int
    last: int


_read_due = msgspec.json.Decoder(list[_Due]).decode
_read_claimed = msgspec.json.Decoder(list[_Claimed]).decode


def claim(
    conn: sqlite3.Connection, destination: str, *, now: float, max_instances: int, max_bytes: int
) -> list[Delivery]:
    """Take what is due for `destination`, oldest first, series together; write an attempt and its next date for each.

    At least one instance when any is due; otherwise at most `max_instances` of together `max_bytes`.
    """
    looked_at = {"destination": destination, "now": now, "most": max_instances * WINDOW}
    (found,) = conn.execute(_DUE, looked_at).fetchone()
    chosen = _series_together(sorted(_read_due(found)), max_instances, max_bytes)
    if not chosen:
        return []
    (last_attempt,) = conn.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    claimed = msgspec.json.encode([row.sub_operation_id for row in chosen]).decode()
    (rows,) = conn.execute(_DELIVERIES, {"claimed": claimed}).fetchone()
    conn.execute(_ATTEMPTS, {"claimed": claimed, "last": last_attempt, "now": now})
    conn.execute(_CLAIM, {"claimed": claimed, "now": now, "first": LEASE_FIRST_S, "cap": LEASE_CAP_S})
    in_order = sorted(_read_claimed(rows), key=lambda row: row.place)
    return [_delivery(row, last_attempt + 1 + row.place) for row in in_order]


def _series_together(rows: Sequence[_Due], max_instances: int, max_bytes: int) -> list[_Due]:
    """Pick from the window: series in the order of their first due row, until the batch is full."""
    first_seen: dict[int | None, int] = {}
    for row in rows:
        first_seen.setdefault(row.series_id, len(first_seen))
    chosen: list[_Due] = []
    room = max_bytes
    for row in sorted(rows, key=lambda row: first_seen[row.series_id]):
        if len(chosen) == max_instances or (chosen and row.data_set_bytes > room):
            break
        chosen.append(row)
        room -= row.data_set_bytes
    return chosen


def _delivery(row: _Claimed, attempt_id: int) -> Delivery:
    return Delivery(
        sub_operation_id=row.sub_operation_id,
        attempt_id=attempt_id,
        attempts=row.attempts + 1,
        instance_failures=row.instance_failures,
        created_at=row.created_at,
        instance_id=row.instance_id,
        declared=Declared(Uid(row.sop_class_uid), Uid(row.sop_instance_uid), Uid(row.transfer_syntax_uid)),
        file=row.file,
        data_set_offset=row.data_set_offset,
        data_set_bytes=row.data_set_bytes,
        data_set_sha256=bytes.fromhex(row.data_set_sha256),
        study_instance_uid=Uid(row.study_instance_uid),
        originator_aet=AETitle(row.originator_aet),
        originator_message_id=row.originator_message_id,
        priority=row.priority,
        last=bool(row.last),
    )
