"""Requests of storage commitment, as rows: made, looked at, ruled on, forgotten (PS3.4 Annex J, PS3.18 chapter 13).

What is asked of others because of them is in `commitment_questions`, what is reported to who asked in
`commitment_reports`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from router.dicom.uids import Uid

Origin = Literal["dimse", "web"]

OPEN_AT_ONCE = 64
FORGET_REQUESTS = 64
FORGET_ROWS = 2_000
"""Requests looked at and rows deleted by one transaction, so that the writer stays free."""


class NewCommitment(msgspec.Struct, frozen=True):
    """A request as it was made; what the columns mean stands in schema.sql. Dates are Unix seconds."""

    transaction_uid: Uid
    origin: Origin
    requester: str
    called_aet: str
    proxy: str
    created_at: float


class Item(msgspec.Struct, frozen=True):
    """One instance of a request, as it named it. `failure_reason` None once it is `ruled`: committed."""

    sop_class_uid: Uid
    sop_instance_uid: Uid
    study: Uid
    series: Uid
    ruled: bool = False
    failure_reason: int | None = None


class CommitmentRow(msgspec.Struct, frozen=True):
    """A request without its instances. `ready_at` is None while one of them has no ruling."""

    request_id: int
    transaction_uid: Uid
    origin: Origin
    requester: str
    called_aet: str
    proxy: str
    created_at: float
    due_at: float
    ready_at: float | None


_ROW = "id, transaction_uid, origin, requester, called_aet, proxy, created_at, due_at, ready_at"
_REQUEST_INSERT = """
INSERT INTO commitment_request (transaction_uid, origin, requester, called_aet, proxy, created_at, due_at)
VALUES (:transaction_uid, :origin, :requester, :called_aet, :proxy, :created_at, :created_at)
ON CONFLICT (transaction_uid) DO NOTHING
RETURNING id
"""
_ITEM_INSERT = """
INSERT INTO commitment_item (request_id, position, sop_class_uid, sop_instance_uid, study, series)
VALUES (?, ?, ?, ?, ?, ?)
"""


def submit(conn: sqlite3.Connection, request: NewCommitment, items: Sequence[Item]) -> int | None:
    """Make a request; gives its row id. None: the Transaction UID is that of another, running, over or remembered."""
    made = conn.execute(_REQUEST_INSERT, msgspec.structs.asdict(request)).fetchone()
    if made is None:
        return None
    request_id: int = made[0]
    conn.executemany(
        _ITEM_INSERT,
        [
            (request_id, position, item.sop_class_uid, item.sop_instance_uid, item.study, item.series)
            for position, item in enumerate(items)
        ],
    )
    return request_id


def find(conn: sqlite3.Connection, transaction_uid: Uid) -> CommitmentRow | None:
    """Look a request up; None when it is unknown."""
    row = conn.execute(
        f"SELECT {_ROW} FROM commitment_request WHERE transaction_uid = ?", (transaction_uid,)
    ).fetchone()
    return None if row is None else CommitmentRow(*row)


def items(conn: sqlite3.Connection, request_id: int) -> list[Item]:
    """List the instances of a request, in its order."""
    rows = conn.execute(
        "SELECT sop_class_uid, sop_instance_uid, study, series, ruled, failure_reason FROM commitment_item"
        " WHERE request_id = ? ORDER BY position",
        (request_id,),
    )
    return [Item(sop, uid, study, series, bool(ruled), reason) for sop, uid, study, series, ruled, reason in rows]


def due(conn: sqlite3.Connection, *, now: float) -> list[CommitmentRow]:
    """List open requests that should be looked at by now, the longest due first."""
    rows = conn.execute(
        f"SELECT {_ROW} FROM commitment_request WHERE ready_at IS NULL AND due_at <= ? ORDER BY due_at LIMIT ?",
        (now, OPEN_AT_ONCE),
    )
    return [CommitmentRow(*row) for row in rows]


def postpone(conn: sqlite3.Connection, request_id: int, *, due_at: float) -> None:
    """Have an open request looked at again at `due_at`."""
    conn.execute("UPDATE commitment_request SET due_at = ? WHERE id = ?", (due_at, request_id))


def rule(conn: sqlite3.Connection, request_id: int, rulings: Iterable[tuple[int, int | None]], *, now: float) -> bool:
    """Write down what was decided about instances (position, failure reason); a ruling is never changed.

    Says whether the request is ready with that; one of DIMSE is then due to be reported.
    """
    conn.executemany(
        "UPDATE commitment_item SET ruled = 1, failure_reason = ? WHERE request_id = ? AND position = ? AND ruled = 0",
        [(reason, request_id, position) for position, reason in rulings],
    )
    return _settle(conn, request_id, now)


def rule_all_open(conn: sqlite3.Connection, request_id: int, failure_reason: int, *, now: float) -> int:
    """Fail what has no ruling yet; answers how many. The request is ready then."""
    failed = conn.execute(
        "UPDATE commitment_item SET ruled = 1, failure_reason = ? WHERE request_id = ? AND ruled = 0",
        (failure_reason, request_id),
    ).rowcount
    _settle(conn, request_id, now)
    return failed


def resume(conn: sqlite3.Connection, *, now: float, longest_wait_s: float) -> None:
    """Have all that waits looked at soon after a start: a person may have mended what it waits for.

    An answer that is awaited is still looked for when it was to be, but no date is further off than any wait of ours:
    such a one comes from a clock that jumped (D11).
    """
    conn.execute("UPDATE commitment_request SET due_at = :now WHERE ready_at IS NULL", {"now": now})
    conn.execute("UPDATE commitment_request SET report_due_at = :now WHERE report_due_at IS NOT NULL", {"now": now})
    conn.execute(
        "UPDATE commitment_question SET due_at = iif(asked, min(due_at, :latest), :now),"
        " again_at = min(again_at, :latest) WHERE closed = 0",
        {"now": now, "latest": now + longest_wait_s},
    )


def forgettable(conn: sqlite3.Connection, *, before: float) -> list[int]:
    """List requests (row ids) that were ready before `before` and have nothing left to report."""
    rows = conn.execute(
        "SELECT id FROM commitment_request WHERE ready_at < ? AND report_due_at IS NULL ORDER BY ready_at LIMIT ?",
        (before, FORGET_REQUESTS),
    )
    return [request_id for (request_id,) in rows]


def forget(conn: sqlite3.Connection, request_id: int) -> bool:
    """Delete some rows of a forgettable request, and itself with the last; says whether to go on."""
    questions = "SELECT id FROM commitment_question WHERE request_id = :request"
    for table, where in (
        ("commitment_answer", f"question_id IN ({questions})"),
        ("commitment_item", "request_id = :request"),
    ):
        key = "question_id" if table == "commitment_answer" else "request_id"
        gone = conn.execute(
            f"DELETE FROM {table} WHERE ({key}, position) IN"
            f" (SELECT {key}, position FROM {table} WHERE {where} LIMIT :limit)",
            {"request": request_id, "limit": FORGET_ROWS},
        ).rowcount
        if gone == FORGET_ROWS:
            return True
    conn.execute(f"DELETE FROM commitment_asked WHERE question_id IN ({questions})", {"request": request_id})
    conn.execute("DELETE FROM commitment_question WHERE request_id = ?", (request_id,))
    conn.execute("DELETE FROM commitment_request WHERE id = ?", (request_id,))
    return False


def _settle(conn: sqlite3.Connection, request_id: int, now: float) -> bool:
    """Close a request all of whose instances have their ruling; say whether it is so."""
    if conn.execute(
        "SELECT 1 FROM commitment_item WHERE request_id = ? AND ruled = 0 LIMIT 1", (request_id,)
    ).fetchone():
        return False
    conn.execute(
        "UPDATE commitment_request SET ready_at = :now, report_due_at = iif(origin = 'dimse', :now, NULL)"
        " WHERE id = :request AND ready_at IS NULL",
        {"now": now, "request": request_id},
    )
    conn.execute("UPDATE commitment_question SET closed = 1 WHERE request_id = ?", (request_id,))
    return True
