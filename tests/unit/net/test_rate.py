"""The bucket of connections of each address (B46), on a clock of its own."""

from __future__ import annotations

from router.net.rate import MAX_ADDRESSES, ConnectionRate


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_in_and_then_so_many_a_second() -> None:
    clock = Clock()
    rate = ConnectionRate(per_s=2.0, burst=5, clock=clock)
    assert [rate.refusals("a") for _ in range(7)] == [0, 0, 0, 0, 0, 1, 2]
    clock.now += 0.5
    assert [rate.refusals("a") for _ in range(2)] == [0, 3]
    clock.now += 2.0
    assert [rate.refusals("a") for _ in range(5)] == [0, 0, 0, 0, 4]


def test_refusals_are_counted_anew_after_the_bucket_was_full() -> None:
    clock = Clock()
    rate = ConnectionRate(per_s=1.0, burst=1, clock=clock)
    assert [rate.refusals("a") for _ in range(3)] == [0, 1, 2]
    clock.now += 60
    assert [rate.refusals("a") for _ in range(2)] == [0, 1]


def test_one_address_does_not_spend_for_another() -> None:
    rate = ConnectionRate(per_s=1.0, burst=1, clock=Clock())
    assert [rate.refusals(address) for address in ("a", "a", "b", "b")] == [0, 1, 0, 1]


def test_addresses_are_forgotten_quietest_first_when_there_are_too_many() -> None:
    rate = ConnectionRate(per_s=0.001, burst=1, clock=Clock())
    for n in range(MAX_ADDRESSES):
        rate.refusals(f"address {n}")
    assert rate.refusals("address 0") == 1  # heard of just now, so not the quietest
    rate.refusals("one more")
    assert rate.refusals("address 0") == 2
    assert rate.refusals("address 1") == 0  # forgotten
