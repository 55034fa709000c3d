"""multipart/related bodies (RFC 2046 §5.1, PS3.18 §8.6.1.2) without sockets: chunks in, part events out.

Part contents are passed on as slices of the chunks they came in; only a part head or a piece of a delimiter is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from router.errors import PeerError

MAX_BOUNDARY = 200
"""RFC 2046 §5.1.1 allows 70 characters, but Orthanc's DICOMweb client sends 73."""
_BOUNDARY = re.compile(rf"[0-9A-Za-z'()+_,\-./:=? ]{{0,{MAX_BOUNDARY - 1}}}[0-9A-Za-z'()+_,\-./:=?]", re.ASCII)
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOLD = re.compile(rb"\r\n[ \t]+")


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What a sender may make us keep or skip."""

    head_bytes: int = 16 * 1024
    """A part head carries three or four fields of some dozen bytes."""
    padding_bytes: int = 64
    """White space that a delimiter line may carry (RFC 2046 transport padding)."""
    parts: int = 10_000
    """More than any study that is sent in one request; the answer names each part in some 300 bytes."""
    preamble_bytes: int = 64 * 1024
    epilogue_bytes: int = 64 * 1024
    """Text around the parts means nothing to anybody; mail gateways used to write a sentence."""


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part head was read. Names in lower case; of a repeated field the first counts."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Some content of the part that begun last: a slice of the chunk that was fed."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part that begun last is whole."""


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The closing delimiter was read; what follows is ignored."""


PartEvent = PartBegun | PartData | PartEnded | BodyEnded


class _Place(Enum):
    PREAMBLE = auto()
    HEAD = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class _Line(Enum):
    """What follows the characters of a delimiter."""

    NEXT_PART = auto()
    CLOSING = auto()
    CONTENT = auto()
    """Something else: these bytes only look like a delimiter."""
    UNDECIDED = auto()


class PartReader:
    """Take a body apart. `boundary` is the parameter's value, unquoted; PeerError when it cannot be one."""

    def __init__(self, boundary: str, limits: PartLimits = PartLimits()):
        if not _BOUNDARY.fullmatch(boundary):
            raise PeerError(f"the boundary is not 1 to {MAX_BOUNDARY} characters that RFC 2046 allows")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._limits = limits
        self._place = _Place.PREAMBLE
        self._held = b"\r\n"  # a body may begin with its first delimiter: as if a line had ended before it
        self._invented = 2  # bytes of _held that the sender did not send
        self._parts = 0
        self._skipped = 0

    def feed(self, chunk: bytes | bytearray | memoryview) -> Iterator[PartEvent]:
        """Yield what `chunk` completes. Run it to its end before the next call; PeerError where the body breaks."""
        data = self._held + chunk if self._held else bytes(chunk)
        self._held = b""
        at = 0
        while at < len(data):
            match self._place:
                case _Place.HEAD:
                    end = data.find(b"\r\n\r\n", at, at + self._limits.head_bytes + 4)
                    if end < 0:
                        if len(data) - at >= self._limits.head_bytes + 4:
                            raise PeerError(f"a part head is longer than {self._limits.head_bytes} bytes")
                        self._held = data[at:]
                        return
                    yield PartBegun(_fields(data[at : end + 2]))
                    self._place = _Place.CONTENT
                    at = end + 2  # an empty part's delimiter may begin with the line end of its head
                    self._invented = 2
                case _Place.EPILOGUE:
                    self._skip(len(data) - at, self._limits.epilogue_bytes, "after")
                    return
                case _Place.PREAMBLE | _Place.CONTENT:
                    found = data.find(self._delimiter, at)
                    if found < 0:
                        keep = self._possible_delimiter(data, at)
                        yield from self._content(data, at, keep)
                        self._held = data[keep:]
                        return
                    line, after = self._delimiter_line(data, found + len(self._delimiter))
                    match line:
                        case _Line.UNDECIDED:
                            yield from self._content(data, at, found)
                            self._held = data[found:]
                            return
                        case _Line.CONTENT:
                            yield from self._content(data, at, found + len(self._delimiter))
                            at = found + len(self._delimiter)
                        case _Line.NEXT_PART | _Line.CLOSING:
                            yield from self._content(data, at, found)
                            if self._place is _Place.CONTENT:
                                yield PartEnded()
                            at = after
                            self._invented = 0
                            if line is _Line.CLOSING:
                                self._place, self._skipped = _Place.EPILOGUE, 0
                                yield BodyEnded()
                            else:
                                self._count_part()
                                self._place = _Place.HEAD

    def finish(self) -> None:
        """Say that no more bytes come. Raises PeerError when the closing delimiter is missing."""
        match self._place:
            case _Place.EPILOGUE:
                return
            case _Place.PREAMBLE:
                raise PeerError("the body holds no delimiter with the boundary of its Content-Type")
            case _Place.HEAD | _Place.CONTENT:
                raise PeerError("the body ends before its closing delimiter")

    def _delimiter_line(self, data: bytes, at: int) -> tuple[_Line, int]:
        """Say what the delimiter before `at` is, and where the bytes after it begin (for a part: at the line end)."""
        if data.startswith(b"--", at):
            return _Line.CLOSING, at + 2
        end = at
        while end < len(data) and end - at <= self._limits.padding_bytes and data[end] in b" \t":
            end += 1
        if end - at > self._limits.padding_bytes:
            return _Line.CONTENT, at
        rest = data[end : end + 2]
        if rest == b"\r\n":
            return _Line.NEXT_PART, end
        if rest in (b"", b"\r") or (end == at and rest == b"-"):
            return _Line.UNDECIDED, at
        return _Line.CONTENT, at

    def _possible_delimiter(self, data: bytes, at: int) -> int:
        """Find where a delimiter may begin that the end of `data` cuts off; its length when none does."""
        start = max(at, len(data) - len(self._delimiter) + 1)
        while (start := data.find(b"\r", start)) >= 0:
            if self._delimiter.startswith(data[start:]):
                return start
            start += 1
        return len(data)

    def _content(self, data: bytes, start: int, end: int) -> Iterator[PartData]:
        invented = min(self._invented, end - start)
        self._invented -= invented
        start += invented
        if start == end:
            return
        if self._place is _Place.PREAMBLE:
            self._skip(end - start, self._limits.preamble_bytes, "before")
        else:
            yield PartData(data if end - start == len(data) else memoryview(data)[start:end])

    def _skip(self, count: int, limit: int, where: str) -> None:
        self._skipped += count
        if self._skipped > limit:
            raise PeerError(f"more than {limit} bytes {where} the parts")

    def _count_part(self) -> None:
        self._parts += 1
        if self._parts > self._limits.parts:
            raise PeerError(f"more than {self._limits.parts} parts in one body")


def _fields(head: bytes) -> dict[str, str]:
    """Read the head's lines; `head` begins and ends with a line end."""
    fields: dict[str, str] = {}
    for line in _FOLD.sub(b" ", head).split(b"\r\n")[1:-1]:
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name) or b"\0" in value or b"\r" in value or b"\n" in value:
            raise PeerError("a line of a part head is not 'name: value'")
        fields.setdefault(name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1"))
    return fields
