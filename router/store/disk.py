"""The few operating-system calls that durability rests on, as one object, so that a test can make the n-th of them
fail (L0).

`SystemDisk` is `os` itself: its attributes are the built-in functions, there is no cost in between.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final, Protocol

from router.errors import StorageError

_SYNC_FILE_RANGE_WRITE: Final = 2
_GET_FLAGS: Final = 0x8008_6601
_SET_FLAGS: Final = 0x4008_6602
_TOP_FOLDER: Final = 0x0002_0000
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of Linux."""
_FLAGS: Final = struct.Struct("l")
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoSpace(StorageError):
    """The disk, its inodes or a quota is used up; nothing is broken (D7)."""


class Disk(Protocol):
    """What the store asks of `os`. Every method raises OSError."""

    def open(self, path: str, flags: int, mode: int = 0o777, /) -> int: ...

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int, /) -> int: ...

    def fdatasync(self, fd: int, /) -> None: ...

    def fsync(self, fd: int, /) -> None: ...

    def start_writing_back(self, fd: int, offset: int, size: int, /) -> None: ...

    def let_go(self, fd: int, /) -> None: ...

    def close(self, fd: int, /) -> None: ...

    def unlink(self, path: str, /) -> None: ...

    def rename(self, source: str, target: str, /) -> None: ...

    def mkdir(self, path: str, mode: int = 0o777, /) -> None: ...


def _find_write_back() -> Callable[[int, int, int], None]:
    """Give what asks the system to begin writing a part of a file to the disk, where there is such a call (Linux).

    Only a hint, which neither waits for the disk nor makes anything durable: its errors are told by the flush.
    """
    libc = ctypes.CDLL(None)
    call = getattr(libc, "sync_file_range", None)
    if call is None:
        return lambda fd, offset, size: None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

    def start_writing_back(fd: int, offset: int, size: int) -> None:
        call(fd, offset, size, _SYNC_FILE_RANGE_WRITE)

    return start_writing_back


def let_go(fd: int, /) -> None:
    """Tell the system that nobody is going to read a file soon: its memory is free for the next. Only a hint."""
    with contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


class SystemDisk:
    open = staticmethod(os.open)
    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    start_writing_back = staticmethod(_find_write_back())
    let_go = staticmethod(let_go)
    close = staticmethod(os.close)
    unlink = staticmethod(os.unlink)
    rename = staticmethod(os.rename)
    mkdir = staticmethod(os.mkdir)


def storage_error(doing: str, error: Exception) -> StorageError:
    """Say which disk operation failed and how, as NoSpace when the disk is full."""
    if not isinstance(error, OSError):
        return StorageError(f"{doing}: {error!r}")
    kind = NoSpace if error.errno in NO_SPACE else StorageError
    return kind(f"{doing}: {error.strerror or error}")


def pwrite_all(disk: Disk, fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write every byte; a short write goes on where it stopped."""
    left = memoryview(data)
    while left:
        written = disk.pwrite(fd, left, offset)
        offset, left = offset + written, left[written:]


def spread_subfolders(path: str) -> None:
    """Ask ext4 to put each subfolder of `path` into a block group of its own (`chattr +T`); nothing elsewhere.

    For minutes after many files were deleted in a block group, making one there takes 0.9 ms instead of 0.01 ms. So a
    shard does not pay for what was deleted from another, or by another program.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GET_FLAGS, bytes(_FLAGS.size)))
        fcntl.ioctl(fd, _SET_FLAGS, _FLAGS.pack(flags | _TOP_FOLDER))
    except OSError:
        return  # another file system: it is only a hint
    finally:
        os.close(fd)


def sync_folder(disk: Disk, path: str) -> None:
    """Make the names in a folder durable (D1)."""
    fd = disk.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    finally:
        disk.close(fd)
