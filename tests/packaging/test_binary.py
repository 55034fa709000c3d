"""The one executable file: it needs no Python, starts the router again by itself, and forwards."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import ROOT, as_nobody, forward_ten_slices, give_to_nobody, run

from router.cli import COMMANDS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that everybody may enter; tmp_path is root's."""
    with tempfile.TemporaryDirectory(prefix="sendrs-binary-") as name:
        Path(name).chmod(0o755)
        (Path(name) / "home").mkdir()
        give_to_nobody(Path(name) / "home")
        yield Path(name)


@pytest.fixture(scope="module")
def sendrs(folder: Path) -> list[str]:
    """The words that start the file that `make binary` makes, without root."""
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    if library.suffix == ".a" or not library.exists():
        pytest.skip(f"there is no {library} to freeze: Debian's Python has it in the package libpython3.11")
    run([sys.executable, ROOT / "packaging/binary/build.py", "--out", folder])
    return [*as_nobody(), str(folder / "sendrs")]


@pytest.fixture(scope="module")
def bare(folder: Path) -> dict[str, str]:
    """An environment in which no other program is found."""
    return {"PATH": "/nonexistent", "HOME": str(folder / "home"), "LANG": "C.UTF-8"}


def test_it_tells_its_version_and_has_every_command(sendrs: list[str], bare: dict[str, str]) -> None:
    assert run([*sendrs, "version"], env=bare).stdout.startswith("sendrs 0")
    said = run([*sendrs, "--help"], env=bare).stdout  # which imports them all
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


def test_it_forwards_what_dcmsend_sends(sendrs: list[str], bare: dict[str, str], folder: Path) -> None:
    forward_ten_slices(folder / "forward", sendrs, bare)


def test_it_proves_itself(sendrs: list[str], bare: dict[str, str], folder: Path) -> None:
    assert "Verified" in run([*sendrs, "demo"], env=bare, cwd=folder / "home").stdout
