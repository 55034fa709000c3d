"""A TOML file that a person wrote, read with care: bounded, UTF-8, and what breaks it said in words with its line.

Knows TOML and files, nothing of what the keys mean: router.toml and the rule files are both read here (B94, B101).
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import re2

from router.config.locate import KeyLines, show_place
from router.errors import ConfigError, ConfigErrors

MAX_FILE_BYTES = 1024**2
"""A file written by hand has kilobytes; anything beyond this is the wrong file (B101)."""

MAX_KEY_PARTS = 128
"""Parts of one dotted key; checked before tomllib sees it, which takes their square in time."""

_LONG_KEY = re2.compile(rf"""(?:["']?[\w-]+["']?[ \t]*\.[ \t]*){{{MAX_KEY_PARTS}}}""")  # type: ignore[no-untyped-call]
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_ASSIGNMENT = re.compile(r"\s*([\w.-]+)\s*=\s*(.*)$")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


class Document(msgspec.Struct, frozen=True):
    """A parsed file. `mode` holds its permission bits."""

    file: Path
    text: str
    table: dict[str, Any]
    mode: int


def read_document(file: Path) -> Document:
    """Read and parse `file`. Raises ConfigErrors."""
    content, mode = _read_bytes(file)
    text = _decode(file, content)
    return Document(file, text, parse_toml(str(file), text), mode)


def parse_toml(file: str, text: str) -> dict[str, Any]:
    """Parse `text`, which came from `file`. Raises ConfigErrors: each name given twice, or the first syntax error."""
    long_key = _LONG_KEY.search(text)
    if long_key is not None:
        line = text.count("\n", 0, long_key.start()) + 1
        raise ConfigErrors([ConfigError(file, "", f"a key has more than {MAX_KEY_PARTS} parts", line=line)])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigErrors([ConfigError(file, "", "lists or tables are nested too deeply to be read")]) from None
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        raise ConfigErrors(_duplicates(file, text) or [_syntax_error(file, text, str(error))]) from None


def _read_bytes(file: Path) -> tuple[bytes, int]:
    try:
        kind = file.stat().st_mode
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "a device or pipe"
            raise _unreadable(file, f"is {what}, not a file")
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(file, "there is no such file") from None
    except OSError as error:
        raise _unreadable(file, f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise _unreadable(file, f"is larger than {MAX_FILE_BYTES // 1024**2} MiB, so it cannot be a configuration")
    return content, stat.S_IMODE(mode)


def _decode(file: Path, content: bytes) -> str:
    if content.startswith(_UTF16_MARKS):
        raise _unreadable(file, "is UTF-16 text", hint="save it as UTF-8")
    content = content.removeprefix(_UTF8_MARK)
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise _unreadable(file, "holds a NUL byte: it is not a text file", line=line)
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(file, "is not UTF-8 text", hint="save it as UTF-8", line=line) from None


def _unreadable(file: Path, problem: str, *, hint: str = "", line: int | None = None) -> ConfigErrors:
    return ConfigErrors([ConfigError(str(file), "", problem, hint=hint, line=line)])


def _duplicates(file: str, text: str) -> list[ConfigError]:
    return [
        ConfigError(
            file,
            show_place(again.path, again.header_length),
            f"stands on line {first.line} already",
            hint="give each name once",
            line=again.line,
        )
        for first, again in KeyLines(text).duplicates()
    ]


def _syntax_error(file: str, text: str, message: str) -> ConfigError:
    place = _TOML_PLACE.search(message)
    problem = message[: place.start()] if place else message
    problem = problem[:1].lower() + problem[1:]
    lines = text.rstrip().split("\n")
    number = int(place[1]) if place and place[1] else len(lines)
    if "integer string conversion" in problem:
        return ConfigError(file, "", "not TOML: a number has too many digits", line=_longest_number_line(lines))
    line = lines[number - 1] if number <= len(lines) else ""
    return ConfigError(file, "", f"not TOML: {problem}", hint=_syntax_hint(line, problem), line=number)


def _longest_number_line(lines: list[str]) -> int:
    return 1 + max(range(len(lines)), key=lambda at: max(map(len, re.findall(r"[0-9_]+", lines[at])), default=0))


def _syntax_hint(line: str, problem: str) -> str:
    if re.search("[\u2018-\u201f]", line):
        return "use the plain quotes \" and '"
    if "'\\'" in problem or "hex value" in problem:
        return "write a backslash twice, or put the text in single quotes"
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        return ""
    key, value = assignment[1], assignment[2].split("#")[0].strip()
    if not value:
        return f"a value is missing after {key} ="
    if value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return "write true or false, in lower case"
    if value.count('"') % 2:
        return "a quote is missing"
    if value[0] not in "\"'[{":
        return f'text stands in quotes: {key} = "…"'
    return ""
