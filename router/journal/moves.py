"""When what a C-MOVE asked for has ended: its SCU waits on an association, and may want no more of it (PS3.4 §C.4.2.3).

Nothing is taken from a sub-operation that is in flight: it ends by itself, and is counted as it ends.
"""

from __future__ import annotations

import sqlite3

import msgspec

from router.dicom.uids import Uid

CANCELLED = "cancelled by the requester"
"""Why a sub-operation failed that was not begun; what stands behind it is the outcome of an earlier attempt."""
LOOK_AGAIN_S = 5.0
"""How long a C-MOVE that is being worked on is left alone: to look may take a walk over all that remains of it."""


class Patience(msgspec.Struct, frozen=True):
    """`retry_s`: how long a C-MOVE waits when nothing of it ends; `lifetime_s`: how long it may take as a whole."""

    retry_s: float
    lifetime_s: float


def waits_until(
    conn: sqlite3.Connection, request_id: int, *, created_at: float, now: float, patience: Patience
) -> float | None:
    """Say until when to wait for more of a C-MOVE; None when what remains of it has failed.

    It is worth waiting for `retry_s` after the last outcome; while something is in flight or waits for commitment; and
    while the destination, which is well, works on what stands before it in its queue.
    """
    end = created_at + patience.lifetime_s
    if now >= end:
        return None
    row = conn.execute("SELECT max(ended_at) FROM sub_operation WHERE send_request_id = ?", (request_id,)).fetchone()
    quiet_until = (row[0] or created_at) + patience.retry_s
    if quiet_until > now:
        return min(quiet_until, end)
    (worked_on,) = conn.execute(
        "SELECT EXISTS (SELECT 1 FROM sub_operation s WHERE s.send_request_id = :request AND s.state = 'remaining'"
        " AND (s.in_flight = 1 OR s.confirming <> '' OR (s.attempts = 0 AND NOT EXISTS"
        " (SELECT 1 FROM destination d WHERE d.name = s.destination AND d.state <> 'ready'))))",
        {"request": request_id},
    ).fetchone()
    return min(now + LOOK_AGAIN_S, end) if worked_on else None


def cancel(conn: sqlite3.Connection, transaction_uid: Uid, *, now: float) -> int | None:
    """Have nothing more of a request begun: from here on it is overdue, and `send_requests.expire` ends what remains.

    Answers its row id; None when it is unknown.
    """
    row = conn.execute(
        "UPDATE send_request SET cancelled = 1, expires_at = ? WHERE transaction_uid = ? RETURNING id",
        (now, transaction_uid),
    ).fetchone()
    return None if row is None else int(row[0])


def fail_rest(conn: sqlite3.Connection, request_id: int, *, now: float, reason: str, most: int) -> int:
    """Fail up to `most` sub-operations of a request that are not in flight; answers how many."""
    return conn.execute(
        "UPDATE sub_operation SET state = 'failed', confirming = '', ended_at = :now,"
        " reason = iif(reason = '', :reason, :reason || '; last: ' || reason)"
        " WHERE id IN (SELECT id FROM sub_operation"
        " WHERE send_request_id = :request AND state = 'remaining' AND in_flight = 0 LIMIT :most)",
        {"now": now, "reason": reason, "request": request_id, "most": most},
    ).rowcount


def end_if_done(conn: sqlite3.Connection, request_id: int) -> bool:
    """Forget the date of a request of which nothing remains."""
    done = conn.execute(
        "UPDATE send_request SET expires_at = NULL WHERE id = ? AND NOT EXISTS"
        " (SELECT 1 FROM sub_operation WHERE send_request_id = send_request.id AND state = 'remaining')"
        " AND NOT EXISTS (SELECT 1 FROM proxied_instance p WHERE p.send_request_id = send_request.id"
        " AND p.state = 'remaining')",
        (request_id,),
    )
    return done.rowcount > 0


def is_cancelled(reason: str) -> bool:
    """Say whether a sub-operation failed only because it was not wanted any more."""
    return reason.startswith(CANCELLED)
