"""The examples of docs/commands-dimse.md, run as they stand there, against a real Orthanc."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from peers import Orthanc, StoreScp, require
from pydicom import dcmread
from test_docs_examples import blocks, examples, is_as_written, run

from router.cli.samples import ct_series

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parents[2] / "docs" / "commands-dimse.md"


def test_the_examples_print_what_the_page_says(tmp_path: Path) -> None:
    require("jq")
    page = PAGE.read_text()
    [settings] = [block.text for block in blocks(page) if block.language == "toml"]
    asked = examples(page)
    for path in ct_series(tmp_path / "ct", 3, rows=16, columns=16):
        dataset = dcmread(path)
        dataset.PatientName = "ALLISON^ANN"
        dataset.save_as(path)
    with StoreScp(tmp_path / "scp") as scp:
        known = {"workstation": ["WORKSTATION", "127.0.0.1", scp.port]}
        with Orthanc(tmp_path / "pacs", settings={"DicomModalities": known, "DicomAlwaysAllowMove": True}) as orthanc:
            there = settings.replace('"10.1.2.3"', '"127.0.0.1"').replace("= 104", f"= {orthanc.dicom_port}")
            assert there != settings
            (tmp_path / "router.toml").write_text(there)
            environment = {
                **os.environ,
                "PATH": f"{os.environ['PATH']}:{Path(sys.executable).parent}",
                "FOLDER": "ct",
                "COLUMNS": "200",
            }
            code, printed = run([example.commands for example in asked], tmp_path, environment)
        assert len(scp.files()) == 3
    for example, text in zip(asked, printed, strict=False):
        assert is_as_written(example.printed, text), (
            f"docs/commands-dimse.md, line {example.line}\n--- the page says\n{example.printed}--- printed\n{text}"
        )
    assert code == 0, f"docs/commands-dimse.md, line {asked[len(printed) - 1].line}: exit code {code}"
    assert len(printed) == len(asked)
