"""Make docs/conformance/requirements.md: each requirement of Supplement 248 with the tests that show it.

A test shows a requirement when its name holds `req_017` or its docstring `REQ-017`; `req_017_018` and "REQ-017 to
REQ-018" are two. The requirements stand in requirements.toml; `make requirements` runs this.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "conformance" / "requirements.md"
COUNT = 158
IMPLEMENTED = (*range(1, 148), 157)
"""Those addressed to servers, user agents, SCPs, SCUs and proxies: each needs a test, unless its row says why not."""

_IN_NAME = re.compile(r"req((?:_(?:req_)?(?:to_)?[0-9]{3}(?![0-9]))+)")
_ONE_OR_RANGE = re.compile(r"([0-9]{3})(?:_to_([0-9]{3}))?")
_IN_DOCSTRING = re.compile(r"REQ-([0-9]{3})(?:\s+to\s+REQ-([0-9]{3}))?")

_HEAD = """\
# The requirements of SEND-RS, and what shows them

<!-- Made by `make requirements` from tests/requirements.toml and the tests. Change those. -->

The rows are the 158 requirements that we read out of DICOM Supplement 248 (public comment of April 2026), in our own
words; O-nn are our decisions where the draft leaves something open. A test is named as its file below `tests/` and its
function.

"""


def read_requirements() -> dict[int, dict[str, str]]:
    """Read requirements.toml: number to its row."""
    table: dict[str, Any] = tomllib.loads((TESTS / "requirements.toml").read_text())["requirement"]
    return {int(number): row for number, row in table.items()}


def collect() -> dict[int, list[str]]:
    """Find the tests of each requirement, as "unit/web/test_send.py::test_…", in order."""
    found: dict[int, set[str]] = defaultdict(set)
    for file in sorted(TESTS.rglob("test_*.py")):
        for function in _tests(ast.parse(file.read_text())):
            for number in numbers_of(function.name, ast.get_docstring(function) or ""):
                found[number].add(f"{file.relative_to(TESTS)}::{function.name}")
    return {number: sorted(tests) for number, tests in found.items()}


def numbers_of(name: str, docstring: str) -> set[int]:
    """Give the requirements that a test claims to show."""
    found = [pair for numbers in _IN_NAME.findall(name) for pair in _ONE_OR_RANGE.findall(numbers)]
    found += _IN_DOCSTRING.findall(docstring)
    return {number for first, last in found for number in range(int(first), int(last or first) + 1)}


def make_page(requirements: Mapping[int, Mapping[str, str]], tests: Mapping[int, Iterable[str]]) -> str:
    """Write the page."""
    rows = []
    for number, row in sorted(requirements.items()):
        shown_by = _shown_by(row, tests.get(number, ()))
        rows.append(f"| REQ-{number:03} | {row['who']} | {row['section']} | {row['says']} | {shown_by} |")
    shown = sum(1 for number in requirements if number in tests)
    later = sum(1 for row in requirements.values() if "later" in row)
    summary = f"{len(requirements)} requirements: {shown} shown by tests, {later} for a later release, "
    summary += f"{sum(1 for row in requirements.values() if 'document' in row)} about documents.\n\n"
    head = "| no. | who | section | requirement | shown by |\n|---|---|---|---|---|\n"
    return _HEAD + summary + head + "\n".join(rows) + "\n"


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _shown_by(row: Mapping[str, str], tests: Iterable[str]) -> str:
    parts = [f"`{test}`" for test in tests]
    if "document" in row:
        parts.append(f"[{row['document']}](../{row['document']})")
    if "later" in row:
        parts.append(f"in a later release: {row['later']}")
    if "not_applicable" in row:
        parts.append(f"not applicable because {row['not_applicable']}")
    return "<br>".join(parts) or "**nothing**"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(make_page(read_requirements(), collect()))
