"""What we say on one association, by several tasks: one whole message after the other (PS3.8 Annex E.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

import anyio

from router.dimse.events import Command
from router.net.association import AssociationStream, ConnectionLost


class Outlet:
    """The writing side of one association. `answer_s` bounds how long the peer may take nothing of what we say."""

    def __init__(self, stream: AssociationStream, answer_s: float) -> None:
        self.answer_s = answer_s
        self._stream = stream
        self._turn = anyio.Lock(fast_acquire=True)
        self._over = ""

    def close(self, why: str) -> None:
        """Say nothing more: the association has ended."""
        self._over = self._over or why

    def check(self) -> None:
        """Raises ConnectionLost when the association has ended."""
        if self._over:
            raise ConnectionLost(f"the association is over: {self._over}")

    async def send(self, context_id: int, command: Command, data_set: bytes = b"") -> None:
        """Send a message whose data set is at hand. Raises TimeoutError, PeerError (ConnectionLost too)."""
        if self._stream.has_room and not self._turn.locked():
            # As nearly always; the lock would cost more than all the rest.
            self._queue(context_id, command, data_set)
            self._stream.write_queued()
            return
        async with self._turn:
            await self._stream.flush(self.answer_s)
            self._queue(context_id, command, data_set)
            await self._stream.flush(self.answer_s)

    async def send_chunks(self, context_id: int, command: Command, content: AsyncIterable[bytes]) -> None:
        """Send a message while its data set comes, in chunks of even length but for the last; raises as `send` does.

        Nothing is sent before the first chunk is there. When `content` fails later, or we are cancelled, the
        association is aborted: nothing else may come inside a message. Closes `content` if it is a generator.
        """
        chunks = aiter(content)
        try:
            await self._send_chunks(context_id, command, chunks)
        finally:
            if isinstance(chunks, AsyncGenerator):
                with anyio.CancelScope(shield=True):
                    await chunks.aclose()

    def abort(self, why: str) -> None:
        """Abort the association, and have the one who reads look at `over`."""
        if not self._over:
            self.close(why)
            self._stream.layer.abort()
            self._stream.interrupt()

    @property
    def over(self) -> str:
        """Why nothing more is said; "" while it may be."""
        return self._over

    def _queue(self, context_id: int, command: Command, data_set: bytes) -> None:
        self.check()
        layer = self._stream.layer
        layer.send_command(context_id, command)
        if data_set:
            layer.send_data(context_id, data_set, last=True)

    async def _send_chunks(self, context_id: int, command: Command, chunks: AsyncIterator[bytes]) -> None:
        chunk = await anext(chunks, b"")
        if not chunk:
            raise ValueError("a data set without content")
        async with self._turn:
            self.check()
            layer = self._stream.layer
            layer.send_command(context_id, command)
            whole = False
            try:
                async for following in chunks:
                    if not following:
                        continue
                    self.check()
                    layer.send_data(context_id, chunk, last=False)
                    await self._stream.flush(self.answer_s)
                    chunk = following
                self.check()
                layer.send_data(context_id, chunk, last=True)
                whole = True
            finally:
                if not whole:
                    self.abort("a message of ours could not be completed")
            await self._stream.flush(self.answer_s)
