"""The messages of an established association, read one after the other until it is over.

Timers: idle between events while nothing runs, and a floor under the data rate; both are the peer's to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from router.dimse.events import Aborted, CommandReceived, DataReceived, Event, ReleaseRequested
from router.errors import PeerError
from router.net.association import MIN_BYTES_PER_S, AssociationStream
from router.scp.operations import STOP_S, Operations
from router.scp.outlet import Outlet
from router.scp.storage import StorageService

RATE_WINDOW_S: Final = 60.0
"""A data set slower than `MIN_BYTES_PER_S` over so much waiting is no transfer but a held slot (F36)."""


class Conversation:
    """The reading side of one association. `stopping` says whether it is to end at the next message boundary."""

    def __init__(
        self,
        stream: AssociationStream,
        outlet: Outlet,
        storage: StorageService,
        operations: Operations,
        *,
        stopping: Callable[[], bool],
        idle_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._stream, self._outlet, self._storage, self._operations = stream, outlet, storage, operations
        self._stopping, self._idle_s, self._clock = stopping, idle_s, clock
        self._floor = _RateFloor(stream, clock)
        self._stop_at = 0.0

    async def hold(self) -> str:
        """Serve messages until the association is over, released or aborted; say how it ended."""
        try:
            while True:
                ended = await self._take(await self._wait())
                if ended:
                    return ended
        except TimeoutError:
            ended = f"nothing moved for {self._idle_s:g} s"
        except PeerError as error:  # ConnectionLost too
            ended = error.problem
        self._stream.layer.abort()  # for what only we could find; nothing when the layer has done so already
        return self._outlet.over or ended

    async def _wait(self) -> Sequence[Event]:
        """Wait for what the peer does next; nothing when there is something else to look at."""
        wait_s = self._idle_s
        if self._stop_at and self._operations.owing:
            wait_s = min(wait_s, max(self._stop_at - self._clock(), 0.0))
        self._floor.begin_waiting()
        events: Sequence[Event] = ()
        try:
            events = await self._stream.events(wait_s)
        except TimeoutError:
            if not self._operations.running:  # else the peer may be waiting for us
                raise
        self._floor.end_waiting(self._storage.busy or self._operations.inside_message)
        return events

    async def _take(self, events: Sequence[Event]) -> str:
        """Work off what came; say how the association ended, "" if it has not. Raises PeerError, TimeoutError."""
        for event in events:
            match event:
                case DataReceived():
                    taker = self._operations if self._operations.inside_message else self._storage
                    await taker.take(event.fragment, event.last)
                case CommandReceived():
                    await self._operations.begin(event)
                case ReleaseRequested():
                    self._stream.layer.confirm_release()
                    return "released inside a message" if self._owes() else "released"
                case Aborted():
                    return f"aborted by the peer ({event.source},{event.reason})"
                case _:
                    raise PeerError("not for a requestor to say")
            if self._stopping() and not self._owes():
                break
        if self._outlet.over:
            return self._outlet.over
        if self._stopping() and self._may_stop():
            self._stream.layer.abort()
            return "shutting down"
        return ""

    def _owes(self) -> bool:
        return self._storage.busy or self._operations.owing

    def _may_stop(self) -> bool:
        """Whether nothing is in hand, or what is has had its time."""
        if not self._owes():
            return True
        if not self._operations.owing:
            return False
        self._operations.draining = True
        self._stop_at = self._stop_at or self._clock() + STOP_S
        return self._clock() >= self._stop_at


class _RateFloor:
    """Ends an association whose data set drips.

    Only the time that we waited for the peer counts, not the time that our disk took.
    """

    __slots__ = ("_began", "_bytes", "_clock", "_stream", "_waited")

    def __init__(self, stream: AssociationStream, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._began, self._waited, self._bytes = 0.0, 0.0, 0

    def begin_waiting(self) -> None:
        self._began = self._clock()

    def end_waiting(self, inside_message: bool) -> None:
        """Raises PeerError."""
        read = self._stream.bytes_read
        if not inside_message:  # waiting for the next message is the idle timer's
            self._waited, self._bytes = 0.0, read
            return
        self._waited += self._clock() - self._began
        if self._waited >= RATE_WINDOW_S:
            if read - self._bytes < MIN_BYTES_PER_S * RATE_WINDOW_S:
                raise PeerError(f"less than {MIN_BYTES_PER_S} bytes a second over {RATE_WINDOW_S:g} s")
            self._waited, self._bytes = 0.0, read
