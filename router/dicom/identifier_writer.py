"""A small data set as bytes (PS3.5 §7): Implicit VR, Explicit VR, either byte order, in a character set that is wished.

The counterpart of `metadata.read_metadata`, for Identifiers and Event Information; `compose` writes whole instances.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, Final

from router.dicom.charset import TEXT_VRS, encode
from router.dicom.compose_values import KNOWN_VRS, BadValue, decode_inline, encode_values, padded
from router.dicom.encoding import ITEM, SHORT_VR_CODES, Encoding, encoding_of
from router.dicom.explicit_vr import MAX_SHORT_LENGTH, SWAP_UNIT
from router.dicom.json_model import INLINE_VRS, JsonDataSet
from router.dicom.metadata import MAX_DEPTH
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.errors import RouterError

_CHARACTER_SET: Final = 0x0008_0005
_UTF_8: Final = ("ISO_IR 192",)
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}


class BadIdentifier(RouterError):
    """An identifier that cannot be read, written or used. `tags` are the attributes to blame, if any."""

    def __init__(self, problem: str, tags: tuple[int, ...] = ()):
        self.problem, self.tags = problem, tags
        super().__init__(problem)


def write_identifier(
    data_set: JsonDataSet, transfer_syntax_uid: Uid, *, character_set: str = "", lenient: bool = False
) -> bytes:
    """Write a data set, with lengths and without group lengths. Its own Specific Character Set is not looked at.

    Texts are written in `character_set` (values between backslashes), which then is Specific Character Set; if that is
    "" or cannot say all of it, in ASCII without one, or else in ISO_IR 192. A value that its VR cannot have, as an
    index may know one from an odd instance, is written empty if `lenient`. Raises BadIdentifier.
    """
    if is_deflated(transfer_syntax_uid):
        raise BadIdentifier("data sets of messages are not deflated")
    encoding = encoding_of(transfer_syntax_uid)
    try:
        return _Writer(encoding, tuple(character_set.split("\\")) if character_set else (), lenient).root(data_set)
    except _CannotSayError:
        return _Writer(encoding, _UTF_8, lenient).root(data_set)


class _CannotSayError(Exception):
    """The character set lacks a character."""


class _Writer:
    def __init__(self, encoding: Encoding, charsets: Sequence[str], lenient: bool):
        self._encoding, self._charsets, self._lenient = encoding, charsets, lenient
        order = ">" if encoding.big_endian else "<"
        self._short, self._long, self._bare = (Struct(order + form).pack for form in ("HH2sH", "HH2sHL", "HHL"))

    def root(self, data_set: JsonDataSet) -> bytes:
        charset = {f"{_CHARACTER_SET:08X}": {"vr": "CS", "Value": list(self._charsets)}} if self._charsets else {}
        return self._data_set({**_without_charset(data_set), **charset}, 0)

    def _data_set(self, data_set: JsonDataSet, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise BadIdentifier(f"more than {MAX_DEPTH} sequences within each other")
        return b"".join(self._element(int(name, 16), data_set[name], depth) for name in sorted(data_set))

    def _element(self, tag: int, element: Mapping[str, Any], depth: int) -> bytes:
        vr: str = element["vr"]
        if vr == "SQ":
            items = [self._data_set(_without_charset(item or {}), depth + 1) for item in element.get("Value", ())]
            raw = b"".join(self._bare(ITEM >> 16, ITEM & 0xFFFF, len(item)) + item for item in items)
        else:
            try:
                raw = self._value(vr, element)
            except BadValue as error:
                if not self._lenient:
                    raise BadIdentifier(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): {error}", (tag,)) from error
                vr, raw = vr if vr in KNOWN_VRS else "UN", b""
            if len(raw) > MAX_SHORT_LENGTH and not self._encoding.implicit and vr.encode() in SHORT_VR_CODES:
                vr = "UN"  # a list of 1,000 UIDs (PS3.5 §6.2.2 note 2)
        return self._header(tag, vr, len(raw)) + raw

    def _value(self, vr: str, element: Mapping[str, Any]) -> bytes:
        if vr not in KNOWN_VRS:
            raise BadValue("no value representation")
        if "InlineBinary" in element:
            raw = decode_inline(vr, element["InlineBinary"])
        elif "Value" not in element or vr in INLINE_VRS:
            return b""
        else:
            raw = encode_values(vr, element["Value"])
        if vr in TEXT_VRS:
            raw = self._text(vr, raw.decode())
        return padded(vr, _swapped(vr, raw) if self._encoding.big_endian else raw)

    def _text(self, vr: str, text: str) -> bytes:
        raw = encode(text, vr, self._charsets)
        if raw is None and self._charsets != _UTF_8:
            raise _CannotSayError
        return text.encode() if raw is None else raw

    def _header(self, tag: int, vr: str, length: int) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if self._encoding.implicit:
            return self._bare(group, element, length)
        code = vr.encode("ascii")
        pack = self._short if code in SHORT_VR_CODES else self._long
        return pack(group, element, code, length) if pack is self._short else pack(group, element, code, 0, length)


def _without_charset(data_set: JsonDataSet) -> JsonDataSet:
    name = f"{_CHARACTER_SET:08X}"
    return {tag: one for tag, one in data_set.items() if tag != name} if name in data_set else data_set


def _swapped(vr: str, raw: bytes) -> bytes:
    """Turn a value of words to big endian (PS3.5 §7.3)."""
    unit = SWAP_UNIT.get(vr.encode("ascii"), 1)
    if unit == 1:
        return raw
    words = array(_ARRAY_CODES[unit])
    words.frombytes(raw)
    words.byteswap()
    return words.tobytes()
