"""The wheel and the sdist: the same bytes from the same sources, everything in them, nothing undeclared."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from installed import ROOT, build_distributions, copy_sources

from router.share import shipped

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as a clone has them."""
    return copy_sources(tmp_path_factory.mktemp("clone") / "sendrs")


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of these sources, in a folder with the sdist."""
    return build_distributions(sources, tmp_path_factory.mktemp("dist"))


def test_building_twice_gives_the_same_bytes(wheel: Path, sources: Path, tmp_path: Path) -> None:
    """In another folder, by somebody with another umask, of files with other dates, at another time."""
    before = os.umask(0o077)
    try:
        again = copy_sources(tmp_path / "elsewhere", sources)
    finally:
        os.umask(before)
    for path in again.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    build_distributions(again, tmp_path / "dist", environment={"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"})
    [sdist] = wheel.parent.glob("sendrs-*.tar.gz")
    for first in (wheel, sdist):
        assert first.read_bytes() == (tmp_path / "dist" / first.name).read_bytes(), f"{first.name} differs"


def test_the_wheel_carries_what_the_program_reads(wheel: Path, sources: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {str(path.relative_to(sources)) for path in (sources / "router").rglob("*") if path.is_file()}
    rules = {f"router/share/{path.relative_to(sources)}" for path in (sources / "rules").rglob("*") if path.is_file()}
    about = {name for name in names if name.startswith(f"sendrs-{PROJECT['version']}.dist-info/")}
    assert names - about == package | rules | {"router/share/router.toml"}
    assert any(name.endswith(".sql") for name in names)


def test_a_wheel_from_the_checkout_is_that_from_the_sdist(wheel: Path, sources: Path, tmp_path: Path) -> None:
    """`make wheel` builds it of the sdist; `pipx install .` and `make deb` build it of the folder."""
    rebuilt = build_distributions(sources, tmp_path, "--wheel")
    assert rebuilt.read_bytes() == wheel.read_bytes()


def test_there_is_one_version(wheel: Path) -> None:
    assert wheel.name == f"sendrs-{PROJECT['version']}-py3-none-any.whl"
    for path in (ROOT / "router").rglob("*.py"):
        assert f'"{PROJECT["version"]}"' not in path.read_text(), f"{path} names the version; pyproject.toml does"


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    found = packages_distributions()
    imported = {name for path in (ROOT / "router").rglob("*.py") for name in _imports(path)}
    theirs = imported - set(sys.stdlib_module_names) - {"router"}
    used = {_plain(distribution) for name in theirs for distribution in found[name]}
    assert used == {_plain(re.split(r"[<>=!~\[ ]", requirement)[0]) for requirement in PROJECT["dependencies"]}


def test_a_checkout_finds_what_is_shipped() -> None:
    assert shipped("router.toml") == ROOT / "router.toml"
    assert shipped("rules") == ROOT / "rules"


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module.partition(".")[0])
    return names


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
