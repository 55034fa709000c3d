"""What a PACS behind a proxy is to send on (Sup 248 B.X3): fixed when a send request is taken, asked for in C-MOVEs.

These rows are to a send request of origin 'proxy' what sub-operations are to any other. What was asked for and not
answered is asked for again: a destination may get the same instance twice, never none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from router.dicom.uids import AETitle, Uid

MAX_HALVINGS = 16

EndState = Literal["completed", "warning", "failed"]


class ProxiedInstance(msgspec.Struct, frozen=True):
    """One instance as the PACS names it."""

    study: Uid
    series: Uid
    sop_instance_uid: Uid


class Asked(msgspec.Struct, frozen=True):
    """One row of a batch. `times` counts the C-MOVEs in which it was named, this one included."""

    row_id: int
    sop_instance_uid: Uid
    times: int


class Batch(msgspec.Struct, frozen=True):
    """What one C-MOVE at IMAGE level asks for: instances of one series. `tries` in a row went wrong before it."""

    request_id: int
    transaction_uid: Uid
    move_destination: AETitle
    study: Uid
    series: Uid
    instances: tuple[Asked, ...]
    tries: int


class Ended(msgspec.Struct, frozen=True):
    """What became of one instance. `status` is that of the C-MOVE."""

    row_id: int
    state: EndState
    status: int | None
    reason: str


class ProxyOverview(msgspec.Struct, frozen=True):
    """One proxy: its instances by state, how many requests are under way, and why one of them has to wait, if any."""

    name: str
    requests: int
    remaining: int
    completed: int
    warning: int
    failed: int
    retry_at: float | None
    reason: str


def add(
    conn: sqlite3.Connection,
    request_id: int,
    *,
    proxy: str,
    move_destination: AETitle,
    instances: Sequence[ProxiedInstance],
    now: float,
) -> int:
    """Give a new send request its instances; answers how many."""
    conn.execute(
        "INSERT INTO proxied_request (send_request_id, proxy, move_destination, due_at) VALUES (?, ?, ?, ?)",
        (request_id, proxy, move_destination, now if instances else None),
    )
    conn.executemany(
        "INSERT INTO proxied_instance (send_request_id, study_instance_uid, series_instance_uid, sop_instance_uid)"
        " VALUES (?, ?, ?, ?)",
        [(request_id, one.study, one.series, one.sop_instance_uid) for one in instances],
    )
    return len(instances)


_DUE = """
SELECT p.send_request_id, q.transaction_uid, p.move_destination, p.tries
  FROM proxied_request p JOIN send_request q ON q.id = p.send_request_id
 WHERE p.proxy = ? AND p.due_at <= ? ORDER BY p.due_at, p.send_request_id LIMIT 1
"""
_NEXT = """
SELECT id, study_instance_uid, series_instance_uid, alone, sop_instance_uid, asked
  FROM proxied_instance WHERE send_request_id = ? AND state = 'remaining' ORDER BY alone, id LIMIT ?
"""


def claim(conn: sqlite3.Connection, proxy: str, *, now: float, most: int, most_characters: int) -> Batch | None:
    """Take the next batch of a proxy: from here on it counts as asked for. None: nothing is due.

    The request that waits longest comes first. A batch has `most` instances at most, half as many after each try that
    came to nothing; their UIDs have `most_characters` with what separates them; one that must be asked for alone is.
    """
    while (due := conn.execute(_DUE, (proxy, now)).fetchone()) is not None:
        request_id, transaction_uid, move_destination, tries = due
        rows = conn.execute(_NEXT, (request_id, max(1, most >> min(tries, MAX_HALVINGS)))).fetchall()
        if not rows:
            conn.execute(
                "UPDATE proxied_request SET due_at = NULL, reason = '' WHERE send_request_id = ?", (request_id,)
            )
            continue
        (study, series, alone), together = next(groupby(rows, key=lambda row: row[1:4]))
        chosen: list[Asked] = []
        room = most_characters
        for row_id, _, _, _, uid, asked in together:
            room -= len(uid) + 1
            if chosen and (room < 0 or alone):
                break
            chosen.append(Asked(row_id, uid, asked + 1))
        conn.executemany(
            "UPDATE proxied_instance SET in_flight = 1, asked = asked + 1 WHERE id = ?",
            [(one.row_id,) for one in chosen],
        )
        return Batch(request_id, transaction_uid, move_destination, study, series, tuple(chosen), tries)
    return None


def next_due(conn: sqlite3.Connection, proxy: str) -> float | None:
    """Say when the next batch of a proxy is due; None: there is none."""
    (due_at,) = conn.execute(
        "SELECT min(due_at) FROM proxied_request WHERE proxy = ? AND due_at IS NOT NULL", (proxy,)
    ).fetchone()
    return None if due_at is None else float(due_at)


def settle(
    conn: sqlite3.Connection, request_id: int, ended: Iterable[Ended], *, alone: Iterable[int] = (), now: float
) -> None:
    """Write down what became of a batch. The rows `alone` are asked for again, each in a C-MOVE of its own."""
    conn.executemany(
        "UPDATE proxied_instance SET state = ?, status = ?, reason = ?, in_flight = 0, ended_at = ? WHERE id = ?",
        [(one.state, one.status, one.reason, now, one.row_id) for one in ended],
    )
    conn.executemany("UPDATE proxied_instance SET alone = 1, in_flight = 0 WHERE id = ?", [(row,) for row in alone])
    conn.execute(
        "UPDATE proxied_request SET due_at = ?, tries = 0, reason = '' WHERE send_request_id = ?", (now, request_id)
    )


def put_off(
    conn: sqlite3.Connection, batch: Batch, *, due_at: float, status: int | None, reason: str, counts: bool = True
) -> None:
    """Have a batch that nothing came of asked for again at `due_at`. Without `counts` its asking does not count."""
    conn.executemany(
        "UPDATE proxied_instance SET in_flight = 0, asked = asked - ?, status = ?, reason = ? WHERE id = ?",
        [(0 if counts else 1, status, reason, one.row_id) for one in batch.instances],
    )
    conn.execute(
        "UPDATE proxied_request SET due_at = ?, tries = tries + 1, reason = ? WHERE send_request_id = ?",
        (due_at, reason, batch.request_id),
    )


def fail_rest(
    conn: sqlite3.Connection, request_id: int, *, now: float, reason: str, most: int, status: int | None = None
) -> int:
    """Fail up to `most` instances of a request that are in no C-MOVE just now; answers how many."""
    return conn.execute(
        "UPDATE proxied_instance SET state = 'failed', ended_at = :now, status = coalesce(:status, status),"
        " reason = iif(reason = '' OR :status IS NOT NULL, :reason, :reason || '; last: ' || reason)"
        " WHERE id IN (SELECT id FROM proxied_instance"
        " WHERE send_request_id = :request AND state = 'remaining' AND in_flight = 0 LIMIT :most)",
        {"now": now, "reason": reason, "request": request_id, "status": status, "most": most},
    ).rowcount


def refuse(conn: sqlite3.Connection, batch: Batch, *, now: float, status: int, reason: str) -> int:
    """Fail all that remains of a request, the batch in hand with it: no C-MOVE of it can be answered otherwise."""
    conn.executemany(
        "UPDATE proxied_instance SET in_flight = 0 WHERE id = ?", [(one.row_id,) for one in batch.instances]
    )
    failed = fail_rest(conn, batch.request_id, now=now, reason=reason, most=-1, status=status)
    conn.execute("UPDATE proxied_request SET due_at = NULL, reason = '' WHERE send_request_id = ?", (batch.request_id,))
    return failed


def take_back(conn: sqlite3.Connection) -> int:
    """At start: what a dead process had asked for, and no answer is known of, is asked for again; answers how many."""
    return conn.execute("UPDATE proxied_instance SET in_flight = 0 WHERE in_flight = 1").rowcount


def forget(conn: sqlite3.Connection, request_id: int, *, most: int) -> int:
    """Delete up to `most` rows of a request, and with the last of them what else is kept of it here."""
    gone = conn.execute(
        "DELETE FROM proxied_instance WHERE id IN (SELECT id FROM proxied_instance WHERE send_request_id = ? LIMIT ?)",
        (request_id, most),
    ).rowcount
    if gone < most:
        conn.execute("DELETE FROM proxied_request WHERE send_request_id = ?", (request_id,))
    return gone


_PROXIES = """
SELECT p.proxy, sum(p.due_at IS NOT NULL), sum(c.remaining), sum(c.completed), sum(c.warning), sum(c.failed),
       min(iif(p.reason = '', NULL, p.due_at)), max(p.reason)
  FROM proxied_request p
  JOIN (SELECT r.send_request_id, coalesce(sum(i.state = 'remaining'), 0) AS remaining,
               coalesce(sum(i.state = 'completed'), 0) AS completed, coalesce(sum(i.state = 'warning'), 0) AS warning,
               coalesce(sum(i.state = 'failed'), 0) AS failed
          FROM proxied_request r LEFT JOIN proxied_instance i ON i.send_request_id = r.send_request_id
         GROUP BY r.send_request_id) c ON c.send_request_id = p.send_request_id
 GROUP BY p.proxy ORDER BY p.proxy
"""


def overview(conn: sqlite3.Connection) -> list[ProxyOverview]:
    """Show every proxy that the journal knows a request of, by name. Only reads."""
    return [ProxyOverview(*row) for row in conn.execute(_PROXIES)]
