"""The daemon under a service manager: what it hears, from the start to the stop; and that a stuck loop is found."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Daemon, free_port, wait_until

WATCHDOG_S = 1.0


class Manager:
    """The socket of a service manager, and every assignment that came by it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def listen(self) -> list[dict[str, str]]:
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    def count(self, key: str) -> int:
        return sum(key in one for one in self.listen())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def under(manager: Manager, folder: Path) -> Daemon:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    config = f'[destinations.archive]\nkind = "dimse"\nae_title = "A"\nhost = "127.0.0.1"\nport = {free_port()}'
    return Daemon(folder, config, '[[rule]]\nname = "All"\nsend = ["archive"]', env=environment)


def test_start_reload_and_stop_are_told(manager: Manager, tmp_path: Path) -> None:
    with under(manager, tmp_path / "sendrs") as daemon:
        wait_until(lambda: manager.count("READY") == 1, 10, "READY=1")
        heard = manager.listen()
        at = next(at for at, one in enumerate(heard) if "READY" in one)
        assert at > 0
        assert all("EXTEND_TIMEOUT_USEC" in one for one in heard[:at])
        wait_until(lambda: manager.count("WATCHDOG") >= 3, 10, "three words to the watchdog")
        assert manager.heard[-1]["STATUS"] == "1 destination, waiting: 0"

        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: manager.count("READY") == 2, 10, "READY=1 after the reload")
        reloading = next(at for at, one in enumerate(manager.heard) if "RELOADING" in one)
        assert int(manager.heard[reloading]["MONOTONIC_USEC"]) > 0
        assert any("READY" in one for one in manager.heard[reloading + 1 :])

        daemon.config_file.write_text(daemon.config_file.read_text() + "\nnonsense = 1\n")
        daemon.send_signal(signal.SIGHUP)
        wait_until(
            lambda: any("the last reload failed" in one.get("STATUS", "") for one in manager.listen()),
            10,
            "a failed reload",
        )
        assert manager.count("RELOADING") == 2
        assert manager.count("READY") == 3

        assert daemon.stop() == 0
    assert manager.count("STOPPING") == 1


def test_a_process_that_is_stuck_does_not_feed_the_watchdog(manager: Manager, tmp_path: Path) -> None:
    with under(manager, tmp_path / "sendrs") as daemon:
        wait_until(lambda: manager.count("WATCHDOG") >= 2, 10, "the watchdog is fed")
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        before = manager.count("WATCHDOG")
        time.sleep(2 * WATCHDOG_S)
        assert manager.count("WATCHDOG") == before
        daemon.send_signal(signal.SIGCONT)
        wait_until(lambda: manager.count("WATCHDOG") > before, 10, "the watchdog is fed again")


def test_without_a_service_manager_it_runs_as_ever(tmp_path: Path) -> None:
    with Daemon(tmp_path / "sendrs", env={"NOTIFY_SOCKET": ""}) as daemon:
        assert daemon.stop() == 0
