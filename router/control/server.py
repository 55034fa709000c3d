"""The router's side of the control socket: does for a command what only the running process can do.

Never a reason for the router to stop: a socket that cannot be made is logged, and commands then say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import assert_never

import anyio
import msgspec
import structlog
from anyio.abc import SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from router.control.addressing import short_path
from router.control.language import (
    MAX_QUESTION_BYTES,
    Answer,
    Failed,
    ListPending,
    Pending,
    PendingCaller,
    Question,
    Retried,
    Retry,
    decode_question,
    encode,
)
from router.errors import PeerError, StorageError
from router.journal.journal import Journal
from router.sending.parked import retry

log = structlog.get_logger()

OWNER_ONLY = 0o600
QUESTION_S = 5.0
"""Longest wait for a question, and for its answer to be taken."""
MAX_CONNECTIONS = 8
"""Served at once; more wait in the backlog."""

PendingPeers = Callable[[], Sequence[object]]
"""Gives what the DIMSE front remembers: objects with the attributes of `PendingCaller`."""
Wake = Callable[[Iterable[str]], None]


async def serve_control(
    path: Path,
    journal: Journal,
    wake: Wake,
    pending_peers: PendingPeers,
    *,
    now: Callable[[], float] = time.time,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on the socket at `path` until cancelled, then remove it. What a dead process left there is replaced.

    Holding the lock of the state folder (`Journal.open`) is what makes it safe to replace it.
    """
    try:
        with short_path(path) as short:
            listener = await anyio.create_unix_listener(short, mode=OWNER_ONLY, backlog=MAX_CONNECTIONS)
    except OSError as error:
        log.error("no control socket, commands cannot ask this router", path=str(path), problem=error.strerror)
        task_status.started()
        return
    front = _Front(journal, wake, pending_peers, now)
    limiter = anyio.Semaphore(MAX_CONNECTIONS)

    async def serve_one(stream: SocketStream) -> None:
        async with stream, limiter:
            await front.serve(stream)

    try:
        async with listener:
            task_status.started()
            await listener.serve(serve_one)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


class _Front:
    def __init__(self, journal: Journal, wake: Wake, pending_peers: PendingPeers, now: Callable[[], float]):
        self._journal, self._wake, self._pending_peers, self._now = journal, wake, pending_peers, now

    async def serve(self, stream: SocketStream) -> None:
        """Answer one question. A command that goes away or says nothing costs nothing but this connection."""
        try:
            with anyio.fail_after(QUESTION_S):
                line = await BufferedByteReceiveStream(stream).receive_until(b"\n", MAX_QUESTION_BYTES)
            answer = await self._answer(line)
            with anyio.fail_after(QUESTION_S):
                await stream.send(encode(answer))
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, TimeoutError) as error:
            log.info("control connection ended early", problem=type(error).__name__)
        except anyio.DelimiterNotFound:
            log.warning("control question too long", limit=MAX_QUESTION_BYTES)
        except Exception:  # the stage's loop edge
            log.exception("control question failed")

    async def _answer(self, line: bytes) -> Answer:
        try:
            return await self._obey(decode_question(line))
        except PeerError as error:
            return Failed(error.problem)
        except StorageError as error:
            return Failed(str(error))

    async def _obey(self, question: Question) -> Answer:
        match question:
            case Retry(destination):
                report = await retry(self._journal, destination=destination, now=self._now())
                self._wake(report.destinations)
                log.info(
                    "parked instances retried",
                    destinations=report.destinations,
                    retried=report.retried,
                    overtaken=report.overtaken,
                )
                return Retried(report)
            case ListPending():
                as_caller = partial(msgspec.convert, type=PendingCaller, from_attributes=True)
                return Pending([as_caller(peer) for peer in self._pending_peers()])
            case _:
                assert_never(question)
