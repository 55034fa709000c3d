"""What is in the store's folders, for the sweep at start and for `sendrs verify`. Looks only; blocking, so call it
on a thread.

What we did not write is foreign: counted, never sent, never deleted (F30).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from router.dicom.part10 import MAX_PREFACE_BYTES, StoredPreface, read_preface
from router.errors import StorageError
from router.store.reading import READ_FLAGS, DamagedFile, open_checked
from router.store.stored import Located

HASH_BLOCK_BYTES: Final = 1024 * 1024

_SHARD: Final = re.compile(r"[0-9]{6,9}", re.ASCII)
_NAME: Final = re.compile(r"[0-9a-f]{32}\.dcm", re.ASCII)


class Found(msgspec.Struct, frozen=True):
    """A file that has one of our names. `modified_at` in Unix seconds."""

    file: str
    bytes: int
    modified_at: float


def list_shards(root: Path) -> list[str]:
    """Name the shards, oldest first. Raises OSError."""
    with os.scandir(root) as entries:
        names = [
            entry.name for entry in entries if _SHARD.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    return sorted(names, key=int)


def foreign_in_root(root: Path) -> int:
    """Count what is in the store's root and is no shard. Raises OSError."""
    with os.scandir(root) as entries:
        return sum(1 for entry in entries if not (_SHARD.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)))


def list_shard(root: Path, shard: str) -> tuple[list[Found], int]:
    """List the files of a shard, by name, and count what is foreign in it; a shard that is not there is empty.
    Raises OSError.
    """
    found, foreign = [], 0
    try:
        with os.scandir(root / shard) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append(Found(f"{shard}/{entry.name}", status.st_size, status.st_mtime))
                else:
                    foreign += 1
    except FileNotFoundError:
        return [], 0
    found.sort(key=lambda one: one.file)
    return found, foreign


def preface_of(path: Path) -> StoredPreface:
    """Read what a file says of itself. Raises ForeignFile when we did not write it, StorageError when it cannot be
    read.
    """
    try:
        fd = os.open(path, READ_FLAGS)
        try:
            data = os.pread(fd, MAX_PREFACE_BYTES, 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"cannot read {path.name}: {error.strerror}") from error
    return read_preface(data)


def make_durable(path: Path, file: str) -> None:
    """Flush a file that an earlier process wrote. Raises DamagedFile."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise DamagedFile(file, f"cannot be flushed: {error.strerror}") from error


def check_content(path: Path, located: Located) -> None:
    """Read a file from the disk, not from the page cache (D9), and compare its hash. Raises DamagedFile,
    StorageError.
    """
    fd = open_checked(str(path), located)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(fd, located.data_set_offset, os.SEEK_SET)
        digest = hashlib.sha256()
        for block in _blocks(fd):
            digest.update(block)
    except OSError as error:
        raise DamagedFile(located.file, error.strerror or str(error)) from error
    finally:
        os.close(fd)
    if digest.digest() != located.data_set_sha256:
        raise DamagedFile(located.file, "its content is not what was received (SHA-256)")


def _blocks(fd: int) -> Iterator[bytes]:
    while block := os.read(fd, HASH_BLOCK_BYTES):
        yield block
