"""Space kept aside on the journal's disk, so that a full disk can still record what was delivered (D7, F14)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

RESERVE_NAME: Final = "journal.reserve"
RESERVE_BYTES: Final = 64 * 1024**2
RESTORE_FREE_BYTES: Final = 4 * RESERVE_BYTES
"""It is made (again) only when there is room for it several times over."""


class Reserve:
    """A file of zeros nobody reads."""

    def __init__(self, state: Path):
        self.path = state / RESERVE_NAME

    def release(self) -> bool:
        """Give the space back to the disk; False when it was given back already."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            log.error("journal reserve cannot be released", problem=error.strerror)
            return False
        return True

    def restore(self) -> None:
        """Set the space aside, unless it is, or there is too little."""
        try:
            if self.path.exists() and self.path.stat().st_size == RESERVE_BYTES:
                return
            space = os.statvfs(self.path.parent)
            if space.f_bavail * space.f_frsize < RESTORE_FREE_BYTES:
                return
            fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("journal reserve not set aside", problem=error.strerror)
            self.release()
