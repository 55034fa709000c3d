"""Proxied instances in the journal: made with their request, asked for in batches, counted like sub-operations."""

from __future__ import annotations

from typing import Any

import pytest
from filled_journal import NOON, new_journal

from router.dicom.uids import AETitle, Uid
from router.journal import proxied, send_requests
from router.journal.connection import WritingConnection
from router.journal.moves import Patience
from router.journal.proxied import Batch, Ended, ProxiedInstance
from router.journal.requests import inspect_request, list_requests
from router.journal.send_requests import NewRequest

PATIENCE = Patience(60.0, 3600.0)


@pytest.fixture
def conn() -> WritingConnection:
    return new_journal()


def submit(conn: WritingConnection, *numbers: int, uid: str = "2.25.1", per_series: int = 3, **how: Any) -> int | None:
    """Make a request for instances 1.9.<n>, so many in a series."""
    request = NewRequest(Uid(uid), "proxy", "/pacs/studies", "10.0.0.5", "PatientID=1", "store", "web", NOON, NOON + 60)
    instances = [ProxiedInstance(Uid("1.7"), Uid(f"1.8.{n // per_series}"), Uid(f"1.9.{n}")) for n in numbers]
    settings = {"proxy": "pacs", "move_destination": AETitle("STORE"), "instances": instances, **how}
    return send_requests.submit_proxied(conn, request, **settings)


def claim(conn: WritingConnection, **how: Any) -> Batch | None:
    settings = {"now": NOON, "most": 100, "most_characters": 65_000, **how}
    return proxied.claim(conn, "pacs", **settings)


def take(conn: WritingConnection, **how: Any) -> Batch:
    batch = claim(conn, **how)
    assert batch is not None
    return batch


def named(batch: Batch | None) -> list[int]:
    return [] if batch is None else [int(one.sop_instance_uid.rpartition(".")[2]) for one in batch.instances]


def settle(conn: WritingConnection, batch: Batch, state: Any = "completed", alone: bool = False) -> None:
    rows = [one.row_id for one in batch.instances]
    ended = [] if alone else [Ended(row, state, 0, "sent") for row in rows]
    proxied.settle(conn, batch.request_id, ended, alone=rows if alone else (), now=NOON + 1)


def counts(conn: WritingConnection, uid: str = "2.25.1") -> tuple[int, int, int, int]:
    state = send_requests.state(conn, Uid(uid))
    assert state is not None
    return state.remaining, state.completed, state.warning, state.failed


def test_a_batch_is_of_one_series_and_no_larger_than_asked(conn: WritingConnection) -> None:
    assert submit(conn, 0, 1, 2, 3, 4) == 5
    first = take(conn)
    assert (named(first), first.series, first.move_destination) == ([0, 1, 2], "1.8.0", "STORE")
    settle(conn, first)
    assert counts(conn) == (2, 3, 0, 0)
    second = take(conn, now=NOON + 1, most=1)
    assert named(second) == [3]
    settle(conn, second, "failed")
    assert named(take(conn, now=NOON + 1, most_characters=1)) == [4], "one at least"


def test_the_end_is_counted_and_names_what_failed(conn: WritingConnection) -> None:
    submit(conn, 0, 1, 2)
    settle(conn, take(conn), "failed")
    assert claim(conn, now=NOON + 2) is None
    assert proxied.next_due(conn, "pacs") is None
    state = send_requests.state(conn, Uid("2.25.1"))
    assert state is not None
    assert (state.ended_at, state.failed_uids) == (NOON + 1, ("1.9.0", "1.9.1", "1.9.2"))


def test_one_space_of_transaction_uids(conn: WritingConnection) -> None:
    assert submit(conn, 1) == 1
    assert submit(conn, 2) is None
    assert submit(conn, uid="2.25.2") == 0
    state = send_requests.state(conn, Uid("2.25.2"))
    assert state is not None
    assert state.ended_at == NOON, "nothing matched: it has ended"


def test_what_is_put_off_waits_and_comes_in_smaller_batches(conn: WritingConnection) -> None:
    submit(conn, 0, 1, 2, per_series=10)
    batch = take(conn, most=2)
    proxied.put_off(conn, batch, due_at=NOON + 30, status=None, reason="unreachable", counts=False)
    assert claim(conn, now=NOON + 29) is None
    assert proxied.next_due(conn, "pacs") == NOON + 30
    [overview] = proxied.overview(conn)
    assert (overview.name, overview.remaining, overview.reason) == ("pacs", 3, "unreachable")
    assert list_requests(conn)[0].problem == "unreachable"
    again = take(conn, now=NOON + 30, most=2)
    assert (named(again), again.tries, again.instances[0].times) == ([0], 1, 1)
    settle(conn, again)
    assert list_requests(conn)[0].problem == ""


def test_what_must_be_asked_for_alone_is_and_comes_last(conn: WritingConnection) -> None:
    submit(conn, 0, 1, 3)
    settle(conn, take(conn), alone=True)
    order = []
    while batch := claim(conn, now=NOON + 5):
        order.append(named(batch))
        settle(conn, batch)
    assert order == [[3], [0], [1]]


def test_requests_take_turns(conn: WritingConnection) -> None:
    submit(conn, 0, 3)
    submit(conn, 6, 9, uid="2.25.2")
    first = take(conn)
    settle(conn, first)
    assert (named(first), named(take(conn))) == ([0], [6])


def test_after_a_crash_it_is_asked_again(conn: WritingConnection) -> None:
    submit(conn, 0, 1)
    take(conn)
    assert proxied.take_back(conn) == 2
    again = take(conn)
    assert (named(again), again.instances[0].times) == ([0, 1], 2)


def test_a_refusal_fails_all_that_remains(conn: WritingConnection) -> None:
    submit(conn, 0, 3, 6)
    settle(conn, take(conn))
    batch = take(conn, now=NOON + 1)
    assert proxied.refuse(conn, batch, now=NOON + 2, status=0xA801, reason="A801H unknown") == 2
    assert counts(conn) == (0, 1, 0, 2)
    detail = inspect_request(conn, Uid("2.25.1"))
    assert detail is not None
    assert [(one.state, one.status) for one in detail.sub_operations] == [
        ("completed", 0),
        ("failed", 0xA801),
        ("failed", 0xA801),
    ]


def test_time_up_fails_what_is_in_no_c_move(conn: WritingConnection) -> None:
    submit(conn, 0, 3)
    batch = take(conn)
    step = send_requests.expire(conn, now=NOON + 61, reason="time is up", patience=PATIENCE)
    assert (step.failed, counts(conn)) == (1, (1, 0, 0, 1))
    settle(conn, batch)
    send_requests.expire(conn, now=NOON + 62, reason="time is up", patience=PATIENCE)
    assert counts(conn) == (0, 1, 0, 1)
    assert not send_requests.has_overdue(conn, now=NOON + 1e6)


def test_it_is_forgotten_with_its_rows(conn: WritingConnection) -> None:
    submit(conn, 0, 1)
    assert send_requests.forgettable(conn, before=NOON + 1e6) == [], "something remains"
    settle(conn, take(conn))
    assert send_requests.forgettable(conn, before=NOON) == []
    [row] = send_requests.forgettable(conn, before=NOON + 1e6)
    while send_requests.forget(conn, row):
        pass
    assert send_requests.state(conn, Uid("2.25.1")) is None
    tables = ("send_request", "proxied_request", "proxied_instance")
    assert [conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables] == [0, 0, 0]
