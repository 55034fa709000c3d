"""Small data sets that the system holds in memory, read on the spot: no thread, and never a wait for the disk (F27).

Linux says beforehand whether opening (openat2 with RESOLVE_CACHED) or reading (RWF_NOWAIT) would wait; then, and
wherever there is no such thing, the answer is None and a thread does it. A thread that makes many short system calls
keeps the loop from the interpreter for a millisecond, and the peer of an association from its next instance.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from collections.abc import Callable
from typing import Final

from router.store.disk import let_go
from router.store.reading import READ_FLAGS
from router.store.stored import Located

MAX_BYTES: Final = 64 * 1024
"""Above this hashing alone takes the loop 40 us and more."""
_OPENAT2: Final = 437
"""The same number on all machines that Python runs on."""
_RESOLVE_CACHED: Final = 0x20
_AT_FDCWD: Final = -100


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def read_cached(path: str, located: Located, *, last: bool = False) -> bytes | None:
    """Give the data set if it is in memory, whole and right; None when it is not, whatever the reason. What is read for
    the `last` time then leaves memory.
    """
    if _open is None or located.data_set_bytes > MAX_BYTES:
        return None
    fd = _open(path)
    if fd < 0:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != located.data_set_offset + located.data_set_bytes:
            return None
        content = bytearray(located.data_set_bytes)
        if os.preadv(fd, [content], located.data_set_offset, os.RWF_NOWAIT) != len(content):
            return None
        if last:
            let_go(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return bytes(content) if hashlib.sha256(content).digest() == located.data_set_sha256 else None


def _find_open() -> Callable[[str], int] | None:
    """Give what opens a file that the system knows already, -1 for any other; None where that cannot be asked for."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    try:
        call = ctypes.PyDLL(None).syscall  # never waits, so the interpreter need not be given up
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    call.restype = ctypes.c_long
    how = _How(READ_FLAGS, 0, _RESOLVE_CACHED)
    address, size = ctypes.addressof(how), ctypes.sizeof(how)

    def open_known(path: str, _how: _How = how) -> int:
        return int(call(_OPENAT2, _AT_FDCWD, os.fsencode(path), address, size))

    tried = open_known("/")
    if tried < 0:
        return None
    os.close(tried)
    return open_known


_open: Final = _find_open()
