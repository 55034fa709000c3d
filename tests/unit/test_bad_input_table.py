"""docs/bad-input.md: every row of the catalogue is answered there, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = list(range(1, 109))
_ROW = re.compile(r"^\| B(\d+) \| (.+) \| (.+) \| (.*)\|$")
_TEST = re.compile(r"`(test_\w+)`")
_DEFINITION = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def table() -> dict[int, tuple[str, list[str]]]:
    """Answer and tests by row; a row that stands twice fails."""
    found: dict[int, tuple[str, list[str]]] = {}
    for line in (ROOT / "docs" / "bad-input.md").read_text().splitlines():
        if row := _ROW.match(line):
            number = int(row[1])
            assert number not in found, f"B{number} stands twice"
            found[number] = row[3], _TEST.findall(row[4])
    return found


def test_every_row_is_answered_by_a_test_or_not_applicable() -> None:
    rows = table()
    assert sorted(rows) == ROWS
    for number, (answer, tests) in rows.items():
        assert tests or "not applicable because" in answer, f"B{number} names no test and no reason"


def test_every_test_that_the_page_names_exists_and_most_carry_their_row() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    defined = {name for file in files for name in _DEFINITION.findall(file.read_text())}
    named = set(_TEST.findall((ROOT / "docs" / "bad-input.md").read_text()))
    assert named - defined == set()
    for number, (_, tests) in table().items():
        mentions = re.compile(rf"_b{number}_|_b\d+_to_b\d+_|word_for_word")
        assert not tests or any(mentions.search(name) for name in tests), f"no test of B{number} carries its number"
