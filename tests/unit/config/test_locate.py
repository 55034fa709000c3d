"""Lines of keys in TOML text, and the nearest name."""

from __future__ import annotations

import string
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.locate import MAX_DEPTH, KeyLines, locate, nearest, show_name, show_place

TEXT = '''\
top = 1
[dicom]
note = """
[not.a.table]
listen = "no"
"""
listen = "127.0.0.1:104"  # [nor this]
literal = \'\'\'
ae_title = 'no'
\'\'\'
[[rule]]
name = "first"
match = { Modality = "CT", Words = ["a", "]"] }
send = [
  "one",  # [[comment]]
  "two",
]
[rule.from]
address = "10.0.0.0/8"
[[rule]]
unless.StudyDescription = "x"
name = "second"
[[rule.test]]
file = "a"
[[rule.test]]
file = "b"
["odd.name"."with space"]
key = 2024-01-01T00:00:00Z
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("dicom",), 2),
        (("dicom", "note"), 3),
        (("dicom", "listen"), 7),
        (("dicom", "literal"), 8),
        (("rule", 0), 11),
        (("rule", 0, "match", "Modality"), 13),
        (("rule", 0, "match", "Words", 1), 13),
        (("rule", 0, "send", 0), 15),
        (("rule", 0, "send", 1), 16),
        (("rule", 0, "from", "address"), 19),
        (("rule", 1), 20),
        (("rule", 1, "unless", "StudyDescription"), 21),
        (("rule", 1, "name"), 22),
        (("rule", 1, "test", 1, "file"), 26),
        (("odd.name", "with space", "key"), 28),
    ],
)
def test_a_key_is_found_on_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert locate(TEXT, path) == line


def test_a_missing_key_is_found_at_the_table_around_it() -> None:
    assert locate(TEXT, ("dicom", "ae_title")) == 2
    assert locate(TEXT, ("rule", 1, "send")) == 20
    assert locate(TEXT, ("nowhere", "at", "all")) is None


def test_a_table_that_only_stands_in_the_header_of_another_is_found_there() -> None:
    assert locate("a = 1\n[destinations.archive]\nport = 1\n", ("destinations",)) == 2


def test_windows_line_ends_count_once() -> None:
    assert locate("a = 1\r\n[t]\r\nb = 2\r\n", ("t", "b")) == 3


def test_names_that_stand_twice_are_found_with_both_lines() -> None:
    text = '[a]\nx = 1\nx = 2\n[[rule]]\nname = "one"\n[[rule]]\nname = "two"\n[a]\n'
    assert [(first.line, again.line, again.path) for first, again in KeyLines(text).duplicates()] == [
        (2, 3, ("a", "x")),
        (1, 8, ("a",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a = " + "[" * 5000,
        "a = " + "{b = " * 2000,
        'a = "' * 2000,
        '"""' + '"\\' * 5000,
        "a." * 20_000 + "=1",
        "=\n" * 5000,
    ],
    ids=["brackets", "arrays", "inline tables", "open strings", "quotes", "dotted", "no key"],
)
def test_b101_text_that_is_hardly_toml_is_scanned_without_trouble(text: str) -> None:
    assert all(len(definition.path) <= MAX_DEPTH + 1 for definition in KeyLines(text).definitions)


NAMES = st.text(string.ascii_letters + "_- .\"\\'é", min_size=1, max_size=6)
SCALARS: Any = st.one_of(st.integers(), st.booleans(), st.text(string.printable, max_size=12))


def write_toml(
    table: dict[str, Any], path: tuple[str, ...], lines: list[str], places: dict[tuple[str, ...], int]
) -> None:
    """A naive TOML writer that notes on which line it puts what."""
    scalars = {key: value for key, value in table.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    if path:
        lines.append(f"[{'.'.join(map(quote, path))}]")
        places[path] = len(lines)
    for key, value in scalars.items():
        lines.append(f"{quote(key)} = {quote(value) if isinstance(value, str) else str(value).lower()}")
        places[(*path, key)] = len(lines)
    for key, value in tables.items():
        write_toml(value, (*path, key), lines, places)


def quote(text: str) -> str:
    return '"' + "".join(c if c.isalnum() or c in " _-[]{}=#.,'" else f"\\u{ord(c):04x}" for c in text) + '"'


@settings(max_examples=60, deadline=None)
@given(st.recursive(SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12))
def test_every_key_of_a_written_document_is_found_where_it_was_written(value: Any) -> None:
    document = value if isinstance(value, dict) else {"only": value}
    lines: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    write_toml(document, (), lines, places)
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    found = KeyLines(text)
    for path, line in places.items():
        if all("\\u" not in quote(part) for part in path):
            assert found.locate(path) == line, (path, text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("destnations", "destinations"), ("AE_Title", "ae_title"), ("prot", "port"), ("zzz", None), ("d" * 5000, None)],
)
def test_the_nearest_name_is_offered(written: str, meant: str | None) -> None:
    assert nearest(written, ["destinations", "dicom", "ae_title", "port"]) == meant


def test_places_are_written_as_a_person_would_point_at_them() -> None:
    assert show_place(("destinations", "archive", "port"), 2) == "[destinations.archive] port"
    assert show_place(("rule", 1, "match", "Modality"), 2) == "[rule 2] match.Modality"
    assert show_place(("dicom",), 1) == "[dicom]"
    assert show_place(("port",), 0) == "port"
    assert show_name("a b\x1b") == '"a b\\u001b"'
