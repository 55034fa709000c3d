"""How this program is started once more: each way of installing it has its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def this_command() -> list[str]:
    """Give the words that start `sendrs` as this process was started; its arguments go behind them.

    The Debian package's Python finds the libraries through its launcher only, and a frozen program is its own Python.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable]
    called = sys.argv[0] if sys.argv else ""
    launcher = shutil.which(called) if Path(called).name == "sendrs" else None
    return [str(Path(launcher).absolute())] if launcher else [sys.executable, "-m", "router.cli"]
