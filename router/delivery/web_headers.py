"""The headers of a web request: ours, what the configuration adds, and the access token from its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import anyio

from router.errors import Misconfigured

MAX_TOKEN_BYTES = 16 * 1024
"""The largest tokens in use have some 4 KiB."""

_TOKEN = re.compile(r"[!-~]+", re.ASCII)


async def request_headers(
    ours: Mapping[str, str], *, configured: Mapping[str, str], token_file: Path | None
) -> dict[str, str]:
    """Put together the headers of one request; what we say ourselves, and the token, stand above the configuration.

    The token is read anew for each request, as it may be renewed at any time. Raises Misconfigured.
    """
    ours = dict(ours)
    if token_file is not None:
        ours["Authorization"] = f"Bearer {await _token(token_file)}"
    taken = {name.lower() for name in ours}
    return {name: value for name, value in configured.items() if name.lower() not in taken} | ours


async def _token(path: Path) -> str:
    try:
        async with await anyio.open_file(path, "rb") as file:
            token = (await file.read(MAX_TOKEN_BYTES + 1)).decode("latin_1").strip()
    except OSError as error:
        raise Misconfigured(f"bearer_token_file {path}: {error.strerror or error}") from error
    if len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise Misconfigured(f"bearer_token_file {path} does not hold one line with a token")
    return token
