"""A path for a Unix socket that the kernel takes, however long the path of the state folder is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MAX_PATH_BYTES: Final = 107
"""Of a Unix socket's address (unix(7)), without the NUL at its end."""


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a path to the same place that is short enough, valid within the `with` block. Raises OSError."""
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
