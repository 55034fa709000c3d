"""Claim, conclude and give back sub-operations: the only statements that move one from state to state (D3, D6, D13).

Every function runs inside one transaction of the writer. An attempt is written down, with the date of the next one,
before it is made; a claimed row is in flight until it is concluded, released, or recovered after a crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from router.dicom.envelope import Declared
from router.dicom.uids import Uid
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


class Counts(msgspec.Struct, frozen=True):
    """Sub-operations by state."""

    remaining: int = 0
    completed: int = 0
    warning: int = 0
    failed: int = 0


# A row waits while an earlier one for the same SOP Instance UID is not ended, or any one is in flight (D6, D13).
_DUE = """
SELECT s.id, s.attempts, s.instance_failures, s.created_at, s.instance_id, s.sop_instance_uid,
       i.sop_class_uid, i.transfer_syntax_uid, i.file, i.data_set_offset, i.data_set_bytes, i.data_set_sha256,
       i.series_id, coalesce(t.study_instance_uid, '')
  FROM sub_operation s
  JOIN instance i ON i.id = s.instance_id
  LEFT JOIN series r ON r.id = i.series_id
  LEFT JOIN study t ON t.id = r.study_id
 WHERE s.destination = ? AND s.state = 'remaining' AND s.in_flight = 0 AND s.due_at <= ?
   AND NOT EXISTS (SELECT 1 FROM sub_operation o
                    WHERE o.destination = s.destination AND o.sop_instance_uid = s.sop_instance_uid
                      AND o.state = 'remaining' AND (o.id < s.id OR o.in_flight = 1))
 ORDER BY s.due_at, s.id
 LIMIT ?
"""
_BYTES, _SERIES = 10, 12
_Row = tuple[Any, ...]


def claim(
    conn: sqlite3.Connection, destination: str, *, now: float, max_instances: int, max_bytes: int
) -> list[Delivery]:
    """Take what is due for `destination`, oldest first, series together; write an attempt and its next date for each.

    At least one instance when any is due; otherwise at most `max_instances` of together `max_bytes`.
    """
    rows = conn.execute(_DUE, (destination, now, max_instances * WINDOW)).fetchall()
    chosen = _series_together(rows, max_instances, max_bytes)
    if not chosen:
        return []
    (last_attempt,) = conn.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    deliveries = [_delivery(row, last_attempt + n) for n, row in enumerate(chosen, start=1)]
    conn.executemany(
        "INSERT INTO attempt (id, sub_operation_id, started_at) VALUES (?, ?, ?)",
        [(delivery.attempt_id, delivery.sub_operation_id, now) for delivery in deliveries],
    )
    conn.executemany(
        "UPDATE sub_operation SET in_flight = 1, attempts = ?, due_at = ? WHERE id = ?",
        [(d.attempts, now + _lease_s(d.attempts), d.sub_operation_id) for d in deliveries],
    )
    return deliveries


def finish(conn: sqlite3.Connection, conclusions: Sequence[Conclusion]) -> None:
    """Write how attempts ended and what became of their sub-operations."""
    conn.executemany(
        "UPDATE attempt SET ended_at = ?, outcome = ?, status = ?, reason = ? WHERE id = ?",
        [(c.ended_at, c.outcome, c.status, c.reason, c.attempt_id) for c in conclusions],
    )
    ended = [
        (
            c.state,
            c.ended_at,
            c.blames_instance,
            c.state == "failed",
            c.uncertain,
            c.status,
            c.reason,
            c.sub_operation_id,
        )
        for c in conclusions
        if c.state != "remaining"
    ]
    again = [
        (c.due_at, c.blames_instance, c.uncertain, c.status, c.reason, c.sub_operation_id)
        for c in conclusions
        if c.state == "remaining"
    ]
    if ended:
        conn.executemany(
            "UPDATE sub_operation SET state = ?, in_flight = 0, ended_at = ?,"
            " instance_failures = instance_failures + ?, uncertain = ? AND max(uncertain, ?), status = ?, reason = ?"
            " WHERE id = ?",
            ended,
        )
    if again:
        conn.executemany(
            "UPDATE sub_operation SET in_flight = 0, due_at = ?, instance_failures = instance_failures + ?,"
            " uncertain = max(uncertain, ?), status = ?, reason = ? WHERE id = ?",
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
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 0 AND due_at > ?",
        (now + longest_wait_s, destination, now + longest_wait_s),
    )
    return recovered


def expire(conn: sqlite3.Connection, destination: str, *, created_before: float, reason: str, now: float) -> int:
    """Park what waits since before `created_before` (of the rows that are due first); answers how many."""
    return conn.execute(
        "UPDATE sub_operation SET state = 'failed', ended_at = ?, reason = ? WHERE id IN"
        " (SELECT id FROM (SELECT id, created_at FROM sub_operation"
        " WHERE destination = ? AND state = 'remaining' AND in_flight = 0 ORDER BY due_at, id LIMIT ?)"
        " WHERE created_at < ?)",
        (now, reason, destination, EXPIRE_AT_ONCE, created_before),
    ).rowcount


def next_due(conn: sqlite3.Connection, destination: str) -> float | None:
    """Say when the next claim for `destination` can bring something (Unix seconds); None when nothing waits."""
    row = conn.execute(
        "SELECT min(due_at) FROM sub_operation WHERE destination = ? AND state = 'remaining' AND in_flight = 0",
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


def _series_together(rows: list[_Row], max_instances: int, max_bytes: int) -> list[_Row]:
    """Pick from the window: series in the order of their first due row, until the batch is full."""
    first_seen: dict[int | None, int] = {}
    for row in rows:
        first_seen.setdefault(row[_SERIES], len(first_seen))
    chosen: list[_Row] = []
    room = max_bytes
    for row in sorted(rows, key=lambda row: first_seen[row[_SERIES]]):
        size: int = row[_BYTES]
        if len(chosen) == max_instances or (chosen and size > room):
            break
        chosen.append(row)
        room -= size
    return chosen


def _delivery(row: _Row, attempt_id: int) -> Delivery:
    (
        sub_operation,
        attempts,
        failures,
        created_at,
        instance,
        uid,
        sop_class,
        syntax,
        file,
        offset,
        size,
        sha,
        _,
        study,
    ) = row
    return Delivery(
        sub_operation_id=sub_operation,
        attempt_id=attempt_id,
        attempts=attempts + 1,
        instance_failures=failures,
        created_at=created_at,
        instance_id=instance,
        declared=Declared(Uid(sop_class), Uid(uid), Uid(syntax)),
        file=file,
        data_set_offset=offset,
        data_set_bytes=size,
        data_set_sha256=sha,
        study_instance_uid=Uid(study),
    )


def _lease_s(attempts: int) -> float:
    """The wait after an attempt that never ended: doubling, capped; `attempts` counts the one being made."""
    doublings = min(attempts - 1, 20)
    return min(LEASE_FIRST_S * 2.0**doublings, LEASE_CAP_S)
