"""One HTTP connection to one server: streamed request bodies out, bounded answers in. By aiohttp (decision 0001).

Follows no redirect, keeps no cookie, reads no proxy from the environment, asks for no compression. What an answer means
is not decided here; what failed is said as Transient, AnswerLost or Misconfigured.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import anyio
import msgspec
import yarl

from router.dicom.uids import IMPLEMENTATION_VERSION_NAME
from router.errors import Misconfigured, Transient

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of a longer answer only so much is read (F43)."""
KEEP_ALIVE_S = 15.0
"""A connection that was idle for so long is not used again: servers begin to close them after 15 to 75 s."""
CLOSE_S = 2.0
"""Longest time that closing may take."""
_READ_BYTES = 64 * 1024

Body = Callable[[], AsyncIterator[bytes | memoryview]]
"""Makes the body anew for each attempt. What it raises, breaks the request off and comes out of `request`."""


class HttpAnswer(msgspec.Struct, frozen=True):
    """An answer. `body` holds at most `max_answer_bytes`; `whole` says whether that was all."""

    status: int
    content_type: str
    body: bytes
    whole: bool
    retry_after_s: float | None


class AnswerLost(Transient):
    """The request went out whole, but no whole answer came back: what became of it is unknown."""


class HttpClient:
    """Keeps a connection alive between requests; one request at a time. Times in seconds, `wall_clock` as time.time."""

    def __init__(
        self,
        *,
        connect_s: float,
        answer_s: float,
        ca_file: Path | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._connect_s, self._answer_s, self._ca_file, self._wall_clock = connect_s, answer_s, ca_file, wall_clock
        self._max_answer_bytes = max_answer_bytes
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        body_bytes: int | None = None,
    ) -> HttpAnswer:
        """Ask once; on a kept connection that the server had closed meanwhile, once more on a new one.

        `url` goes out as it is: percent-encoding means something in a query (%2C is no comma). `body_bytes` goes out as
        Content-Length; None: chunked. Raises Transient, AnswerLost, Misconfigured, what `body` raises.
        """
        try:
            return await self._ask(method, url, headers, body, body_bytes)
        except _Stale:
            return await self._ask(method, url, headers, body, body_bytes)

    async def aclose(self) -> None:
        """Close the connection; a later request opens a new one. Never raises."""
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_S):
                await session.close()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, body_bytes: int | None
    ) -> HttpAnswer:
        sent = dict(headers)
        if body is not None and body_bytes is not None:
            sent["Content-Length"] = str(body_bytes)
        try:
            target = yarl.URL(url, encoded=True)
        except ValueError as error:
            raise Misconfigured(_words(error)) from error
        connection = SimpleNamespace(reused=False)
        with anyio.CancelScope() as patience:
            upload = _Upload(body, patience, self._answer_s)
            patience.deadline = anyio.current_time() + self._connect_s + self._answer_s
            try:
                async with self._open_session().request(
                    method,
                    target,
                    headers=sent,
                    data=None if body is None else upload.chunks(),
                    allow_redirects=False,
                    trace_request_ctx=connection,
                ) as response:
                    answer = await self._read(response)
            except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as error:
                raise Misconfigured(_words(error)) from error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                await self.aclose()
                if upload.failure is not None:
                    raise upload.failure from error
                if connection.reused and isinstance(error, OSError | aiohttp.ServerDisconnectedError):
                    raise _Stale(_words(error)) from error
                if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                    raise Transient(_words(error)) from error  # nothing was sent
                raise self._lost(upload, _words(error)) from error
            if upload.failure is not None:
                await self.aclose()
                raise upload.failure
            return answer
        await self.aclose()
        raise self._lost(upload, f"nothing moved for {self._answer_s:g} s")

    @staticmethod
    def _lost(upload: _Upload, words: str) -> Transient:
        return AnswerLost(f"no answer: {words}") if upload.finished else Transient(words)

    async def _read(self, response: aiohttp.ClientResponse) -> HttpAnswer:
        body = bytearray()
        whole = True
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            body += chunk
            if len(body) > self._max_answer_bytes:
                del body[self._max_answer_bytes :]
                whole = False
                response.close()
                break
        return HttpAnswer(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            body=bytes(body),
            whole=whole,
            retry_after_s=retry_after_s(response.headers.get("Retry-After", ""), self._wall_clock()),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            try:
                tls = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise Misconfigured(f"ca_file {self._ca_file}: {error.strerror or error}") from error
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=tls, keepalive_timeout=KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": IMPLEMENTATION_VERSION_NAME, "Accept-Encoding": "identity"},
                skip_auto_headers=("Content-Type",),  # of a request without a body
                trust_env=False,
                auto_decompress=False,
                trace_configs=[tracing],
            )
        return self._session


class _Stale(Transient):
    """A kept connection was closed by the server before the answer."""


class _Upload:
    """A body on its way: each chunk that the peer takes buys `answer_s` more patience."""

    def __init__(self, body: Body | None, patience: anyio.CancelScope, answer_s: float):
        self._body, self._patience, self._answer_s = body, patience, answer_s
        self.finished = body is None
        self.failure: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        assert self._body is not None
        try:
            async for chunk in self._body():
                yield chunk
                self._patience.deadline = anyio.current_time() + self._answer_s
        except Exception as error:
            self.failure = error
            raise
        self.finished = True


def retry_after_s(text: str, now: float) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110 §10.2.3); None when it is neither. `now` in seconds since 1970."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


async def _note_reuse(_session: object, context: SimpleNamespace, _parameters: object) -> None:
    context.trace_request_ctx.reused = True


def _words(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"{error.host}: name not found"
        case aiohttp.ClientConnectorCertificateError():
            return f"{error.host}: its certificate is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            return f"{error.host}:{error.port}: {_system_words(error.os_error)}"
        case TimeoutError():
            return "no connection in time"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed"
        case _:
            return str(error) or type(error).__name__


def _system_words(error: OSError) -> str:
    """What the system says; asyncio puts its own words and the address in place of that."""
    if error.errno and not isinstance(error, ssl.SSLError):  # which has numbers of its own
        return os.strerror(error.errno)
    return error.strerror or str(error)
