"""What we ask others because of requests of storage commitment: the upstream of a proxy, or destinations.

A question is written down before it is asked, with its Transaction UID; asked once more it gets a new one, and an
answer under any of them is an answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from router.dicom.uids import Uid
from router.journal import commitments
from router.journal.commitments import Item, NewCommitment

DUE_AT_ONCE = 64


class Question(msgspec.Struct, frozen=True):
    """One question. `transaction_uid` is that of the last time it was asked, "" before."""

    question_id: int
    request_id: int
    asker: str
    proxied: bool
    request_uid: Uid
    asked: bool
    closed: bool
    tries: int
    again_at: float | None
    transaction_uid: Uid


_QUESTION = """
SELECT q.id, q.request_id, q.asker, r.proxy <> '', r.transaction_uid, q.asked, q.closed, q.tries, q.again_at,
       coalesce((SELECT a.transaction_uid FROM commitment_asked a
                  WHERE a.question_id = q.id ORDER BY a.asked_at DESC LIMIT 1), '')
  FROM commitment_question q JOIN commitment_request r ON r.id = q.request_id
"""


def submit(
    conn: sqlite3.Connection, request: NewCommitment, items: Sequence[Item], asker: str, at_once: int
) -> int | None:
    """Make a request, as `commitments.submit` does, with the questions about all of it that decide it if there is an
    `asker`: `at_once` instances in each.
    """
    request_id = commitments.submit(conn, request, items)
    if request_id is not None and asker:
        for first in range(0, len(items), at_once):
            pose(conn, request_id, asker, range(len(items))[first : first + at_once], now=request.created_at)
    return request_id


def pose(conn: sqlite3.Connection, request_id: int, asker: str, positions: Sequence[int], *, now: float) -> None:
    """Make a question about instances of a request (their positions); it is due at once."""
    question_id = conn.execute(
        "INSERT INTO commitment_question (request_id, asker, due_at) VALUES (?, ?, ?)", (request_id, asker, now)
    ).lastrowid
    conn.executemany(
        "INSERT INTO commitment_answer (question_id, position) VALUES (?, ?)",
        [(question_id, position) for position in positions],
    )


def due(conn: sqlite3.Connection, *, now: float) -> list[Question]:
    """List the questions that should be asked, or whose answer should be looked for, by now."""
    rows = conn.execute(
        f"{_QUESTION} WHERE q.closed = 0 AND q.due_at <= ? ORDER BY q.due_at LIMIT ?", (now, DUE_AT_ONCE)
    )
    return [_question(row) for row in rows]


def by_transaction(conn: sqlite3.Connection, transaction_uid: Uid) -> Question | None:
    """Find the question that was asked under this Transaction UID; None when none was."""
    row = conn.execute(
        f"{_QUESTION} WHERE q.id = (SELECT question_id FROM commitment_asked WHERE transaction_uid = ?)",
        (transaction_uid,),
    ).fetchone()
    return None if row is None else _question(row)


def items(conn: sqlite3.Connection, question_id: int) -> list[Item]:
    """List the instances that a question is about."""
    rows = conn.execute(
        "SELECT i.sop_class_uid, i.sop_instance_uid, i.study, i.series FROM commitment_answer a"
        " JOIN commitment_question q ON q.id = a.question_id"
        " JOIN commitment_item i ON i.request_id = q.request_id AND i.position = a.position"
        " WHERE a.question_id = ? ORDER BY a.position",
        (question_id,),
    )
    return [Item(*row) for row in rows]


def begin(conn: sqlite3.Connection, question_id: int, transaction_uid: Uid, *, now: float, due_at: float) -> bool:
    """Write down that it is about to be asked, and when again if we do not live to see how that goes.

    False, and nothing is changed, when another question was asked under this Transaction UID.
    """
    made = conn.execute(
        "INSERT INTO commitment_asked (transaction_uid, question_id, asked_at) VALUES (?, ?, ?)"
        " ON CONFLICT (transaction_uid) DO UPDATE SET asked_at = excluded.asked_at"
        " WHERE question_id = excluded.question_id",
        (transaction_uid, question_id, now),
    ).rowcount
    if made:
        conn.execute(
            "UPDATE commitment_question SET tries = tries + 1, asked = 0, due_at = ? WHERE id = ?",
            (due_at, question_id),
        )
    return bool(made)


def await_answer(conn: sqlite3.Connection, question_id: int, *, due_at: float, again_at: float | None = None) -> None:
    """Note that it was taken, and when to look for the answer; `again_at` None leaves that date as it is."""
    conn.execute(
        "UPDATE commitment_question SET asked = 1, due_at = ?, again_at = coalesce(?, again_at), problem = ''"
        " WHERE id = ?",
        (due_at, again_at, question_id),
    )


def put_off(conn: sqlite3.Connection, question_id: int, *, due_at: float, problem: str, asked: bool) -> None:
    """Note what went wrong, and when to try again: to look for the answer when it was `asked`, else to ask."""
    conn.execute(
        "UPDATE commitment_question SET asked = ?, due_at = ?, problem = ? WHERE id = ?",
        (asked, due_at, problem, question_id),
    )


def answer(
    conn: sqlite3.Connection,
    question: Question,
    reasons: Mapping[Uid, int | None],
    *,
    unanswered: int,
    now: float,
) -> None:
    """Write down an answer: a Failure Reason, or None, by SOP Instance UID; what it leaves out fails `unanswered`.

    It rules on the instances of a proxied request; any other request is looked at again at once.
    """
    rows = conn.execute(
        "SELECT a.position, i.sop_instance_uid FROM commitment_answer a"
        " JOIN commitment_item i ON i.request_id = ? AND i.position = a.position"
        " WHERE a.question_id = ? AND a.answered = 0",
        (question.request_id, question.question_id),
    ).fetchall()
    rulings = [(position, reasons.get(Uid(uid), unanswered)) for position, uid in rows]
    conn.executemany(
        "UPDATE commitment_answer SET answered = 1, failure_reason = ? WHERE question_id = ? AND position = ?",
        [(reason, question.question_id, position) for position, reason in rulings],
    )
    conn.execute("UPDATE commitment_question SET closed = 1, problem = '' WHERE id = ?", (question.question_id,))
    if question.proxied:
        commitments.rule(conn, question.request_id, rulings, now=now)
    else:
        commitments.postpone(conn, question.request_id, due_at=now)


def _question(row: tuple[int, int, str, int, Uid, int, int, int, float | None, Uid]) -> Question:
    question_id, request_id, asker, proxied, request_uid, asked, closed, tries, again_at, transaction_uid = row
    return Question(
        question_id=question_id,
        request_id=request_id,
        asker=asker,
        proxied=bool(proxied),
        request_uid=request_uid,
        asked=bool(asked),
        closed=bool(closed),
        tries=tries,
        again_at=again_at,
        transaction_uid=transaction_uid,
    )
