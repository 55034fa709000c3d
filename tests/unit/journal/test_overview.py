"""What people are shown, and what happens when they say: try again."""

from __future__ import annotations

import pytest
from filled_journal import NOON, ended, new_journal, put, take

from router.dicom.uids import Uid
from router.journal import destinations as lane_states
from router.journal.connection import WritingConnection
from router.journal.destinations import DestinationState
from router.journal.overview import destinations, destinations_with_parked, parked, retry_parked, totals, unrouted
from router.journal.requests import close, close_all, inspect_request, list_requests
from router.journal.sub_operations import finish


@pytest.fixture
def conn() -> WritingConnection:
    """Four for "archive" (one of each state), one for "ai", one unrouted."""
    conn = new_journal()
    for n in range(1, 5):
        put(conn, n, now=NOON + n)
    first, second, third, _ = take(conn, now=NOON + 10)
    finish(
        conn,
        [
            ended(first),
            ended(second, "warning", status=0xB000, reason="B000H coerced"),
            ended(third, "failed", status=0x0122, reason="0122H SOP class not supported"),
        ],
    )
    put(conn, 5, destinations=["ai"], now=NOON + 20)
    put(conn, 6, destinations=[], now=NOON + 30)
    return conn


def test_totals_count_everything(conn: WritingConnection) -> None:
    counted = totals(conn)
    assert (counted.instances, counted.bytes, counted.unrouted) == (6, 6000, 1)
    assert (counted.remaining, counted.completed, counted.warning, counted.failed) == (2, 1, 1, 1)
    assert totals(new_journal()).instances == 0


def test_each_destination_shows_its_queue_and_its_lane(conn: WritingConnection) -> None:
    lane_states.save(conn, DestinationState("archive", "waiting", "connection refused", NOON + 40, NOON + 50))
    lane_states.save(conn, DestinationState("cloud", "ready", "", NOON))
    ai, archive, cloud = destinations(conn)
    assert (ai.name, ai.state, ai.remaining, ai.next_due_at) == ("ai", "", 1, NOON + 20)
    assert (archive.state, archive.reason, archive.retry_at) == ("waiting", "connection refused", NOON + 50)
    assert (archive.remaining, archive.in_flight) == (1, 1)
    assert (archive.completed, archive.warning, archive.failed) == (1, 1, 1)
    assert (archive.oldest_created_at, archive.next_due_at) == (NOON + 4, None)
    assert (cloud.name, cloud.remaining, cloud.oldest_created_at) == ("cloud", 0, None)


def test_a_lane_state_keeps_since_until_it_changes(conn: WritingConnection) -> None:
    def shown() -> tuple[str, str, float | None, float | None]:
        _, archive = destinations(conn)
        return archive.state, archive.reason, archive.since, archive.retry_at

    lane_states.save(conn, DestinationState("archive", "waiting", "refused", NOON, NOON + 2))
    lane_states.save(conn, DestinationState("archive", "waiting", "no route", NOON + 10, NOON + 14))
    assert shown() == ("waiting", "no route", NOON, NOON + 14)
    lane_states.save(conn, DestinationState("archive", "ready", "", NOON + 20))
    assert shown() == ("ready", "", NOON + 20, None)


def test_unrouted_and_parked_are_listed_with_what_a_person_needs(conn: WritingConnection) -> None:
    (lost,) = unrouted(conn)
    assert (lost.sop_instance_uid, lost.protocol, lost.address) == ("1.2.9.6", "C-STORE", "10.0.0.1")
    (failed,) = parked(conn)
    assert (failed.sop_instance_uid, failed.status, failed.attempts) == ("1.2.9.3", 0x0122, 1)
    assert failed.reason == "0122H SOP class not supported"
    assert failed.transaction_uid == "2.25.1.7"
    assert parked(conn, destination="ai") == []


def test_a_parked_instance_gets_all_its_chances_again(conn: WritingConnection) -> None:
    retried = retry_parked(conn, destination="archive", now=NOON + 100)
    assert (retried.retried, retried.overtaken) == (1, 0)
    (delivery,) = take(conn, now=NOON + 100)
    assert (delivery.attempts, delivery.instance_failures, delivery.created_at) == (1, 0, NOON + 100)
    assert retry_parked(conn, destination="ai", now=NOON + 100).retried == 0


def test_many_parked_instances_are_taken_in_steps(conn: WritingConnection) -> None:
    put(conn, 11, now=NOON + 50)
    put(conn, 12, now=NOON + 51)
    finish(conn, [ended(delivery, "failed", status=0xA900) for delivery in take(conn, now=NOON + 60)])
    assert destinations_with_parked(conn) == ["archive"]
    first = retry_parked(conn, destination="archive", now=NOON + 100, limit=2)
    second = retry_parked(conn, destination="archive", now=NOON + 100, limit=2, after=first.last_id or 0)
    nothing = retry_parked(conn, destination="archive", now=NOON + 100, limit=2, after=second.last_id or 0)
    assert (first.retried, second.retried, nothing.retried, nothing.last_id) == (2, 1, 0, None)
    assert parked(conn) == destinations_with_parked(conn) == []


def test_d6_a_parked_version_is_not_sent_over_a_newer_one(conn: WritingConnection) -> None:
    put(conn, 3, content=b"newer", now=NOON + 50)
    (newer,) = take(conn, now=NOON + 60)
    in_flight = retry_parked(conn, destination="archive", now=NOON + 100)
    assert (in_flight.retried, in_flight.overtaken) == (0, 1)
    finish(conn, [ended(newer)])
    delivered = retry_parked(conn, destination="archive", now=NOON + 100)
    assert (delivered.retried, delivered.overtaken) == (0, 1)
    assert len(parked(conn)) == 1


def test_a_parked_instance_that_came_again_is_not_sent_twice(conn: WritingConnection) -> None:
    put(conn, 3, now=NOON + 50)
    assert retry_parked(conn, destination="archive", now=NOON + 100).retried == 0
    assert len(take(conn, now=NOON + 100)) == 1


def test_send_requests_are_listed_newest_first_with_their_counts(conn: WritingConnection) -> None:
    ai, archive = list_requests(conn)
    assert (ai.destination, ai.remaining, ai.finished) == ("ai", 1, False)
    assert (archive.remaining, archive.completed, archive.warning, archive.failed) == (1, 1, 1, 1)
    assert (archive.rule, archive.closed_at) == ("rule", None)
    assert list_requests(conn, destination="archive") == [archive]
    assert list_requests(conn, limit=1) == [ai]


def test_a_send_request_shows_its_instances_and_every_attempt(conn: WritingConnection) -> None:
    detail = inspect_request(conn, Uid("2.25.1.7"))
    assert detail is not None
    assert [line.state for line in detail.sub_operations] == ["completed", "warning", "failed", "remaining"]
    assert [line.in_flight for line in detail.sub_operations] == [False, False, False, True]
    (attempt,) = detail.sub_operations[2].attempts
    assert (attempt.outcome, attempt.status, attempt.reason) == ("failed", 0x0122, "0122H SOP class not supported")
    page = inspect_request(conn, Uid("2.25.1.7"), offset=1, limit=2)
    assert page is not None
    assert [line.state for line in page.sub_operations] == ["warning", "failed"]
    assert inspect_request(conn, Uid("2.25.404")) is None


def test_a_request_is_finished_when_it_is_closed_and_nothing_remains(conn: WritingConnection) -> None:
    close(conn, [Uid("2.25.1.2"), Uid("2.25.404")], now=NOON + 60)
    close(conn, [Uid("2.25.1.2")], now=NOON + 99)
    (ai,) = list_requests(conn, destination="ai")
    assert (ai.closed_at, ai.finished) == (NOON + 60, False)
    finish(conn, [ended(delivery) for delivery in take(conn, "ai", now=NOON + 60)])
    assert list_requests(conn, destination="ai")[0].finished
    assert close_all(conn, now=NOON + 200) == 1
    assert list_requests(conn, destination="archive")[0].closed_at == NOON + 200
