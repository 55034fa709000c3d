"""docs/tutorial.md, done from its first block to its last, with dcmtk and a real Orthanc.

Only ports, the folder of temporary files and where programs are differ from what the page says, and the state folder
may lie where the machine that tests has room. How many spaces stand between columns is not compared.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peers import free_port, require
from test_docs_examples import BETWEEN, blocks, examples, is_as_written

from router.config.load import load_config

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
PORTS = ("11112", "11114", "4242", "8042", "8080")
TIMEOUT_S = 240.0
INSTALLS = re.compile(r"sudo |journalctl ")
"""Only what installs, or shows the installed service, may be left out."""


def here(page: str, tmp_path: Path) -> str:
    """Put in free ports, and where this machine has things."""
    ports = {written: str(free_port()) for written in PORTS}
    assert all(written in page for written in ports)
    page = re.sub(rf"\b(?:{'|'.join(ports)})\b", lambda found: ports[found[0]], page)
    change = "; ".join(
        f"sed -i 's/{was}/{put}/' router.toml"
        for was, put in (
            ("127.0.0.1:11112", f"127.0.0.1:{ports['11112']}"),
            ("127.0.0.1:8080", f"127.0.0.1:{ports['8080']}"),
            ('^path = "state"', "&\\nunsafe_filesystem = true\\nmin_free_bytes = 0"),
        )
    )
    for written, put in (
        ("/tmp/sendrs-demo-", f"{tmp_path}/sendrs-demo-"),
        ("/usr/sbin/Orthanc", require("Orthanc")),
        ("/usr/bin/storescp", require("storescp")),
        (" --yes\n", f" --yes\n{change}\n"),
    ):
        assert written in page
        page = page.replace(written, put)
    return page


def perform(commands: list[str], folder: Path) -> tuple[int, list[str]]:
    """Run all in one shell that stops at the first error, and whatever it started when it ends."""
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null; wait' EXIT\nexec 2>&1\n"
    programs = f"{Path(require('dcmsend')).parent}:{os.environ['PATH']}:{Path(sys.executable).parent}"
    child = subprocess.Popen(
        ["bash", "-c", script + f"printf '{BETWEEN}'\n".join(commands)],
        cwd=folder,
        env={**os.environ, "PATH": programs, "TMPDIR": str(folder), "COLUMNS": "250"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = child.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        printed, _ = child.communicate()
    return child.returncode, printed.split(BETWEEN)


def narrow(table: str) -> str:
    """Make each run of spaces one: columns are as wide as what stands in them.

    What is said of the filesystem is left out, and the lines that `here` put in.
    """
    kept = [line for line in table.splitlines() if not line.startswith(("unsafe", "min_free_bytes"))]
    return re.sub(" +", " ", "\n".join(kept) + "\n" if kept else "")


def logs(folder: Path) -> str:
    """What the processes said, for a test that failed."""
    return "".join(f"--- {file.name}\n{file.read_text()[-2000:]}\n" for file in sorted(folder.rglob("tutorial/*.log")))


def test_who_follows_the_tutorial_sees_what_it_says(tmp_path: Path) -> None:
    for program in ("curl", "jq"):
        require(program)
    asked = examples(here(PAGE.read_text(), tmp_path))
    code, printed = perform([step.commands for step in asked], tmp_path)
    for step, text in zip(asked, printed, strict=False):
        assert is_as_written(narrow(step.printed), narrow(text)), (
            f"docs/tutorial.md, line {step.line}\n--- the page says\n{step.printed}--- printed\n{text}\n"
            f"{logs(tmp_path)}"
        )
    assert code == 0, f"docs/tutorial.md, line {asked[len(printed) - 1].line}: exit code {code}\n{logs(tmp_path)}"
    assert len(printed) == len(asked)


def test_nothing_but_installing_is_left_untried() -> None:
    page = blocks(PAGE.read_text())
    assert len(examples(PAGE.read_text())) >= 8
    for block in page:
        assert block.language in ("", "sh", "text", "toml", "console"), f"line {block.line}"
        if block.language == "console":
            assert all(INSTALLS.match(line) for line in block.text.splitlines()), f"line {block.line}"


def test_the_toml_for_in_earnest_is_taken(tmp_path: Path) -> None:
    [text] = [block.text for block in blocks(PAGE.read_text()) if block.language == "toml"]
    (tmp_path / "router.toml").write_text(text)
    assert load_config(tmp_path / "router.toml").peers["ct1"].ae_title == "CT1"
