"""Content negotiation (RFC 9110 §12.5.1, PS3.18 §8.7): which of our representations a request wants.

A server offers what it has, its default first; a range of the Accept header matches an offer or not; the most specific
range that matches gives an offer its quality. Broken ranges are ignored (§8.7.5), a missing header is 406 (§8.7.7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from router.dicomweb.media_types import DICOM, DICOM_JSON, MULTIPART_RELATED, parse_media_type
from router.errors import PeerError

DICOM_XML = "application/dicom+xml"
OCTET_STREAM = "application/octet-stream"

MAX_CHARACTERS = 8192
"""One Accept header; the longest of real clients, with a range for each transfer syntax, has 3,000."""
MAX_RANGES = 128
"""Ranges that are looked at; offers times this is what a request costs."""

REMEMBERED = 64
"""Choices that need not be made again: a client asks with the same Accept header each time."""

ANY_SYNTAX = "*"
"""As a transfer syntax: of an offer, "as it is stored"; of a range, "whatever it is, do not transcode" (§8.7.3.5)."""

_QUALITY = re.compile(r"0(?:\.[0-9]{0,6})?|1(?:\.0{0,6})?|\.[0-9]{1,6}", re.ASCII)
_ALIASES = {DICOM_JSON: "application/json"}
"""What else a client may call a media type (O-14)."""
_DICOM_TYPES = frozenset({DICOM, DICOM_JSON, DICOM_XML})
_RENDERED_TYPES = frozenset(("application/pdf", "text/html", "text/plain", "text/rtf", "text/xml"))
_RENDERED_KINDS = ("image/", "video/")


class NotAcceptable(ValueError):
    """406: nothing that we have is asked for. `problem` is a sentence; `allowed` lists what there is."""

    def __init__(self, problem: str, allowed: str):
        self.problem, self.allowed = problem, allowed
        super().__init__(f"{problem} Allowed: {allowed}")


class MixedTypes(ValueError):
    """400: DICOM and rendered media types in one Accept (§8.7.5)."""


class Offer(msgspec.Struct, frozen=True):
    """A representation that could be answered with.

    `media_type` is what a part is when `multipart`. `transfer_syntax_uid` is None where there is none to choose (JSON),
    a UID, or ANY_SYNTAX for "as stored", which a range with `transfer-syntax=*` likes best. A range that names no
    transfer syntax matches the first offer of its media type only, which therefore is the default of that.
    """

    media_type: str
    multipart: bool = False
    transfer_syntax_uid: str | None = None

    def __str__(self) -> str:
        text = f'{MULTIPART_RELATED}; type="{self.media_type}"' if self.multipart else self.media_type
        return text if self.transfer_syntax_uid is None else f"{text}; transfer-syntax={self.transfer_syntax_uid}"


class Range(msgspec.Struct, frozen=True):
    """One media range. `root_type` is the type parameter of multipart/related, "" elsewhere or when not given."""

    name: str
    root_type: str = ""
    transfer_syntax: str = ""
    quality: float = 1.0

    @property
    def has_wildcard(self) -> bool:
        return self.name.endswith("/*") or self.root_type.endswith("/*")


def parse_accept(header: str) -> tuple[Range, ...]:
    """Read an Accept header; what is no media range is left out, also one with a quality that is no quality."""
    if len(header) > MAX_CHARACTERS:
        return ()
    ranges = []
    for text in _split(header):
        one = _range(text)
        if one is not None:
            ranges.append(one)
        if len(ranges) == MAX_RANGES:
            break
    return tuple(ranges)


def choose(header: str | None, accept_parameter: str | None, offers: Sequence[Offer]) -> Offer:
    """Choose the offer for a request. Raises NotAcceptable and MixedTypes.

    `accept_parameter` is the accept query parameter, decoded: it goes before the header, as far as that allows it; when
    nothing of it is there, the header alone decides (§8.7.8.1). Of equal quality, what is named more exactly wins, then
    what is offered first.
    """
    return _choose(header, accept_parameter, tuple(offers))


@lru_cache(maxsize=REMEMBERED)
def _choose(header: str | None, accept_parameter: str | None, offers: tuple[Offer, ...]) -> Offer:
    allowed = ", ".join(dict.fromkeys(map(str, offers)))
    if header is None:
        raise NotAcceptable("The request has no Accept header.", allowed)
    if len(header) > MAX_CHARACTERS:
        raise NotAcceptable(f"The Accept header is longer than {MAX_CHARACTERS} characters.", allowed)
    ranges = parse_accept(header)
    wanted = tuple(one for one in parse_accept(accept_parameter or "") if not one.has_wildcard)
    _refuse_mixture(ranges + wanted)
    by_header = _qualities(ranges, offers)
    by_parameter = {offer: merit for offer, merit in _qualities(wanted, offers).items() if offer in by_header}
    merits = by_parameter or by_header
    if not merits:
        raise NotAcceptable("None of the media types in the Accept header can be answered here.", allowed)
    return max(merits, key=merits.__getitem__)  # of equals, max gives the first


def _split(header: str) -> Iterator[str]:
    """Split at the commas that stand outside of quotes."""
    begin, quoted, escaped = 0, False, False
    for at, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == ",":
            yield header[begin:at]
            begin = at + 1
    yield header[begin:]


def _range(text: str) -> Range | None:
    try:
        media_type = parse_media_type(text)
    except PeerError:
        return None
    parameters = media_type.parameters
    quality = parameters.get("q", "1")
    if not _QUALITY.fullmatch(quality):
        return None
    multipart = media_type.name == MULTIPART_RELATED
    return Range(
        media_type.name,
        parameters.get("type", "").strip().lower() if multipart else "",
        parameters.get("transfer-syntax", "").strip(),
        float(quality),
    )


def _qualities(ranges: Sequence[Range], offers: Sequence[Offer]) -> dict[Offer, tuple[float, int]]:
    """Give each offer that is wanted at all its quality, and how exactly it was named; in the order of the offers."""
    merits = {}
    defaults: set[tuple[str, bool]] = set()
    for offer in offers:
        is_default = (offer.media_type, offer.multipart) not in defaults
        defaults.add((offer.media_type, offer.multipart))
        exactness, quality = max(_matches(ranges, offer, is_default), default=(0, 0.0))
        if quality > 0:
            merits[offer] = (quality, exactness)
    return merits


def _matches(ranges: Sequence[Range], offer: Offer, is_default: bool) -> Iterator[tuple[int, float]]:
    for one in ranges:
        exactness = _exactness(one, offer, is_default)
        if exactness:
            yield exactness, one.quality


def _exactness(one: Range, offer: Offer, is_default: bool) -> int:
    """Say how exactly a range names an offer: 0 not at all, 1 for */*, up to 8 for a transfer syntax."""
    if one.name == "*/*":
        exactness = 1
    elif offer.multipart:
        exactness = _multipart_exactness(one, offer)
    else:
        exactness = _type_exactness(one.name, offer.media_type)
    if not exactness:
        return 0
    syntax = offer.transfer_syntax_uid
    if one.transfer_syntax and syntax is not None:
        if one.transfer_syntax == syntax:
            return exactness + 4
        return exactness + 3 if one.transfer_syntax == ANY_SYNTAX else 0
    return exactness if is_default or syntax is None else 0


def _multipart_exactness(one: Range, offer: Offer) -> int:
    if one.name == "multipart/*" or (one.name == MULTIPART_RELATED and one.root_type in ("", "*/*")):
        return 2
    return _type_exactness(one.root_type, offer.media_type) if one.name == MULTIPART_RELATED else 0


def _type_exactness(name: str, media_type: str) -> int:
    if name == media_type:
        return 4
    if name == _ALIASES.get(media_type):
        return 3
    return 2 if name == media_type.partition("/")[0] + "/*" else 0


def _refuse_mixture(ranges: Sequence[Range]) -> None:
    asked = {one.root_type or one.name for one in ranges if one.quality > 0}
    rendered = {
        one.name
        for one in ranges
        if one.quality > 0
        and not one.transfer_syntax
        and (one.name in _RENDERED_TYPES or (one.name.startswith(_RENDERED_KINDS) and not one.has_wildcard))
    }
    dicom = asked & _DICOM_TYPES
    if dicom and rendered:
        raise MixedTypes(
            f"The Accept header asks for DICOM ({min(dicom)}) and for rendered media types ({min(rendered)}) at once."
        )
