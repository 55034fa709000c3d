"""Metadata parts of a Store request read with bounds (PS3.18 §10.5, Annex F): JSON strictly, an instance at a time.

JSON is I-JSON here (RFC 7493): UTF-8, no name twice, no number that is none or that a double cannot hold, no lone
surrogate; B63. Nothing is said here about DICOM: that is `dicom.compose`. Runs on a thread; pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec

from router.dicomweb import native_model
from router.errors import PeerError

MAX_METADATA_BYTES: Final = 32 * 1024 * 1024
"""One metadata part: in JSON the metadata of some 3,000 CT images, in XML one instance."""
MAX_DATA_SET_BYTES: Final = 16 * 1024 * 1024
"""Metadata of one instance: functional groups of 5,000 frames. What is larger wants to be bulk data."""
MAX_OBJECTS: Final = 1_000_000
"""Objects in one JSON part: each element is one."""
MAX_INTEGER: Final = 2**53
"""Greater whole numbers change on their way through other programs (RFC 7493 §2.2)."""

_WHERE: Final = "the metadata"
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class TooMuchMetadata(PeerError):
    """Metadata beyond a bound: 413."""


def json_instances(part: bytes) -> Iterator[dict[str, Any]]:
    """Yield the data set of each instance: an array of objects, or one object. Raises PeerError, TooMuchMetadata."""
    if len(part) > MAX_METADATA_BYTES or part.count(b"{") > MAX_OBJECTS:
        raise TooMuchMetadata(
            f"{_WHERE} of one request is limited to {MAX_METADATA_BYTES} bytes and {MAX_OBJECTS} elements"
        )
    try:
        raws = [msgspec.Raw(part)] if part.lstrip()[:1] == b"{" else msgspec.json.decode(part, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(f"{_WHERE} is not a JSON array of objects") from error
    for raw in raws:
        yield read_json(bytes(raw))


def read_json(document: bytes) -> dict[str, Any]:
    """Read one data set in DICOM JSON. Raises PeerError, TooMuchMetadata."""
    if len(document) > MAX_DATA_SET_BYTES:
        raise TooMuchMetadata(
            f"{_WHERE} of one instance is limited to {MAX_DATA_SET_BYTES} bytes: send long values as bulk data parts"
        )
    try:
        text = document.decode("utf-8")
        decoded = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(decoded, ensure_ascii=False).encode("utf-8")  # fails for one that has lost its other half
    except RecursionError as error:
        raise PeerError(f"{_WHERE} is nested too deeply") from error
    except ValueError as error:  # also what json and Unicode raise
        raise PeerError(f"{_WHERE} is not JSON in UTF-8, or not such as all programs read alike") from error
    if not isinstance(decoded, dict):
        raise PeerError(f"{_WHERE} is not a JSON array of objects")
    return decoded


def read_xml(document: bytes) -> dict[str, Any]:
    """Read one Native DICOM Model. Raises PeerError, TooMuchMetadata."""
    if len(document) > MAX_DATA_SET_BYTES:
        raise TooMuchMetadata(
            f"{_WHERE} of one instance is limited to {MAX_DATA_SET_BYTES} bytes: send long values as bulk data parts"
        )
    return native_model.decode(document, _WHERE)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PeerError(f"{_WHERE} has an object with the same name twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise PeerError(f"{_WHERE} has a number beyond 2^53: write it as a string")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise PeerError(f"{_WHERE} has a number that no double can hold")
    return number


def _no_constant(name: str) -> NoReturn:
    raise PeerError(f"{_WHERE} has {name}, which JSON does not know")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_no_constant
)
