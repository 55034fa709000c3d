"""The courier made of couriers: what it asks of each, what it learns, what it tells the lane (Sup 248, O-34, O-35)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.sending.sending_harness import CT, EXPLICIT, Behaviour, FakeCourier, stored

from router.config.model import DimseDestination, StoreReach, StowDestination, StowReach
from router.delivery.cstore import CStoreCourier
from router.delivery.mechanisms import courier_for
from router.delivery.mixed import MixedCourier
from router.delivery.mixed_attempt import PASSED_OVER_S
from router.delivery.stow import StowCourier
from router.dicom.envelope import Declared
from router.dicom.status import Verdict
from router.dicom.uids import Uid
from router.errors import DeliveryError, Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import MAX_REASON_CHARACTERS, BrokenOff, Outcome

DOWN = Transient("connection refused")


def delivery(n: int, size: int = 1000) -> Delivery:
    return Delivery(n, n, 1, 0, 0.0, n, Declared(CT, Uid(f"1.2.9.{n}"), EXPLICIT), f"{n}.dcm", 0, size, bytes(32))


def batch(count: int) -> list[Delivery]:
    return [delivery(n) for n in range(1, count + 1)]


def says(verdict: Verdict, *numbers: int, reason: str = "no") -> Behaviour:
    """Says `verdict` of the instances with these numbers, of all without any, and takes the others."""
    return lambda one: (
        Outcome(one, verdict, 0xC000, reason) if not numbers or one.instance_id in numbers else stored(one)
    )


def breaks_at(*numbers: int) -> Behaviour:
    return lambda one: BrokenOff("connection reset", one) if one.instance_id in numbers else stored(one)


def fails(error: Exception) -> Behaviour:
    return lambda one: error


@dataclass
class Pair:
    """A mixed courier of two that obey, a clock, and what the lane was told."""

    first: FakeCourier = field(default_factory=FakeCourier)
    second: FakeCourier = field(default_factory=FakeCourier)
    now: float = 0.0
    told: list[Outcome] = field(default_factory=list)
    enough_after: int = 1_000_000

    def __post_init__(self) -> None:
        self.courier = MixedCourier(
            "archive", [("c-store", self.first), ("stow-rs", self.second)], clock=lambda: self.now
        )
        self.session = self.courier.session()

    async def deliver(self, deliveries: Sequence[Delivery]) -> None:
        await self.session.deliver(deliveries, self._report)

    async def _report(self, outcome: Outcome) -> bool:
        self.told.append(outcome)
        return len(self.told) >= self.enough_after

    @property
    def verdicts(self) -> dict[int, str]:
        assert len({one.delivery.instance_id for one in self.told}) == len(self.told), "told twice"
        return {one.delivery.instance_id: one.verdict.value for one in self.told}


def pair(first: Behaviour = stored, second: Behaviour = stored) -> Pair:
    return Pair(FakeCourier(behave=first), FakeCourier(behave=second))


async def test_only_what_fails_by_the_first_goes_to_the_second() -> None:
    both = pair(first=says(Verdict.INSTANCE, 2, reason="C000H cannot understand"))
    await both.deliver(batch(3))
    assert both.verdicts == {1: "completed", 3: "completed", 2: "completed"}
    assert both.second.sent == ["1.2.9.2"]
    assert both.told[-1].reason == "c-store: C000H cannot understand; stow-rs: completed"


async def test_req_139_a_warning_is_never_tried_again() -> None:
    both = pair(first=says(Verdict.WARNING, reason="B000H coerced"))
    await both.deliver(batch(2))
    assert both.verdicts == {1: "warning", 2: "warning"}
    assert both.second.sent == []
    assert both.told[0].reason == "B000H coerced"


async def test_a_first_that_is_down_is_asked_once_for_a_batch_and_then_passed_over_for_a_while() -> None:
    both = pair(first=fails(DOWN))
    await both.deliver(batch(5))
    assert both.verdicts == dict.fromkeys(range(1, 6), "completed")
    assert (len(both.first.batches), len(both.second.batches)) == (1, 1)
    both.told.clear()
    await both.deliver(batch(5))
    assert (len(both.first.batches), len(both.second.batches)) == (1, 2)
    assert both.told[0].reason == "c-store: connection refused; stow-rs: completed"
    both.now += PASSED_OVER_S
    both.first.behave = stored
    await both.deliver([delivery(9)])
    assert both.first.sent == ["1.2.9.9"]


async def test_what_one_session_learns_another_knows() -> None:
    both = pair(first=fails(DOWN))
    await both.deliver(batch(1))
    both.session = both.courier.session()
    await both.deliver([delivery(2)])
    assert len(both.first.batches) == 1


async def test_when_both_are_down_both_are_asked_and_the_lane_hears_of_both() -> None:
    both = pair(first=fails(DOWN), second=fails(Transient("HTTP 503: server error", 120.0)))
    for _ in range(2):
        with pytest.raises(Transient) as raised:
            await both.deliver(batch(3))
        assert raised.value.problem == "c-store: connection refused; stow-rs: HTTP 503: server error"
        assert raised.value.retry_after_s == 120.0
    assert both.told == []
    assert (len(both.first.batches), len(both.second.batches)) == (2, 2)


async def test_the_last_failure_decides_whether_a_person_must_act() -> None:
    both = pair(first=fails(DOWN), second=fails(Misconfigured("HTTP 401")))
    with pytest.raises(Misconfigured, match="c-store: connection refused; stow-rs: HTTP 401"):
        await both.deliver(batch(1))


async def test_what_the_first_refused_is_tried_again_when_the_second_is_down_and_hinders_nobody() -> None:
    both = pair(first=says(Verdict.NEVER, 2), second=fails(DOWN))
    await both.deliver(batch(3))
    assert both.verdicts == {1: "completed", 3: "completed", 2: "destination"}
    assert both.told[-1].spares_destination


async def test_what_none_has_judged_stays_with_the_lane() -> None:
    both = pair(first=lambda one: says(Verdict.NEVER, 1)(one) if one.instance_id < 3 else DOWN, second=fails(DOWN))
    with pytest.raises(Transient):
        await both.deliver(batch(4))
    assert both.verdicts == {2: "completed", 1: "destination"}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Verdict.NEVER, Verdict.NEVER, "never"),
        (Verdict.NEVER, Verdict.INSTANCE, "instance"),
        (Verdict.INSTANCE, Verdict.NEVER, "instance"),
        (Verdict.INSTANCE, Verdict.INSTANCE, "instance"),
        (Verdict.DESTINATION, Verdict.NEVER, "destination"),
        (Verdict.NEVER, Verdict.DESTINATION, "destination"),
        (Verdict.UNCERTAIN, Verdict.INSTANCE, "uncertain"),
        (Verdict.UNCERTAIN, Verdict.DESTINATION, "uncertain"),
        (Verdict.NEVER, Verdict.MISCONFIGURED, "destination"),
        (Verdict.MISCONFIGURED, Verdict.MISCONFIGURED, "misconfigured"),
        (Verdict.INSTANCE, Verdict.WARNING, "warning"),
        (Verdict.UNCERTAIN, Verdict.COMPLETED, "completed"),
    ],
)
async def test_an_instance_is_parked_only_when_no_mechanism_leaves_hope(
    first: Verdict, second: Verdict, told: str
) -> None:
    both = pair(first=says(first, reason="one"), second=says(second, reason="two"))
    await both.deliver(batch(1))
    assert both.verdicts == {1: told}
    assert both.told[0].reason == "c-store: one; stow-rs: two"


async def test_an_instance_that_breaks_a_connection_goes_alone_to_the_second() -> None:
    both = pair(first=breaks_at(2))
    await both.deliver(batch(4))
    assert both.verdicts == {1: "completed", 3: "completed", 4: "completed", 2: "completed"}
    assert both.second.sent == ["1.2.9.2"]
    assert both.first.sent == ["1.2.9.1", "1.2.9.3", "1.2.9.4"]


async def test_a_first_that_breaks_again_and_again_counts_as_down() -> None:
    both = pair(first=breaks_at(1, 2, 3, 4, 5, 6))
    await both.deliver(batch(6))
    assert len(both.first.batches) == 2
    assert both.second.sent == [f"1.2.9.{n}" for n in range(1, 7)]


async def test_an_instance_that_breaks_the_one_while_the_other_is_down_is_named_to_the_lane() -> None:
    both = pair(first=breaks_at(2), second=fails(DOWN))
    with pytest.raises(BrokenOff) as raised:
        await both.deliver(batch(3))
    assert raised.value.delivery.instance_id == 2
    assert raised.value.problem == "c-store: connection reset; stow-rs: connection refused"
    assert both.verdicts == {1: "completed", 3: "completed"}


async def test_the_second_gets_no_more_at_once_than_it_takes() -> None:
    both = pair(first=fails(DOWN))
    both.second.batch_instances, both.second.batch_bytes = 2, 2500
    await both.deliver([delivery(1, 2400), delivery(2, 2400), *(delivery(n, 10) for n in range(3, 8))])
    assert [len(one) for one in both.second.batches] == [1, 2, 2, 2]
    assert both.verdicts == dict.fromkeys(range(1, 8), "completed")


async def test_the_lane_can_stop_a_batch_by_either() -> None:
    both = Pair(FakeCourier(), FakeCourier(), enough_after=2)
    await both.deliver(batch(5))
    assert both.first.sent == ["1.2.9.1", "1.2.9.2"]
    both = Pair(FakeCourier(behave=fails(DOWN)), FakeCourier(batch_instances=2), enough_after=3)
    await both.deliver(batch(9))
    assert both.second.sent == ["1.2.9.1", "1.2.9.2", "1.2.9.3"]
    assert both.verdicts == dict.fromkeys((1, 2, 3), "completed")


async def test_it_asks_for_no_more_sessions_than_either_bears() -> None:
    courier = MixedCourier(
        "a",
        [
            ("stow-rs", FakeCourier(batch_instances=100, batch_bytes=7, sessions=4, idle_s=10.0)),
            ("c-store", FakeCourier(batch_instances=128, batch_bytes=9, sessions=2, idle_s=2.0)),
        ],
    )
    assert (courier.batch_instances, courier.batch_bytes, courier.sessions, courier.idle_s) == (100, 7, 2, 2.0)


async def test_both_sessions_are_closed_and_may_be_used_again() -> None:
    both = pair(first=says(Verdict.INSTANCE, 1))
    await both.deliver(batch(2))
    await both.session.aclose()
    assert (both.first.closed, both.second.closed) == (1, 1)
    await both.deliver([delivery(3)])
    assert both.first.sent[-1] == "1.2.9.3"


@pytest.mark.parametrize(
    ("first", "second", "raised"),
    [
        (None, DOWN, None),
        (DOWN, None, None),
        (DOWN, DOWN, Transient),
        (Misconfigured("no"), DOWN, Transient),
        (Misconfigured("no"), Misconfigured("no"), Misconfigured),
    ],
)
async def test_a_destination_is_there_when_one_mechanism_is(
    first: DeliveryError | None, second: DeliveryError | None, raised: type[DeliveryError] | None
) -> None:
    both = Pair(FakeCourier(probe_answer=first), FakeCourier(probe_answer=second))
    if raised is None:
        await both.courier.probe()
    else:
        with pytest.raises(raised, match=r"c-store: .*; stow-rs: "):
            await both.courier.probe()


async def test_the_reasons_of_both_fit_into_the_journal() -> None:
    both = pair(first=says(Verdict.NEVER, reason="a" * 400), second=says(Verdict.NEVER, reason="b" * 400))
    await both.deliver(batch(1))
    reason = both.told[0].reason
    assert len(reason) <= MAX_REASON_CHARACTERS
    assert "c-store: aaa" in reason
    assert "; stow-rs: bbb" in reason


DEEDS: tuple[Callable[[Delivery], Outcome | Exception], ...] = (
    *(says(verdict) for verdict in Verdict),
    lambda one: BrokenOff("connection reset", one),
    fails(DOWN),
    fails(Misconfigured("no")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(DEEDS)), min_size=1, max_size=6), st.integers(1, 4))
async def test_whatever_happens_each_instance_is_told_once_or_left_to_the_lane_with_an_error(
    deeds: list[tuple[Behaviour, Behaviour]], size: int
) -> None:
    both = pair(
        first=lambda one: deeds[one.instance_id - 1][0](one), second=lambda one: deeds[one.instance_id - 1][1](one)
    )
    both.second.batch_instances = size
    raised = False
    try:
        await both.deliver(batch(len(deeds)))
    except DeliveryError:
        raised = True
    assert raised or set(both.verdicts) == set(range(1, len(deeds) + 1))
    for uid in both.second.sent:
        assert uid not in {one.delivery.declared.sop_instance_uid for one in both.told if "; " not in one.reason}


def test_each_destination_gets_the_courier_of_what_it_delivers_by() -> None:
    by_both = DimseDestination(
        name="a", ae_title="A", host="h", deliver=["stow-rs", "c-store"], stow_rs=StowReach(url="https://h/dicom-web")
    )
    turned = StowDestination(
        name="b", url="https://h/dicom-web", deliver=["c-store", "stow-rs"], c_store=StoreReach(host="h", port=11112)
    )
    other_only = StowDestination(name="c", url="https://h", deliver=["c-store"], c_store=StoreReach(host="h"))
    store: object = None
    mixed = [courier_for(one, "SENDRS", store) for one in (by_both, turned)]  # type: ignore[arg-type]
    assert [
        [(way.mechanism, type(way.courier)) for way in one.ways] for one in mixed if isinstance(one, MixedCourier)
    ] == [
        [("stow-rs", StowCourier), ("c-store", CStoreCourier)],
        [("c-store", CStoreCourier), ("stow-rs", StowCourier)],
    ]
    assert isinstance(courier_for(other_only, "SENDRS", store), CStoreCourier)  # type: ignore[arg-type]
