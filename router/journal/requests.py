"""Send requests (SEND-RS jobs) as people see them: what asked for them and how far each one is. Closing them.

They are opened where their sub-operations are made: in `acceptance`, in `quiet_units` and in `send_requests`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from router.dicom.uids import Uid
from router.journal.records import SubOperationState

LIST_LIMIT = 100
"""Requests shown at once unless asked for otherwise."""


class RequestSummary(msgspec.Struct, frozen=True):
    """One send request with its counts. `closed_at` is None while instances may still be added.

    `origin` is "rule", "send-rs", "c-move" or "proxy"; `resource` says of what it is a send request (Table 10.X.1-1:
    "studies", "studies/1.2/series", …) and `query` how it was searched. `rule` is empty when it was asked for.
    """

    transaction_uid: Uid
    origin: str
    resource: str
    query: str
    rule: str
    destination: str
    source: str
    created_at: float
    closed_at: float | None
    remaining: int
    completed: int
    warning: int
    failed: int
    problem: str = ""
    """Why the upstream of a proxy has to be asked again."""

    @property
    def finished(self) -> bool:
        """Nothing will be added and nothing is left to do."""
        return self.closed_at is not None and self.remaining == 0


class AttemptLine(msgspec.Struct, frozen=True):
    """One attempt as it was made; `outcome` is empty while it is under way."""

    started_at: float
    ended_at: float | None
    outcome: str
    status: int | None
    reason: str


class SubOperationLine(msgspec.Struct, frozen=True):
    """One instance of a send request, with its attempts, oldest first.

    `sub_operation_id` is 0, and no attempt is kept, when the upstream of a proxy sends it.
    """

    sub_operation_id: int
    sop_instance_uid: Uid
    state: SubOperationState
    in_flight: bool
    confirming: bool
    uncertain: bool
    due_at: float
    ended_at: float | None
    status: int | None
    reason: str
    attempts: tuple[AttemptLine, ...]


class RequestDetail(msgspec.Struct, frozen=True):
    """A send request and a page of its sub-operations."""

    summary: RequestSummary
    sub_operations: tuple[SubOperationLine, ...]


# A request has either sub-operations or, when a PACS behind a proxy carries it out, proxied instances.
_SUMMARY = """
SELECT q.transaction_uid, q.origin, q.resource, q.query, q.rule, q.destination, q.source,
       q.created_at, q.closed_at,
       coalesce(sum(coalesce(s.state, p.state) = 'remaining'), 0),
       coalesce(sum(coalesce(s.state, p.state) = 'completed'), 0),
       coalesce(sum(coalesce(s.state, p.state) = 'warning'), 0),
       coalesce(sum(coalesce(s.state, p.state) = 'failed'), 0),
       coalesce((SELECT r.reason FROM proxied_request r WHERE r.send_request_id = q.id), '')
  FROM send_request q LEFT JOIN sub_operation s ON s.send_request_id = q.id
  LEFT JOIN proxied_instance p ON q.origin = 'proxy' AND p.send_request_id = q.id
 WHERE q.id IN ({chosen})
 GROUP BY q.id
 ORDER BY q.id DESC
"""
_NEWEST = _SUMMARY.format(chosen="SELECT id FROM send_request WHERE id < ? ORDER BY id DESC LIMIT ?")
_NEWEST_OF_DESTINATION = _SUMMARY.format(
    chosen="SELECT id FROM send_request WHERE id < ? AND destination = ? ORDER BY id DESC LIMIT ?"
)
_ONE = _SUMMARY.format(chosen="SELECT id FROM send_request WHERE transaction_uid = ?")
_BEYOND_ALL_IDS = 2**62


def list_requests(
    conn: sqlite3.Connection, *, destination: str | None = None, limit: int = LIST_LIMIT
) -> list[RequestSummary]:
    """List the newest send requests with their counts, newest first."""
    if destination is None:
        rows = conn.execute(_NEWEST, (_BEYOND_ALL_IDS, limit))
    else:
        rows = conn.execute(_NEWEST_OF_DESTINATION, (_BEYOND_ALL_IDS, destination, limit))
    return [_summary(row) for row in rows]


def inspect_request(
    conn: sqlite3.Connection, transaction_uid: Uid, *, offset: int = 0, limit: int = LIST_LIMIT
) -> RequestDetail | None:
    """Show one send request with a page of its sub-operations and their attempts; None when it is unknown."""
    row = conn.execute(_ONE, (transaction_uid,)).fetchone()
    if row is None:
        return None
    lines = conn.execute(
        "SELECT s.id, s.sop_instance_uid, s.state, s.in_flight, s.confirming <> '', s.uncertain, s.due_at, s.ended_at,"
        " s.status, s.reason"
        " FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id"
        " WHERE q.transaction_uid = ? ORDER BY s.id LIMIT ? OFFSET ?",
        (transaction_uid, limit, offset),
    ).fetchall()
    summary = _summary(row)
    if summary.origin == "proxy":
        lines = conn.execute(
            "SELECT 0, p.sop_instance_uid, p.state, p.in_flight, 0, p.asked > 1, coalesce(r.due_at, q.created_at),"
            " p.ended_at, p.status, p.reason FROM send_request q JOIN proxied_request r ON r.send_request_id = q.id"
            " JOIN proxied_instance p ON p.send_request_id = q.id"
            " WHERE q.transaction_uid = ? ORDER BY p.id LIMIT ? OFFSET ?",
            (transaction_uid, limit, offset),
        ).fetchall()
    return RequestDetail(summary, tuple(_line(conn, line) for line in lines))


def close(conn: sqlite3.Connection, transaction_uids: Iterable[Uid], *, now: float) -> None:
    """Close send requests: nothing more will be added to them. Closing one again changes nothing."""
    conn.executemany(
        "UPDATE send_request SET closed_at = ? WHERE transaction_uid = ? AND closed_at IS NULL",
        [(now, uid) for uid in transaction_uids],
    )


def close_all(conn: sqlite3.Connection, *, now: float) -> int:
    """Close every open send request, at start: the associations that opened them are gone. Answers how many."""
    return conn.execute("UPDATE send_request SET closed_at = ? WHERE closed_at IS NULL", (now,)).rowcount


def _summary(row: tuple[Any, ...]) -> RequestSummary:
    return RequestSummary(*row)


def _line(conn: sqlite3.Connection, row: tuple[Any, ...]) -> SubOperationLine:
    sub_operation_id, uid, state, in_flight, confirming, uncertain, due_at, ended_at, status, reason = row
    attempts = conn.execute(
        "SELECT started_at, ended_at, outcome, status, reason FROM attempt WHERE sub_operation_id = ? ORDER BY id",
        (sub_operation_id,),
    )
    return SubOperationLine(
        sub_operation_id=sub_operation_id,
        sop_instance_uid=uid,
        state=state,
        in_flight=bool(in_flight),
        confirming=state == "remaining" and bool(confirming),
        uncertain=bool(uncertain),
        due_at=due_at,
        ended_at=ended_at,
        status=status,
        reason=reason,
        attempts=tuple(AttemptLine(*attempt) for attempt in attempts),
    )
