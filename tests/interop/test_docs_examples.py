"""The examples of docs/dicomweb.md, run as they stand there: commands in ```sh, what they print in the ```text below.

`…` stands for what is different each time, on a line of its own for any lines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from peers import Daemon, StoreScp, require

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parents[2] / "docs" / "dicomweb.md"
FILE = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
TIMEOUT_S = 120.0
BETWEEN = "\x1e"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line where it begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Example:
    """Commands, and what the page says that they print."""

    commands: str
    printed: str
    line: int


def blocks(page: str) -> list[Block]:
    return [Block(found[1], found[2], page.count("\n", 0, found.start()) + 1) for found in _FENCED.finditer(page)]


def examples(page: str) -> list[Example]:
    found = blocks(page)
    made = []
    for number, block in enumerate(found):
        if block.language != "sh":
            continue
        below = found[number + 1] if number + 1 < len(found) else Block("", "", 0)
        assert below.language == "text", f"line {block.line}: no ```text below says what it prints"
        assert re.search(r"[^…\s]", below.text), f"line {below.line}: it says nothing of what is printed"
        made.append(Example(block.text, below.text, block.line))
    return made


def is_as_written(written: str, printed: str) -> bool:
    """Say whether `printed` is what the page says."""
    lines = [
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n"
        for line in written.rstrip().splitlines()
    ]
    return re.fullmatch("".join(lines), printed.rstrip() + "\n") is not None


def run(commands: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run all in one shell that stops at the first error; gives its exit code, and what each printed."""
    script = "set -euo pipefail\nexec 2>&1\n" + f"printf '{BETWEEN}'\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout.split(BETWEEN)


def test_the_examples_print_what_the_page_says(tmp_path: Path) -> None:
    for program in ("curl", "jq"):
        require(program)
    page = PAGE.read_text()
    [settings] = [block.text for block in blocks(page) if block.language == "toml"]
    asked = examples(page)
    assert asked
    with StoreScp(tmp_path / "scp") as scp:
        there = settings.replace('"10.1.2.3"', '"127.0.0.1"').replace("= 104", f"= {scp.port}")
        assert there != settings
        with Daemon(tmp_path / "sendrs", there) as daemon:
            environment = {
                **os.environ,
                "PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}",
                "BASE": daemon.url,
                "FILE": str(FILE),
                "CONFIG": str(daemon.config_file),
                "COLUMNS": "200",
            }
            code, printed = run([example.commands for example in asked], tmp_path, environment)
    for example, text in zip(asked, printed, strict=False):
        assert is_as_written(example.printed, text), (
            f"docs/dicomweb.md, line {example.line}\n--- the page says\n{example.printed}--- printed\n{text}"
        )
    assert code == 0, f"docs/dicomweb.md, line {asked[len(printed) - 1].line}: exit code {code}"
    assert len(printed) == len(asked)


def test_another_output_than_the_page_says_is_noticed() -> None:
    assert is_as_written("a … c\n…\nd\n", "a b c\n1\n2\nd\n")
    assert is_as_written("…\nd\n", "d")
    assert not is_as_written("a … c\n", "a b d\n")
    assert not is_as_written("200\n", "200\n404\n")
    assert not is_as_written("200\n", "")


def test_commands_without_what_they_print_are_noticed() -> None:
    assert examples("```sh\ntrue\necho 1\n```\n```text\n1\n```\n") == [Example("true\necho 1\n", "1\n", 1)]
    for page in ("```sh\ntrue\n```\n", "```sh\ntrue\n```\n```text\n…\n```\n", "```sh\na\n```\n```sh\nb\n```\n"):
        with pytest.raises(AssertionError):
            examples(page)


def test_a_command_that_fails_ends_the_examples(tmp_path: Path) -> None:
    assert run(["echo 1\n", "false\n", "echo 2\n"], tmp_path, dict(os.environ)) == (1, ["1\n", ""])
