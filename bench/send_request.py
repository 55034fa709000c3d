"""A send request of 65,535 instances: how soon its 202 comes, and how long the event loop is blocked (issue 3).

The origin server runs in this process, as the daemon runs it, beside a clock that ticks on its loop; its client is on a
thread. Lanes do not run: what they cost is measured by `speed.send_queue`.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
from filled_journal import put
from starlette.applications import Starlette

from bench.measure import Line
from router.config.model import Config, Listen, StowDestination
from router.http_server import serve_http
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.search import Index
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.capabilities import with_capabilities
from router.web.send import send_routes

INSTANCES = 65_535
PER_SERIES = 500
AT_ONCE = 1_000
ANSWER_S = 2.0
BLOCKED_S = 0.05
TICK_S = 0.001
ROUNDS = 3
DESTINATION = StowDestination(name="away", url="https://away.example/dicom-web")


@dataclass(slots=True)
class Measured:
    """Seconds: until the answer to the POST and to a GET, and the longest that the loop was blocked meanwhile."""

    post_s: float
    get_s: float
    blocked_s: float


def send_65535(folder: Path) -> Line:
    """Give the line of the table: the worst of ROUNDS requests."""
    state = folder / "send-request"
    state.mkdir()
    measured = anyio.run(_measure, state)
    post_s = max(one.post_s for one in measured)
    blocked_s = max(one.blocked_s for one in measured)
    return Line(
        f"send request of {INSTANCES:,} instances, answered 202",
        f"{post_s:.2f} s, loop blocked {1000 * blocked_s:.0f} ms",
        f"GET {1000 * max(one.get_s for one in measured):.0f} ms",
        None,
        f"≤ {ANSWER_S:g} s, ≤ {1000 * BLOCKED_S:.0f} ms",
        post_s <= ANSWER_S and blocked_s <= BLOCKED_S,
    )


async def _measure(folder: Path) -> list[Measured]:
    async with Journal.open(folder) as journal, Store.open(folder) as store, _served(folder, journal, store) as port:
        for first in range(1, INSTANCES + 1, AT_ONCE):
            await journal.write(partial(_fill, first=first))
        return [await _once(port, f"1.2.{number}") for number in range(1, ROUNDS + 1)]


def _fill(conn: WritingConnection, first: int) -> None:
    for n in range(first, min(first + AT_ONCE, INSTANCES + 1)):
        put(conn, n, destinations=(), study="1.2.3", series=f"1.2.3.{n // PER_SERIES}")


@asynccontextmanager
async def _served(folder: Path, journal: Journal, store: Store) -> AsyncIterator[int]:
    config = Config(file=folder / "router.toml")
    requests = SendRequests(journal, lambda _: None, lambda: config)
    destinations = {DESTINATION.name: DESTINATION}
    base_path = config.http.base_path
    routes = send_routes(base_path, Index(journal, store), requests, lambda: destinations, config)
    app, stop = Starlette(routes=with_capabilities(base_path, routes)), anyio.Event()
    async with anyio.create_task_group() as tasks:
        listen = await tasks.start(serve_http, app, Listen("127.0.0.1", 0), stop)
        yield listen.port
        stop.set()


async def _once(port: int, uid: str) -> Measured:
    path = f"/dicom-web/studies/send-requests/{uid}"
    query = f"?destination={quote(DESTINATION.url, safe='')}&StudyInstanceUID=1.2.3"
    with _longest_block() as longest:
        post_s = await anyio.to_thread.run_sync(_ask, port, "POST", path + query)
        get_s = await anyio.to_thread.run_sync(_ask, port, "GET", path)
    return Measured(post_s, get_s, max(longest))


def _ask(port: int, method: str, path: str) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={"Accept": "application/dicom+json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 202 or str(INSTANCES).encode() not in content:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
    return time.perf_counter() - began


@contextmanager
def _longest_block() -> Iterator[list[float]]:
    """Note by how much a tick of the loop came late, each time it was later than before."""
    loop, late = asyncio.get_running_loop(), [0.0]
    stopped = False

    def tick(due: float) -> None:
        now = loop.time()
        if now - due > late[-1]:
            late.append(now - due)
        if not stopped:
            loop.call_at(now + TICK_S, tick, now + TICK_S)

    tick(loop.time())
    try:
        yield late
    finally:
        stopped = True
