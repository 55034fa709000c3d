"""A C-MOVE on its lane: what a cancel takes back, how it is followed, how often its instances are tried."""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import anyio
import msgspec
import pytest
from sending_harness import Bench, FakeCourier, add_instances, stored
from test_retry import CONFIG as SENDING
from test_retry import NOW, delivery

from router.config.model import Config
from router.dicom.uids import AETitle, Uid
from router.errors import Misconfigured, Transient
from router.journal.journal import Journal
from router.sending import expiry
from router.sending.courier import Outcome, Verdict
from router.sending.requests import Progress, SendRequest, SendRequests
from router.sending.retry import Completed, Decision, Park, Retry, decide

UID = Uid("2.25.99")
CONFIG = Config(file=Path("router.toml"))

pytestmark = pytest.mark.anyio


class MovingBench(Bench):
    """A lane, and requests on its journal."""

    def __init__(self, courier: FakeCourier):
        super().__init__(courier)
        self.requests = SendRequests(
            cast(Journal, self.journal),
            lambda names: self.lane.wake(),
            lambda: CONFIG,
            clock=self.clock,
            hurry=lambda name: self.lane.hurry(),
            let_go=lambda name: self.lane.let_go(),
        )

    async def move(self, count: int) -> None:
        """Ask for the first instances, which no rule wants."""
        add_instances(self.journal.conn, count, destinations=(), now=self.clock.now())
        request = SendRequest(
            *(UID, "studies", "archive", "aet:VIEWER"),
            source="C-MOVE of VIEWER",
            query="",
            origin="c-move",
            originator_aet=AETitle("VIEWER"),
            originator_message_id=7,
        )
        await self.requests.submit(request, list(range(1, count + 1)))


async def test_req_120_a_cancel_takes_back_what_the_lane_has_claimed() -> None:
    """REQ-120: of a batch of 64 that is on its way only the instance in hand is sent; others' are sent after it."""
    bench = MovingBench(FakeCourier(hold=anyio.Event()))
    ended: list[Progress] = []

    async def cancel() -> None:
        ended.append(await bench.requests.cancel(UID, "archive"))

    async with bench.running(), anyio.create_task_group() as tasks:
        await bench.move(200)
        bench.add(3, first=201)
        await bench.clock.advance(0.1)
        assert len(bench.courier.batches[0]) == 64
        tasks.start_soon(cancel)
        await bench.clock.advance(0.2)
        assert ended == [], "what is in flight ends by itself"
        assert bench.courier.hold is not None
        bench.courier.hold.set()
        await bench.clock.advance(30.0)
    [progress] = ended
    assert progress.finished
    assert (progress.completed, progress.cancelled, progress.failed) == (1, 199, 199)
    assert bench.courier.sent == ["1.2.9.1", "1.2.9.201", "1.2.9.202", "1.2.9.203"]


async def test_a_move_to_a_destination_that_is_down_ends_after_a_minute() -> None:
    bench = MovingBench(FakeCourier(behave=lambda delivery: Transient("connection refused")))
    async with bench.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: expiry.watch(cast(Journal, bench.journal), lambda: CONFIG, clock=bench.clock))
        await bench.move(3)
        await bench.clock.advance(55.0)
        assert not (await bench.requests.wait(UID, 0)).finished
        await bench.clock.advance(15.0)
        progress = await bench.requests.wait(UID, 0)
        tasks.cancel_scope.cancel()
    assert (progress.finished, progress.failed) == (True, 3)
    assert bench.courier.batches, "it was tried"


@pytest.mark.parametrize("trouble", [Transient("refused", retry_after_s=3000.0), Misconfigured("unknown AE title")])
async def test_a_move_is_tried_at_once_though_its_destination_is_left_alone(trouble: Exception) -> None:
    """Who mended the destination asks for a C-MOVE and does not want to wait until the lane looks again."""
    bench = MovingBench(FakeCourier(behave=lambda delivery: trouble))
    async with bench.running():
        bench.add(1, first=300)
        bench.lane.wake()
        await bench.clock.advance(5.0)
        assert bench.courier.sent == []
        bench.courier.behave = stored
        await bench.clock.advance(5.0)
        assert bench.courier.sent == [], "it is left alone"
        await bench.move(2)
        await bench.clock.advance(1.0)
        assert (await bench.requests.wait(UID, 0)).completed == 2


async def test_a_request_is_followed_at_its_pace_and_to_its_end() -> None:
    """REQ-118."""
    bench = MovingBench(FakeCourier(hold=anyio.Event()))
    seen: list[tuple[float, bool]] = []
    began = bench.clock.now()

    async def follow(every_s: float) -> None:
        async for progress in bench.requests.follow(UID, every_s, anyio.Event()):
            seen.append((round(bench.clock.now() - began, 3), progress.finished))  # noqa: PERF401 - read meanwhile

    async with bench.running(), anyio.create_task_group() as tasks:
        await bench.move(1)
        tasks.start_soon(follow, 1.0)
        await bench.clock.advance(3.1)
        assert seen == [(1.0, False), (2.0, False), (3.0, False)]
        assert bench.courier.hold is not None
        bench.courier.hold.set()
        await bench.clock.advance(2.0)
        assert seen[3:][-1][1]
        seen.clear()
        tasks.start_soon(follow, 0.0)
        await bench.clock.advance(1.0)
        assert [finished for _, finished in seen] == [True]


async def test_who_follows_stops_when_told() -> None:
    bench = MovingBench(FakeCourier(hold=anyio.Event()))
    async with bench.running():
        await bench.move(1)
        stop = anyio.Event()
        stop.set()
        assert [one async for one in bench.requests.follow(UID, 0.0, stop)] == []


def decided(verdict: Verdict, *, attempts: int = 1, move_retry_s: float = 60.0) -> Decision:
    one = msgspec.structs.replace(delivery(attempts=attempts), originator_aet="VIEWER", originator_message_id=1)
    config = msgspec.structs.replace(SENDING, move_retry_s=move_retry_s)
    return decide(Outcome(one, verdict, reason="words"), now=NOW, config=config, rng=random.Random(1))


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (decided(Verdict.COMPLETED), Completed(warning=False)),
        (decided(Verdict.WARNING, attempts=3), Completed(warning=True)),
        (decided(Verdict.NEVER), Park("words", blames_instance=True)),
        (decided(Verdict.INSTANCE), Park("words", blames_instance=True)),
        (decided(Verdict.DESTINATION), Retry(NOW + 2)),
        (decided(Verdict.UNCERTAIN, attempts=2), Retry(NOW + 8, uncertain=True)),
        (decided(Verdict.DESTINATION, attempts=3), Retry(NOW + 20)),
        (decided(Verdict.DESTINATION, attempts=4), Park("words")),
        (decided(Verdict.DESTINATION, move_retry_s=0.0), Park("words")),
        (decided(Verdict.DESTINATION, attempts=1, move_retry_s=5.0), Retry(NOW + 2)),
        (decided(Verdict.DESTINATION, attempts=2, move_retry_s=5.0), Park("words")),
    ],
)
def test_an_instance_of_a_move_is_tried_a_few_times_within_a_minute(decision: Decision, expected: Decision) -> None:
    """REQ-139: a warning is never tried again."""
    assert decision == expected
