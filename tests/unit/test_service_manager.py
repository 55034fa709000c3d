"""What the service manager is told, by a datagram socket in its place."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from router.errors import StorageError
from router.service_manager import MAX_UNSENT, ServiceManager, extend_start, keep_alive


class Listener:
    """A socket like systemd's; `take` gives the datagrams that came, as dictionaries."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def take(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.splitlines()))


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@sendrs-test-{os.getpid()}-{id(request)}"
    listener = Listener(address)
    yield listener
    listener.socket.close()


def test_a_life_from_start_to_stop(listener: Listener) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "60000000"})
    assert manager.watchdog_s == 60.0
    manager.starting("opens the journal")
    assert manager.is_starting
    manager.ready("serves 127.0.0.1:104")
    assert not manager.is_starting
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading()
    manager.ready("reloaded")
    manager.alive("3 destinations,\n 12 instances waiting")
    manager.stopping()
    manager.close()
    told = listener.take()
    assert told[0] == {"EXTEND_TIMEOUT_USEC": "60000000", "STATUS": "opens the journal"}
    assert told[1] == {"READY": "1", "STATUS": "serves 127.0.0.1:104"}
    assert told[2]["RELOADING"] == "1"
    assert before <= int(told[2]["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert told[3] == {"READY": "1", "STATUS": "reloaded"}
    assert told[4] == {"WATCHDOG": "1", "STATUS": "3 destinations, 12 instances waiting"}
    assert told[5]["STOPPING"] == "1"
    assert len(told) == 6


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/", "@"])
async def test_without_a_service_manager_nothing_happens(address: str) -> None:
    manager = ServiceManager(address, watchdog_s=1.0)
    assert manager.watchdog_s is None
    manager.starting("…")
    manager.ready("…")
    manager.stopping()
    with anyio.fail_after(1.0):
        await extend_start(manager)
        await keep_alive(manager, never)


async def never() -> str:
    raise AssertionError


def test_one_that_is_not_there_or_does_not_listen_stops_nothing(tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "nobody"))
    for _ in range(3 * MAX_UNSENT):
        manager.ready("…")
        manager.alive("…")
    manager.close()


def test_what_must_not_be_lost_waits_for_its_turn_and_nothing_blocks(tmp_path: Path) -> None:
    listener = Listener(str(tmp_path / "notify"))
    manager = ServiceManager(listener.address)
    for number in range(2_000):  # far more than the kernel keeps for a listener that takes nothing
        manager.alive(str(number))
    manager.ready("at last")
    manager.alive("lost")
    assert {"READY": "1", "STATUS": "at last"} not in listener.take()
    manager.alive("and on")
    assert listener.take() == [{"READY": "1", "STATUS": "at last"}, {"STATUS": "and on"}]
    manager.close()
    listener.socket.close()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whether_there_is_a_watchdog(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert ServiceManager.from_environment({"NOTIFY_SOCKET": "@x", **environment}).watchdog_s == watchdog_s


async def test_a_long_start_asks_for_time_until_it_is_ready(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.service_manager.EXTEND_EVERY_S", 0.01)
    manager = ServiceManager(listener.address)
    manager.starting("sweeps")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(extend_start, manager)
        while len(told := listener.take()) < 3:  # noqa: ASYNC110 - it is a socket
            await anyio.sleep(0.05)
        manager.ready("…")
    assert all(one == {"EXTEND_TIMEOUT_USEC": "60000000", "STATUS": "sweeps"} for one in told)
    manager.close()


async def test_the_watchdog_is_fed_only_while_the_journal_answers(listener: Listener) -> None:
    manager = ServiceManager(listener.address, watchdog_s=0.1)
    answers = ["fine", StorageError("gone"), "hangs", "fine again"]

    async def look() -> str:
        match answers.pop(0):
            case StorageError() as error:
                raise error
            case "hangs":
                await anyio.sleep_forever()
            case str() as text:
                return text
        raise AssertionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_alive, manager, look)
        while answers:  # noqa: ASYNC110 - what is waited for is that it goes on by itself
            await anyio.sleep(0.005)
        await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    told = listener.take()
    assert told == [{"WATCHDOG": "1", "STATUS": "fine"}, {"WATCHDOG": "1", "STATUS": "fine again"}]
    manager.close()
