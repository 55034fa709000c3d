"""`pipx install` and `pipx run` in an empty home, without root, from a folder of wheels, with no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from installed import ROOT, as_nobody, build_distributions, copy_sources, forward_ten_slices, give_to_nobody, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

NAMES = ("python3", "python3.11", "python3.12", "python3.13")
IS_FIT = "import os, sys, ensurepip; os.stat(os.path.realpath(sys.executable)); sys.exit(sys.version_info < (3, 11))"


@dataclass(frozen=True)
class Home:
    """An empty home on a machine with pipx and a folder of wheels: all below `folder`, which everybody may enter."""

    folder: Path

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def offline(self) -> str:
        return f"--no-index --find-links {self.wheels}"

    @property
    def environment(self) -> dict[str, str]:
        """What a person's shell has there. pip is kept from this machine's configuration and from any index."""
        home = self.folder / "home"
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return {"HOME": str(home), "PATH": f"{home}/.local/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **pip}

    def run(self, *command: str | Path) -> str:
        """Run a command as the person; where that is possible, on no network."""
        return run([*_no_network(), *as_nobody(), *command], env=self.environment, cwd=self.folder / "home").stdout

    def pipx(self, *arguments: str | Path) -> str:
        return self.run(self.folder / "pipx/bin/python", "-m", "pipx", *arguments)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """pipx from its index, the wheels of sendrs and its libraries, and an empty home."""
    folder = Path(tempfile.mkdtemp(prefix="sendrs-pipx-"))  # not below tmp_path, which only root may enter
    try:
        folder.chmod(0o755)
        run([_python_for_everybody(), "-m", "venv", folder / "pipx"])
        run([folder / "pipx/bin/python", "-m", "pip", "install", "--quiet", "pipx"])
        wheel = build_distributions(copy_sources(folder / "sources"), folder / "dist")
        run([folder / "pipx/bin/python", ROOT / "packaging/offline.py", folder / "wheels", "--wheel", wheel])
        (folder / "home").mkdir()
        give_to_nobody(folder / "home")
        give_to_nobody(folder / "sources")
        yield Home(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sendrs(home: Home) -> list[str]:
    """The words that start what `pipx install sendrs` installed, as the person."""
    home.pipx("install", "sendrs", f"--pip-args={home.offline}")
    return [*as_nobody(), str(home.folder / "home/.local/bin/sendrs")]


def test_an_installed_sendrs_tells_its_version_and_help(home: Home, sendrs: list[str]) -> None:
    assert home.run("sendrs", "--version").startswith("sendrs 0")
    assert "sendrs demo" in home.run("sendrs", "--help")


def test_an_installed_sendrs_has_what_is_shipped(home: Home, sendrs: list[str]) -> None:
    python = home.folder / "home/.local/share/pipx/venvs/sendrs/bin/python"
    told = home.run(python, "-c", "from router.share import shipped; print(shipped('router.toml'), shipped('rules'))")
    for path in map(Path, told.split()):
        assert path.exists()
        assert path.is_relative_to(home.folder / "home/.local")


def test_an_installed_sendrs_forwards_what_dcmsend_sends(home: Home, sendrs: list[str]) -> None:
    forward_ten_slices(home.folder / "forward", sendrs, home.environment)


def test_an_installed_sendrs_proves_itself(home: Home, sendrs: list[str]) -> None:
    assert "Verified" in run([*sendrs, "demo"], env=home.environment, cwd=home.folder / "home").stdout


def test_pipx_run_needs_no_installation(home: Home) -> None:
    [wheel] = home.wheels.glob("sendrs-*.whl")
    said = home.pipx("run", "--spec", wheel, f"--pip-args={home.offline}", "sendrs", "version")
    assert "sendrs 0" in said


def test_pipx_installs_from_the_sources(home: Home) -> None:
    home.pipx("install", home.folder / "sources", "--suffix=-from-sources", f"--pip-args={home.offline}")
    assert home.run("sendrs-from-sources", "version").startswith("sendrs 0")


def _python_for_everybody() -> str:
    """Find a Python that the person may run; ours may lie in root's home."""
    places = [sys.executable, *(f"{folder}/{name}" for folder in ("/usr/local/bin", "/usr/bin") for name in NAMES)]
    for python in filter(shutil.which, places):
        if subprocess.run([*as_nobody(), python, "-c", IS_FIT], capture_output=True, check=False).returncode == 0:
            return python
    reason = "no Python 3.11 or newer that others than root may run: sudo apt-get install python3-venv"
    return pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)


def _no_network() -> list[str]:
    if os.geteuid() != 0:
        return []
    possible = subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    return ["unshare", "--net"] if possible else []
