"""An answer that is made while it is sent: bounded memory, readers that go away, and what breaks off on the way.

One chunk is on its way to the reader while the next one is made. An answer that cannot be finished ends without its
last chunk, so that the reader sees that it is broken. A reader that takes nothing is for the server to drop (B52).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.errors import RouterError

log = structlog.get_logger()

PIECE_BYTES: Final = 1024 * 1024
"""Handed to the server at once."""

Chunks = AsyncGenerator[bytes, None]
"""What makes the body. It may raise RouterError to break off, and must not hold a cancel scope over a yield."""


class Streamed(Response):
    """A streamed answer. `length` goes into Content-Length when it is known. Make it with `begin_streaming`."""

    def __init__(
        self,
        first: bytes,
        rest: Chunks,
        *,
        content_type: str,
        status: int = 200,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(status_code=status, headers=dict(headers or {}))
        self.headers["Content-Type"] = content_type
        if length is None:
            del self.headers["Content-Length"]
        else:
            self.headers["Content-Length"] = str(length)
        self._first, self._rest = first, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as ASGI calls it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._send_body(scope["path"], receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._rest.aclose()

    async def _send_body(self, path: str, receive: Receive, send: Send) -> None:
        into, out_of = anyio.create_memory_object_stream[bytes](0)
        whole = False
        with into, out_of:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_reader, receive, tasks.cancel_scope)
                tasks.start_soon(self._make, path, into)
                whole = await self._pass_on(out_of, send)
                tasks.cancel_scope.cancel()
        if whole:
            await send({"type": "http.response.body", "body": b""})

    async def _watch_reader(self, receive: Receive, sending: anyio.CancelScope) -> None:
        """Stop when the reader has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()

    async def _make(self, path: str, into: MemoryObjectSendStream[bytes]) -> None:
        """Make the chunks; an empty one says that the body is whole."""
        with into:
            try:
                await into.send(self._first)
                async for chunk in self._rest:
                    if chunk:
                        await into.send(chunk)
                await into.send(b"")
            except RouterError as error:
                log.error("answer broken off", path=path[:200], problem=str(error))

    async def _pass_on(self, out_of: MemoryObjectReceiveStream[bytes], send: Send) -> bool:
        """Send chunks; say whether the body is whole."""
        async for chunk in out_of:
            if not chunk:
                return True
            for at in range(0, len(chunk), PIECE_BYTES):
                piece = chunk if len(chunk) <= PIECE_BYTES else chunk[at : at + PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        return False


async def begin_streaming(
    chunks: Chunks,
    *,
    content_type: str,
    status: int = 200,
    length: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Streamed:
    """Make the first chunk, then the answer: what is wrong before that is raised here, while one can still say so."""
    first = await anext(chunks)
    return Streamed(first, chunks, content_type=content_type, status=status, length=length, headers=headers)
