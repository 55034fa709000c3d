"""What is claimed, when and in which order; what an attempt leaves behind (D3, D6, D13, invariant 4)."""

from __future__ import annotations

import pytest
from filled_journal import NOON, ended, new_journal, numbers, put, take

from router.journal import claims
from router.journal.connection import WritingConnection
from router.journal.overview import retry_parked
from router.journal.sub_operations import Counts, counts, expire, finish, next_due, recover, release


@pytest.fixture
def conn() -> WritingConnection:
    return new_journal()


def test_a_claim_writes_the_attempt_and_its_next_date_before_anything_is_sent(conn: WritingConnection) -> None:
    put(conn, 1)
    (delivery,) = take(conn)
    assert (delivery.attempts, delivery.instance_failures, delivery.created_at) == (1, 0, NOON)
    assert (delivery.file, delivery.data_set_bytes, delivery.study_instance_uid) == ("1/1-.dcm", 1000, "1.2.3")
    row = conn.execute("SELECT state, in_flight, attempts, due_at FROM sub_operation").fetchall()
    assert row == [("remaining", 1, 1, NOON + claims.LEASE_FIRST_S)]
    attempts = conn.execute("SELECT id, sub_operation_id, started_at, ended_at, outcome FROM attempt").fetchall()
    assert attempts == [(delivery.attempt_id, delivery.sub_operation_id, NOON, None, "")]


def test_what_is_in_flight_or_not_yet_due_or_for_others_is_not_claimed(conn: WritingConnection) -> None:
    put(conn, 1)
    assert numbers(take(conn)) == [1]
    assert take(conn) == []
    put(conn, 2, now=NOON + 10)
    assert take(conn) == []
    put(conn, 3, destinations=["ai"])
    assert take(conn) == []
    assert numbers(take(conn, now=NOON + 10)) == [2]


def test_a_claim_knows_whether_anybody_else_is_going_to_read_the_instance(conn: WritingConnection) -> None:
    put(conn, 1, destinations=["archive", "ai"])
    put(conn, 2)
    archive = take(conn)
    assert [(delivery.last, number) for delivery, number in zip(archive, numbers(archive), strict=True)] == [
        (False, 1),
        (True, 2),
    ]
    (ai,) = take(conn, "ai")
    assert not ai.last, "the archive has not got it yet"
    finish(conn, [ended(archive[0]), ended(ai, "remaining")])
    (again,) = take(conn, "ai", now=NOON + 30)
    assert again.last


def test_a_claim_is_bounded_in_number_and_bytes_but_never_empty_when_something_is_due(conn: WritingConnection) -> None:
    for n in range(1, 11):
        put(conn, n, size=100)
    assert numbers(take(conn, max_instances=3)) == [1, 2, 3]
    assert numbers(take(conn, max_bytes=250)) == [4, 5]
    assert numbers(take(conn, max_bytes=1)) == [6]
    assert numbers(take(conn)) == [7, 8, 9, 10]


def test_the_oldest_goes_first_and_its_series_with_it(conn: WritingConnection) -> None:
    for n in range(1, 13):
        put(conn, n, series=f"1.2.3.{n % 3}")
    assert numbers(take(conn, max_instances=6)) == [1, 4, 7, 10, 2, 5]
    assert numbers(take(conn, max_instances=6)) == [3, 6, 9, 12, 8, 11]


def test_d6_two_versions_of_one_instance_are_never_in_flight_together_and_keep_their_order(
    conn: WritingConnection,
) -> None:
    put(conn, 1)
    put(conn, 1, content=b"second")
    (first,) = take(conn)
    assert first.file == "1/1-.dcm"
    assert take(conn) == []
    finish(conn, [ended(first, "remaining", due_at=NOON + 30)])
    assert take(conn) == []  # the second still waits for the first, which waits for its retry
    (first_again,) = take(conn, now=NOON + 30)
    finish(conn, [ended(first_again, "failed")])
    (second,) = take(conn)
    assert second.file == f"1/1-{b'second'.hex()}.dcm"


def test_d6_a_version_retried_by_hand_waits_for_the_newer_one_in_flight(conn: WritingConnection) -> None:
    put(conn, 1)
    (first,) = take(conn)
    finish(conn, [ended(first, "failed")])
    put(conn, 1, content=b"second")
    assert retry_parked(conn, destination="archive", now=NOON).retried == 1
    (delivery,) = take(conn)
    assert delivery.file == first.file
    assert take(conn) == []


def test_success_failure_and_retry_leave_their_marks(conn: WritingConnection) -> None:
    for n in range(1, 5):
        put(conn, n)
    done, warned, parked, again = take(conn)
    finish(
        conn,
        [
            ended(done, "completed", status=0),
            ended(warned, "warning", status=0xB000, reason="B000H coerced"),
            ended(parked, "failed", outcome="never", status=0x0122, reason="no", blames_instance=True),
            ended(again, "remaining", outcome="uncertain", uncertain=True, reason="no answer"),
        ],
    )
    rows = conn.execute(
        "SELECT state, in_flight, uncertain, instance_failures, status, ended_at, due_at FROM sub_operation ORDER BY id"
    ).fetchall()
    assert [row[:5] for row in rows] == [
        ("completed", 0, 0, 0, 0),
        ("warning", 0, 0, 0, 0xB000),
        ("failed", 0, 0, 1, 0x0122),
        ("remaining", 0, 1, 0, None),
    ]
    assert [row[5] for row in rows] == [NOON + 1, NOON + 1, NOON + 1, None]
    assert rows[3][6] == NOON + 30
    outcomes = conn.execute("SELECT outcome, ended_at FROM attempt ORDER BY id").fetchall()
    assert outcomes == [(word, NOON + 1) for word in ("completed", "warning", "never", "uncertain")]
    assert counts(conn, "archive") == Counts(remaining=1, completed=1, warning=1, failed=1)
    assert counts(conn, "nobody") == Counts()


def test_uncertain_stays_until_an_answer_settles_it(conn: WritingConnection) -> None:
    put(conn, 1)
    for verdict, uncertain in (("remaining", True), ("remaining", False), ("completed", False)):
        (delivery,) = take(conn, now=NOON + 60)
        finish(conn, [ended(delivery, verdict, uncertain=uncertain)])
        (stored,) = conn.execute("SELECT uncertain FROM sub_operation").fetchone()
        assert stored == (verdict == "remaining")


def test_what_is_released_is_uncharged_and_keeps_its_place(conn: WritingConnection) -> None:
    for n in range(1, 4):
        put(conn, n, now=NOON + n)
    first, *_ = take(conn, max_instances=1, now=NOON + 5)
    release(conn, [first], reason="connection refused", now=NOON + 6)
    assert numbers(take(conn, now=NOON + 6)) == [1, 2, 3]
    assert conn.execute("SELECT attempts FROM sub_operation WHERE id = 1").fetchone() == (1,)


def test_attempts_that_were_never_made_do_not_pile_up(conn: WritingConnection) -> None:
    put(conn, 1)
    for _ in range(50):
        release(conn, take(conn), reason="connection refused", now=NOON)
    assert conn.execute("SELECT outcome, reason FROM attempt").fetchall() == [("not sent", "connection refused")]
    (delivery,) = take(conn)
    finish(conn, [ended(delivery)])
    assert conn.execute("SELECT outcome FROM attempt ORDER BY id").fetchall() == [("not sent",), ("completed",)]


def test_after_a_crash_what_was_in_flight_is_uncertain_and_backs_off(conn: WritingConnection) -> None:
    put(conn, 1)
    put(conn, 2, destinations=["ai"])
    take(conn, "ai")
    waits = []
    for _ in range(12):
        (due_at,) = conn.execute("SELECT due_at FROM sub_operation WHERE destination = 'archive'").fetchone()
        take(conn, now=due_at)
        assert recover(conn, "archive", now=due_at, longest_wait_s=3600) == 1
        waits.append(next_due(conn, "archive") - due_at)  # type: ignore[operator]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert conn.execute("SELECT DISTINCT outcome FROM attempt WHERE ended_at IS NOT NULL").fetchall() == [
        ("interrupted",)
    ]
    assert conn.execute("SELECT in_flight FROM sub_operation WHERE destination = 'ai'").fetchone() == (1,)


def test_d11_a_date_far_off_because_the_clock_jumped_is_drawn_in(conn: WritingConnection) -> None:
    put(conn, 1, now=NOON + 10 * 365 * 86_400)
    recover(conn, "archive", now=NOON, longest_wait_s=3600)
    assert next_due(conn, "archive") == NOON + 3600


def test_next_due_is_the_earliest_that_can_be_claimed(conn: WritingConnection) -> None:
    assert next_due(conn, "archive") is None
    put(conn, 1, now=NOON + 20)
    put(conn, 2, now=NOON + 10)
    assert next_due(conn, "archive") == NOON + 10
    take(conn, now=NOON + 10)
    assert next_due(conn, "archive") == NOON + 20


def test_what_outlived_its_time_is_parked_but_not_while_in_flight(conn: WritingConnection) -> None:
    for n in range(1, 4):
        put(conn, n, now=NOON + n)
    take(conn, max_instances=1, now=NOON + 10)
    parked = expire(conn, "archive", created_before=NOON + 3, reason="too old", now=NOON + 10)
    assert parked == 1
    assert conn.execute("SELECT id, reason FROM sub_operation WHERE state = 'failed'").fetchall() == [(2, "too old")]


def test_the_work_of_a_claim_does_not_grow_with_the_queue() -> None:
    def work(queued: int) -> int:
        conn, steps = new_journal(), 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        for n in range(1, queued + 1):
            put(conn, n)
        conn.set_progress_handler(count, 100)
        assert len(take(conn)) == 64
        conn.set_progress_handler(None, 0)
        return steps

    assert work(3000) < work(300) * 1.2
