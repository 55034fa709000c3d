"""Text of a data set as Unicode, by its Specific Character Set (PS3.3 §C.12.1.1.2, PS3.5 §6.1).

Decoding is total: bytes that do not fit become U+FFFD, so that a comparison fails rather than matches by accident, and
nothing is ever raised. Control characters stay as they are; to escape them is the business of whoever prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, ENCODINGS_TO_CODES, python_encoding

TEXT_VRS: Final = frozenset({"SH", "LO", "PN", "UC", "ST", "LT", "UT"})
"""Value representations that Specific Character Set applies to (PS3.5 §6.1.2.2); UN is read as one of them."""

MAX_TERMS: Final = 16
"""Values of Specific Character Set that are looked at: the standard defines fewer code extensions than that."""

_DEFAULT_CODEC: Final = "latin_1"
_UNKNOWN_CODEC: Final = "ascii"
"""For a character set nobody knows: what is not ASCII becomes U+FFFD."""
_ESCAPE: Final = b"\x1b"
_KEEPS_ESCAPES: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
"""Codecs of Python that need the escape sequence in front of the bytes to know what they are."""
_FRAGMENTS: Final = re.compile(rb"\x1b?[^\x1b]*")
_RESETS_NAME: Final = re.compile(rb"[\\^=\r\n\f\t]")
_RESETS_TEXT: Final = re.compile(rb"[\\\r\n\f\t]")
_PIECES: Final = {"PN": re.compile(r"([\\\\^=\r\n\f\t])"), "": re.compile(r"([\\\\\r\n\f\t])")}
_ESCAPES: Final = re.compile(rb"\x1b(?:\$[()]|.).", re.DOTALL)
_KNOWN_ESCAPES: Final = frozenset(CODES_TO_ENCODINGS)
_TERM: Final = re.compile(r"(ISO.?2022.?IR|ISO.?IR)\D?(\d+)", re.ASCII)
_ALIASES: Final = {
    "UTF-8": "ISO_IR 192",
    "UTF8": "ISO_IR 192",
    "ISO 2022 IR 192": "ISO_IR 192",
    "GB2312": "ISO 2022 58",
}
_DEFAULT_TERMS: Final = ("", "ISO_IR 6", "ISO 2022 IR 6")
_CODECS: Final = {**python_encoding, **dict.fromkeys(_DEFAULT_TERMS, _DEFAULT_CODEC)}


def decode(raw: bytes, vr: str, charsets: Sequence[str]) -> str:
    """Decode one element's bytes, all its values together; split at backslashes afterwards, never before.

    (The second byte of a Chinese or Japanese character can be 5CH.) `charsets`: the values of Specific Character Set.
    """
    if vr not in TEXT_VRS and vr != "UN":
        return raw.decode("latin_1")
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii")
    first, extensible = _codecs(tuple(charsets[:MAX_TERMS]))
    if extensible and _ESCAPE in raw:
        resets = _RESETS_NAME if vr == "PN" else _RESETS_TEXT
        return "".join(_decode_fragment(fragment, first, resets) for fragment in _FRAGMENTS.findall(raw))
    return raw.decode(first, "replace")


def encode(text: str, vr: str, charsets: Sequence[str]) -> bytes | None:
    """Encode one element's text, all its values together, for `charsets`; None when these cannot say all of it.

    What `decode` reads as the same text again. Of code extensions one is used between two delimiters, never several.
    """
    if text.isascii() and "\x1b" not in text:
        return text.encode("ascii")
    terms = [_normalise(term) for term in charsets[:MAX_TERMS]] or [""]
    codecs = ["ascii" if term in _DEFAULT_TERMS else _CODECS.get(term, _UNKNOWN_CODEC) for term in terms]
    pieces = [_encode_piece(piece, codecs) for piece in _PIECES.get(vr, _PIECES[""]).split(text)]
    raw = b"".join(piece for piece in pieces if piece is not None)
    if None in pieces or decode(raw, vr, charsets) != text:
        return None
    is_extensible = _codecs(tuple(charsets[:MAX_TERMS]))[1]
    return None if is_extensible and not _KNOWN_ESCAPES.issuperset(_ESCAPES.findall(raw)) else raw


def unknown_terms(charsets: Sequence[str]) -> tuple[str, ...]:
    """List the values of Specific Character Set that name no character set, misspelt ones forgiven."""
    return tuple(term for term in charsets[:MAX_TERMS] if _normalise(term) not in _CODECS)


def _encode_piece(piece: str, codecs: Sequence[str]) -> bytes | None:
    """Encode what stands between two delimiters, in the first codec or behind the escape sequence of another."""
    for codec in codecs:
        try:
            raw = piece.encode(codec)
        except UnicodeEncodeError:
            continue
        if codec == "shift_jis" and len(raw) != len(piece):  # only its half-width half is ISO-IR 13
            continue
        if codec in _KEEPS_ESCAPES or codec == codecs[0]:
            return raw
        escape = ENCODINGS_TO_CODES.get(codec)
        if escape is not None:
            return escape + raw
    return None


def _decode_fragment(fragment: bytes, first: str, resets: re.Pattern[bytes]) -> str:
    """Decode bytes that begin with at most one escape sequence (PS3.5 §6.1.2.5)."""
    if not fragment.startswith(_ESCAPE):
        return fragment.decode(first, "replace")
    size = 4 if fragment[1:3] in (b"$(", b"$)") else 3
    codec = CODES_TO_ENCODINGS.get(fragment[:size])
    if codec is None:
        return fragment.decode(first, "replace")
    if codec in _KEEPS_ESCAPES:
        return fragment.decode(codec, "replace")
    text = fragment[size:]
    reset = resets.search(text)
    if reset is None:
        return text.decode(codec, "replace")
    return text[: reset.start()].decode(codec, "replace") + text[reset.start() :].decode(first, "replace")


@lru_cache(maxsize=64)
def _codecs(charsets: tuple[str, ...]) -> tuple[str, bool]:
    """Give the codec that a value begins with, and whether escape sequences may change it."""
    if not charsets:
        return _DEFAULT_CODEC, False
    terms = [_normalise(term) for term in charsets]
    first = _CODECS.get(terms[0], _UNKNOWN_CODEC)
    if first in _KEEPS_ESCAPES:
        first = _DEFAULT_CODEC  # before the first escape sequence G0 is ASCII
    return first, len(terms) > 1 or terms[0].startswith("ISO 2022")


def _normalise(term: str) -> str:
    """Mend the spellings of defined terms that occur in the field: ISO-IR 100, ISO IR 100, ISO 2022 IR_87."""
    term = term.strip(" \0")
    if term in _CODECS:
        return term
    match = _TERM.fullmatch(term[:32].upper())
    if match is not None:
        term = ("ISO 2022 IR " if "2022" in match[1] else "ISO_IR ") + match[2]
    return _ALIASES.get(term.upper(), term)
