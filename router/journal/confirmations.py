"""Storage commitment that we ask of destinations, as rows (confirm = "commitment"; PS3.4 Annex J).

A sub-operation whose destination answered stays 'remaining' with `confirming` set until the destination has committed
to it, said that it does not, or let its time go by. What is asked together is one `confirmation`, written before it is
asked; once it is over it is kept for a while, so that a report that is repeated is known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from router.dicom.uids import Uid

GIVE_UP_AT_ONCE = 1_000
FORGET_AT_ONCE = 1_000
"""Rows changed by one transaction, so that the writer stays free."""


class Awaited(msgspec.Struct, frozen=True):
    """One instance that a destination answered and is to commit to; `instance_failures` as in `Delivery`."""

    sub_operation_id: int
    instance_failures: int
    sop_class_uid: Uid
    sop_instance_uid: Uid
    study: Uid
    series: Uid


class Confirmation(msgspec.Struct, frozen=True):
    """One question to a destination. `next_check_at` is None while it is not known to have reached it."""

    transaction_uid: Uid
    destination: str
    asked_at: float
    next_check_at: float | None
    ended_at: float | None


class Settlement(msgspec.Struct, frozen=True):
    """What becomes of one instance: 'committed'; 'failed' for good; 'send' it again at `due_at`; 'ask' once more."""

    sub_operation_id: int
    becomes: Literal["committed", "failed", "send", "ask"]
    due_at: float = 0.0
    status: int | None = None
    reason: str = ""


_CONFIRMING = "destination = ? AND state = 'remaining' AND confirming <> ''"


def is_confirming(conn: sqlite3.Connection, destination: str) -> bool:
    """Say whether anything of `destination` waits for commitment."""
    found = conn.execute(f"SELECT 1 FROM sub_operation WHERE {_CONFIRMING} LIMIT 1", (destination,))
    return found.fetchone() is not None


def unasked(conn: sqlite3.Connection, destination: str, *, limit: int) -> int:
    """Count what the destination is still to be asked for, up to `limit`."""
    counted: tuple[int] = conn.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM sub_operation WHERE {_CONFIRMING} AND confirmation_id IS NULL LIMIT ?)",
        (destination, limit),
    ).fetchone()
    return counted[0]


_AWAITED = """
SELECT s.id, s.instance_failures, i.sop_class_uid, s.sop_instance_uid,
       coalesce(t.study_instance_uid, ''), coalesce(r.series_instance_uid, '')
  FROM sub_operation s
  JOIN instance i ON i.id = s.instance_id
  LEFT JOIN series r ON r.id = i.series_id
  LEFT JOIN study t ON t.id = r.study_id
 WHERE s.confirmation_id = ? AND s.state = 'remaining' AND s.confirming <> ''
 ORDER BY s.id
"""


def gather(
    conn: sqlite3.Connection, destination: str, *, transaction_uid: Uid, limit: int, now: float
) -> list[Awaited]:
    """Write down a question for the oldest that were not asked for yet, at most `limit`; none: nothing is written."""
    chosen = conn.execute(
        f"SELECT id FROM sub_operation WHERE {_CONFIRMING} AND confirmation_id IS NULL ORDER BY id LIMIT ?",
        (destination, limit),
    ).fetchall()
    if not chosen:
        return []
    made = conn.execute(
        "INSERT INTO confirmation (transaction_uid, destination, asked_at) VALUES (?, ?, ?)",
        (transaction_uid, destination, now),
    ).lastrowid
    conn.executemany("UPDATE sub_operation SET confirmation_id = ? WHERE id = ?", [(made, one) for (one,) in chosen])
    return [Awaited(*row) for row in conn.execute(_AWAITED, (made,))]


def find(conn: sqlite3.Connection, transaction_uid: Uid) -> Confirmation | None:
    """Find one question, also one that is over; None when we never asked it, or long ago."""
    row = conn.execute(f"SELECT {_COLUMNS} FROM confirmation WHERE transaction_uid = ?", (transaction_uid,)).fetchone()
    return None if row is None else Confirmation(*row)


def to_check(conn: sqlite3.Connection, destination: str, *, now: float) -> list[Confirmation]:
    """List the questions whose answer is to be looked for now."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM confirmation WHERE destination = ? AND ended_at IS NULL AND next_check_at <= ?",
        (destination, now),
    )
    return [Confirmation(*row) for row in rows]


_COLUMNS = "transaction_uid, destination, asked_at, next_check_at, ended_at"


def awaited(conn: sqlite3.Connection, transaction_uid: Uid) -> list[Awaited]:
    """List the instances of a question that are still waited for."""
    row = conn.execute("SELECT id FROM confirmation WHERE transaction_uid = ?", (transaction_uid,)).fetchone()
    return [] if row is None else [Awaited(*found) for found in conn.execute(_AWAITED, row)]


def check_later(conn: sqlite3.Connection, transaction_uid: Uid, *, next_check_at: float) -> None:
    """Note that the destination has the question, and when to look for its answer."""
    conn.execute(
        "UPDATE confirmation SET next_check_at = ? WHERE transaction_uid = ? AND ended_at IS NULL",
        (next_check_at, transaction_uid),
    )


def settle(conn: sqlite3.Connection, transaction_uid: Uid, *, settlements: Sequence[Settlement], now: float) -> None:
    """Write what a question brought, and end it: what it brought nothing for, is to be asked for anew."""
    row = conn.execute("SELECT id FROM confirmation WHERE transaction_uid = ?", (transaction_uid,)).fetchone()
    if row is None:
        return
    here = f"WHERE id = ? AND confirmation_id = {row[0]} AND state = 'remaining' AND confirming <> ''"
    over = "confirming = '', confirmation_id = NULL"
    conn.executemany(
        f"UPDATE sub_operation SET state = confirming, ended_at = ?, {over} {here}",
        [(now, one.sub_operation_id) for one in settlements if one.becomes == "committed"],
    )
    conn.executemany(
        f"UPDATE sub_operation SET state = 'failed', ended_at = ?, status = ?, reason = ?,"
        f" instance_failures = instance_failures + 1, {over} {here}",
        [(now, one.status, one.reason, one.sub_operation_id) for one in settlements if one.becomes == "failed"],
    )
    conn.executemany(
        f"UPDATE sub_operation SET due_at = ?, status = ?, reason = ?,"
        f" instance_failures = instance_failures + 1, {over} {here}",
        [(one.due_at, one.status, one.reason, one.sub_operation_id) for one in settlements if one.becomes == "send"],
    )
    conn.executemany(
        f"UPDATE sub_operation SET reason = ? {here}",
        [(one.reason, one.sub_operation_id) for one in settlements if one.becomes == "ask"],
    )
    _end(conn, [row[0]], now=now)


def has_overdue(conn: sqlite3.Connection, destination: str, *, now: float) -> bool:
    """Say whether `give_up` has anything to do."""
    found = conn.execute(
        f"SELECT EXISTS (SELECT 1 FROM sub_operation WHERE {_CONFIRMING} AND due_at <= ?) OR EXISTS (SELECT 1 {_LOST})",
        (destination, now, destination),
    ).fetchone()
    return bool(found[0])


_LOST = "FROM confirmation WHERE destination = ? AND ended_at IS NULL AND next_check_at IS NULL"


def _end(conn: sqlite3.Connection, confirmations: Iterable[int], *, now: float) -> None:
    ids = [(one,) for one in confirmations]
    conn.executemany("UPDATE sub_operation SET confirmation_id = NULL WHERE confirmation_id = ?", ids)
    conn.executemany(
        "UPDATE confirmation SET ended_at = ? WHERE id = ? AND ended_at IS NULL", [(now, one) for (one,) in ids]
    )


def give_up(conn: sqlite3.Connection, destination: str, *, reason: str, now: float) -> int:
    """Fail what the destination did not commit to in time; answers how many, at most GIVE_UP_AT_ONCE.

    Questions of which nobody knows whether they were asked, after a crash, are ended: to be called when none is on its
    way.
    """
    late = conn.execute(
        f"SELECT id FROM sub_operation WHERE {_CONFIRMING} AND due_at <= ? LIMIT ?", (destination, now, GIVE_UP_AT_ONCE)
    ).fetchall()
    conn.executemany(
        "UPDATE sub_operation SET state = 'failed', ended_at = ?, reason = ?, confirming = '', confirmation_id = NULL"
        " WHERE id = ?",
        [(now, reason, one) for (one,) in late],
    )
    lost = conn.execute(f"SELECT id {_LOST}", (destination,)).fetchall()
    _end(conn, [confirmation for (confirmation,) in lost], now=now)
    _end_empty(conn, destination, now=now)
    return len(late)


def let_go(conn: sqlite3.Connection, destination: str, *, now: float) -> int:
    """Take the answer of a destination as enough, as its configuration does now; answers how many it was for."""
    released = conn.execute(
        "UPDATE sub_operation SET state = confirming, ended_at = ?, confirming = '', confirmation_id = NULL WHERE id IN"
        f" (SELECT id FROM sub_operation WHERE {_CONFIRMING} LIMIT ?)",
        (now, destination, GIVE_UP_AT_ONCE),
    ).rowcount
    _end_empty(conn, destination, now=now)
    return released


_OF_NO_USE = (
    "ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM sub_operation"
    " WHERE confirmation_id = confirmation.id AND state = 'remaining' AND confirming <> '')"
)


def _end_empty(conn: sqlite3.Connection, destination: str, *, now: float) -> None:
    """End the questions that nothing waits for any more."""
    ids = conn.execute(f"SELECT id FROM confirmation WHERE destination = ? AND {_OF_NO_USE}", (destination,)).fetchall()
    _end(conn, [confirmation for (confirmation,) in ids], now=now)


def forget(conn: sqlite3.Connection, *, before: float) -> int:
    """Delete questions that ended before `before`, or were asked before and are of no use; at most FORGET_AT_ONCE.

    Answers how many.
    """
    ids = conn.execute(
        f"SELECT id FROM confirmation WHERE ended_at < :before OR (asked_at < :before AND {_OF_NO_USE}) LIMIT :most",
        {"before": before, "most": FORGET_AT_ONCE},
    ).fetchall()
    conn.executemany("UPDATE sub_operation SET confirmation_id = NULL WHERE confirmation_id = ?", ids)
    conn.executemany("DELETE FROM confirmation WHERE id = ?", ids)
    return len(ids)
