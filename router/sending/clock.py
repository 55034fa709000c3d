"""Time as the sending side sees it: what a lane waits with, so that tests need no sleep."""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """`now` is Unix seconds, as the journal keeps them."""

    def now(self) -> float: ...

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        """Wait until `event` is set (True) or so many seconds went by (False)."""
        ...


class WallClock:
    """The machine's clock. Waits go by the monotonic clock, so a jump of the date delays nothing (D11)."""

    def now(self) -> float:
        return time.time()

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        with anyio.move_on_after(timeout_s):
            await event.wait()
            return True
        return False
