"""Query strings of searches and of send requests (PS3.18 §8.3): raw bytes read into what is asked for.

Split first, decode afterwards and once: `+` is a plus, `%2C` a comma of the value, `,` between values (A.2). It checks
names and syntax; what an attribute's value means is the matcher's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from pydicom.datadict import keyword_dict

from router.dicom.attributes import AttributePath, UnknownAttribute, attribute_path, path_name, vr_of
from router.dicom.matcher_dates import read_offset

MAX_BYTES: Final = 32_768
"""One query string: 450 UIDs of full length."""
MAX_PARAMETERS: Final = 256
"""The longest table of matching attributes has under a hundred."""
MAX_INCLUDED: Final = 256
"""Attributes asked for with includefield."""
_LARGEST: Final = 2**53
"""Larger limits and offsets mean the same: more than there is."""

_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNSIGNED: Final = re.compile(r"[0-9]{1,1000}", re.ASCII)
_ATTRIBUTE: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9]*|[0-9A-Fa-f]{8})(?:\.(?:[A-Za-z][A-Za-z0-9]*|[0-9A-Fa-f]{8}))*")
_TIMEZONE_OFFSET: Final[AttributePath] = (0x00080201,)
_FLAGS: Final = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_ONCE: Final = _FLAGS.union(("limit", "offset", "accept", "charset"))
_KEYWORDS_IN_LOWER_CASE: Final = frozenset(keyword.lower() for keyword in keyword_dict if keyword)


class BadQuery(ValueError):
    """A query string that cannot be meant. `parameter` may be ""; `problem` is the rest of a sentence about it."""

    def __init__(self, parameter: str, problem: str, allowed: str = "", *, too_long: bool = False):
        self.parameter, self.problem, self.allowed, self.too_long = parameter, problem, allowed, too_long
        super().__init__(f"{parameter} {problem}".strip())


class MatchParameter(msgspec.Struct, frozen=True):
    """One matching attribute: `name` as it was written, `value` decoded, a tuple where several were given."""

    name: str
    path: AttributePath
    value: str | tuple[str, ...]


class SearchParameters(msgspec.Struct, frozen=True, kw_only=True):
    """A query string, read. `limit` is None and `accept`, `charset` are None when not given."""

    match: tuple[MatchParameter, ...] = ()
    include: tuple[AttributePath, ...] = ()
    include_all: bool = False
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    empty_value: bool = False
    multiple_value: bool = False
    timezone_offset_min: int | None = None
    """TimezoneOffsetFromUTC: the zone of the dates and times asked for. It is not matched."""
    accept: str | None = None
    charset: str | None = None
    destination: tuple[str, ...] = ()
    """Every value of every `destination`: those between commas are several."""
    unknown: tuple[str, ...] = ()
    """Names that must be meant as attributes, by their capital or as a known keyword in the wrong case, and are none.
    A search ignores them; a send request must not (O-30)."""


def read_search(query_string: bytes, *, read_include: bool = True) -> SearchParameters:
    """Read the query string of a search. Raises BadQuery.

    `read_include` False leaves includefield alone, whatever it is (O-06). Unknown lower-case names are ignored.
    """
    reader = _Reader(read_include)
    for name, raw in _parameters(query_string):
        reader.take(name, raw)
    return reader.result()


def read_accept(query_string: bytes) -> str | None:
    """Read the accept parameter alone, for resources that have no other. Raises BadQuery."""
    accept = None
    for name, raw in _parameters(query_string):
        if name == "accept":
            if accept is not None:
                raise BadQuery(name, "is given twice", "once")
            accept = ",".join(_values(name, raw))
    return accept


def _parameters(query_string: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Give names, decoded, and values, raw; None when there is no equals sign."""
    if len(query_string) > MAX_BYTES:
        raise BadQuery("", "The query is too long", f"{MAX_BYTES} bytes", too_long=True)
    pieces = query_string.split(b"&") if query_string else []
    if len(pieces) > MAX_PARAMETERS:
        raise BadQuery("", f"The query has {len(pieces)} parameters", f"{MAX_PARAMETERS}", too_long=True)
    for piece in pieces:
        raw_name, equals, raw = piece.partition(b"=")
        if not raw_name:
            raise BadQuery("", "The query has an empty parameter", "name=value&name=value, no & at its end")
        yield _decoded("A parameter's name", raw_name), raw if equals else None


class _Reader:
    """Gathers the parameters of one query string."""

    def __init__(self, read_include: bool):
        self._read_include = read_include
        self._once: dict[str, str] = {}
        self._match: dict[AttributePath, tuple[str, tuple[str, ...]]] = {}
        self._include: dict[AttributePath, str] = {}
        self._include_all = False
        self._destination: list[str] = []
        self._unknown: dict[str, None] = {}

    def take(self, name: str, raw: bytes | None) -> None:
        if name in _ONCE:
            if name in self._once:
                raise BadQuery(name, "is given twice", "once")
            self._once[name] = ",".join(_values(name, raw))
        elif name == "includefield":
            if self._read_include:
                self._take_include(_values(name, raw))
        elif name == "destination":
            self._destination += _values(name, raw, may_be_empty=True)
        else:
            self._take_other(name, raw)

    def _take_include(self, values: tuple[str, ...]) -> None:
        for value in values:
            if value == "all":
                self._include_all = True
                continue
            self._include[_included(value)] = value
        if len(self._include) > MAX_INCLUDED:
            raise BadQuery("includefield", f"names more than {MAX_INCLUDED} attributes", str(MAX_INCLUDED))
        if self._include_all and self._include:
            raise BadQuery("includefield", "names attributes besides all", "all alone, or attributes")

    def _take_other(self, name: str, raw: bytes | None) -> None:
        path = _path(name)
        if path is None:
            _values(name, raw, may_be_empty=True)  # broken escapes are refused wherever they stand
            if _is_meant_as_attribute(name):
                self._unknown[name[:80]] = None
            return
        if path in self._match:
            earlier = self._match[path][0]
            again = "is given twice" if earlier == name else f"is the same attribute as {earlier}"
            raise BadQuery(name, again, "each attribute once; several UIDs as uid,uid")
        self._match[path] = name, _values(name, raw, may_be_empty=True)

    def result(self) -> SearchParameters:
        once = self._once
        multiple = _flag(once, "multiplevaluematching")
        zone = self._match.pop(_TIMEZONE_OFFSET, None)
        match = tuple(
            MatchParameter(name, path, _one(name, path, values, multiple))
            for path, (name, values) in self._match.items()
        )
        for path, name in (*((one.path, one.name) for one in match), *self._include.items()):
            self._check_private(path, name)
        return SearchParameters(
            match=match,
            include=tuple(self._include),
            include_all=self._include_all,
            limit=_unsigned(once, "limit"),
            offset=_unsigned(once, "offset") or 0,
            fuzzy=_flag(once, "fuzzymatching"),
            empty_value=_flag(once, "emptyvaluematching"),
            multiple_value=multiple,
            timezone_offset_min=None if zone is None else _offset(*zone),
            accept=once.get("accept"),
            charset=once.get("charset"),
            destination=tuple(self._destination),
            unknown=tuple(self._unknown),
        )

    def _check_private(self, path: AttributePath, name: str) -> None:
        """Each private tag of a path needs its Private Creator as a matching attribute (§8.3.4.1)."""
        for depth, tag in enumerate(path):
            group, element = tag >> 16, tag & 0xFFFF
            if not group & 1 or 0x10 <= element <= 0xFF:
                continue
            if element < 0x1000:
                raise BadQuery(name, f"has {tag:08X}, which is no private attribute", "elements from 1000 on")
            creator = (*path[:depth], group << 16 | element >> 8)
            if not any(self._match.get(creator, ("", ()))[1]):
                needed = path_name(creator)
                raise BadQuery(
                    name,
                    f"is private, and {needed}, its Private Creator, is not given",
                    f"{needed}=<name of the creator> beside it",
                )


def _path(name: str) -> AttributePath | None:
    if _ATTRIBUTE.fullmatch(name) is None:
        return None
    try:
        return attribute_path(name)
    except UnknownAttribute:
        return None


def _is_meant_as_attribute(name: str) -> bool:
    first = name.partition(".")[0]
    return first[:1].isupper() or first[:1].isdigit() or first.lower() in _KEYWORDS_IN_LOWER_CASE


def _included(value: str) -> AttributePath:
    try:
        if _ATTRIBUTE.fullmatch(value):
            return attribute_path(value)
    except UnknownAttribute as error:
        near = f"; did you mean {error.nearest}?" if error.nearest else ""
        raise BadQuery("includefield", f"has {value[:80]!r}: {error.problem}{near}", _INCLUDE_SYNTAX) from error
    raise BadQuery("includefield", f"has {value[:80]!r}, which is neither a keyword nor a tag", _INCLUDE_SYNTAX)


_INCLUDE_SYNTAX: Final = "keywords, tags of 8 hexadecimal digits, paths of them with dots, or all"


def _values(name: str, raw: bytes | None, *, may_be_empty: bool = False) -> tuple[str, ...]:
    if not raw:
        if may_be_empty:
            return ("",)
        raise BadQuery(name, "has no value")
    values = tuple(_decoded(name, part) for part in raw.split(b","))
    if len(values) > 1 and not all(values):
        raise BadQuery(name, "has an empty value in its list", "values between commas; a comma in a value is %2C")
    return values


def _decoded(name: str, raw: bytes) -> str:
    """Decode once. What is not ASCII must have come percent-encoded, and be UTF-8."""
    if _ESCAPE.search(raw):
        raise BadQuery(name, "has a % that two hexadecimal digits do not follow", "%25 for the sign itself")
    if not raw.isascii():
        raise BadQuery(name, "has characters that must be percent-encoded", "ASCII, and UTF-8 as %XX")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadQuery(name, "is not UTF-8 after percent-decoding", "UTF-8") from None
    if "\0" in text:
        raise BadQuery(name, "has a NUL", "values without padding")
    return text


def _one(name: str, path: AttributePath, values: tuple[str, ...], multiple: bool) -> str | tuple[str, ...]:
    if len(values) == 1:
        return values[0]
    if multiple or vr_of(path[-1]) == "UI":
        return values
    raise BadQuery(
        name,
        f"has {len(values)} values",
        "one value (a comma in it is %2C), or several with multiplevaluematching=true",
    )


def _flag(once: Mapping[str, str], name: str) -> bool:
    text = once.get(name, "false")
    if text not in ("true", "false"):
        raise BadQuery(name, f"is {text[:80]!r}", "true or false")
    return text == "true"


def _unsigned(once: Mapping[str, str], name: str) -> int | None:
    text = once.get(name)
    if text is None:
        return None
    if not _UNSIGNED.fullmatch(text):
        raise BadQuery(name, f"is {text[:80]!r}", "a whole number, 0 or more")
    return min(int(text), _LARGEST)


def _offset(name: str, values: tuple[str, ...]) -> int | None:
    if values == ("",):
        return None
    offset_min = read_offset(values[0]) if len(values) == 1 else None
    if offset_min is None:
        raise BadQuery(name, f"is {','.join(values)[:80]!r}", "+HHMM or -HHMM, such as +0100")
    return offset_min
