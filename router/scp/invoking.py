"""Requests of ours on an association that the peer opened, and its responses to them (PS3.7 §D.3.3.3).

One at a time: without an asynchronous operations window neither side has more outstanding.
"""

from __future__ import annotations

from collections.abc import AsyncIterable

import anyio
from msgspec.structs import replace

from router.dimse.commands import RESPONSE
from router.dimse.events import Command, CommandReceived
from router.errors import PeerError
from router.scp.outlet import Outlet

MAX_MESSAGE_ID = 0xFFFF


class _Waiting:
    """Who waits for the response to a request of ours."""

    def __init__(self, context_id: int, request: Command) -> None:
        self.context_id, self.request = context_id, request
        self.decided = anyio.Event()
        self.response: Command | None = None


class Invoker:
    """Asks the peer of one association for the operations that run on it."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._turn = anyio.Lock(fast_acquire=True)
        self._message_id = 0
        self._waiting: _Waiting | None = None

    async def invoke(self, context_id: int, request: Command, content: bytes | AsyncIterable[bytes]) -> Command:
        """Send a request, wait for its response; raises as `Exchange.invoke` says."""
        async with self._turn:
            self._outlet.check()
            self._message_id = self._message_id % MAX_MESSAGE_ID + 1
            request = replace(request, message_id=self._message_id, has_data_set=bool(content))
            waiting = self._waiting = _Waiting(context_id, request)
            try:
                if isinstance(content, bytes):
                    await self._outlet.send(context_id, request, content)
                else:
                    await self._outlet.send_chunks(context_id, request, content)
                with anyio.fail_after(self._outlet.answer_s):
                    await waiting.decided.wait()
            finally:
                self._waiting = None
            if waiting.response is None:
                self._outlet.check()
                raise AssertionError("woken without a response")
            return waiting.response

    def take(self, event: CommandReceived) -> None:
        """Pass a response on to who waits for it. Raises PeerError for one that nobody waits for."""
        waiting, response = self._waiting, event.command
        problem = ""
        if waiting is None or response.message_id_responded_to != waiting.request.message_id:
            problem = "to nothing that was asked"
        elif response.field != waiting.request.field | RESPONSE or event.context_id != waiting.context_id:
            problem = "to something else than was asked"
        elif response.status is None:
            problem = "without a status"
        if waiting is None or problem:
            raise PeerError(f"response {response.field:04X}H {problem}")
        waiting.response = response
        waiting.decided.set()

    def close(self) -> None:
        """Wake who waits: no response will come any more."""
        if self._waiting is not None:
            self._waiting.decided.set()
