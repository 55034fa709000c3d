"""Build one executable file that needs no Python: `python packaging/binary/build.py [--out DIR]`.

PyInstaller freezes the wheel with the Python that runs this script, which must have its shared library (Debian:
libpython3.11). docs/decisions/0008-packages.md says why it is that.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYINSTALLER = "pyinstaller>=6.22,<7"
START = "from router.cli import main\n\nmain()\n"
COLLECTED = (
    "--collect-submodules=router",  # commands are imported by their names
    "--collect-data=router",  # SQL, the default configuration, rules
    "--copy-metadata=sendrs",  # the version
    "--collect-data=pydicom",  # `sendrs demo` sends its test files
    "--hidden-import=anyio._backends._asyncio",  # anyio and rich import these by their names
    "--collect-submodules=rich._unicode_data",
)
LEFT_OUT = ("tkinter", "numpy", "pip", "setuptools", "mypy")


def main() -> None:
    """Build, try it, and print where it is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="where to put the file")
    out = arguments.parse_args().out.absolute()
    with tempfile.TemporaryDirectory(prefix="sendrs-binary-") as folder:
        built = build(Path(folder))
        run(built, "version", at=Path(folder))
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, out / "sendrs.new")
    (out / "sendrs.new").replace(out / "sendrs")
    print(out / "sendrs")


def build(work: Path) -> Path:
    """Build in the empty folder `work`; gives the path of the file."""
    venv.create(work / "venv", with_pip=True)
    python = work / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYINSTALLER, ROOT, at=work)
    script = work / "sendrs.py"
    script.write_text(START)
    left_out = [f"--exclude-module={name}" for name in LEFT_OUT]
    places = ["--distpath", work, "--workpath", work / "work", "--specpath", work]
    run(python, "-m", "PyInstaller", "--onefile", "--strip", *COLLECTED, *left_out, *places, script, at=work)
    return work / "sendrs"


def run(*command: str | Path, at: Path) -> None:
    """Run a command in the folder `at`, which must not be the checkout; when it fails, show what it said and end."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    words = list(map(str, command))
    done = subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"[-6000:]
        sys.exit(f"{' '.join(map(str, command))}\n{said}failed with exit code {done.returncode}")


if __name__ == "__main__":
    main()
