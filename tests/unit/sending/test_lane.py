"""A lane against a fake courier, the real journal operations and a clock that stands still."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest
from sending_harness import Bench, FakeCourier, settle, stored

from router.config.model import SendingConfig
from router.errors import Misconfigured, StorageError, Transient
from router.journal.overview import retry_parked
from router.journal.records import Delivery
from router.sending.courier import BrokenOff, Outcome, Verdict


def uid(n: int) -> str:
    return f"1.2.9.{n}"


async def test_all_that_is_queued_is_sent_in_order_over_one_session() -> None:
    bench = Bench(FakeCourier())
    bench.add(200)
    async with bench.running():
        await bench.clock.advance(1.0)
        assert bench.courier.sent == [uid(n) for n in range(1, 201)]
        assert bench.journal.states() == {"completed": 200}
        assert bench.courier.opened == 1
        assert bench.journal.rows("SELECT count(*) FROM attempt WHERE outcome = 'completed'") == [(200,)]


async def test_what_arrives_later_is_sent_after_a_hint() -> None:
    bench = Bench(FakeCourier())
    async with bench.running():
        bench.add(1)
        bench.lane.wake()
        await bench.clock.advance(0.1)
        assert bench.journal.states() == {"completed": 1}


async def test_a_lost_hint_costs_a_poll_and_no_instance() -> None:
    bench = Bench(FakeCourier())
    async with bench.running():
        bench.add(1)
        await bench.clock.advance(10.1)
        assert bench.journal.states() == {"completed": 1}


async def test_a_session_without_work_is_closed_after_the_idle_time() -> None:
    bench = Bench(FakeCourier(idle_s=2.0))
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(1.9)
        assert bench.courier.closed == 0
        await bench.clock.advance(0.5)
        assert bench.courier.closed == 1
        bench.add(1, first=2)
        bench.lane.wake()
        await bench.clock.advance(0.1)
        assert bench.courier.opened == 2
        assert bench.journal.states() == {"completed": 2}


async def test_f53_a_dead_destination_is_tried_rarely_and_nothing_is_charged() -> None:
    tries = []

    def dead(delivery: Delivery) -> Exception:
        tries.append(delivery.attempts)
        return Transient("no route to host")

    bench = Bench(FakeCourier(dead))
    bench.add(5000)
    async with bench.running():
        await bench.clock.advance(3600.0)
        assert bench.journal.states() == {"remaining": 5000}
        assert bench.journal.lane_state() == ("waiting", "no route to host")
        assert 60 < len(tries) < 200  # on average one in 30 s once the wait has grown
        assert set(tries) == {1}
        charged = "SELECT count(*) FROM sub_operation WHERE attempts > 0 OR in_flight = 1 OR instance_failures > 0"
        assert bench.journal.rows(charged) == [(0,)]


async def test_5000_queued_for_a_dead_destination_leave_few_rows_and_small_claims() -> None:
    bench = Bench(FakeCourier(lambda delivery: Transient("no route to host")))
    bench.add(5000)
    async with bench.running():
        await bench.clock.advance(7200.0)
    (attempts,) = bench.journal.rows("SELECT count(*) FROM attempt")[0]
    assert attempts <= 2 * bench.courier.batch_instances
    assert max(map(len, bench.courier.batches)) <= bench.courier.batch_instances
    assert [len(batch) for batch in bench.courier.batches[-20:]] == [1] * 20


async def test_a_destination_that_comes_back_gets_everything_within_the_probe_time() -> None:
    courier = FakeCourier(lambda delivery: Transient("connection refused"))
    bench = Bench(courier)
    bench.add(300)
    async with bench.running():
        await bench.clock.advance(1800.0)
        courier.behave = stored
        await bench.clock.advance(60.0)
        assert bench.journal.states() == {"completed": 300}
        assert bench.journal.lane_state() == ("ready", "")


async def test_f55_a_flapping_destination_is_not_hammered_and_all_is_delivered() -> None:
    bench = Bench(FakeCourier())
    tries = 0

    def flapping(delivery: Delivery) -> Outcome | Exception:
        nonlocal tries
        if int(bench.clock.now() / 20) % 2:
            tries += 1
            return Transient("connection refused")
        return stored(delivery)

    bench.courier.behave = flapping
    async with bench.running():
        for n in range(1, 721):
            bench.add(1, first=n)
            bench.lane.wake()
            await bench.clock.advance(5.0)
        assert tries <= 3600 / 2 / 2  # at most one in two seconds of outage, on average
        bench.courier.behave = stored
        await bench.clock.advance(120.0)
        assert bench.journal.states() == {"completed": 720}


async def test_retry_after_of_the_destination_is_honoured() -> None:
    courier = FakeCourier(lambda delivery: Transient("busy", retry_after_s=600.0))
    bench = Bench(courier)
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(599.0)
        assert len(courier.batches) == 1
        courier.behave = stored
        await bench.clock.advance(2.0)
        assert bench.journal.states() == {"completed": 1}


async def test_a_misconfigured_destination_stops_the_lane_until_a_probe_succeeds() -> None:
    courier = FakeCourier(lambda delivery: Misconfigured("calling AE title not recognised"))
    courier.probe_answer = Misconfigured("calling AE title not recognised")
    bench = Bench(courier)
    bench.add(10)
    async with bench.running():
        await bench.clock.advance(600.0)
        assert bench.journal.lane_state() == ("misconfigured", "calling AE title not recognised")
        assert len(courier.batches) == 1
        assert courier.probes == 10
        assert bench.journal.states() == {"remaining": 10}
        courier.behave, courier.probe_answer = stored, None
        await bench.clock.advance(61.0)
        assert bench.journal.states() == {"completed": 10}
        assert bench.journal.lane_state() == ("ready", "")


async def test_a_mended_destination_is_ready_again_even_when_nothing_is_queued_for_it() -> None:
    courier = FakeCourier(lambda delivery: Misconfigured("called AE title not recognised"))
    courier.probe_answer = Misconfigured("called AE title not recognised")
    bench = Bench(courier, SendingConfig(lifetime_s=100.0))
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(300.0)
        assert bench.journal.states() == {"failed": 1}
        assert bench.journal.lane_state() == ("misconfigured", "called AE title not recognised")
        courier.probe_answer = None
        await bench.clock.advance(61.0)
        assert bench.journal.lane_state() == ("ready", "")
        probes = courier.probes
        await bench.clock.advance(600.0)
        assert courier.probes == probes


async def test_an_outcome_that_says_misconfigured_blames_no_instance() -> None:
    bench = Bench(FakeCourier(lambda delivery: Outcome(delivery, Verdict.MISCONFIGURED, 0x0124, "not authorised")))
    bench.add(3)
    async with bench.running():
        await bench.clock.advance(1.0)
        assert bench.journal.lane_state() == ("misconfigured", "not authorised")
        assert bench.journal.rows("SELECT DISTINCT state, attempts, instance_failures FROM sub_operation") == [
            ("remaining", 0, 0)
        ]
        assert len(bench.courier.sent) == 1


async def test_an_instance_that_is_refused_is_tried_five_times_within_an_hour_then_parked() -> None:
    times = []
    bench = Bench(FakeCourier())

    def refuse(delivery: Delivery) -> Outcome:
        if delivery.declared.sop_instance_uid != uid(1):
            return stored(delivery)
        times.append(bench.clock.now())
        return Outcome(delivery, Verdict.INSTANCE, 0xC001, "C001H cannot understand")

    bench.courier.behave = refuse
    bench.add(3)
    async with bench.running():
        await bench.clock.advance(3600.0)
        assert bench.journal.states() == {"completed": 2, "failed": 1}
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits == [pytest.approx(wait, abs=0.1) for wait in (10, 60, 300, 1800)]
        assert bench.journal.rows("SELECT status, reason FROM sub_operation WHERE state = 'failed'") == [
            (0xC001, "C001H cannot understand")
        ]


async def test_a_full_destination_is_left_alone_after_three_refusals_in_a_row() -> None:
    bench = Bench(FakeCourier(lambda delivery: Outcome(delivery, Verdict.DESTINATION, 0xA700, "out of resources")))
    bench.add(500)
    async with bench.running():
        await bench.clock.advance(0.0)
        assert len(bench.courier.sent) == 3
        assert bench.journal.lane_state() == ("waiting", "out of resources")


async def test_an_uncertain_instance_is_sent_again_and_counted_as_uncertain_meanwhile() -> None:
    answers = iter([Verdict.UNCERTAIN, Verdict.COMPLETED])
    bench = Bench(FakeCourier(lambda delivery: Outcome(delivery, next(answers), reason="answer unknown")))
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(0.1)
        assert bench.journal.rows("SELECT state, uncertain, in_flight FROM sub_operation") == [("remaining", 1, 0)]
        await bench.clock.advance(31.0)
        assert bench.journal.rows("SELECT state, uncertain FROM sub_operation") == [("completed", 0)]


async def test_f45_an_instance_that_makes_the_peer_abort_is_isolated_and_the_rest_flows() -> None:
    bench = Bench(FakeCourier())

    def behave(delivery: Delivery) -> Outcome | Exception:
        if delivery.declared.sop_instance_uid == uid(5):
            return BrokenOff("association aborted by the peer", delivery)
        return stored(delivery)

    bench.courier.behave = behave
    bench.add(100)
    async with bench.running():
        await bench.clock.advance(60.0)
        assert bench.journal.states() == {"completed": 99, "remaining": 1}
        await bench.clock.advance(3600.0)
        assert bench.journal.states() == {"completed": 99, "failed": 1}
        with_poison = [batch for batch in bench.courier.batches if uid(5) in batch]
        assert [len(batch) for batch in with_poison[3:]] == [1] * (len(with_poison) - 3)
        ((reason, failures),) = bench.journal.rows(
            "SELECT reason, instance_failures FROM sub_operation WHERE state = 'failed'"
        )
        assert "association aborted by the peer (sent alone" in reason
        assert failures == 5


async def test_a_link_that_breaks_for_everything_blames_no_instance() -> None:
    courier = FakeCourier(lambda delivery: BrokenOff("connection reset", delivery))
    courier.probe_answer = Transient("connection refused")
    bench = Bench(courier)
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(24 * 3600.0)
        assert bench.journal.rows("SELECT state, instance_failures FROM sub_operation") == [("remaining", 0)]


async def test_two_versions_of_one_instance_go_out_one_after_the_other_in_arrival_order() -> None:
    bench = Bench(FakeCourier(sessions=2))
    bench.add(1)
    bench.add(1, content=b"second")
    async with bench.running():
        await bench.clock.advance(0.0)
        assert bench.courier.batches == [[uid(1)]]
        await bench.clock.advance(1.0)
        assert bench.courier.batches == [[uid(1)], [uid(1)]]
        files = "SELECT i.file FROM attempt a JOIN sub_operation s ON s.id = a.sub_operation_id JOIN instance i"
        assert [row[0] for row in bench.journal.rows(f"{files} ON i.id = s.instance_id ORDER BY a.id")] == [
            "1/11.2.3.4.dcm",
            f"1/1{b'second'.hex()}1.2.3.4.dcm",
        ]


async def test_sessions_are_added_only_while_more_waits_than_one_batch_holds() -> None:
    few = Bench(FakeCourier(sessions=3))
    few.add(40)
    async with few.running():
        await few.clock.advance(1.0)
        assert few.courier.most_busy == 1
    many = Bench(FakeCourier(sessions=3))
    many.add(2000)
    async with many.running():
        await many.clock.advance(1.0)
        assert many.journal.states() == {"completed": 2000}
        assert many.courier.most_busy == 3


async def test_a_destination_that_refuses_a_second_session_keeps_its_first() -> None:
    courier = FakeCourier(sessions=4)
    bench = Bench(courier)

    def behave(delivery: Delivery) -> Outcome | Exception:
        return Transient("local limit exceeded") if courier.busy > 1 else stored(delivery)

    courier.behave = behave
    bench.add(3000)
    async with bench.running():
        await bench.clock.advance(5.0)
        assert bench.journal.states() == {"completed": 3000}
        assert bench.journal.lane_state() == ("ready", "")


async def test_stopping_lets_the_instance_in_hand_finish_and_gives_the_rest_back() -> None:
    courier = FakeCourier(hold=anyio.Event())
    bench = Bench(courier)
    bench.add(200)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.lane.run)
        await settle()
        bench.lane.stop()
        await settle()
        courier.hold.set()
    assert courier.sent == [uid(1)]
    assert bench.journal.states() == {"completed": 1, "remaining": 199}
    assert bench.journal.rows("SELECT count(*) FROM sub_operation WHERE in_flight = 1 OR uncertain = 1") == [(0,)]
    assert bench.journal.rows("SELECT count(*) FROM attempt WHERE outcome = ''") == [(0,)]


async def test_outcomes_are_journalled_even_when_the_lane_is_cancelled() -> None:
    bench = Bench(FakeCourier(batch_instances=8))
    reported = anyio.Event()

    def behave(delivery: Delivery) -> Outcome:
        if delivery.declared.sop_instance_uid == uid(5):
            reported.set()
            bench.courier.hold = anyio.Event()
        return stored(delivery)

    bench.courier.behave = behave
    bench.add(8)
    async with bench.running():
        await reported.wait()
        await settle()
        assert bench.journal.states().get("completed", 0) < 5
    assert bench.journal.states() == {"completed": 5, "remaining": 3}
    assert bench.journal.rows("SELECT count(*) FROM sub_operation WHERE in_flight = 1") == [(3,)]


async def test_what_a_dead_lane_had_in_flight_is_uncertain_and_due_again_soon() -> None:
    bench = Bench(FakeCourier(hold=anyio.Event()))
    bench.add(3)
    async with bench.running():
        pass
    again = Bench(FakeCourier())
    again.journal, again.lane._journal = bench.journal, bench.journal  # type: ignore[assignment]
    again.lane._recorder._journal = bench.journal  # type: ignore[assignment]
    async with again.running():
        interrupted = "SELECT DISTINCT outcome FROM attempt WHERE ended_at IS NOT NULL"
        assert bench.journal.rows(interrupted) == [("interrupted",)]
        assert bench.journal.rows("SELECT DISTINCT in_flight, uncertain FROM sub_operation") == [(0, 1)]
        await again.clock.advance(6.0)
        assert bench.journal.states() == {"completed": 3}


async def test_after_its_lifetime_an_instance_is_parked_also_when_the_destination_never_answered() -> None:
    bench = Bench(FakeCourier(lambda delivery: Transient("no route to host")), SendingConfig(lifetime_s=3600.0))
    bench.add(20)
    async with bench.running():
        await bench.clock.advance(3500.0)
        assert bench.journal.states() == {"remaining": 20}
        await bench.clock.advance(200.0)
        assert bench.journal.states() == {"failed": 20}
        ((reason,),) = bench.journal.rows("SELECT DISTINCT reason FROM sub_operation")
        assert "no route to host" in reason


async def test_a_journal_that_fails_ends_the_lane_and_never_delivers_unrecorded() -> None:
    bench = Bench(FakeCourier())
    bench.add(3)
    bench.courier.hold = anyio.Event()

    async def fail_while_sending() -> None:
        async with bench.running():
            bench.journal.fail = StorageError("disk I/O error")
            bench.courier.hold.set()
            await bench.clock.advance(1.0)

    with pytest.raises(ExceptionGroup) as caught:
        await fail_while_sending()
    assert caught.group_contains(StorageError)
    assert bench.journal.states() == {"remaining": 3}


async def test_a_courier_that_says_nothing_is_not_asked_in_a_tight_loop() -> None:
    courier = FakeCourier()

    class Mute:
        async def deliver(self, batch: object, report: object) -> None:
            courier.batches.append([])

        async def aclose(self) -> None:
            pass

    courier.session = Mute  # type: ignore[method-assign,assignment]
    bench = Bench(courier)
    bench.add(1)
    async with bench.running():
        await bench.clock.advance(3600.0)
        assert len(courier.batches) < 200
        assert bench.journal.states() == {"remaining": 1}


async def test_parked_instances_go_out_after_a_person_says_so() -> None:
    courier = FakeCourier(lambda delivery: Outcome(delivery, Verdict.NEVER, reason="SOP class not supported"))
    bench = Bench(courier)
    bench.add(5)
    async with bench.running():
        await bench.clock.advance(1.0)
        assert bench.journal.states() == {"failed": 5}
        courier.behave = stored
        retried = retry_parked(bench.journal.conn, destination="archive", now=bench.clock.now())
        assert (retried.retried, retried.overtaken) == (5, 0)
        bench.lane.wake()
        await bench.clock.advance(1.0)
        assert bench.journal.states() == {"completed": 5}
