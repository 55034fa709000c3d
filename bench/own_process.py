"""A module of `bench` as a process of its own: `python -m bench.NAME PORT [ARGUMENT …]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from peers import Process, free_port

from bench.measure import ROOT


class OwnProcess(Process):
    """Listens on `port`; its log goes to `folder`."""

    def __init__(self, module: str, folder: Path, *arguments: Path):
        self.port, self._module, self._arguments = free_port(), module, arguments
        super().__init__(module, folder, [self.port])

    def command(self) -> list[str]:
        return [sys.executable, "-m", f"bench.{self._module}", str(self.port), *map(str, self._arguments)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}
