"""Whether there is room for more (D7): below the floor nothing new is taken; nothing is ever deleted to make room."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

FRESH_S: Final = 0.2
"""An answer holds for so long."""
MIN_FREE_INODES: Final = 1_000
"""Names left on the file system below which nothing new is taken, where it has a fixed number of them (F15)."""


class Room:
    """Asks the file system of `folder`, at most five times a second."""

    def __init__(self, folder: Path, min_free_bytes: int, *, monotonic: Callable[[], float] = time.monotonic):
        self._folder, self._monotonic = str(folder), monotonic
        self.min_free_bytes = min_free_bytes
        self._asked_at = -FRESH_S
        self._shortage = ""

    def shortage(self) -> str:
        """Say what is short, for the sender; "" when there is room."""
        now = self._monotonic()
        if now - self._asked_at >= FRESH_S:
            self._asked_at = now
            before, self._shortage = self._shortage, self._look()
            if self._shortage != before:
                self._tell()
        return self._shortage

    def _tell(self) -> None:
        if self._shortage:
            log.error("refusing instances", why=self._shortage)
        else:
            log.info("taking instances again")

    def _look(self) -> str:
        try:
            space = os.statvfs(self._folder)
        except OSError as error:
            return f"state folder: {error.strerror}"
        if space.f_bavail * space.f_frsize < self.min_free_bytes:
            return "disk is full"
        if space.f_files and space.f_favail < MIN_FREE_INODES:
            return "disk is full (inodes)"
        return ""
