"""A request's body: what its head says it is, and its bytes at the pace of whoever consumes them (B52)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import anyio
from starlette.requests import Request

from router.dicomweb.media_types import MediaType, parse_media_type
from router.errors import PeerError

IDLE_S = 60.0
"""A sender may be silent for so long; the DIMSE front waits as long for its peers."""
MIN_BYTES_PER_S = 1024
"""Less over IDLE_S of waiting is no link that a study could come over."""


def media_type_of(request: Request) -> MediaType:
    """Give the one Content-Type of a request; nameless when it has none. Raises PeerError."""
    values = request.headers.getlist("content-type")
    if len(values) > 1:
        raise PeerError("there is more than one")
    return parse_media_type(values[0]) if values else MediaType("", {})


class TooSlow(Exception):
    """The sender brings too little."""


async def paced(
    chunks: AsyncIterator[bytes], *, idle_s: float = IDLE_S, min_bytes_per_s: int = MIN_BYTES_PER_S
) -> AsyncGenerator[bytes, None]:
    """Pass chunks on; only time spent waiting for the sender counts against it. Raises TooSlow."""
    waited_s, received = 0.0, 0
    while True:
        began = anyio.current_time()
        try:
            with anyio.move_on_after(idle_s) as patience:
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        if patience.cancelled_caught:
            raise TooSlow(f"nothing came for {idle_s:g} s")
        waited_s += anyio.current_time() - began
        received += len(chunk)
        if waited_s >= idle_s:
            if received < idle_s * min_bytes_per_s:
                raise TooSlow(f"less than {min_bytes_per_s} bytes/s came over {idle_s:g} s")
            waited_s, received = 0.0, 0
        yield chunk
