"""Serve HTTP by Hypercorn, made strict: HTTP/1.1 and no other, heads that all programs read alike, no endless waiting.

A head is judged as it came, before h11 reads it, which forgives what RFC 9112 lets a server forgive (bare LF, folded
lines, repeated lengths) and what request smuggling lives on. Rows B48 to B56 and B71.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import h11
import hypercorn.asyncio.run
from anyio.abc import TaskStatus
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from starlette.types import ASGIApp

from router.config.model import Listen
from router.web.problem import problem
from router.web.stow import MAX_BODY_BYTES

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers of one request."""
MAX_TARGET_BYTES: Final = 40 * 1024
"""A query string may have 32 KiB: a list of 500 UIDs."""
MAX_FIELD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 100
"""Browsers send 20, proxies add 10."""
HTTP_GRACE_S = 10.0
"""How long HTTP requests may go on after that; a connection without a request ends at once."""
BACKLOG = 128
KEEP_ALIVE_S = 30.0
WRITE_S: Final = 30.0
FLOOR_BYTES: Final = 256 * 1024
"""A reader must take so much of an answer, or all that is left of it, in each WRITE_S (B52)."""
JOINED_BYTES: Final = 16 * 1024
"""Pieces of an answer up to this size together are copied into one; larger ones go out as they are."""

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"))
_VERSIONS: Final = frozenset((b"HTTP/1.1", b"HTTP/1.0"))
_BARE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)")
_NOT_TEXT: Final = re.compile(rb"[^\t\r\n -~]")
_FOLD: Final = re.compile(rb"\r\n[ \t]")
_LENGTH: Final = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([^\r]*)", re.IGNORECASE)
_ENCODING: Final = re.compile(rb"\r\ntransfer-encoding[ \t]*:[ \t]*([^\r]*)", re.IGNORECASE)
_WEBSOCKET: Final = re.compile(rb"\r\nupgrade[ \t]*:[^\r]*websocket", re.IGNORECASE)
_TARGET: Final = re.compile(rb"/|https?://|\*\Z", re.IGNORECASE)


class BadHead(Exception):
    """The request is not taken. `status` and words for its sender."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


async def serve_http(
    app: ASGIApp, listen: Listen, stop: anyio.Event, *, task_status: TaskStatus[Listen] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve `app` over HTTP until `stop`, then let requests finish for HTTP_GRACE_S. Raises OSError: cannot listen."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    server = socket.create_server((listen.host, listen.port), family=family, backlog=BACKLOG)
    server.setblocking(False)
    task_status.started(Listen(*server.getsockname()[:2]))
    settings = HypercornConfig()
    settings.bind = [f"fd://{server.detach()}"]  # hypercorn closes it
    settings.accesslog = None
    settings.errorlog = None
    settings.graceful_timeout = HTTP_GRACE_S
    settings.keep_alive_timeout = KEEP_ALIVE_S
    settings.h11_max_incomplete_size = MAX_HEAD_BYTES
    settings.include_server_header = False
    make_strict()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_set_when_cancelled, stop)
        with anyio.CancelScope(shield=True):  # hypercorn must not be cancelled while it lets requests finish
            await hypercorn.asyncio.serve(app, settings, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        tasks.cancel_scope.cancel()


async def _set_when_cancelled(event: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        event.set()


def make_strict() -> None:
    """Have Hypercorn serve connections with what stands here. Hypercorn has no setting for it."""
    hypercorn.asyncio.run.TCPServer = _Server  # type: ignore[attr-defined]


def check_head(data: bytes) -> None:
    """Judge what has come since the last request, be the head whole or not. Raises BadHead."""
    data = data.removeprefix(b"\r\n")  # RFC 9112 §2.2: some clients send one after a body
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2] if end >= 0 else data
    if flaw := _NOT_TEXT.search(head):
        raise BadHead(
            400, f"The head holds the byte {head[flaw.start()]:02X}H: this is not HTTP, or not as it should be."
        )
    if _BARE_LINE_END.search(head):
        raise BadHead(400, "A line of the head does not end with CR LF.")
    line, _, fields = head.partition(b"\r\n")
    if len(line) > MAX_TARGET_BYTES:
        raise BadHead(414, f"The request line is longer than {MAX_TARGET_BYTES} bytes.")
    if len(head) > MAX_HEAD_BYTES or max(map(len, fields.split(b"\r\n"))) > MAX_FIELD_BYTES:
        raise BadHead(431, f"The head is longer than {MAX_HEAD_BYTES} bytes, or a field than {MAX_FIELD_BYTES}.")
    if fields.count(b"\r\n") > MAX_FIELDS:
        raise BadHead(431, f"There are more than {MAX_FIELDS} header fields.")
    if end >= 0:
        _check_request_line(line)
        _check_fields(b"\r\n" + fields)


def _check_request_line(line: bytes) -> None:
    words = line.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        raise BadHead(400, "The request line is not: method, path, HTTP/1.1.")
    method, target, version = words
    if line == b"PRI * HTTP/2.0":
        raise BadHead(400, "HTTP/2 is not spoken here, only HTTP/1.1.")
    if version not in _VERSIONS:
        raise BadHead(505, "Only HTTP/1.1 is spoken here.")
    if method not in _METHODS:
        raise BadHead(501, "That method is not known here; methods are written in capital letters.")
    if not _TARGET.match(target):
        raise BadHead(400, "The request line names no path.")


def _check_fields(fields: bytes) -> None:
    if _FOLD.search(fields):
        raise BadHead(400, "A header field goes over several lines.")
    lengths, encodings = _LENGTH.findall(fields), _ENCODING.findall(fields)
    if len(lengths) + len(encodings) > 1 or any(b"," in length for length in lengths):
        raise BadHead(400, "The head tells the length of the body more than once.")
    if encodings and encodings[0].strip().lower() != b"chunked":
        raise BadHead(400, 'The only Transfer-Encoding that is taken is "chunked".')
    if _WEBSOCKET.search(fields):
        raise BadHead(400, "There are no WebSockets here.")


class _Connection(h11.Connection):
    """h11 that reads no head before it was judged."""

    refusal: BadHead | None = None
    """Why nothing more is read from this connection."""
    _too_long = False

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """Nobody is asked for a body that is too long by its own words (B54)."""
        return not self._too_long and super().they_are_waiting_for_100_continue

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE and self.refusal is None:
            data, _ = self.trailing_data
            try:
                if data:
                    check_head(data)
            except BadHead as refusal:
                self.refusal = refusal
        if self.refusal is not None:
            raise h11.RemoteProtocolError(self.refusal.detail, self.refusal.status)
        event = super().next_event()
        if isinstance(event, h11.Request):
            lengths = [value for name, value in event.headers if name == b"content-length"]
            self._too_long = any(int(length) > MAX_BODY_BYTES for length in lengths)
        return event


@dataclass(frozen=True)
class _Pieces(Event):
    """Bytes to be written one after another."""

    pieces: Sequence[bytes]


class _Protocol(H11Protocol):
    """HTTP/1.1 without ways out of it: no HTTP/2, no WebSocket."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.connection = _Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: list[bytes] = []

    async def _check_protocol(self, event: h11.Request) -> None:
        """An offer to go over to another protocol is not taken up."""

    async def _send_h11_event(self, event: h11.Event) -> None:
        """Send the head of an answer in one write with what follows it, and a body without copying it."""
        assert isinstance(self.connection, _Connection)
        try:
            pieces = self._head + (self.connection.send_with_data_passthrough(event) or [])
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        self._head = pieces if isinstance(event, h11.Response) else []
        if self._head or not any(pieces):
            return
        if sum(map(len, pieces)) <= JOINED_BYTES:
            pieces = [b"".join(pieces)]
        await self.send(_Pieces(pieces))

    async def _send_error_response(self, status_code: int) -> None:
        refusal = getattr(self.connection, "refusal", None)
        detail = refusal.detail if refusal else "The request is not HTTP/1.1 as RFC 9112 has it."
        answer = problem(status_code, detail, where="request head", headers={"Connection": "close"})
        headers = [*answer.raw_headers, *self.config.response_headers("h11")]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=bytes(answer.body)))
        await self._send_h11_event(h11.EndOfMessage())


class _Server(TCPServer):
    """One connection."""

    @property
    def protocol(self) -> ProtocolWrapper:
        return self._wrapper

    @protocol.setter
    def protocol(self, wrapper: ProtocolWrapper) -> None:
        wrapper.protocol = _Protocol(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            wrapper.task_group,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        self._wrapper = wrapper

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, _Pieces):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                for piece in event.pieces:
                    self.writer.write(piece)
                await let_read(self.writer)
            except (ConnectionError, RuntimeError):
                await self.protocol.handle(Closed())


async def let_read(writer: asyncio.StreamWriter) -> None:
    """Wait until the reader has taken what was written, or most of it; drop one that does not read."""
    transport = writer.transport
    while True:
        left = transport.get_write_buffer_size()
        with anyio.move_on_after(WRITE_S):
            await writer.drain()
            return
        if left - transport.get_write_buffer_size() < min(left, FLOOR_BYTES):
            transport.abort()
            return
