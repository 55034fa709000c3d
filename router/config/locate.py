"""Where in a TOML text a key stands, so that an error can name its line; and the known name nearest to a mistyped one.

`tomllib` gives values without places. This scanner gives places without values: it never judges, and in a text that is
not TOML it finds what it can. It is only run once something is known to be wrong.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Path = tuple[str | int, ...]

MAX_DEPTH = 64
"""Arrays, inline tables and dotted keys are followed this far; no file written by a person comes near."""
MAX_NAME_LENGTH = 100
"""Longer names are nobody's typing error; comparing them would only cost time."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' + r"|'''(?:[^']|'(?!''))*'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[^\s.=\[\]{}#,\"']+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+…?")
_REST_OF_LINE = re.compile(r"[^\n]*")


def locate(text: str, path: Sequence[str | int]) -> int | None:
    """Find the 1-based line of the key, table or array entry at `path`, or of the nearest table around it.

    Entries of an array of tables are counted from 0: `("rule", 1, "match")` is `match` in the second `[[rule]]`.
    """
    return KeyLines(text).locate(path)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Find the one of `allowed` that `name` most likely was meant to be, or None."""
    if len(name) > MAX_NAME_LENGTH:
        return None
    by_lower_case = {word.lower(): word for word in allowed}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[close[0]] if close else None


def show_place(path: Sequence[str | int], header_length: int) -> str:
    """Write a place for people: the first `header_length` parts as the table's header, the others as the key in it.

    `[destinations.archive] port`, `[rule 2] match.Modality`, `[log]`, `port`.
    """
    header, key = (_dotted(part) for part in (path[:header_length], path[header_length:]))
    return " ".join(filter(None, (f"[{header}]" if header else "", key)))


def show_name(name: str) -> str:
    """Write a name as it may stand in TOML, quoted where it must be, bounded and without control characters."""
    shown = name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "…"
    return shown if _PLAIN_NAME.fullmatch(shown) else json.dumps(shown, ensure_ascii=not shown.isprintable())


def _dotted(path: Sequence[str | int]) -> str:
    parts = (f" {part + 1}" if isinstance(part, int) else f".{show_name(part)}" for part in path)
    return "".join(parts)[1:]


class Definition(NamedTuple):
    """One place where a key or table is written; the first `header_length` parts of `path` are its table's header."""

    path: Path
    line: int
    header_length: int


class KeyLines:
    """The lines of all keys of one TOML text. `definitions` has them in file order, twice where a name stands twice."""

    def __init__(self, text: str):
        self.definitions: list[Definition] = []
        self._lines: dict[Path, int] = {}
        self._entries: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._header_length = 0
        self._line = 1
        self._scan_document()

    def locate(self, path: Sequence[str | int]) -> int | None:
        """As the function `locate`, for asking more than once."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(tuple(path[:length]))
            if line is not None:
                return line
        return None

    def duplicates(self) -> list[tuple[Definition, Definition]]:
        """Find each name that stands twice, as its first definition and the later one; not the names below it."""
        first: dict[Path, Definition] = {}
        found = []
        again: set[Path] = set()
        for definition in self.definitions:
            path = definition.path
            if path in first and path not in self._entries:
                again.add(path)
                if not any(path[:length] in again for length in range(1, len(path))):
                    found.append((first[path], definition))
            first.setdefault(path, definition)
        return found

    def _scan_document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._scan_header()
            else:
                self._scan_pair(table, 0)
            self._skip(_REST_OF_LINE)

    def _scan_header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]`; return the path of the table that it opens."""
        start = self._at
        is_entry = self._text.startswith("[[", start)
        self._at += 2 if is_entry else 1
        keys = self._scan_key()
        path: Path = ()
        for key in keys[:-1]:
            path = self._current_entry((*path, key))
            self._lines.setdefault(path, self._line_at(start))
        if not keys:
            return path
        path = (*path, keys[-1])
        if is_entry:
            self._define(path, start)
            self._entries[path] = self._entries.get(path, -1) + 1
            path = (*path, self._entries[path])
        self._header_length = len(path)
        self._define(path, start)
        return path

    def _current_entry(self, path: Path) -> Path:
        return (*path, self._entries[path]) if path in self._entries else path

    def _scan_pair(self, table: Path, depth: int) -> None:
        """Read `key = value`; each part of a dotted key is defined here."""
        start = self._at
        keys = self._scan_key()
        if not keys:
            self._at += 1
            return
        path = table
        for key in keys[:-1]:
            path = (*path, key)
            self._lines.setdefault(path, self._line_at(start))
        path = (*path, keys[-1])
        self._define(path, start)
        self._skip(_SPACE)
        if self._text.startswith("=", self._at):
            self._at += 1
            self._scan_value(path, depth)

    def _scan_key(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = _STRING.match(self._text, self._at)
            found = quoted or _BARE_KEY.match(self._text, self._at)
            if found is None:
                return keys
            self._at = found.end()
            if len(keys) < MAX_DEPTH:
                keys.append(_unquote(found.group()) if quoted else found.group())
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _scan_value(self, path: Path, depth: int) -> None:
        self._skip(_SPACE)
        opening = self._text[self._at : self._at + 1]
        if opening in ("[", "{") and depth < MAX_DEPTH:
            self._scan_container(path, depth + 1, is_array=opening == "[")
        elif string := _STRING.match(self._text, self._at):
            self._at = string.end()
        else:
            self._skip(_SCALAR)

    def _scan_container(self, path: Path, depth: int, *, is_array: bool) -> None:
        closing, index = ("]", 0) if is_array else ("}", 0)
        self._at += 1
        while self._skip(_BLANK) < len(self._text):
            here = self._text[self._at]
            if here == closing:
                self._at += 1
                return
            if here == ",":
                self._at += 1
            elif is_array:
                before = self._at
                self._define((*path, index), before)
                self._scan_value((*path, index), depth)
                index += 1
                self._at += self._at == before
            else:
                self._scan_pair(path, depth)

    def _define(self, path: Path, at: int) -> None:
        line = self._line_at(at)
        self.definitions.append(Definition(path, line, min(self._header_length, len(path))))
        self._lines.setdefault(path, line)

    def _line_at(self, at: int) -> int:
        """Count lines up to `at`, which never moves back by more than the key being read."""
        if at < self._counted_to:
            return self._line - self._text.count("\n", at, self._counted_to)
        self._line += self._text.count("\n", self._counted_to, at)
        self._counted_to = at
        return self._line

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return self._at


def _unquote(key: str) -> str:
    """Give the name in a quoted key. Other escapes stay as written: such a key is located by its table."""
    return key[1:-1].replace('\\"', '"').replace("\\\\", "\\") if key[0] == '"' else key[1:-1]
