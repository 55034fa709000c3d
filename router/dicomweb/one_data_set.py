"""A payload that is one data set: DICOM JSON, the Native DICOM Model, or a multipart of one part with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.dicomweb import lenient, media_types, native_model
from router.dicomweb.multipart import PartData, PartLimits, PartReader
from router.errors import PeerError


def read_one(content_type: str, body: bytes, what: str = "the answer") -> Mapping[str, Any]:
    """Read it in the shape of DICOM JSON: an array of one, or an object (O-14, O-16). Numbers may be text.

    Whether it is JSON or XML is seen from the body. Raises PeerError, which calls the payload `what`.
    """
    try:
        media_type = media_types.parse_media_type(content_type)
    except PeerError:
        media_type = media_types.MediaType("", {})
    if media_type.name == media_types.MULTIPART_RELATED:
        body = _only_part(media_type.parameters.get("boundary", ""), body)
    if body.lstrip()[:1] == b"<":
        return native_model.decode(body, what)
    data_sets = lenient.read_json(body, what)
    if len(data_sets) != 1:
        raise PeerError(f"{what} is JSON, but not one data set")
    return data_sets[0]


def _only_part(boundary: str, body: bytes) -> bytes:
    reader = PartReader(boundary, PartLimits(parts=1))
    events = reader.feed(body)
    part = b"".join(bytes(event.data) for event in events if isinstance(event, PartData))
    reader.finish()
    return part
