"""One association on one socket: bytes to and from `dimse.UpperLayer`, with back-pressure and deadlines. Knows no
service, no policy.

Two buffers take turns: the transport fills one while the events in the other are worked on, and when both are full
reading stops. So an association costs two buffers and the layer's one PDU, and fragments go on without a copy. A PDU
that comes in pieces wakes nobody before it is whole, if the buffer has room for it.
`TCP_QUICKACK` is set again after every read, because a peer with Nagle's algorithm on holds its next write back until
our acknowledgement is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import cast

from router.dimse.events import Event
from router.dimse.transitions import State
from router.dimse.upper_layer import UpperLayer
from router.errors import PeerError
from router.net.gate import Gate

FIRST_BUFFER_BYTES = 4096
"""Two of these until the peer is associated and fills one: a stranger costs little (B2)."""
BUFFER_BYTES = 256 * 1024
"""Two of these for an association that moves data: each has room for two of the largest PDUs that fast peers use."""
WRITE_HIGH_BYTES = 256 * 1024
WRITE_LOW_BYTES = 64 * 1024
"""`flush` waits from the high mark down to the low mark: no more than that and one PDU waits for a slow peer."""
MIN_BYTES_PER_S = 1024
"""A PDU that moves at least so fast is waited for, however long it takes; a slower peer only holds a slot (F36)."""
CLOSE_S = 2.0
"""Longest that `aclose` waits for the last bytes to leave."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class ConnectionLost(PeerError):
    """The connection is gone while more was expected of the peer."""


class AssociationStream(asyncio.BufferedProtocol):
    """A connection and its upper layer. One task reads (`events`), one at a time writes (`flush`)."""

    def __init__(self, layer: UpperLayer, *, opened: Callable[[AssociationStream], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.layer = layer
        self.peer_address = ""
        self.peer_port = 0
        self.bytes_read = 0
        self._loop = loop
        self._opened = opened
        self._transport: asyncio.Transport
        self._quickack: Callable[[], None] | None = None
        self._fd = -1
        self._buffer_bytes = FIRST_BUFFER_BYTES
        self._filling, self._resting = bytearray(FIRST_BUFFER_BYTES), bytearray(FIRST_BUFFER_BYTES)
        self._filled = 0
        self._reading_paused = self._writing_paused = False
        self._ended = self._lost = self._interrupted = self._hurried = False
        self._readable, self._writable, self._closed = Gate(loop), Gate(loop), Gate(loop)

    # --- for those who drive the association

    async def events(self, timeout_s: float) -> Sequence[Event]:
        """Wait for what the peer does next: at least one event, in order. What is queued for output is written before
        waiting.

        Fragments are views that hold until the next call. Empty once after `interrupt`, when all that has arrived is
        worked off. Raises PeerError (our A-ABORT is then written), ConnectionLost, and TimeoutError when no event is
        complete within `timeout_s` (on an established association: unless the bytes of one keep coming at
        `MIN_BYTES_PER_S`).
        """
        deadline, mark = 0.0, self.bytes_read
        while True:
            if self._filled:
                try:
                    events = self.layer.receive(self._take())
                except PeerError:
                    self.write_queued()
                    raise
                if events:
                    return events
                continue
            self.write_queued()
            if self._ended or self.layer.closed:
                self.layer.connection_lost()
                raise ConnectionLost("the connection was closed")
            if self._interrupted:
                self._interrupted = False
                return ()
            deadline = deadline or self._loop.time() + timeout_s
            try:
                await self._readable.wait_until(deadline)
            except TimeoutError:
                moved, mark = self.bytes_read - mark, self.bytes_read
                if self.layer.state is not State.ESTABLISHED or moved <= MIN_BYTES_PER_S * timeout_s:
                    raise
                deadline = self._loop.time() + timeout_s

    async def flush(self, timeout_s: float) -> None:
        """Write what the layer has queued; wait while too much is waiting for the peer. Raises TimeoutError,
        ConnectionLost.
        """
        self.write_queued()
        if self._writing_paused:
            deadline = self._loop.time() + timeout_s
            while self._writing_paused and not self._lost:
                await self._writable.wait_until(deadline)
        if self._lost:
            self.layer.connection_lost()
            raise ConnectionLost("the connection was closed")

    @property
    def has_room(self) -> bool:
        """Whether `flush` would return at once."""
        return not (self._writing_paused or self._lost)

    def write_queued(self) -> None:
        """Write what the layer has queued, without waiting for anything."""
        queued = self.layer.take_output()
        if queued and not self._lost:
            # Joined into bytes of our own: the transport may keep them for longer than the caller keeps its buffer.
            self._transport.write(b"".join(queued))

    def interrupt(self) -> None:
        """Make `events` return once, now or at its next call, when all that came is worked off; hurry `linger`."""
        self._interrupted = self._hurried = True
        self._readable.wake()

    async def linger(self, timeout_s: float) -> None:
        """Let the peer close first, so that our last PDU reaches it: a close with bytes unread would reset the
        connection (Sta13, ARTIM).

        Ignores what still comes. Returns when the peer has closed, `timeout_s` is over, or soon after `interrupt`;
        never raises.
        """
        deadline = self._loop.time() + timeout_s
        with contextlib.suppress(TimeoutError):
            while not (self._ended or self.layer.closed):
                self.write_queued()
                if self._hurried:
                    deadline = min(deadline, self._loop.time() + CLOSE_S)
                if self._filled:
                    with contextlib.suppress(PeerError):
                        self.layer.receive(self._take())
                else:
                    await self._readable.wait_until(deadline)
            return
        self.layer.artim_expired()

    async def aclose(self) -> None:
        """Write what can still be written, close the socket. Never raises; takes at most `CLOSE_S`."""
        self.write_queued()
        self._transport.close()
        deadline = self._loop.time() + CLOSE_S
        try:
            while not self._lost:
                await self._closed.wait_until(deadline)
        except TimeoutError:
            pass
        finally:
            self._transport.abort()
            self.layer.connection_lost()

    def kill(self) -> None:
        """Close the socket at once, whatever is under way; whoever waits hears ConnectionLost."""
        self._transport.abort()

    # --- for the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        peer = transport.get_extra_info("peername")
        if peer:  # None when the peer is gone already
            self.peer_address, self.peer_port = peer[0], peer[1]
        connection = transport.get_extra_info("socket")
        self._fd = connection.fileno()
        with contextlib.suppress(OSError):  # the peer may be gone already; reading will say so
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _QUICKACK is not None:
            set_option, quickack = connection.setsockopt, _QUICKACK
            self._quickack = lambda: set_option(socket.IPPROTO_TCP, quickack, 1)
            self._acknowledge_quickly()
        if self._opened is not None:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._filling)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._note_read(nbytes)
        self._acknowledge_quickly()
        while self._is_partial():
            if not self._read_on():
                return  # the transport will say when more has come
        self._readable.wake()

    def eof_received(self) -> bool:
        """Keep the connection for writing: what the peer sent before it closed its side is still answered."""
        self._ended = True
        self._readable.wake()
        return True

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._writable.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        for gate in (self._readable, self._writable, self._closed):
            gate.wake()
            gate.close()

    # --- within

    def _note_read(self, count: int) -> None:
        self._filled += count
        self.bytes_read += count
        if self._filled == len(self._filling):
            self._reading_paused = True
            self._transport.pause_reading()

    def _is_partial(self) -> bool:
        """Say whether what was read ends within a PDU whose rest has room: whoever waits could do nothing with it."""
        return 0 < self.layer.lacking(self._filling, self._filled) <= len(self._filling) - self._filled

    def _read_on(self) -> int:
        """Read what the acknowledgement brought: a peer with Nagle's algorithm on held the rest of the PDU back until
        then, and on a short way it is here at once. The transport's own next read is a turn of the loop away.
        """
        try:
            count = os.readv(self._fd, [memoryview(self._filling)[self._filled :]])
        except OSError:
            return 0  # nothing there; what else is wrong the transport will find
        if count:
            self._note_read(count)
            self._acknowledge_quickly()
        return count

    def _take(self) -> memoryview:
        """Hand out what has been read and let the other buffer be filled: its events are worked off, or `events` would
        not be called.
        """
        taken, filled = self._filling, self._filled
        self._filling, self._resting, self._filled = self._resting, taken, 0
        if filled == len(taken) and self.layer.state is State.ESTABLISHED:
            self._buffer_bytes = BUFFER_BYTES
        if len(self._filling) < self._buffer_bytes:
            self._filling = bytearray(self._buffer_bytes)
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        return memoryview(taken)[:filled]

    def _acknowledge_quickly(self) -> None:
        if self._quickack is not None:
            with contextlib.suppress(OSError):  # closed by the peer meanwhile; the next read says so
                self._quickack()
