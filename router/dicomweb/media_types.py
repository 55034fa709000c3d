"""Content-Type values as DICOMweb uses them (RFC 9110 §8.3.1, PS3.18 §8.7.1): read leniently, written with quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from router.errors import PeerError

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
MULTIPART_RELATED = "multipart/related"

MAX_LENGTH = 1024
"""Characters of one media type: a boundary, a type and a start parameter are under 300."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# The value of type= is often sent without quotes although "/" needs them (PS3.18 §8.7.1 asks to take both).
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+)))?""",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class MediaType:
    """Type and parameter names in lower case, parameter values as sent, without their quotes."""

    name: str
    parameters: Mapping[str, str]


def parse_media_type(text: str) -> MediaType:
    """Read one media type. PeerError when it is none, or names a parameter twice."""
    if len(text) > MAX_LENGTH:
        raise PeerError(f"a media type of more than {MAX_LENGTH} characters")
    text = text.strip(" \t")
    name = _NAME.match(text)
    if name is None:
        raise PeerError("not a media type")
    parameters: dict[str, str] = {}
    at = name.end()
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None:
            raise PeerError("a parameter of the media type is not name=value")
        if found[1] is not None:
            key = found[1].lower()
            if key in parameters:
                raise PeerError(f"the media type has two parameters {key!r}")
            parameters[key] = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
        at = found.end()
    return MediaType(name[0].lower(), parameters)


def multipart_related(root_type: str, boundary: str) -> str:
    """Write the Content-Type of a multipart/related body of parts of `root_type`."""
    return f'{MULTIPART_RELATED}; type="{root_type}"; boundary={boundary}'
