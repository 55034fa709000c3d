"""All lanes together: a crash hurts its own lane only; reload and drain."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sending_harness import DirectJournal, FakeCourier, StillClock, add_instances, settle, stored

from router.config.model import Config, Destination, DimseDestination, SendingConfig
from router.errors import StorageError
from router.journal.records import Delivery
from router.sending.courier import Outcome, Verdict
from router.sending.lanes import Lanes


def config(*names: str, sending: SendingConfig | None = None, port: int = 104) -> Config:
    destinations: dict[str, Destination] = {
        name: DimseDestination(name=name, ae_title=name.upper(), host="127.0.0.1", port=port) for name in names
    }
    return Config(file=Path("router.toml"), sending=sending or SendingConfig(), destinations=destinations)


class Hall:
    """Lanes with one fake courier a destination; couriers made anew are kept in `made`."""

    def __init__(self, configuration: Config):
        self.journal = DirectJournal()
        self.clock = StillClock()
        self.made: list[str] = []
        self.couriers: dict[str, FakeCourier] = {}
        self.lanes = Lanes(
            configuration,
            self.journal,  # type: ignore[arg-type]
            self._courier_for,
            clock=self.clock,
            rng=random.Random(3),
        )

    def _courier_for(self, destination: Destination, _: Config) -> FakeCourier:
        self.made.append(destination.name)
        return self.couriers.setdefault(destination.name, FakeCourier())

    @asynccontextmanager
    async def running(self) -> Any:
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.lanes.run)
            await settle()
            yield self
            tasks.cancel_scope.cancel()

    def add(self, count: int, *destinations: str, first: int = 1) -> None:
        add_instances(self.journal.conn, count, destinations=destinations, first=first, now=self.clock.now())
        self.lanes.wake(destinations)


async def test_each_destination_gets_its_own_instances() -> None:
    hall = Hall(config("archive", "ai"))
    async with hall.running():
        hall.add(10, "archive", "ai")
        hall.add(5, "ai", first=100)
        hall.lanes.wake(["nobody"])
        await hall.clock.advance(1.0)
        assert hall.journal.states("archive") == {"completed": 10}
        assert hall.journal.states("ai") == {"completed": 15}


async def test_f54_a_lane_that_crashes_hurts_no_other_and_comes_back() -> None:
    hall = Hall(config("archive", "ai"))
    crashes = 0

    def crash(delivery: Delivery) -> Outcome | Exception:
        nonlocal crashes
        crashes += 1
        return ZeroDivisionError("a bug of ours") if crashes <= 3 else stored(delivery)

    async with hall.running():
        hall.couriers["archive"].behave = crash
        hall.add(10, "archive", "ai")
        await hall.clock.advance(1.0)
        assert hall.journal.states("ai") == {"completed": 10}
        assert hall.journal.states("archive") == {"remaining": 10}
        await hall.clock.advance(600.0)
        assert hall.journal.states("archive") == {"completed": 10}
        assert hall.made.count("ai") == 1


async def test_a_journal_that_fails_once_only_delays() -> None:
    hall = Hall(config("archive"))
    async with hall.running():
        hall.journal.fail = StorageError("disk I/O error")
        hall.add(3, "archive")
        await hall.clock.advance(60.0)
        assert hall.journal.states("archive") == {"completed": 3}


async def test_a_crash_looping_lane_is_restarted_ever_more_rarely() -> None:
    hall = Hall(config("archive"))
    async with hall.running():
        hall.couriers["archive"].behave = lambda delivery: ZeroDivisionError("a bug of ours")
        hall.add(1, "archive")
        await hall.clock.advance(3600.0)
        assert len(hall.made) < 80
        assert hall.journal.states("archive") == {"remaining": 1}


async def test_reload_adds_changes_and_removes_lanes_and_leaves_the_others_alone() -> None:
    hall = Hall(config("archive", "ai", "old"))
    async with hall.running():
        hall.couriers["old"].hold = anyio.Event()
        hall.add(4, "old")
        await settle()
        hall.couriers["old"].hold.set()
        hall.couriers["old"].behave = lambda delivery: Outcome(delivery, Verdict.DESTINATION)
        after = config("archive", "ai", "new")
        after.destinations["ai"] = DimseDestination(name="ai", ae_title="AI", host="127.0.0.1", port=105)
        reloaded = await hall.lanes.reload(after)
        assert (reloaded.added, reloaded.changed) == (("new",), ("ai",))
        assert dict(reloaded.removed) == {"old": 4}
        hall.add(2, "archive", "ai", "new", "old", first=50)
        await hall.clock.advance(20.0)
        for name in ("archive", "ai", "new"):
            assert hall.journal.states(name) == {"completed": 2}
        assert hall.journal.states("old") == {"remaining": 6}
        assert sorted(hall.made) == ["ai", "ai", "archive", "new", "old"]


async def test_reload_with_a_destination_back_again_sends_what_waited() -> None:
    hall = Hall(config())
    async with hall.running():
        hall.add(3, "archive")
        await hall.clock.advance(60.0)
        assert hall.journal.states("archive") == {"remaining": 3}
        await hall.lanes.reload(config("archive"))
        await hall.clock.advance(1.0)
        assert hall.journal.states("archive") == {"completed": 3}


async def test_drain_finishes_what_is_in_hand_and_run_ends() -> None:
    hall = Hall(config("archive", "ai"))
    ended = anyio.Event()

    async def run_to_its_end() -> None:
        await hall.lanes.run()
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_to_its_end)
        await settle()
        held = hall.couriers["archive"].hold = anyio.Event()
        hall.add(100, "archive", "ai")
        await settle()
        tasks.start_soon(hall.lanes.drain, 30.0)
        await settle()
        assert not ended.is_set()
        held.set()
        with anyio.fail_after(5):
            await ended.wait()
    assert hall.journal.states("archive") == {"completed": 1, "remaining": 99}
    assert hall.journal.rows("SELECT count(*) FROM sub_operation WHERE in_flight = 1") == [(0,)]


async def test_drain_breaks_off_a_courier_that_hangs() -> None:
    hall = Hall(config("archive"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hall.lanes.run)
        await settle()
        hall.couriers["archive"].hold = anyio.Event()
        hall.add(3, "archive")
        await settle()
        with anyio.fail_after(5):
            await hall.lanes.drain(0.01)
    assert hall.couriers["archive"].busy == 0
    assert hall.couriers["archive"].closed == 1


async def test_a_lane_cannot_be_added_before_lanes_run() -> None:
    hall = Hall(config())
    with pytest.raises(RuntimeError):
        await hall.lanes.reload(config("archive"))
