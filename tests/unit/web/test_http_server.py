"""The HTTP server's own clocks, in small: B52. A server of our own on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.types import Receive, Scope, Send

import router.http_server
from router.config.model import Listen
from router.http_server import FLOOR_BYTES, let_read, serve_http

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MiB = 1024 * 1024


@pytest.fixture
def answered() -> anyio.Event:
    """Set when the answer was given to the server whole."""
    return anyio.Event()


async def heard(stream: SocketStream, dripping: bytes = b"") -> int:
    """Count what comes until the server closes, which it must, while sending bytes one at a time."""
    received = 0
    with anyio.fail_after(10):
        try:
            for byte in dripping:
                await stream.send(bytes([byte]))
                await anyio.sleep(0.01)
            while True:
                received += len(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return received


@pytest.fixture
async def port(answered: anyio.Event) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Starts a server that answers with 64 MiB, with the limits as they are then."""
    stop = anyio.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            length = (b"content-length", b"%d" % (64 * MiB))
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            for n in range(64):
                await send({"type": "http.response.body", "body": bytes(MiB), "more_body": n < 63})
            answered.set()

    async with anyio.create_task_group() as tasks:

        async def start() -> int:
            listen = await tasks.start(serve_http, large, Listen("127.0.0.1", 0), stop)
            assert isinstance(listen, Listen)
            return listen.port

        yield start
        stop.set()


async def test_b52_a_head_that_does_not_end_is_closed(
    port: Callable[[], Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.http_server, "KEEP_ALIVE_S", 0.2)
    async with await anyio.connect_tcp("127.0.0.1", await port()) as stream:
        assert await heard(stream, dripping=GET[:-1]) == 0  # bytes that drip do not prolong it


async def test_b52_a_reader_that_does_not_read_is_dropped(
    port: Callable[[], Awaitable[int]], answered: anyio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.http_server, "WRITE_S", 0.2)
    async with await anyio.connect_tcp("127.0.0.1", await port()) as stream:
        await stream.send(GET)
        with anyio.fail_after(30):
            await answered.wait()  # nothing is read, and yet the server does not wait for ever


class Backlog:
    """Writer and transport of a connection whose reader takes so many bytes in each WRITE_S."""

    def __init__(self, waiting: int, taken: int) -> None:
        self.transport = self
        self.aborted = False
        self._waiting, self._taken = waiting, taken

    def get_write_buffer_size(self) -> int:
        return self._waiting

    async def drain(self) -> None:
        if self._waiting <= self._taken:
            self._waiting = 0
            return
        try:
            await anyio.sleep_forever()
        finally:
            self._waiting -= self._taken

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("waiting", "taken", "dropped"),
    [
        (8 * FLOOR_BYTES, FLOOR_BYTES, False),
        (8 * FLOOR_BYTES, FLOOR_BYTES - 1, True),
        (1000, 999, True),
        (1000, 1000, False),
    ],
)
async def test_b52_a_slow_reader_is_served_as_long_as_it_reads(
    monkeypatch: pytest.MonkeyPatch, waiting: int, taken: int, dropped: bool
) -> None:
    monkeypatch.setattr(router.http_server, "WRITE_S", 0.01)
    reader = Backlog(waiting, taken)
    with anyio.fail_after(10):
        await let_read(reader)  # type: ignore[arg-type]
    assert (reader.aborted, reader.get_write_buffer_size() == 0) == (dropped, not dropped)


async def test_a_reader_that_reads_gets_everything(port: Callable[[], Awaitable[int]]) -> None:
    async with await anyio.connect_tcp("127.0.0.1", await port()) as stream:
        await stream.send(GET)
        received = 0
        with anyio.fail_after(60):
            while received < 64 * MiB:
                received += len(await stream.receive())
