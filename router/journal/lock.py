"""One daemon for one state folder: a lock that the kernel lets go of when the process dies (F72)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from router.errors import StorageError

LOCK_NAME: Final = ".lock"


class StateInUse(StorageError):
    """Another daemon has this state folder; the command line exits with 75. `pid` is None when it could not be read."""

    def __init__(self, state: Path, pid: int | None):
        self.state, self.pid = state, pid
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{state} is in use by {who}; stop it first, or give this one a state folder of its own")


class StateLock:
    """Holds the lock from `take` to `release`."""

    def __init__(self, fd: int):
        self._fd = fd

    @classmethod
    def take(cls, state: Path) -> StateLock:
        """Make the folder, lock it and leave our process id in it. Raises StateInUse, StorageError."""
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(f"cannot lock {state}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _pid_in(fd)
            os.close(fd)
            raise StateInUse(state, holder) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(fd)

    def release(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def holder_of(state: Path) -> int | None:
    """Name the process that has the folder locked, 0 when it left no number, None when there is none.

    To find out, it takes the lock for an instant.
    """
    try:
        fd = os.open(state / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _pid_in(fd) or 0
    finally:
        os.close(fd)
    return None


def _pid_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
