"""Send requests that somebody asked for (Sup 248 §10.X, §10.Y): make one, count it, end it in time, forget it.

A request and its sub-operations are made in one transaction (D4); its counters are always those of its rows. Requests
of rules are counted and forgotten by the same functions, but are made in `acceptance` and `quiet_units`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from router.dicom.uids import AETitle, Uid
from router.journal import moves, proxied
from router.journal.connection import WritingConnection
from router.journal.moves import Patience
from router.journal.proxied import ProxiedInstance

Origin = Literal["rule", "send-rs", "c-move", "proxy"]

EXPIRE_REQUESTS = 64
EXPIRE_ROWS = 1_000
FORGET_REQUESTS = 64
FORGET_ROWS = 500
"""Requests looked at and rows changed by one transaction, so that the writer stays free."""


class NewRequest(msgspec.Struct, frozen=True):
    """A send request as it was asked for; what the columns mean stands in schema.sql. Dates are Unix seconds."""

    transaction_uid: Uid
    origin: Origin
    resource: str
    requester: str
    query: str
    destination: str
    source: str
    created_at: float
    expires_at: float
    originator_aet: str = ""
    originator_message_id: int | None = None
    priority: int = 0


class RequestState(msgspec.Struct, frozen=True):
    """How far a request is. `ended_at` is None while anything remains or may still be added.

    `failed_uids` (Failed SOP Instance UID List) names each instance that failed once, when the request has ended.
    `cancelled` of those that failed, `cancelled_uids`, did so because nobody wanted them any more.
    """

    resource: str
    requester: str
    created_at: float
    ended_at: float | None
    remaining: int = 0
    completed: int = 0
    warning: int = 0
    failed: int = 0
    failed_uids: tuple[Uid, ...] = ()
    cancelled: int = 0
    cancelled_uids: tuple[Uid, ...] = ()


class Expired(msgspec.Struct, frozen=True):
    """What `expire` did: sub-operations failed besides those of cancelled requests, and whether to go on at once."""

    failed: int
    more: bool


_REQUEST_INSERT = """
INSERT INTO send_request (transaction_uid, origin, resource, requester, query, destination, source, originator_aet,
                          originator_message_id, priority, created_at, closed_at, expires_at)
VALUES (:transaction_uid, :origin, :resource, :requester, :query, :destination, :source, :originator_aet,
        :originator_message_id, :priority, :created_at, :created_at, :expires_at)
ON CONFLICT (transaction_uid) DO NOTHING
RETURNING id
"""
# A version that was superseded since the search is left out: behind the newer one it would undo it at the destination.
_SUB_OPERATIONS = """
INSERT INTO sub_operation (send_request_id, instance_id, destination, sop_instance_uid, due_at, created_at)
SELECT :request, i.id, :destination, i.sop_instance_uid, :now, :now
  FROM json_each(:ids) asked JOIN instance i ON i.id = asked.value
 WHERE i.superseded = 0
 ORDER BY asked.key
"""


def submit(conn: sqlite3.Connection, request: NewRequest, instance_ids: str) -> int | None:
    """Make a request with a sub-operation for each instance; gives how many. None: the Transaction UID is in use.

    `instance_ids` is a JSON array of instance rows, in the order in which they should go.
    """
    made = conn.execute(_REQUEST_INSERT, msgspec.structs.asdict(request)).fetchone()
    if made is None:
        return None
    values = {"request": made[0], "destination": request.destination, "ids": instance_ids, "now": request.created_at}
    return conn.execute(_SUB_OPERATIONS, values).rowcount


def submit_proxied(
    conn: sqlite3.Connection,
    request: NewRequest,
    *,
    proxy: str,
    move_destination: AETitle,
    instances: Sequence[ProxiedInstance],
) -> int | None:
    """Make a request that the upstream of a proxy carries out, as `submit` does."""
    made = conn.execute(_REQUEST_INSERT, msgspec.structs.asdict(request)).fetchone()
    if made is None:
        return None
    now = request.created_at
    return proxied.add(conn, made[0], proxy=proxy, move_destination=move_destination, instances=instances, now=now)


# A request has either sub-operations or proxied instances.
_COUNTS = """
SELECT state, count(*), max(ended_at) FROM sub_operation WHERE send_request_id = :request GROUP BY state
 UNION ALL
SELECT state, count(*), max(ended_at) FROM proxied_instance WHERE send_request_id = :request GROUP BY state
"""
_FAILED = """
SELECT sop_instance_uid, reason, id FROM sub_operation WHERE send_request_id = :request AND state = 'failed'
 UNION ALL
SELECT sop_instance_uid, reason, id FROM proxied_instance WHERE send_request_id = :request AND state = 'failed'
 ORDER BY 3
"""


def state(conn: sqlite3.Connection, transaction_uid: Uid) -> RequestState | None:
    """Count one request, from an index alone; None when it is unknown."""
    row = conn.execute(
        "SELECT id, resource, requester, created_at, closed_at, cancelled FROM send_request WHERE transaction_uid = ?",
        (transaction_uid,),
    ).fetchone()
    if row is None:
        return None
    request_id, resource, requester, created_at, closed_at, was_cancelled = row
    rows = conn.execute(_COUNTS, {"request": request_id}).fetchall()
    counts = {name: count for name, count, _ in rows}
    if closed_at is None or counts.get("remaining"):
        return RequestState(resource, requester, created_at, None, **counts)
    ended_at = max([closed_at, *(ended for _, _, ended in rows if ended is not None)])
    failed = conn.execute(_FAILED, {"request": request_id}).fetchall()
    cancelled = [uid for uid, reason, _ in failed if was_cancelled and moves.is_cancelled(reason)]
    return RequestState(
        resource,
        requester,
        created_at,
        ended_at,
        **counts,
        failed_uids=tuple(dict.fromkeys(uid for uid, *_ in failed)),
        cancelled=len(cancelled),
        cancelled_uids=tuple(dict.fromkeys(cancelled)),
    )


def has_overdue(conn: sqlite3.Connection, *, now: float) -> bool:
    """Say whether any request should have ended by now."""
    return conn.execute("SELECT 1 FROM send_request WHERE expires_at <= ? LIMIT 1", (now,)).fetchone() is not None


def expire(conn: sqlite3.Connection, *, now: float, reason: str, patience: Patience) -> Expired:
    """Fail what remains of requests that should have ended by now, and of those cancelled. What is in flight is left to
    its attempt. A C-MOVE that is still worth waiting for gets another date.
    """
    overdue = conn.execute(
        "SELECT id, origin, cancelled, created_at FROM send_request WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
        (now, EXPIRE_REQUESTS),
    ).fetchall()
    room, failed, dealt_with = EXPIRE_ROWS, 0, 0
    for request_id, origin, cancelled, created_at in overdue:
        why = moves.CANCELLED if cancelled else reason
        if origin == "c-move" and not cancelled:
            until = moves.waits_until(conn, request_id, created_at=created_at, now=now, patience=patience)
            if until is not None:
                dealt_with += conn.execute(
                    "UPDATE send_request SET expires_at = ? WHERE id = ?", (until, request_id)
                ).rowcount
                continue
            why = f"not delivered: nothing of the C-MOVE was taken for {patience.retry_s:g} s"
        if origin == "proxy":
            ended = proxied.fail_rest(conn, request_id, now=now, reason=why, most=room)
        else:
            ended = moves.fail_rest(conn, request_id, now=now, reason=why, most=room)
        room -= ended
        failed += 0 if cancelled else ended
        dealt_with += moves.end_if_done(conn, request_id)
        if room <= 0:
            break
    return Expired(failed, more=room <= 0 or dealt_with == EXPIRE_REQUESTS)


# What a rule could not deliver waits for a person, for ever.
_FORGETTABLE = """
SELECT q.id FROM send_request q
 WHERE q.id > :after AND q.created_at < :before AND q.closed_at < :before
   AND NOT EXISTS (SELECT 1 FROM sub_operation s WHERE s.send_request_id = q.id AND s.state = 'remaining')
   AND NOT (q.origin = 'rule' AND EXISTS
            (SELECT 1 FROM sub_operation s WHERE s.send_request_id = q.id AND s.state = 'failed'))
   AND NOT EXISTS (SELECT 1 FROM sub_operation s WHERE s.send_request_id = q.id AND s.ended_at >= :before)
   AND NOT EXISTS (SELECT 1 FROM proxied_instance p
                    WHERE p.send_request_id = q.id AND (p.state = 'remaining' OR p.ended_at >= :before))
 ORDER BY q.id LIMIT :limit
"""
# What went out after an older version that is parked must be known when that one is tried again (D6).
_FORGETTABLE_ROWS = """
SELECT s.id FROM sub_operation s
 WHERE s.send_request_id = :request
   AND NOT EXISTS (SELECT 1 FROM instance j JOIN sub_operation o ON o.instance_id = j.id
                     JOIN send_request q ON q.id = o.send_request_id
                    WHERE j.sop_instance_uid = s.sop_instance_uid AND o.destination = s.destination
                      AND o.state = 'failed' AND o.id < s.id AND q.origin = 'rule')
 LIMIT :limit
"""


def forgettable(conn: sqlite3.Connection, *, before: float, after: int = 0) -> list[int]:
    """List requests (row ids above `after`) that ended before `before` and have nothing left to deliver."""
    rows = conn.execute(_FORGETTABLE, {"before": before, "after": after, "limit": FORGET_REQUESTS})
    return [request_id for (request_id,) in rows]


def forget(conn: WritingConnection, request_id: int) -> bool:
    """Delete some sub-operations of a forgettable request, and itself with the last; says whether to go on."""
    ids = conn.execute(_FORGETTABLE_ROWS, {"request": request_id, "limit": FORGET_ROWS}).fetchall()
    conn.executemany("DELETE FROM attempt WHERE sub_operation_id = ?", ids)
    conn.executemany("DELETE FROM sub_operation WHERE id = ?", ids)
    if len(ids) == FORGET_ROWS or proxied.forget(conn, request_id, most=FORGET_ROWS) == FORGET_ROWS:
        return True
    gone: Sequence[tuple[str]] = conn.execute(
        "DELETE FROM send_request WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM sub_operation WHERE send_request_id = send_request.id)"
        " RETURNING transaction_uid",
        (request_id,),
    ).fetchall()
    for (uid,) in gone:
        conn.memory.requests.pop(uid, None)
    return False
