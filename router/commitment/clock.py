"""Time as commitments see it, so that tests need no sleep. What the router passes in is `sending.clock.WallClock`."""

from __future__ import annotations

from typing import Protocol

import anyio


class Clock(Protocol):
    """`now` is Unix seconds, as the journal keeps them."""

    def now(self) -> float: ...

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        """Wait until `event` is set (True) or so many seconds went by (False)."""
        ...
