"""A request whose body is one module, in JSON or XML: its media type checked, read whole with bounds, made a data set.

Small bodies are read as they come. Of large ones few are in memory at once, and each has only so much time, so that a
slow sender holds nobody up for long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from router.dicomweb.accept import DICOM_XML
from router.dicomweb.media_types import DICOM_JSON, MULTIPART_RELATED
from router.dicomweb.one_data_set import read_one
from router.errors import PeerError
from router.web.body import TooSlow, media_type_of, paced
from router.web.problem import problem

SMALL_BYTES: Final = 256 * 1024
LARGE_AT_ONCE: Final = 2
"""Bodies beyond SMALL_BYTES that are in memory at once."""
LARGE_WAIT_S: Final = 30.0
"""How long one waits for its turn before its sender is told to come again."""
LARGE_S: Final = 120.0
"""How long one may take to arrive."""
CONSUMES: Final = tuple(
    text for name in (DICOM_JSON, DICOM_XML) for text in (name, f'{MULTIPART_RELATED}; type="{name}"')
)
_CHARSETS: Final = frozenset({"", "utf-8", "us-ascii"})
_CLOSE: Final = {"Connection": "close"}

T = TypeVar("T")


class BodyRefused(Exception):
    """The body is not taken; `response` says why."""

    def __init__(self, response: Response):
        super().__init__()
        self.response = response


class ModuleBodies:
    """Reads the bodies of one service."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._turns = anyio.Semaphore(LARGE_AT_ONCE)

    async def read(self, request: Request, shape: Callable[[Mapping[str, Any]], T]) -> T:
        """Read a body and give what `shape` makes of its data set; of a large one on a thread.

        Raises BodyRefused (400, 408, 413, 415, 503) and what `shape` raises.
        """
        content_type = _content_type(request)
        if _declared_bytes(request) > self._max_bytes:
            raise BodyRefused(self._too_long())
        body = bytearray()

        def shaped() -> T:
            return shape(read_one(content_type, bytes(body), "the body"))

        try:
            async with aclosing(paced(request.stream())) as chunks:
                if await _fill(body, chunks, SMALL_BYTES):
                    return shaped()
                await self._wait_for_turn()
                try:
                    with anyio.fail_after(LARGE_S):
                        if not await _fill(body, chunks, self._max_bytes):
                            raise BodyRefused(self._too_long())
                    return await to_thread.run_sync(shaped)
                finally:
                    self._turns.release()
        except PeerError as error:
            raise BodyRefused(problem(400, f"The body cannot be read: {error.problem}.", where="body")) from error
        except (TooSlow, TimeoutError) as error:
            raise BodyRefused(problem(408, "The body came too slowly.", headers=_CLOSE)) from error
        except ClientDisconnect as error:
            raise BodyRefused(problem(400, "The body did not end.", where="body", headers=_CLOSE)) from error

    async def _wait_for_turn(self) -> None:
        with anyio.move_on_after(LARGE_WAIT_S):
            await self._turns.acquire()
            return
        busy = problem(
            503,
            "Too many large requests are being read.",
            next_step="Send it again later, or in smaller pieces.",
            headers={"Retry-After": f"{LARGE_WAIT_S:.0f}", **_CLOSE},
        )
        raise BodyRefused(busy)

    def _too_long(self) -> Response:
        return problem(
            413,
            "The body is too long.",
            where="body",
            allowed=f"{self._max_bytes} bytes",
            next_step="Name fewer instances in one request.",
            headers=_CLOSE,
        )


async def _fill(body: bytearray, chunks: AsyncIterator[bytes], most: int) -> bool:
    """Read on; True at the end, False as soon as there is more than `most`."""
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            return False
    return True


def _declared_bytes(request: Request) -> int:
    text = request.headers.get("content-length", "0").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _content_type(request: Request) -> str:
    """Check what the head says of the body, and give its media type. Raises BodyRefused."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise BodyRefused(
            problem(
                415,
                "Compressed bodies are not taken.",
                where="Content-Encoding",
                allowed="identity",
                headers={"Accept-Encoding": "identity"},
            )
        )
    try:
        media_type = media_type_of(request)
    except PeerError as error:
        detail = f"The Content-Type cannot be used: {error.problem}."
        refused = problem(400, detail, where="Content-Type", allowed=", ".join(CONSUMES))
        raise BodyRefused(refused) from error
    name, charset = media_type.name, media_type.parameters.get("charset", "").strip().lower()
    if name == MULTIPART_RELATED:
        name += f'; type="{media_type.parameters.get("type", "").strip().lower()}"'
    if name in CONSUMES and charset in _CHARSETS:
        return request.headers["content-type"]
    raise BodyRefused(
        problem(
            415,
            "The body is not one module in JSON or XML, in UTF-8.",
            where="Content-Type",
            allowed=", ".join(CONSUMES),
            headers={"Accept-Post": ", ".join(CONSUMES)},
        )
    )
