"""All lanes: one for each configured destination, each by itself.

Starts, stops and reloads them; a lane that crashes hurts no other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus

from router.config.confirmation import confirm_s_of
from router.config.model import Config, Destination
from router.journal import sub_operations
from router.journal.journal import Journal
from router.sending.clock import Clock, WallClock
from router.sending.courier import Courier
from router.sending.lane import Lane

log = structlog.get_logger()

RESTART_FIRST_S = 1.0
RESTART_CAP_S = 60.0
"""A lane that crashed is started anew after 1 s, doubling to a minute."""
STEADY_S = 300.0
"""A lane that ran for so long before it crashed is not in a crash loop."""
RELOAD_STOP_S = 10.0
"""Longest wait for the instances in hand of a lane whose destination changed or went."""

CourierFactory = Callable[[Destination, Config], Courier]
"""Makes the courier of one destination; `Config` for what is ours, such as the AE title."""


class Reloaded(msgspec.Struct, frozen=True):
    """What `Lanes.reload` did, by destination name.

    `removed` says how many instances still wait for each; they stay queued.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: Mapping[str, int]


class Lanes:
    """Runs a lane for each destination.

    `run` is a task of the root group; the other methods may be called while it runs.
    """

    def __init__(
        self,
        config: Config,
        journal: Journal,
        courier_for: CourierFactory,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ):
        self._config, self._journal, self._courier_for = config, journal, courier_for
        self._clock: Clock = clock or WallClock()
        self._rng = rng or random.Random()
        self._keepers: dict[str, _Keeper] = {}
        self._tasks: TaskGroup | None = None
        self._drained = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run all lanes until `drain` has ended, or cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for destination in self._config.destinations.values():
                self._start(destination)
            task_status.started()
            await self._drained.wait()

    def wake(self, names: Iterable[str]) -> None:
        """Hint that these destinations have something new. Costs next to nothing; unknown names are ignored."""
        for name in names:
            if keeper := self._keepers.get(name):
                keeper.wake()

    def hurry(self, name: str) -> None:
        """Hint that somebody waits for a destination: it is tried now, however it was."""
        if keeper := self._keepers.get(name):
            keeper.hurry()

    def let_go(self, name: str) -> None:
        """Have the lane of a destination give back what it claimed and has not begun."""
        if keeper := self._keepers.get(name):
            keeper.let_go()

    async def reload(self, config: Config) -> Reloaded:
        """Go over to a new configuration: start, stop and replace lanes; those that did not change are left alone."""
        before, self._config = self._config, config
        old, new = before.destinations, config.destinations
        gone = [name for name in old if name not in new]
        changed = [name for name in new if name in old and _differs(before, config, name)]
        async with anyio.create_task_group() as stopping:
            for name in (*gone, *changed):
                if keeper := self._keepers.pop(name, None):
                    stopping.start_soon(keeper.stop, RELOAD_STOP_S)
        added = [name for name in new if name not in old]
        for name in (*added, *changed):
            self._start(new[name])
        removed = {}
        for name in gone:
            counts = await self._journal.read(partial(sub_operations.counts, destination=name))
            removed[name] = counts.remaining
            log.warning(
                "destination removed, what waits for it stays queued", destination=name, waiting=counts.remaining
            )
        return Reloaded(tuple(added), tuple(changed), removed)

    async def drain(self, timeout_s: float) -> None:
        """Claim nothing more, let the instances in hand finish, give the rest back; after `timeout_s` break off.

        `run` then ends.
        """
        async with anyio.create_task_group() as stopping:
            for keeper in self._keepers.values():
                stopping.start_soon(keeper.stop, timeout_s)
        self._drained.set()

    def _start(self, destination: Destination) -> None:
        if self._tasks is None:
            raise RuntimeError("lanes are not running")
        config = self._config

        def make() -> Lane:
            courier = self._courier_for(destination, config)
            return Lane(
                destination.name,
                courier,
                self._journal,
                config.sending,
                clock=self._clock,
                rng=self._rng,
                confirm_s=confirm_s_of(destination),
            )

        keeper = self._keepers[destination.name] = _Keeper(destination.name, make, self._clock)
        self._tasks.start_soon(keeper.run)


class _Keeper:
    """Keeps one lane running: the stage's edge, where a crash is logged and the lane started anew."""

    def __init__(self, name: str, make: Callable[[], Lane], clock: Clock):
        self._name, self._make, self._clock = name, make, clock
        self._lane: Lane | None = None
        self._stop_asked = anyio.Event()
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()

    def wake(self) -> None:
        if self._lane is not None:
            self._lane.wake()

    def hurry(self) -> None:
        if self._lane is not None:
            self._lane.hurry()

    def let_go(self) -> None:
        if self._lane is not None:
            self._lane.let_go()

    async def run(self) -> None:
        crashes = 0
        try:
            with self._scope:
                while not self._stop_asked.is_set():
                    began = self._clock.now()
                    try:
                        self._lane = self._make()
                        await self._lane.run()
                    except Exception:
                        log.exception("lane crashed", destination=self._name)
                    else:
                        return
                    crashes = 0 if self._clock.now() - began > STEADY_S else crashes + 1
                    wait_s = min(RESTART_FIRST_S * 2.0 ** min(crashes, 10), RESTART_CAP_S)
                    await self._clock.wait(self._stop_asked, wait_s)
        finally:
            self._ended.set()

    async def stop(self, timeout_s: float) -> None:
        """Ask the lane to end and wait; break it off after `timeout_s`."""
        self._stop_asked.set()
        if self._lane is not None:
            self._lane.stop()
        with anyio.move_on_after(timeout_s):
            await self._ended.wait()
            return
        log.warning("lane broken off", destination=self._name, after_s=timeout_s)
        self._scope.cancel()
        await self._ended.wait()


def _differs(before: Config, after: Config, name: str) -> bool:
    """Whether a lane must be made anew: its destination, the sending defaults or our own AE title changed."""
    return (
        before.destinations[name] != after.destinations[name]
        or before.sending != after.sending
        or before.dicom.ae_title != after.dicom.ae_title
    )
