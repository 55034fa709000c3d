"""How commands look into the journal: read-only, beside a running daemon or without one."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio

from router.errors import StorageError
from router.journal.readers import open_readonly

T = TypeVar("T")


def read_journal(state: Path, query: Callable[[Any], T]) -> T:
    """Run `query` in one read transaction on the journal of a state folder. Raises StorageError with what to do."""
    check_readable(state)

    async def read() -> T:
        async with open_readonly(state) as readers:
            return await readers.read(query)

    return anyio.run(read)


def check_readable(state: Path) -> None:
    """Raise StorageError when the state folder is not there, or is somebody else's."""
    if not state.exists():
        raise StorageError(f"{state} does not exist: the router has not run with this configuration yet")
    if not os.access(state, os.R_OK | os.X_OK):
        owner = _name_of(state.stat().st_uid)
        raise StorageError(f"{state} belongs to {owner} and cannot be read; try again with: sudo -u {owner} sendrs …")


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
