"""A clock that stands still until told, a journal without threads, a courier that obeys, and instances to send."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import anyio

from router.config.model import SendingConfig
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.records import Acceptance, Delivery, InstanceRow, RouteRow, SeriesRow, StudyRow
from router.sending.courier import Outcome, Report, Verdict
from router.sending.lane import Lane

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
NOON = 1_700_000_000.0


async def settle() -> None:
    """Let all tasks run until each waits for what only the test can give. Nothing here uses threads or sockets."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110 - not an event: the loop itself is watched
        await asyncio.sleep(0)


class StillClock:
    """`advance` moves time on, waking who waits in the order of their deadlines."""

    def __init__(self) -> None:
        self.time = NOON
        self._sleepers: list[tuple[float, anyio.CancelScope]] = []

    def now(self) -> float:
        return self.time

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        with anyio.CancelScope() as scope:
            sleeper = (self.time + timeout_s, scope)
            self._sleepers.append(sleeper)
            try:
                await event.wait()
                return True
            finally:
                self._sleepers.remove(sleeper)
        return False

    async def advance(self, seconds: float) -> None:
        end = self.time + seconds
        await settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end]:
            deadline, scope = min(due, key=lambda sleeper: sleeper[0])
            self.time = max(self.time, deadline)
            scope.cancel()
            await settle()
        self.time = end


def open_journal() -> WritingConnection:
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=WritingConnection, check_same_thread=False)
    conn.executescript(resources.files("router.journal").joinpath("schema.sql").read_text())
    return conn


class DirectJournal:
    """The real schema and operations, run on the spot. `fail` makes the next write raise."""

    def __init__(self) -> None:
        self.conn = open_journal()
        self.writes = 0
        self.fail: Exception | None = None

    async def write(self, operation: Callable[[Any], Any]) -> Any:
        self.writes += 1
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        self.conn.execute("BEGIN")
        result = operation(self.conn)
        self.conn.execute("COMMIT")
        await anyio.lowlevel.checkpoint()
        return result

    async def read(self, query: Callable[[Any], Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        return query(self.conn)

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.conn.execute(sql, parameters).fetchall()

    def states(self, destination: str = "archive") -> dict[str, int]:
        return dict(
            self.rows("SELECT state, count(*) FROM sub_operation WHERE destination = ? GROUP BY state", destination)
        )

    def lane_state(self, destination: str = "archive") -> tuple[Any, ...] | None:
        rows = self.rows("SELECT state, reason FROM destination WHERE name = ?", destination)
        return rows[0] if rows else None


def add_instances(
    conn: WritingConnection,
    count: int,
    *,
    destinations: Sequence[str] = ("archive",),
    first: int = 1,
    now: float = NOON,
    content: bytes = b"",
    series: str = "1.2.3.4",
    size: int = 1000,
) -> None:
    """Accept `count` instances with UIDs 1.2.9.<n>; other `content` is another version of the same instance."""
    for n in range(first, first + count):
        instance = InstanceRow(
            declared=Declared(CT, Uid(f"1.2.9.{n}"), EXPLICIT),
            source=Source("C-STORE", "10.0.0.1"),
            file=f"1/{n}{content.hex()}{series}.dcm",
            data_set_offset=500,
            data_set_bytes=size,
            data_set_sha256=content.ljust(32, b"\0"),
            received_at=now,
        )
        routes = tuple(RouteRow("rule", name, Uid(f"2.25.{len(name)}")) for name in destinations)
        accept(conn, Acceptance(StudyRow(Uid("1.2.3")), SeriesRow(Uid(series)), instance, routes))


Behaviour = Callable[[Delivery], Outcome | Exception]


def stored(delivery: Delivery) -> Outcome:
    return Outcome(delivery, Verdict.COMPLETED, 0)


@dataclass
class FakeCourier:
    """Answers each delivery with what `behave` gives; an exception is raised. `hold` makes sessions wait."""

    behave: Behaviour = stored
    batch_instances: int = 64
    batch_bytes: int = 64 * 1024**2
    sessions: int = 1
    idle_s: float = 2.0
    probe_answer: Exception | None = None
    sent: list[str] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    probes: int = 0
    opened: int = 0
    closed: int = 0
    busy: int = 0
    most_busy: int = 0
    hold: anyio.Event | None = None

    def session(self) -> FakeSession:
        self.opened += 1
        return FakeSession(self)

    async def probe(self) -> None:
        self.probes += 1
        await anyio.lowlevel.checkpoint()
        if self.probe_answer is not None:
            raise self.probe_answer


class FakeSession:
    def __init__(self, courier: FakeCourier):
        self.courier = courier
        self.used = False

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        courier = self.courier
        self.used = True
        courier.batches.append([delivery.declared.sop_instance_uid for delivery in batch])
        courier.busy += 1
        courier.most_busy = max(courier.busy, courier.most_busy)
        try:
            for delivery in batch:
                if courier.hold is not None:
                    await courier.hold.wait()
                await anyio.lowlevel.checkpoint()
                outcome = courier.behave(delivery)
                if isinstance(outcome, Exception):
                    raise outcome
                courier.sent.append(delivery.declared.sop_instance_uid)
                if await report(outcome):
                    return
        finally:
            courier.busy -= 1

    async def aclose(self) -> None:
        self.courier.closed += self.used
        self.used = False


class Bench:
    """A lane for "archive" with everything it touches."""

    def __init__(self, courier: FakeCourier, config: SendingConfig | None = None):
        self.clock = StillClock()
        self.journal = DirectJournal()
        self.courier = courier
        self.config = config or SendingConfig()
        self.lane = Lane(
            "archive",
            courier,
            self.journal,  # type: ignore[arg-type]
            self.config,
            clock=self.clock,
            rng=random.Random(7),
        )

    def add(self, count: int, **how: Any) -> None:
        add_instances(self.journal.conn, count, now=self.clock.now(), **how)

    @asynccontextmanager
    async def running(self) -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.lane.run)
            await settle()
            yield self
            tasks.cancel_scope.cancel()
