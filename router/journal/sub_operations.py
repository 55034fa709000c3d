"""Conclude and give back sub-operations: beside `claims` and `moves` all that moves one from state to state (D3, D6).

Every function runs inside one transaction of the writer. An attempt is written down, with the date of the next one,
before it is made; a claimed row is in flight until it is concluded, released, or recovered after a crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from router.journal.records import Delivery, SubOperationState

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


# Each is one step of SQLite for a whole batch: while it runs, the interpreter is free for the loop, which has instances
# on the wire (docs/decisions/0009).
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
