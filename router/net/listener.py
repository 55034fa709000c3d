"""The listening socket of the DIMSE front: who may open a connection, one task for each.

Knows nothing of what associations carry. Bounds what strangers cost (B46, F60): a bucket of connections for each
address, a cap on all connections. When file descriptors run out, asyncio stops accepting for a second, says so in its
log, and goes on (F61).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from router.config.model import Listen
from router.dimse.transitions import State
from router.dimse.upper_layer import UpperLayer
from router.net.association import AssociationStream
from router.net.rate import ConnectionRate

log = structlog.get_logger()

BACKLOG = 128
"""Connections that the kernel keeps for us while the loop is busy."""
ACCEPTED_AT_ONCE = 8
"""Connections taken in one turn of the loop; asyncio logs a failure for each when descriptors run out (F61)."""
STRANGERS = 256
"""Connections beyond the associations: not yet associated, or on their way out. After that the oldest goes (F60)."""

_REPLACEABLE = frozenset({State.AWAIT_REQUEST, State.AWAIT_CLOSE, State.CLOSED})

Handler = Callable[[AssociationStream], Awaitable[None]]


class Listener:
    """Accepts connections on one address and gives each to `handler` in a task of its own."""

    def __init__(
        self,
        listen: Listen,
        handler: Handler,
        *,
        max_pdu_bytes: int,
        max_associations: int,
        connections_per_s: float,
        connections_burst: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listen, self._handler, self._max_pdu_bytes = listen, handler, max_pdu_bytes
        self._rate = ConnectionRate(per_s=connections_per_s, burst=connections_burst, clock=clock)
        self._max_connections = max_associations + STRANGERS
        self._streams: dict[AssociationStream, None] = {}
        self._stopped = anyio.Event()
        self._tasks: TaskGroup | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._streams)

    async def serve(self, *, task_status: TaskStatus[Listen] = anyio.TASK_STATUS_IGNORED) -> None:
        """Accept until `stop`, then wait for the handlers that run; reports the address bound.

        Raises OSError when it cannot listen. Cancel it to end the handlers too.
        """
        loop = asyncio.get_running_loop()
        host, port = self._listen.host, self._listen.port
        server = await loop.create_server(self._new_stream, host, port, backlog=ACCEPTED_AT_ONCE, start_serving=False)
        async with anyio.create_task_group() as self._tasks:
            try:
                await server.start_serving()
                for listening in server.sockets:
                    with listening.dup() as same:  # asyncio has one number for both; the kernel's queue may be longer
                        same.listen(BACKLOG)
                task_status.started(Listen(*server.sockets[0].getsockname()[:2]))
                await self._stopped.wait()
            finally:
                self._stopped.set()  # a connection that is being accepted just now is not let in
                server.close()

    def stop(self) -> None:
        """Accept no more connections; those that are open go on, each told by `interrupt`."""
        self._stopped.set()
        for stream in self._streams:
            stream.interrupt()

    def _new_stream(self) -> AssociationStream:
        layer = UpperLayer(requestor=False, max_pdu_bytes=self._max_pdu_bytes)
        return AssociationStream(layer, opened=self._admit)

    def _admit(self, stream: AssociationStream) -> None:
        refusals = self._rate.refusals(stream.peer_address)
        if refusals or self._stopped.is_set() or self._tasks is None:
            if refusals & (refusals - 1) == 0 and refusals:  # 1, 2, 4, 8 …: a flood must not flood the log
                log.warning("connections refused, too many a second", peer=stream.peer_address, refused=refusals)
            stream.kill()
            return
        if len(self._streams) >= self._max_connections:
            self._replace_oldest_stranger()
        self._streams[stream] = None
        self._tasks.start_soon(self._handle, stream)

    def _replace_oldest_stranger(self) -> None:
        for stream in self._streams:
            if stream.layer.state in _REPLACEABLE:
                log.warning("connection closed to make room", peer=stream.peer_address, limit=self._max_connections)
                del self._streams[stream]
                stream.kill()
                return

    async def _handle(self, stream: AssociationStream) -> None:
        try:
            await self._handler(stream)
        except Exception:  # the stage's edge: one association fails, the others and the process go on (F75)
            log.exception("association failed in our code", peer=stream.peer_address)
        finally:
            self._streams.pop(stream, None)
            stream.kill()
