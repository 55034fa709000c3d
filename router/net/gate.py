"""Where one task waits for a callback of the transport, with a deadline.

A cancel scope and a timer for each wait cost more than the rest of a small C-STORE; here one timer serves all waits of
a gate and is only moved on when it fires.
"""

from __future__ import annotations

import asyncio


class Gate:
    """One waiter at a time; `wake` lets it go on, and it looks itself at what has changed."""

    __slots__ = ("_deadline", "_loop", "_timer", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    async def wait_until(self, deadline: float) -> None:
        """Wait for `wake`, at most until `deadline` on the loop's clock. Raises TimeoutError."""
        if self._waiter is not None:
            raise RuntimeError("two tasks wait at one gate")
        self._deadline = deadline
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._expire)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let the waiter go on, if there is one."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """Forget the timer, so that it does not keep the owner alive."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._expire)
        else:
            waiter.set_exception(TimeoutError())
