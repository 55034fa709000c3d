"""A body that is one part by itself, turned into a multipart body of that one part while it is read (PS3.18 §8.7.1)."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.types import Message, Receive

from router.dicomweb.media_types import multipart_related, parse_media_type
from router.dicomweb.multipart_writer import closing, new_boundary, part_opening
from router.errors import PeerError


def as_multipart(request: Request, media_types: Collection[str]) -> Request:
    """Give the request as if its body were multipart, if it is a single part of one of `media_types`."""
    if not media_types:
        return request
    values = request.headers.getlist("content-type")
    try:
        name = parse_media_type(values[0]).name if len(values) == 1 else ""
    except PeerError:
        name = ""
    if name not in media_types:
        return request
    boundary = new_boundary()
    headers = [(key, value) for key, value in request.scope["headers"] if key != b"content-type"]
    headers.append((b"content-type", multipart_related(name, boundary).encode()))
    opening = part_opening(boundary, {"Content-Type": name})
    return Request({**request.scope, "headers": headers}, _wrapped(request.receive, opening, closing(boundary)))


def _wrapped(receive: Receive, opening: bytes, end: bytes) -> Receive:
    """Put `opening` before the first bytes of a body, and `end` behind its last."""
    before = opening

    async def wrapped() -> Message:
        nonlocal before
        message = await receive()
        if message["type"] != "http.request":
            return message
        body, before = before + message.get("body", b""), b""
        more = message.get("more_body", False)
        return {"type": "http.request", "body": body if more else body + end, "more_body": more}

    return wrapped
