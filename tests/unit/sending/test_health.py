"""How long a destination is left alone, as pure arithmetic."""

from __future__ import annotations

from dice import HighestDice

from router.sending.health import Health


def health() -> Health:
    return Health("archive", probe_s=60.0, now=0.0, rng=HighestDice())


def test_waits_double_from_two_seconds_to_the_probe_time() -> None:
    archive, now, waits = health(), 0.0, []
    for _ in range(8):
        archive.trouble("refused", now, progressed=False)
        waits.append(archive.retry_at - now)
        now = archive.retry_at
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_several_sessions_that_lose_the_same_destination_count_once() -> None:
    archive = health()
    archive.trouble("refused", 0.0, progressed=False)
    retry_at = archive.retry_at
    archive.trouble("refused", 0.1, progressed=False)
    assert archive.retry_at == retry_at


def test_a_success_makes_it_ready_and_the_next_wait_short_again() -> None:
    archive = health()
    for now in (0.0, 10.0, 30.0):
        archive.trouble("refused", now, progressed=False)
    archive.success(100.0)
    assert archive.ready
    assert archive.as_row().retry_at is None
    archive.trouble("refused", 500.0, progressed=False)
    assert archive.retry_at == 502.0


def test_f55_waits_of_a_flapping_destination_start_longer_each_time_until_it_is_steady() -> None:
    archive, now, waits = health(), 0.0, []
    for _ in range(7):
        archive.trouble("refused", now, progressed=False)
        waits.append(archive.retry_at - now)
        archive.success(archive.retry_at)
        now = archive.retry_at + 20.0
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    archive.trouble("refused", now + 600.0, progressed=False)
    assert archive.retry_at == now + 602.0


def test_f48_a_destination_that_hangs_up_after_some_instances_is_not_flapping() -> None:
    archive, now = health(), 0.0
    for _ in range(5):
        archive.trouble("aborted", now, progressed=True)
        assert archive.retry_at == now + 2.0
        archive.success(archive.retry_at)
        now = archive.retry_at + 5.0


def test_since_stays_while_the_state_stays() -> None:
    archive = health()
    archive.trouble("refused", 10.0, progressed=False)
    archive.trouble("no route", 20.0, progressed=False)
    row = archive.as_row()
    assert (row.state, row.reason, row.since) == ("waiting", "no route", 10.0)
    archive.misconfigured("not authorised", 30.0)
    row = archive.as_row()
    assert (row.state, row.since, row.retry_at) == ("misconfigured", 30.0, 90.0)
