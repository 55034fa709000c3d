"""What waits to be reported to DIMSE requesters of storage commitment (N-EVENT-REPORT, PS3.4 §J.3.3), and the list of
requests for people.
"""

from __future__ import annotations

import sqlite3

import msgspec

from router.dicom.uids import AETitle, Uid

DUE_AT_ONCE = 64


class Report(msgspec.Struct, frozen=True):
    """A result that its requester does not have yet. `tries` counts those begun; `called_aet` is who it asked."""

    request_id: int
    transaction_uid: Uid
    requester: AETitle
    called_aet: AETitle
    ready_at: float
    tries: int


class CommitmentSummary(msgspec.Struct, frozen=True):
    """A request for people. `waits_for` says who has been asked and has not answered; times are Unix seconds.

    `ready_at` is None while an instance has no ruling, `report_due_at` when there is nothing (more) to report.
    `problem` is why it is not reported, or why somebody could not be asked.
    """

    transaction_uid: Uid
    origin: str
    requester: str
    proxy: str
    created_at: float
    instances: int
    open: int
    committed: int
    failed: int
    ready_at: float | None
    report_due_at: float | None
    report_tries: int
    reported_at: float | None
    waits_for: str
    problem: str


_REPORT = "SELECT id, transaction_uid, requester, called_aet, ready_at, report_tries FROM commitment_request"


def due(conn: sqlite3.Connection, *, now: float) -> list[Report]:
    """List what should be reported by now, the longest due first."""
    rows = conn.execute(f"{_REPORT} WHERE report_due_at <= ? ORDER BY report_due_at LIMIT ?", (now, DUE_AT_ONCE))
    return [Report(*row) for row in rows]


def of_transaction(conn: sqlite3.Connection, transaction_uid: Uid) -> Report | None:
    """Give the report of a request that waits to be brought; None when there is none (any more)."""
    row = conn.execute(
        f"{_REPORT} WHERE transaction_uid = ? AND report_due_at IS NOT NULL", (transaction_uid,)
    ).fetchone()
    return None if row is None else Report(*row)


def begin(conn: sqlite3.Connection, request_id: int, *, due_at: float) -> None:
    """Write down that it is about to be reported, and when again if we do not live to see how that goes."""
    conn.execute(
        "UPDATE commitment_request SET report_tries = report_tries + 1, report_due_at = ?"
        " WHERE id = ? AND report_due_at IS NOT NULL",
        (due_at, request_id),
    )


def put_off(conn: sqlite3.Connection, request_id: int, *, due_at: float, problem: str) -> None:
    """Note why it could not be reported, and when to try again."""
    conn.execute(
        "UPDATE commitment_request SET report_due_at = ?, report_problem = ?"
        " WHERE id = ? AND report_due_at IS NOT NULL",
        (due_at, problem, request_id),
    )


def finish(conn: sqlite3.Connection, request_id: int, *, reported_at: float | None, problem: str = "") -> None:
    """Report it no more: the requester has it since `reported_at`, or never will (None)."""
    conn.execute(
        "UPDATE commitment_request SET report_due_at = NULL, reported_at = ?, report_problem = ? WHERE id = ?",
        (reported_at, problem, request_id),
    )


_SUMMARY = """
SELECT r.transaction_uid, r.origin, r.requester, r.proxy, r.created_at,
       count(i.position), sum(i.ruled = 0), sum(i.ruled AND i.failure_reason IS NULL),
       sum(i.failure_reason IS NOT NULL), r.ready_at, r.report_due_at, r.report_tries, r.reported_at,
       coalesce((SELECT group_concat(DISTINCT q.asker) FROM commitment_question q
                  WHERE q.request_id = r.id AND q.closed = 0), ''),
       coalesce(nullif(r.report_problem, ''),
                (SELECT max(q.problem) FROM commitment_question q WHERE q.request_id = r.id AND q.closed = 0), '')
  FROM commitment_request r LEFT JOIN commitment_item i ON i.request_id = r.id
"""


def summaries(conn: sqlite3.Connection, *, unfinished: bool = False, limit: int = 100) -> list[CommitmentSummary]:
    """List requests, the newest first; `unfinished`: those that are open or still to be reported."""
    which = "WHERE r.ready_at IS NULL OR r.report_due_at IS NOT NULL" if unfinished else ""
    rows = conn.execute(f"{_SUMMARY} {which} GROUP BY r.id ORDER BY r.id DESC LIMIT ?", (limit,))
    return [CommitmentSummary(*row[:6], *(count or 0 for count in row[6:9]), *row[9:]) for row in rows]
