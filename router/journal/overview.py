"""The state of the whole for people: totals, each destination, what is unrouted, what is parked.

And: try the parked again.

All but `retry_parked` only read; they are meant for the reading connection.
"""

from __future__ import annotations

import sqlite3

import msgspec

from router.dicom.uids import Uid

LIST_LIMIT = 100
"""Rows listed at once unless asked for otherwise."""
RETRY_AT_ONCE = 1_000
"""Rows made due again by one transaction, so that the writer stays free."""


class Totals(msgspec.Struct, frozen=True):
    """Everything in the journal, counted. `parked` are those failed that rules could not deliver."""

    instances: int
    bytes: int
    unrouted: int
    remaining: int
    uncertain: int
    completed: int
    warning: int
    failed: int
    parked: int


class DestinationOverview(msgspec.Struct, frozen=True):
    """One destination.

    `oldest_created_at` is when the longest waiting sub-operation was made; times are Unix seconds.
    """

    name: str
    state: str
    reason: str
    since: float | None
    retry_at: float | None
    remaining: int
    in_flight: int
    completed: int
    warning: int
    failed: int
    oldest_created_at: float | None
    next_due_at: float | None
    confirming: int = 0
    """Of `remaining`: the destination answered, and has still to commit to them."""


class UnroutedInstance(msgspec.Struct, frozen=True):
    """A stored instance that no rule sent anywhere. `note` says when a rule could not be evaluated."""

    instance_id: int
    sop_instance_uid: Uid
    sop_class_uid: Uid
    protocol: str
    calling_aet: str
    address: str
    received_at: float
    note: str


class ParkedInstance(msgspec.Struct, frozen=True):
    """A failed sub-operation, waiting for a person."""

    sub_operation_id: int
    transaction_uid: Uid
    destination: str
    sop_instance_uid: Uid
    sop_class_uid: Uid
    transfer_syntax_uid: Uid
    attempts: int
    status: int | None
    reason: str
    ended_at: float | None


class Retried(msgspec.Struct, frozen=True):
    """What `retry_parked` did: how many are due again; how many stay, as the same or a newer one went after (D6).

    `last_id` is the last sub-operation looked at, None when none was left.
    """

    retried: int
    overtaken: int
    last_id: int | None = None


# A failure of what was asked for was told to who asked; what a rule could not deliver waits for a person.
_PARKED = """
  FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id WHERE s.state = 'failed' AND q.origin = 'rule'
"""


def totals(conn: sqlite3.Connection) -> Totals:
    """Count instances and sub-operations."""
    instances, size, unrouted = conn.execute(
        "SELECT count(*), coalesce(sum(data_set_bytes), 0), coalesce(sum(routed = 0), 0) FROM instance"
    ).fetchone()
    states = dict(conn.execute("SELECT state, count(*) FROM sub_operation GROUP BY state").fetchall())
    (uncertain,) = conn.execute(
        "SELECT count(*) FROM sub_operation WHERE state = 'remaining' AND uncertain = 1"
    ).fetchone()
    (parked,) = conn.execute(f"SELECT count(*) {_PARKED}").fetchone()
    return Totals(
        instances=instances,
        bytes=size,
        unrouted=unrouted,
        remaining=states.get("remaining", 0),
        uncertain=uncertain,
        completed=states.get("completed", 0),
        warning=states.get("warning", 0),
        failed=states.get("failed", 0),
        parked=parked,
    )


_DESTINATIONS = """
WITH counted AS (
  SELECT destination, sum(state = 'remaining') AS remaining, sum(in_flight) AS in_flight,
         sum(state = 'completed') AS completed, sum(state = 'warning') AS warning, sum(state = 'failed') AS failed,
         min(iif(state = 'remaining', created_at, NULL)) AS oldest,
         min(iif(state = 'remaining' AND in_flight = 0 AND confirming = '', due_at, NULL)) AS next_due,
         sum(state = 'remaining' AND confirming <> '') AS confirming
    FROM sub_operation GROUP BY destination
)
SELECT n.name, coalesce(d.state, ''), coalesce(d.reason, ''), d.since, d.retry_at,
       coalesce(c.remaining, 0), coalesce(c.in_flight, 0), coalesce(c.completed, 0), coalesce(c.warning, 0),
       coalesce(c.failed, 0), c.oldest, c.next_due, coalesce(c.confirming, 0)
  FROM (SELECT destination AS name FROM counted UNION SELECT name FROM destination) n
  LEFT JOIN destination d ON d.name = n.name
  LEFT JOIN counted c ON c.destination = n.name
 ORDER BY n.name
"""


def destinations(conn: sqlite3.Connection) -> list[DestinationOverview]:
    """Show every destination that the journal knows, also one that is no longer configured; by name."""
    return [DestinationOverview(*row) for row in conn.execute(_DESTINATIONS)]


def unrouted(conn: sqlite3.Connection, *, limit: int = LIST_LIMIT) -> list[UnroutedInstance]:
    """List what no rule sent anywhere, newest first."""
    rows = conn.execute(
        "SELECT id, sop_instance_uid, sop_class_uid, protocol, calling_aet, address, received_at, note"
        " FROM instance WHERE routed = 0 ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [UnroutedInstance(*row) for row in rows]


def parked(
    conn: sqlite3.Connection, *, destination: str | None = None, limit: int = LIST_LIMIT
) -> list[ParkedInstance]:
    """List what rules could not deliver, newest first. A failure of what was asked for was told to who asked."""
    rows = conn.execute(
        "SELECT s.id, q.transaction_uid, s.destination, s.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,"
        " s.attempts, s.status, s.reason, s.ended_at"
        " FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id JOIN instance i ON i.id = s.instance_id"
        " WHERE s.state = 'failed' AND q.origin = 'rule' AND (:destination IS NULL OR s.destination = :destination)"
        " ORDER BY s.id DESC LIMIT :limit",
        {"destination": destination, "limit": limit},
    )
    return [ParkedInstance(*row) for row in rows]


def destinations_with_parked(conn: sqlite3.Connection) -> list[str]:
    """Name the destinations for which something is parked."""
    return [name for (name,) in conn.execute(f"SELECT DISTINCT s.destination {_PARKED}")]


_PARKED_NEXT = """
SELECT s.id FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id
 WHERE s.state = 'failed' AND s.destination = :destination AND s.id > :after AND q.origin = 'rule'
 ORDER BY s.id LIMIT :limit
"""
# A newer version that went out, or is going out, must not be overwritten at the destination by this older one;
# and the same content is not sent twice.
_RETRY = """
UPDATE sub_operation AS s SET state = 'remaining', in_flight = 0, confirming = '', confirmation_id = NULL,
       attempts = 0, instance_failures = 0, due_at = :now, created_at = :now, ended_at = NULL
 WHERE id = :id
   AND NOT EXISTS (SELECT 1 FROM instance j JOIN sub_operation o ON o.instance_id = j.id
                    WHERE j.sop_instance_uid = s.sop_instance_uid AND o.destination = s.destination AND o.id > s.id
                      AND (o.state IN ('completed', 'warning') OR o.in_flight = 1 OR o.instance_id = s.instance_id))
"""


def retry_parked(
    conn: sqlite3.Connection, *, destination: str, now: float, after: int = 0, limit: int = RETRY_AT_ONCE
) -> Retried:
    """Make failed sub-operations of one destination due again with all their chances; those with an id above `after`.

    The clock of their lifetime starts anew. An operation of the writer.
    """
    which = {"destination": destination, "after": after, "limit": limit}
    ids = [row[0] for row in conn.execute(_PARKED_NEXT, which)]
    retried = sum(conn.execute(_RETRY, {"id": row_id, "now": now}).rowcount for row_id in ids)
    return Retried(retried, len(ids) - retried, ids[-1] if ids else None)
