"""Claim, conclude and give back sub-operations: the only statements that move one from state to state (D3, D6, D13).

Every function runs inside one transaction of the writer. An attempt is written down, with the date of the next one,
before it is made; a claimed row is in flight until it is concluded, released, or recovered after a crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from router.dicom.envelope import Declared
from router.dicom.uids import AETitle, Uid
from router.journal.records import Delivery, SubOperationState

LEASE_FIRST_S = 5.0
LEASE_CAP_S = 3600.0
"""When an attempt is tried again whose process died: 5 s, doubling to an hour, so that a crash loop backs off too."""

WINDOW = 2
"""Due rows looked at for each one claimed, so that instances of one series can travel together."""

EXPIRE_AT_ONCE = 1000
"""Rows parked by one transaction, so that the writer stays free."""

NOT_SENT = "not sent"
INTERRUPTED = "interrupted"
"""Outcomes of an attempt beside the words of `dicom.status.Verdict`."""


class Conclusion(msgspec.Struct, frozen=True):
    """How one attempt ended.

    `due_at` (Unix seconds) is when to try again, and counts only while `state` is 'remaining'.
    """

    sub_operation_id: int
    attempt_id: int
    state: SubOperationState
    outcome: str
    ended_at: float
    due_at: float
    status: int | None = None
    reason: str = ""
    blames_instance: bool = False
    uncertain: bool = False
    confirming: Literal["", "completed", "warning"] = ""
    """The destination answered, and is to commit to it by `due_at`: then this is its state."""


class Counts(msgspec.Struct, frozen=True):
    """Sub-operations by state."""

    remaining: int = 0
    completed: int = 0
    warning: int = 0
    failed: int = 0


# Each of these is one step of SQLite for a whole batch, with JSON in or out: while it runs, the interpreter is free for
# the loop, which has instances on the wire. Row by row the loop would wait for the interpreter time and again.
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
         coalesce(t.study_instance_uid, ''), q.originator_aet, q.originator_message_id, q.priority))
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
_END_ATTEMPTS = """
UPDATE attempt SET ended_at = value ->> 0, outcome = value ->> 1, status = value ->> 2, reason = value ->> 3
  FROM json_each(:ends) WHERE attempt.id = value ->> 4
"""
_END = """
UPDATE sub_operation
   SET state = value ->> 0, in_flight = 0, ended_at = value ->> 1,
       instance_failures = instance_failures + (value ->> 2),
       uncertain = (value ->> 3) AND max(uncertain, value ->> 4), status = value ->> 5, reason = value ->> 6
  FROM json_each(:ends) WHERE sub_operation.id = value ->> 7
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


def finish(conn: sqlite3.Connection, conclusions: Sequence[Conclusion]) -> None:
    """Write how attempts ended and what became of their sub-operations."""
    ends = [(c.ended_at, c.outcome, c.status, c.reason, c.attempt_id) for c in conclusions]
    conn.execute(_END_ATTEMPTS, {"ends": msgspec.json.encode(ends).decode()})
    ended = [
        (
            c.state,
            c.ended_at,
            int(c.blames_instance),
            int(c.state == "failed"),
            int(c.uncertain),
            c.status,
            c.reason,
            c.sub_operation_id,
        )
        for c in conclusions
        if c.state != "remaining"
    ]
    again = [
        (c.due_at, c.blames_instance, c.uncertain, c.confirming, c.confirming, c.status, c.reason, c.sub_operation_id)
        for c in conclusions
        if c.state == "remaining"
    ]
    if ended:
        conn.execute(_END, {"ends": msgspec.json.encode(ended).decode()})
    if again:
        conn.executemany(
            "UPDATE sub_operation SET in_flight = 0, due_at = ?, instance_failures = instance_failures + ?,"
            " uncertain = max(uncertain, ?) AND ? = '', confirming = ?, status = ?, reason = ? WHERE id = ?",
            again,
        )


def release(conn: sqlite3.Connection, deliveries: Sequence[Delivery], *, reason: str, now: float) -> None:
    """Give back what was claimed but not sent: due at its old place in the queue, uncharged.

    Of attempts that were not made only the last is kept, so that a dead destination does not fill the journal.
    """
    conn.executemany(
        "DELETE FROM attempt WHERE sub_operation_id = ? AND outcome = ?",
        [(d.sub_operation_id, NOT_SENT) for d in deliveries],
    )
    conn.executemany(
        "UPDATE attempt SET ended_at = ?, outcome = ?, reason = ? WHERE id = ?",
        [(now, NOT_SENT, reason, d.attempt_id) for d in deliveries],
    )
    conn.executemany(
        "UPDATE sub_operation SET in_flight = 0, attempts = attempts - 1, due_at = created_at, reason = ? WHERE id = ?",
        [(reason, d.sub_operation_id) for d in deliveries],
    )


def recover(conn: sqlite3.Connection, destination: str, *, now: float, longest_wait_s: float) -> int:
    """Take back what a dead lane or process had in flight; answers how many. Whether they were sent is unknown.

    They stay due when their attempt said so. A date further off than any wait of ours comes from a clock that jumped
    (D11).
    """
    conn.execute(
        "UPDATE attempt SET ended_at = ?, outcome = ?, reason = 'the router stopped during this attempt'"
        " WHERE outcome = '' AND sub_operation_id IN"
        " (SELECT id FROM sub_operation WHERE destination = ? AND state = 'remaining' AND in_flight = 1)",
        (now, INTERRUPTED, destination),
    )
    recovered = conn.execute(
        "UPDATE sub_operation SET in_flight = 0, uncertain = 1"
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 1",
        (destination,),
    ).rowcount
    conn.execute(
        "UPDATE sub_operation SET due_at = ?"
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 0 AND confirming = '' AND due_at > ?",
        (now + longest_wait_s, destination, now + longest_wait_s),
    )
    return recovered


def expire(conn: sqlite3.Connection, destination: str, *, created_before: float, reason: str, now: float) -> int:
    """Park what waits since before `created_before` (of the rows that are due first); answers how many."""
    return conn.execute(
        "UPDATE sub_operation SET state = 'failed', ended_at = ?, reason = ? WHERE id IN"
        " (SELECT id FROM (SELECT id, created_at FROM sub_operation"
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 0 AND confirming = ''"
        " ORDER BY due_at, id LIMIT ?)"
        " WHERE created_at < ?)",
        (now, reason, destination, EXPIRE_AT_ONCE, created_before),
    ).rowcount


def next_due(conn: sqlite3.Connection, destination: str) -> float | None:
    """Say when the next claim for `destination` can bring something (Unix seconds); None when nothing waits."""
    row = conn.execute(
        "SELECT min(due_at) FROM sub_operation"
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 0 AND confirming = ''",
        (destination,),
    ).fetchone()
    due: float | None = row[0]
    return due


def counts(conn: sqlite3.Connection, destination: str) -> Counts:
    """Count the sub-operations of one destination by state."""
    rows = conn.execute(
        "SELECT state, count(*) FROM sub_operation WHERE destination = ? GROUP BY state", (destination,)
    )
    return Counts(**dict(rows.fetchall()))


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
    )
