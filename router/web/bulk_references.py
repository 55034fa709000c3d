"""The bulk data parts of one Store request, found by the BulkDataURI that refers to them (PS3.18 §10.5.1, §8.6.1.2.2).

A URI is compared with the Content-Location of parts, both resolved against the URL of the request (RFC 3986 §5). It is
never fetched: what no part of the same request has does not exist (B62).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

from router.dicom.codestream import ReadAt
from router.dicom.compose import CANNOT_UNDERSTAND, PIXEL_DATA, Bulk, Extent
from router.dicomweb.bulk_media_types import other_bulk, pixel_data
from router.dicomweb.media_types import MediaType
from router.errors import PeerError, Refused

MAX_URI_CHARACTERS = 1024
"""A Content-Location, or a BulkDataURI: with three UIDs and a host it has some 300."""

_ENCAPSULATED_DOCUMENT = 0x0042_0011


@dataclass(frozen=True, slots=True)
class ReceivedBulk:
    """One part, kept somewhere. `problem` says why its bytes cannot be used, "" when they can."""

    media_type: MediaType
    extent: Extent
    problem: str = ""


class BulkReferences:
    """All parts by their resolved Content-Location."""

    def __init__(self, request_url: str):
        self._request_url = request_url
        self._parts: dict[str, list[ReceivedBulk]] = {}
        self._used: set[str] = set()

    def add(self, location: str, part: ReceivedBulk) -> None:
        """Keep a part; several with one location are the frames of one pixel data. Raises PeerError."""
        if len(location) > MAX_URI_CHARACTERS:
            raise PeerError(f"a Content-Location of more than {MAX_URI_CHARACTERS} characters")
        self._parts.setdefault(self._resolved(location), []).append(part)

    def unused(self) -> int:
        """Count the parts that nothing referred to."""
        return sum(len(parts) for location, parts in self._parts.items() if location not in self._used)

    def find(self, uri: str, tag: int, read: ReadAt) -> Bulk:
        """Give what a BulkDataURI refers to. Raises Refused (C000H, C122H)."""
        parts = self._parts_of(uri)
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if not parts:
            raise Refused(CANNOT_UNDERSTAND, f"{name}: no part of this request has its BulkDataURI as Content-Location")
        if problem := next((part.problem for part in parts if part.problem), ""):
            raise Refused(CANNOT_UNDERSTAND, f"{name}: {problem}")
        media_type, extents = parts[0].media_type, tuple(part.extent for part in parts)
        if any(part.media_type != media_type for part in parts):
            raise Refused(CANNOT_UNDERSTAND, f"{name}: its parts have different media types")
        try:
            if tag == PIXEL_DATA:
                return pixel_data(media_type, extents, read)
            return other_bulk(media_type, extents, is_document=tag == _ENCAPSULATED_DOCUMENT)
        except Refused as refused:
            raise Refused(refused.status, f"{name}: {refused.reason}") from refused

    def _parts_of(self, uri: str) -> list[ReceivedBulk]:
        """Find the parts of a URI, or those of its frames, each with a location of its own."""
        if len(uri) > MAX_URI_CHARACTERS:
            return []
        location = self._resolved(uri)
        self._used.add(location)
        if found := self._parts.get(location):
            return found
        frames: list[ReceivedBulk] = []
        while found := self._parts.get(frame := f"{location}/frames/{len(frames) + 1}"):
            self._used.add(frame)
            frames.append(found[0])
        return frames

    def _resolved(self, uri: str) -> str:
        try:
            return urljoin(self._request_url, uri.strip())
        except ValueError:  # no URL: then only the same text will do
            return uri
