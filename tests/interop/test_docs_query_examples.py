"""The examples of docs/query-retrieve.md, up to Retrieve, run as they stand there with dcmtk against the daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peers import Daemon, require
from test_docs_examples import FILE, examples, is_as_written, run

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parents[2] / "docs" / "query-retrieve.md"


def test_the_examples_print_what_the_page_says(tmp_path: Path) -> None:
    require("dcmsend")
    programs = Path(require("findscu")).parent  # pynetdicom puts a findscu of its own beside our interpreter
    asked = examples(PAGE.read_text().partition("\n## Retrieve")[0])
    assert asked
    with Daemon(tmp_path / "sendrs") as daemon:
        environment = {
            **os.environ,
            "PORT": str(daemon.dicom_port),
            "FILE": str(FILE),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        code, printed = run([example.commands for example in asked], tmp_path, environment)
    for example, text in zip(asked, printed, strict=False):
        assert is_as_written(example.printed, text), (
            f"docs/query-retrieve.md, line {example.line}\n--- the page says\n{example.printed}--- printed\n{text}"
        )
    assert (code, len(printed)) == (0, len(asked))
