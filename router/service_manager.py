"""What systemd is told of the service: that it is ready, reloads, stops, is alive, and how it is (sd_notify(3)).

Datagrams to $NOTIFY_SOCKET; without one everything here does nothing. Never blocks, never raises. Why no library:
docs/decisions/0007-sd-notify.md.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import structlog

from router.errors import StorageError

log = structlog.get_logger()

EXTENSION_S: Final = 60.0
"""While it starts, it asks for so much more time, again and again: a sweep of a large store takes minutes."""
EXTEND_EVERY_S: Final = 15.0
LOOK_EVERY_S: Final = 30.0
"""How often `systemctl status` gets fresh numbers, and the watchdog its word, unless it wants that sooner."""
MAX_STATUS_CHARACTERS: Final = 400
MAX_UNSENT: Final = 16


class ServiceManager:
    """Who started us, if it wants to hear from us. `watchdog_s`: it ends us after so long without `alive`."""

    def __init__(self, address: str = "", watchdog_s: float | None = None):
        self._address = _socket_address(address)
        self.watchdog_s = watchdog_s if self._address is not None else None
        self._unsent: deque[bytes] = deque(maxlen=MAX_UNSENT)
        self._socket: socket.socket | None = None
        self.step = ""
        """What the start is at; "" when it is over."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ServiceManager:
        """Read $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID."""
        watchdog_s = None
        meant = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        microseconds = environment.get("WATCHDOG_USEC", "")
        if meant and microseconds.isascii() and microseconds.isdigit() and int(microseconds):
            watchdog_s = int(microseconds) / 1e6
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    @property
    def listens(self) -> bool:
        return self._address is not None

    @property
    def is_starting(self) -> bool:
        return self.listens and bool(self.step)

    def starting(self, status: str) -> None:
        """Say what the start is at, and ask for time for it."""
        self.step = status
        self._tell(f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1e6)}", _status(status))

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is done."""
        self.step = ""
        self._tell("READY=1", _status(status), keep=True)

    def reloading(self) -> None:
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reads its configuration again", keep=True)

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=stops: what is in hand is being finished", keep=True)

    def alive(self, status: str) -> None:
        """Feed the watchdog, and say how we are."""
        self._tell(*(["WATCHDOG=1"] if self.watchdog_s else []), _status(status))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str, keep: bool = False) -> None:
        """Send one datagram; one that must not be lost goes out with the next one, if its time is not now."""
        if self._address is None:
            return
        self._unsent.append("\n".join(lines).encode())
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            while self._unsent:
                self._socket.sendto(self._unsent[0], self._address)
                self._unsent.popleft()
        except OSError as error:
            if not keep:
                self._unsent.pop()
            log.debug("service manager not told", problem=error.strerror or str(error))


async def extend_start(manager: ServiceManager) -> None:
    """Ask for more time, for as long as the start takes."""
    while manager.is_starting:
        manager.starting(manager.step)
        await anyio.sleep(EXTEND_EVERY_S)


async def keep_alive(manager: ServiceManager, look: Callable[[], Awaitable[str]]) -> None:
    """Feed the watchdog from the event loop for as long as `look` works, and pass on what it says, until cancelled.

    `look` gives the status, in good time. It raises StorageError when what we stand on does not work: then the watchdog
    is not fed, and in the end restarts us.
    """
    every_s = min(LOOK_EVERY_S, (manager.watchdog_s or LOOK_EVERY_S * 2) / 2)
    while manager.listens:
        began = anyio.current_time()
        try:
            with anyio.fail_after(every_s / 2):
                manager.alive(await look())
        except (StorageError, TimeoutError) as error:
            log.error("watchdog not fed, the journal does not answer", problem=str(error) or "it takes too long")
        await anyio.sleep(max(0.0, began + every_s - anyio.current_time()))


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:MAX_STATUS_CHARACTERS]}"


def _socket_address(text: str) -> bytes | None:
    """Give the address of the socket: a path, or an abstract name behind "@"; None for nothing and anything else."""
    if text[:1] in ("/", "@") and len(text) > 1:
        name = os.fsencode(text)
        return name if name.startswith(b"/") else b"\0" + name[1:]
    if text:
        log.warning("service manager cannot be told, NOTIFY_SOCKET is no path and no abstract name", address=text)
    return None
