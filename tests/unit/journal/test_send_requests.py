"""Send requests that were asked for: made at once, counted from their rows, ended in time, forgotten (D4, O-26)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from filled_journal import NOON, ended, new_journal, numbers, put, take

from router.dicom.uids import Uid
from router.journal import overview, quiet_units, requests, sub_operations
from router.journal.connection import WritingConnection
from router.journal.moves import Patience
from router.journal.records import QuietUnitRow
from router.journal.send_requests import NewRequest, expire, forget, forgettable, has_overdue, state, submit

DAY = 86_400.0
PATIENCE = Patience(60.0, DAY)
UID = Uid("1.1.99999.20250901")


@pytest.fixture
def conn() -> WritingConnection:
    return new_journal()


def ask(conn: WritingConnection, ids: Sequence[int], uid: Uid = UID, now: float = NOON, **more: Any) -> int | None:
    values = {"resource": "studies", "requester": "10.0.0.5", "query": "PatientID=1", "destination": "archive", **more}
    request = NewRequest(uid, "send-rs", source="SEND-RS at 10.0.0.5", created_at=now, expires_at=now + DAY, **values)
    return submit(conn, request, json.dumps(list(ids)))


def counters(conn: WritingConnection, uid: Uid = UID) -> tuple[int, int, int, int]:
    found = state(conn, uid)
    assert found is not None
    return found.remaining, found.completed, found.warning, found.failed


def test_a_request_has_a_sub_operation_for_each_instance_in_the_order_asked_for(conn: WritingConnection) -> None:
    ids = [put(conn, n, destinations=()).instance_id for n in range(1, 4)]
    assert ask(conn, ids[::-1]) == 3
    assert counters(conn) == (3, 0, 0, 0)
    assert numbers(take(conn, max_instances=2)) == [3, 2]
    assert counters(conn) == (3, 0, 0, 0), "what is in flight remains"


def test_req_047_a_transaction_uid_is_taken_once_whatever_becomes_of_the_request(conn: WritingConnection) -> None:
    """REQ-047, O-25, B87: running, finished and remembered; a rule's UID as well."""
    instance = put(conn, 1).instance_id  # a rule's job has 2.25.1.7
    assert ask(conn, [instance]) == 1
    assert ask(conn, [instance], resource="instances") is None
    for delivery in (*take(conn), *take(conn)):
        sub_operations.finish(conn, [ended(delivery)])
    assert ask(conn, [], now=NOON + 5 * DAY) is None
    assert ask(conn, [instance], uid=Uid("2.25.1.7")) is None
    assert conn.execute("SELECT count(*) FROM sub_operation").fetchone() == (2,), "nothing was added by a refused one"


def test_a_request_for_nothing_has_ended_at_once(conn: WritingConnection) -> None:
    assert ask(conn, []) == 0
    found = state(conn, UID)
    assert found is not None
    assert (found.ended_at, found.failed_uids) == (NOON, ())


def test_each_request_has_its_own_row_for_an_instance_and_is_counted_on_its_own(conn: WritingConnection) -> None:
    """D4 and D13 coalesce what rules send; never a sub-operation of a request."""
    instance = put(conn, 1).instance_id
    other = Uid("1.2.3.4.5")
    assert (ask(conn, [instance]), ask(conn, [instance], uid=other)) == (1, 1)
    outcomes = ["failed", "completed", "warning"]
    for outcome in outcomes:
        [delivery] = take(conn)
        assert take(conn) == [], "never two of one UID in flight (D6)"
        sub_operations.finish(conn, [ended(delivery, outcome)])
    assert counters(conn, Uid("2.25.1.7")) == (0, 0, 0, 1)
    assert counters(conn) == (0, 1, 0, 0)
    assert counters(conn, other) == (0, 0, 1, 0)


def test_d4_a_repeat_is_not_swallowed_by_what_was_asked_for(conn: WritingConnection) -> None:
    instance = put(conn, 1, destinations=()).instance_id
    ask(conn, [instance])
    assert put(conn, 1, now=NOON + 1).destinations == ("archive",)
    assert put(conn, 1, now=NOON + 2).destinations == (), "but by what a rule still has to send"


def test_d4_a_quiet_study_is_sent_although_it_was_asked_for(conn: WritingConnection) -> None:
    unit = QuietUnitRow("rule", "study", ("archive",), matched=True, vetoed=False, due_at=NOON)
    instance = put(conn, 1, destinations=(), units=[unit]).instance_id
    ask(conn, [instance])
    [due] = quiet_units.due(conn, now=NOON)
    [fired] = quiet_units.fire(conn, due, now=NOON)
    assert fired.instances == 1
    found = state(conn, fired.transaction_uid)
    assert found is not None
    assert (found.resource, found.requester) == ("studies", "")


def test_a_version_that_was_superseded_since_the_search_is_left_out(conn: WritingConnection) -> None:
    """D6: sent behind the newer one it would undo it at the destination."""
    first = put(conn, 1, destinations=()).instance_id
    second = put(conn, 1, destinations=(), content=b"newer").instance_id
    assert ask(conn, [first, second]) == 1
    assert take(conn)[0].instance_id == second


def test_the_failed_are_named_once_when_the_request_has_ended(conn: WritingConnection) -> None:
    ids = [put(conn, n, destinations=()).instance_id for n in range(1, 4)]
    ask(conn, ids)
    one, two, three = take(conn)
    sub_operations.finish(conn, [ended(three, "failed"), ended(one, "failed")])
    found = state(conn, UID)
    assert found is not None
    assert (found.failed, found.failed_uids, found.ended_at) == (2, (), None)
    sub_operations.finish(conn, [ended(two, "completed", ended_at=NOON + 9)])
    found = state(conn, UID)
    assert found is not None
    assert (found.failed_uids, found.ended_at) == (("1.2.9.1", "1.2.9.3"), NOON + 9)


def test_a_job_of_a_rule_is_counted_and_has_not_ended_while_more_may_come(conn: WritingConnection) -> None:
    put(conn, 1)
    [delivery] = take(conn)
    sub_operations.finish(conn, [ended(delivery)])
    found = state(conn, Uid("2.25.1.7"))
    assert found is not None
    assert (found.resource, found.requester, found.completed, found.ended_at) == ("instances", "", 1, None)
    requests.close(conn, [Uid("2.25.1.7")], now=NOON + 60)
    found = state(conn, Uid("2.25.1.7"))
    assert found is not None
    assert found.ended_at == NOON + 60


def test_jobs_lists_what_was_asked_for_with_its_resource_and_query(conn: WritingConnection) -> None:
    put(conn, 1)
    ask(conn, [put(conn, 2, destinations=()).instance_id], resource="studies/1.2.3/series")
    asked, rule = requests.list_requests(conn)
    assert (asked.origin, asked.resource, asked.query, asked.rule) == (
        *("send-rs", "studies/1.2.3/series", "PatientID=1", ""),
    )
    assert (rule.origin, rule.resource, rule.query, rule.rule) == ("rule", "instances", "", "rule")


def test_what_was_asked_for_and_failed_is_not_parked(conn: WritingConnection) -> None:
    """Who asked was told; a later success would change a result that is final (REQ-062)."""
    ask(conn, [put(conn, 1, destinations=()).instance_id])
    [delivery] = take(conn)
    sub_operations.finish(conn, [ended(delivery, "failed")])
    assert overview.parked(conn) == []
    assert overview.retry_parked(conn, destination="archive", now=NOON).retried == 0
    assert counters(conn) == (0, 0, 0, 1)


def test_what_remains_when_the_time_is_up_is_failed_and_says_why(conn: WritingConnection) -> None:
    ids = [put(conn, n).instance_id for n in range(1, 5)]
    ask(conn, ids[1:])
    assert not has_overdue(conn, now=NOON + DAY - 1)
    assert has_overdue(conn, now=NOON + DAY)
    assert expire(conn, now=NOON + DAY, reason="time is up", patience=PATIENCE).failed == 3
    assert counters(conn) == (0, 0, 0, 3)
    assert counters(conn, Uid("2.25.1.7")) == (4, 0, 0, 0), "a rule's are not touched"
    assert not has_overdue(conn, now=NOON + 2 * DAY)


def test_what_is_in_flight_when_the_time_is_up_is_left_to_its_attempt(conn: WritingConnection) -> None:
    ask(conn, [put(conn, n, destinations=()).instance_id for n in (1, 2)])
    [first] = take(conn, max_instances=1)
    assert expire(conn, now=NOON + DAY, reason="time is up", patience=PATIENCE).failed == 1
    assert counters(conn) == (1, 0, 0, 1)
    sub_operations.finish(conn, [ended(first, "remaining", reason="busy")])
    assert expire(conn, now=NOON + DAY, reason="time is up", patience=PATIENCE).failed == 1
    rows = conn.execute("SELECT reason FROM sub_operation ORDER BY id").fetchall()
    assert rows == [("time is up; last: busy",), ("time is up",)]


def test_a_request_is_expired_in_steps(conn: WritingConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.journal.send_requests.EXPIRE_ROWS", 2)
    ask(conn, [put(conn, n, destinations=()).instance_id for n in range(1, 6)])
    steps = [expire(conn, now=NOON + DAY, reason="x", patience=PATIENCE) for _ in range(3)]
    assert [(step.failed, step.more) for step in steps] == [(2, True), (2, True), (1, False)]
    assert counters(conn) == (0, 0, 0, 5)


def forget_all(conn: WritingConnection, before: float) -> None:
    for request_id in forgettable(conn, before=before):
        while forget(conn, request_id):
            pass


def test_an_old_request_is_forgotten_with_its_rows_and_attempts_and_its_uid_is_free(conn: WritingConnection) -> None:
    instance = put(conn, 1, destinations=()).instance_id
    ask(conn, [instance])
    [delivery] = take(conn)
    sub_operations.finish(conn, [ended(delivery, "failed", ended_at=NOON + 10)])
    assert forgettable(conn, before=NOON + 10) == []
    forget_all(conn, NOON + 11)
    assert state(conn, UID) is None
    for table in ("send_request", "sub_operation", "attempt"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert ask(conn, [instance]) == 1


def test_undelivered_work_is_never_forgotten(conn: WritingConnection) -> None:
    """Invariant 8: what remains, and what a rule could not deliver, stays for a person."""
    put(conn, 1)
    put(conn, 2, destinations=["ai"])
    requests.close_all(conn, now=NOON)
    ask(conn, [put(conn, 3, destinations=()).instance_id])
    [parked] = take(conn, "ai")
    sub_operations.finish(conn, [ended(parked, "failed")])
    assert forgettable(conn, before=NOON + 1000 * DAY) == []


def test_an_open_job_of_a_rule_is_not_forgotten(conn: WritingConnection) -> None:
    put(conn, 1)
    [delivery] = take(conn)
    sub_operations.finish(conn, [ended(delivery)])
    assert forgettable(conn, before=NOON + DAY) == []
    requests.close_all(conn, now=NOON)
    forget_all(conn, NOON + DAY)
    assert state(conn, Uid("2.25.1.7")) is None
    assert put(conn, 2).destinations == ("archive",), "the same rule and visit make a new job"


def test_d6_what_went_out_after_a_parked_older_version_is_remembered(conn: WritingConnection) -> None:
    put(conn, 1)
    [old] = take(conn)
    sub_operations.finish(conn, [ended(old, "failed")])
    newer = put(conn, 1, destinations=(), content=b"newer").instance_id
    ask(conn, [newer])
    [delivery] = take(conn)
    sub_operations.finish(conn, [ended(delivery)])
    requests.close_all(conn, now=NOON)
    forget_all(conn, NOON + DAY)
    report = overview.retry_parked(conn, destination="archive", now=NOON)
    assert (report.retried, report.overtaken) == (0, 1)


def test_a_large_request_is_forgotten_in_steps(conn: WritingConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.journal.send_requests.FORGET_ROWS", 2)
    ask(conn, [put(conn, n, destinations=()).instance_id for n in range(1, 6)])
    sub_operations.finish(conn, [ended(delivery) for delivery in take(conn)])
    [request_id] = forgettable(conn, before=NOON + DAY)
    assert [forget(conn, request_id) for _ in range(3)] == [True, True, False]
    assert state(conn, UID) is None
