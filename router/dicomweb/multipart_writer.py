"""Writes multipart/related bodies (RFC 2046 §5.1, PS3.18 §8.6.1.2.1): what stands before, between and behind the parts.

`PartReader` in `multipart` reads them. Contents never pass through here: they go out as they are.
"""

from __future__ import annotations

from router.dicomweb.multipart import new_boundary

__all__ = ["closing", "new_boundary", "part_head"]


def part_head(boundary: bytes, content_type: str, *, length: int | None, location: str = "") -> bytes:
    """Write delimiter and head of a part, also of the first. `length` in bytes, None when it is not known yet;
    `location` for a part that is a resource (Table 8.6.1-1). Both must be plain ASCII without line ends.
    """
    head = f"Content-Type: {content_type}\r\n"
    if length is not None:
        head += f"Content-Length: {length}\r\n"
    if location:
        head += f"Content-Location: {location}\r\n"
    return b"\r\n--%b\r\n%b\r\n" % (boundary, head.encode("ascii"))


def closing(boundary: bytes) -> bytes:
    """Write what stands behind the last part; without it the receiver knows that the body broke off."""
    return b"\r\n--%b--\r\n" % boundary
