"""An Identifier: the data set of C-FIND, C-MOVE and C-GET (PS3.4 §C.4.1.1.3, §C.4.2.1.4), read and made into keys.

Small, and whole in memory. Texts are Unicode here; what stands on the wire is up to Specific Character Set.
"""

from __future__ import annotations

import base64
import io
from typing import Any, Final

from router.dicom.attributes import AttributePath, attribute_path, path_name, vr_of
from router.dicom.header import HeaderScanner
from router.dicom.identifier_writer import BadIdentifier, write_identifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.metadata import read_metadata
from router.dicom.metadata_values import json_element
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.errors import PeerError

__all__ = ["BadIdentifier", "character_set_of", "matching_keys", "read_identifier", "write_identifier"]

MAX_IDENTIFIER_BYTES: Final = 1024 * 1024
"""A list of 15,000 UIDs has its place in it."""
MAX_ELEMENTS: Final = 16_384
"""Elements and items: a tenth of a second's work."""
MAX_KEYS: Final = 1_000
"""A query that asks for all that the index and a header have is a tenth of it."""
MAX_KEY_CHARACTERS: Final = 1_024
"""Of one key but a list of UIDs: as of a value with wild cards (`matcher_text`)."""

NO_KEYS: Final = frozenset(
    attribute_path(keyword)[0]
    for keyword in ("SpecificCharacterSet", "QueryRetrieveLevel", "QueryRetrieveView", "TimezoneOffsetFromUTC")
)
"""Attributes that tell how an identifier is meant."""


def read_identifier(
    data: bytes, transfer_syntax_uid: Uid, *, max_bytes: int = MAX_IDENTIFIER_BYTES, max_elements: int = MAX_ELEMENTS
) -> JsonDataSet:
    """Read an identifier, or another small data set, of any uncompressed transfer syntax.

    Texts are Unicode, and Specific Character Set says so where it was there or is needed (`character_set_of` tells what
    it said). Raises BadIdentifier.
    """
    if len(data) > max_bytes:
        raise BadIdentifier(f"it has {len(data)} bytes, more than {max_bytes}")
    if is_deflated(transfer_syntax_uid):
        raise BadIdentifier("it is deflated")
    try:
        data_set = read_metadata(
            io.BytesIO(data),
            transfer_syntax_uid,
            bulk_uri=_refuse_bulk,
            bulk_above_bytes=max_bytes,
            max_elements=max_elements,
        )
    except PeerError as error:
        raise BadIdentifier(error.problem) from error
    return {name: _with_long_list(int(name, 16), element) for name, element in data_set.items()}


def character_set_of(data: bytes, transfer_syntax_uid: Uid) -> str:
    """Give the Specific Character Set of an identifier as it stands there, its values between backslashes; "" if none.

    Never raises.
    """
    scanner = HeaderScanner(transfer_syntax_uid, frozenset())
    scanner.feed(data[:MAX_IDENTIFIER_BYTES])
    return "\\".join(scanner.finish().charsets)


def matching_keys(data_set: JsonDataSet) -> list[tuple[AttributePath, str | tuple[str, ...]]]:
    """Give the keys of an identifier, those in the item of a sequence by their path; without `NO_KEYS`.

    An empty sequence, or an empty item of one, is one key without a value. Raises BadIdentifier for a sequence of
    several items, which no key can be (PS3.4 §C.2.2.2.6), for too many keys and too long ones.
    """
    keys: list[tuple[AttributePath, str | tuple[str, ...]]] = []
    _flatten(data_set, (), keys)
    return [(path, value) for path, value in keys if path[0] not in NO_KEYS]


def _flatten(
    data_set: JsonDataSet, outer: AttributePath, keys: list[tuple[AttributePath, str | tuple[str, ...]]]
) -> None:
    attributes = JsonAttributes(data_set)
    for name, element in data_set.items():
        path = (*outer, int(name, 16))
        if element["vr"] != "SQ":
            keys.append((path, _value(path, element, attributes.texts(path[-1:]))))
            if len(keys) > MAX_KEYS:
                raise BadIdentifier(f"it has more than {MAX_KEYS} keys")
            continue
        items = element.get("Value", [])
        if len(items) > 1:
            raise BadIdentifier(f"{path_name(path)} has {len(items)} items, and a key has one", (path[0],))
        asked = len(keys)
        if items:
            _flatten(items[0] or {}, path, keys)
        if len(keys) == asked:
            keys.append((path, ""))


def _value(path: AttributePath, element: dict[str, Any], texts: tuple[str, ...]) -> str | tuple[str, ...]:
    if "InlineBinary" in element:
        texts = (base64.b64decode(element["InlineBinary"]).decode("latin_1").rstrip(" \0"),)
    if element["vr"] != "UI" and sum(map(len, texts)) > MAX_KEY_CHARACTERS:
        raise BadIdentifier(f"{path_name(path)} has more than {MAX_KEY_CHARACTERS} characters", path[:1])
    return texts[0] if len(texts) == 1 else texts or ""


def _with_long_list(tag: int, element: dict[str, Any]) -> dict[str, Any]:
    """Read a list of UIDs also when it is so long that metadata, and explicit VR, have it as UN."""
    if element["vr"] != "UN" or "InlineBinary" not in element or vr_of(tag) != "UI":
        return element
    return json_element("UI", base64.b64decode(element["InlineBinary"]), big_endian=False, charsets=())


def _refuse_bulk(pointer: str) -> str:
    tag = int(pointer[:8], 16)
    raise BadIdentifier(f"{path_name((tag,))} has no place in it, or cannot be read", (tag,))
