"""Collect what an installation without a network needs: `python packaging/offline.py FOLDER [--wheel FILE]`.

The folder then holds the wheel of sendrs, those of its libraries for this Python and machine, and what builds sendrs
from its sources. `pipx install sendrs --pip-args="--no-index --find-links FOLDER"` uses it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Collect, and say how it is used."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--wheel", type=Path, help="of sendrs; without it the one in dist/, made by `make wheel`")
    options = arguments.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = options.wheel or ROOT / f"dist/sendrs-{project['project']['version']}-py3-none-any.whl"
    folder = options.folder.absolute()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    builders = project["build-system"]["requires"]
    done = subprocess.run([*pip, "wheel", "--wheel-dir", str(folder), str(wheel), "pip", *builders], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(f'pipx install sendrs --pip-args="--no-index --find-links {folder}"')


if __name__ == "__main__":
    main()
