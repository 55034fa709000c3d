"""When a series or study is sent, and what of it."""

from __future__ import annotations

import pytest
from filled_journal import NOON, ended, new_journal, put, take

from router.journal.connection import WritingConnection
from router.journal.quiet_units import DueUnit, due, fire, next_due
from router.journal.records import QuietUnitRow
from router.journal.sub_operations import finish

LATER = NOON + 100


@pytest.fixture
def conn() -> WritingConnection:
    return new_journal()


def vote(
    level: str = "series", *, matched: bool = True, vetoed: bool = False, due_at: float = NOON + 60
) -> QuietUnitRow:
    return QuietUnitRow("rule", level, ("archive", "ai"), matched, vetoed, due_at)  # type: ignore[arg-type]


def rows(conn: WritingConnection, destination: str = "archive") -> list[str]:
    sql = "SELECT sop_instance_uid FROM sub_operation WHERE destination = ? ORDER BY id"
    return [row[0] for row in conn.execute(sql, (destination,))]


def test_a_quiet_series_becomes_one_closed_send_request_for_each_destination(conn: WritingConnection) -> None:
    for n in (1, 2, 3):
        put(conn, n, destinations=(), units=[vote()])
    assert due(conn, now=NOON + 59) == []
    assert next_due(conn) == NOON + 60
    (unit,) = due(conn, now=LATER)
    fired = fire(conn, unit, now=LATER)
    assert [(request.destination, request.instances) for request in fired] == [("archive", 3), ("ai", 3)]
    assert rows(conn) == rows(conn, "ai") == ["1.2.9.1", "1.2.9.2", "1.2.9.3"]
    requests = conn.execute("SELECT transaction_uid, origin, rule, source, closed_at FROM send_request").fetchall()
    assert [request[1:] for request in requests] == [("rule", "rule", "series 1.2.3.4", LATER)] * 2
    assert {request[0] for request in requests} == {request.transaction_uid for request in fired}
    assert conn.execute("SELECT DISTINCT routed FROM instance").fetchall() == [(1,)]
    assert due(conn, now=LATER) == []


def test_a_study_is_sent_with_all_its_series(conn: WritingConnection) -> None:
    put(conn, 1, destinations=(), series="1.1", units=[vote("study")])
    put(conn, 2, destinations=(), series="1.2", units=[vote("study")])
    put(conn, 3, destinations=(), series="1.3", study="9.9")
    (unit,) = due(conn, now=LATER)
    fire(conn, unit, now=LATER)
    assert rows(conn) == ["1.2.9.1", "1.2.9.2"]


@pytest.mark.parametrize(
    "votes",
    [
        [vote(matched=False)],
        [vote(), vote(vetoed=True)],
        [vote(matched=False, vetoed=True), vote()],
    ],
)
def test_nothing_is_sent_without_a_match_or_with_a_veto(conn: WritingConnection, votes: list[QuietUnitRow]) -> None:
    for n, one in enumerate(votes):
        put(conn, n, destinations=(), units=[one])
    (unit,) = due(conn, now=LATER)
    assert fire(conn, unit, now=LATER) == []
    assert rows(conn) == []
    assert conn.execute("SELECT DISTINCT routed FROM instance").fetchall() == [(0,)]
    assert due(conn, now=LATER) == []


def test_late_comers_are_sent_by_themselves_when_it_is_quiet_again(conn: WritingConnection) -> None:
    put(conn, 1, destinations=(), units=[vote()])
    fire(conn, due(conn, now=LATER)[0], now=LATER)
    for delivery in (*take(conn, now=LATER), *take(conn, "ai", now=LATER)):
        finish(conn, [ended(delivery)])
    put(conn, 2, destinations=(), units=[vote(due_at=LATER + 60)])
    assert due(conn, now=LATER) == []
    (unit,) = due(conn, now=LATER + 60)
    assert [request.instances for request in fire(conn, unit, now=LATER + 60)] == [1, 1]
    assert rows(conn) == ["1.2.9.1", "1.2.9.2"]


def test_a_repeat_after_delivery_is_sent_again_a_repeat_before_is_not(conn: WritingConnection) -> None:
    put(conn, 1, destinations=(), units=[vote()])
    fire(conn, due(conn, now=LATER)[0], now=LATER)
    put(conn, 1, destinations=(), units=[vote(due_at=LATER + 60)])
    assert fire(conn, due(conn, now=LATER + 60)[0], now=LATER + 60) == []
    assert conn.execute("SELECT count(*) FROM send_request").fetchone() == (2,)
    finish(conn, [ended(delivery) for delivery in take(conn, now=LATER + 60)])
    put(conn, 1, destinations=(), units=[vote(due_at=LATER + 120)])
    (request,) = fire(conn, due(conn, now=LATER + 120)[0], now=LATER + 120)
    assert (request.destination, request.instances) == ("archive", 1)


def test_of_two_versions_the_current_one_is_sent(conn: WritingConnection) -> None:
    put(conn, 1, destinations=(), units=[vote()])
    put(conn, 1, destinations=(), content=b"second", units=[vote()])
    fire(conn, due(conn, now=LATER)[0], now=LATER)
    (delivery,) = take(conn, now=LATER)
    assert delivery.file == f"1/1-{b'second'.hex()}.dcm"


def test_a_unit_that_woke_up_between_look_and_fire_is_left_alone(conn: WritingConnection) -> None:
    put(conn, 1, destinations=(), units=[vote()])
    (unit,) = due(conn, now=LATER)
    put(conn, 2, destinations=(), units=[vote(due_at=LATER + 60)])
    assert fire(conn, unit, now=LATER) == []
    assert next_due(conn) == LATER + 60


def test_a_unit_nobody_knows_fires_nothing(conn: WritingConnection) -> None:
    assert fire(conn, DueUnit("rule", "study", 77), now=LATER) == []
    assert next_due(conn) is None
