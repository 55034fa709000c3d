"""When a C-MOVE ends by itself, and when because nobody wants more of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from filled_journal import NOON, ended, new_journal, numbers, put, take

from router.dicom.uids import Uid
from router.journal import destinations, moves
from router.journal.connection import WritingConnection
from router.journal.destinations import DestinationState
from router.journal.moves import Patience
from router.journal.send_requests import Expired, NewRequest, RequestState, expire, state, submit
from router.journal.sub_operations import finish, release

DAY = 86_400.0
UID = Uid("2.25.7")


@pytest.fixture
def conn() -> WritingConnection:
    return new_journal()


def move(conn: WritingConnection, ids: Sequence[int]) -> None:
    request = NewRequest(
        UID, "c-move", "studies", "aet:VIEWER", "StudyInstanceUID=1.2.3", "archive", "C-MOVE of VIEWER",
        created_at=NOON, expires_at=NOON + 60, originator_aet="VIEWER", originator_message_id=7, priority=1,
    )  # fmt: skip
    assert submit(conn, request, json.dumps(list(ids))) == len(ids)


def instances(conn: WritingConnection, count: int) -> list[int]:
    return [put(conn, n, destinations=()).instance_id for n in range(1, count + 1)]


def expired(conn: WritingConnection, after_s: float, retry_s: float = 60.0) -> int:
    """Do what is done every second, as of so many seconds after the beginning; gives how many failed."""
    step: Expired = expire(conn, now=NOON + after_s, reason="x", patience=Patience(retry_s, DAY))
    return step.failed


def state_of(conn: WritingConnection) -> RequestState:
    found = state(conn, UID)
    assert found is not None
    return found


def is_down(conn: WritingConnection, *, down: bool = True) -> None:
    destinations.save(conn, DestinationState("archive", "waiting" if down else "ready", "refused", NOON, NOON + 30))


def test_req_109_a_claim_carries_originator_and_priority(conn: WritingConnection) -> None:
    """REQ-109; O-46: what no C-MOVE asked for has no originator."""
    put(conn, 9)
    move(conn, instances(conn, 1))
    by_rule, by_move = take(conn)
    assert (by_rule.originator_aet, by_rule.originator_message_id, by_rule.priority) == ("", None, 0)
    assert (by_move.originator_aet, by_move.originator_message_id, by_move.priority) == ("VIEWER", 7, 1)
    assert (by_rule.is_of_move, by_move.is_of_move) == (False, True)


def test_of_a_destination_that_takes_nothing_all_has_failed_in_the_end(conn: WritingConnection) -> None:
    move(conn, instances(conn, 3))
    is_down(conn)
    assert expired(conn, 59) == 0
    assert expired(conn, 61) == 3
    found = state_of(conn)
    assert (found.failed, len(found.failed_uids), found.cancelled) == (3, 3, 0)
    assert conn.execute("SELECT DISTINCT reason FROM sub_operation").fetchall() == [
        ("not delivered: nothing of the C-MOVE was taken for 60 s",)
    ]


def test_a_long_move_goes_on_as_long_as_something_ends(conn: WritingConnection) -> None:
    move(conn, instances(conn, 3))
    is_down(conn)
    for number in range(3):
        (delivery,) = take(conn, now=NOON + 50 * number, max_instances=1)
        finish(conn, [ended(delivery, ended_at=NOON + 50 * (number + 1))])
        assert expired(conn, 50 * (number + 1) + 55) == 0
    assert state_of(conn).completed == 3


def test_what_is_in_flight_is_waited_for(conn: WritingConnection) -> None:
    move(conn, instances(conn, 1))
    (delivery,) = take(conn)
    is_down(conn)
    assert expired(conn, 600) == 0
    release(conn, [delivery], reason="", now=NOON + 600)
    assert expired(conn, 606) == 1


def test_a_move_waits_in_the_queue_of_a_destination_that_is_well(conn: WritingConnection) -> None:
    move(conn, instances(conn, 1))
    assert expired(conn, 3600) == 0
    is_down(conn, down=False)
    assert expired(conn, 7200) == 0
    assert expired(conn, DAY - 1) == 0
    assert expired(conn, DAY) == 1, "but not for longer than any request may take"


def test_what_was_tried_in_vain_is_not_waited_for(conn: WritingConnection) -> None:
    move(conn, instances(conn, 1))
    (delivery,) = take(conn)
    finish(conn, [ended(delivery, "remaining", due_at=NOON + 10_000)])
    assert expired(conn, 61) == 1


def test_req_120_a_cancelled_request_begins_nothing_more(conn: WritingConnection) -> None:
    """REQ-120: also when what was claimed is given back, and after a crash."""
    move(conn, instances(conn, 4))
    first, second = take(conn, max_instances=2)
    finish(conn, [ended(first, "failed")])
    moves.cancel(conn, UID, now=NOON + 1)
    assert take(conn, now=NOON + 1) == []
    assert expired(conn, 1) == 0, "cancelled is not failed"
    found = state_of(conn)
    assert (found.remaining, found.failed, found.ended_at) == (1, 3, None)
    release(conn, [second], reason="", now=NOON + 2)
    assert take(conn, now=NOON + 2) == []
    expired(conn, 2)
    found = state_of(conn)
    assert (found.remaining, found.failed, found.cancelled) == (0, 4, 3)
    assert found.failed_uids == ("1.2.9.1", "1.2.9.2", "1.2.9.3", "1.2.9.4")
    assert found.cancelled_uids == ("1.2.9.2", "1.2.9.3", "1.2.9.4")
    assert conn.execute("SELECT expires_at FROM send_request").fetchall() == [(None,)]


def test_others_are_claimed_though_a_cancelled_request_stands_before_them(conn: WritingConnection) -> None:
    ids = instances(conn, 2)
    move(conn, ids)
    moves.cancel(conn, UID, now=NOON)
    put(conn, 3)
    assert numbers(take(conn)) == [3]


def test_an_unknown_request_cannot_be_cancelled(conn: WritingConnection) -> None:
    assert moves.cancel(conn, UID, now=NOON) is None
