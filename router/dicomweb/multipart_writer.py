"""Writes multipart/related bodies (RFC 2046 §5.1, PS3.18 §8.6.1.2.1): what stands before, between and behind the parts.

`PartReader` in `multipart` reads them. Contents never pass through here: they go out as they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping


def new_boundary() -> str:
    """Make a boundary that no content holds: 128 random bits."""
    return uuid.uuid4().hex


def part_opening(boundary: str, headers: Mapping[str, str]) -> bytes:
    """Write what stands before a part's content: delimiter line and head. The first part needs nothing before it."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"\r\n--{boundary}\r\n{fields}\r\n".encode("ascii")


def part_head(boundary: str, content_type: str, *, length: int | None, location: str = "") -> bytes:
    """Write delimiter and head of a part of an answer. `length` in bytes, None when it is not known yet; `location` for
    a part that is a resource (Table 8.6.1-1). Both must be plain ASCII without line ends.
    """
    headers = {"Content-Type": content_type}
    if length is not None:
        headers["Content-Length"] = str(length)
    if location:
        headers["Content-Location"] = location
    return part_opening(boundary, headers)


def closing(boundary: str) -> bytes:
    """Write what stands behind the last part; without it the receiver knows that the body broke off."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")
