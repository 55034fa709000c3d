"""A large instance's bytes, gathered in slabs and written block by block."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.part10 import encode_preface, read_preface
from router.dicom.uids import Uid
from router.store.blocks import BLOCK_BYTES, KEPT_SLABS, SLAB_FROM_BYTES, Gathering, Slabs
from router.store.content import SYNC_BYTES, Content
from router.store.disk import SystemDisk

PREFACE = encode_preface(
    Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.9.1"), Uid("1.2.840.10008.1.2.1")),
    Source("C-STORE", "192.0.2.7"),
    1_700_000_000.0,
)
SIZES = [0, 1, SLAB_FROM_BYTES, BLOCK_BYTES - len(PREFACE.data), BLOCK_BYTES, 3 * BLOCK_BYTES + 17]


class Watched(SystemDisk):
    """Notes what is written; `accepts` says how much of a write is taken."""

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.written_back = 0
        self.flushes = 0

    def accepts(self, size: int) -> int:
        return size

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int, /) -> int:
        taken = self.accepts(len(data))
        self.writes.append(taken)
        return os.pwrite(fd, memoryview(data)[:taken], offset)

    def start_writing_back(self, fd: int, offset: int, size: int, /) -> None:
        self.written_back += size

    def fdatasync(self, fd: int, /) -> None:
        self.flushes += 1


def _store(path: Path, content: bytes, disk: SystemDisk, *, chunk_bytes: int = 77_777) -> None:
    """Take `content` in chunks as the loop and the thread of a Writer do, and check what became of it."""
    slabs = Slabs()
    gathering = Gathering(PREFACE.data, slabs)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        whole = Content(PREFACE, disk, fd)
        for start in range(0, len(content), chunk_bytes):
            rest = gathering.add(content[start : start + chunk_bytes])
            while rest is not None:
                block = gathering.take()
                assert len(block) == BLOCK_BYTES
                whole.write(block)
                slabs.give_back(block)
                rest = gathering.add(rest)
        size, digest = whole.seal(gathering.take())
    finally:
        os.close(fd)
    assert (size, digest) == (len(content), hashlib.sha256(content).digest())
    stored = path.read_bytes()
    assert stored[len(PREFACE.data) :] == content
    read = read_preface(stored)
    assert (read.data_set_bytes, read.sha256) == (size, digest)


@pytest.mark.parametrize("chunk_bytes", [SLAB_FROM_BYTES // 3, SLAB_FROM_BYTES, BLOCK_BYTES, 5 * BLOCK_BYTES])
@pytest.mark.parametrize("size", SIZES)
def test_the_file_holds_preface_data_set_and_seal(tmp_path: Path, size: int, chunk_bytes: int) -> None:
    _store(tmp_path / "file", os.urandom(size), SystemDisk(), chunk_bytes=chunk_bytes)


def test_a_small_instance_is_one_write(tmp_path: Path) -> None:
    disk = Watched()
    _store(tmp_path / "file", os.urandom(16_384), disk)
    assert disk.writes == [16_384 + len(PREFACE.data)]


def test_what_is_very_large_is_flushed_while_it_comes_in(tmp_path: Path) -> None:
    disk = Watched()
    _store(tmp_path / "file", bytes(2 * SYNC_BYTES + BLOCK_BYTES), disk)
    assert disk.flushes == 2
    assert disk.written_back == 2 * SYNC_BYTES + BLOCK_BYTES - 2 * BLOCK_BYTES, "what is flushed needs no hint"


@pytest.mark.parametrize("taken", [1, 4096, BLOCK_BYTES - 1])
def test_a_short_write_goes_on_where_it_stopped(tmp_path: Path, taken: int) -> None:
    class Short(Watched):
        def accepts(self, size: int) -> int:
            return min(size, taken) if len(self.writes) % 2 else size

    _store(tmp_path / "file", os.urandom(3 * BLOCK_BYTES), Short())


def test_a_full_disk_is_told_as_it_is(tmp_path: Path) -> None:
    class Full(Watched):
        def accepts(self, size: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="space"):
        _store(tmp_path / "file", os.urandom(BLOCK_BYTES), Full())


def test_slabs_are_used_again_and_not_all_are_kept() -> None:
    slabs = Slabs()
    taken = [slabs.take() for _ in range(40)]
    slabs.give_back(memoryview(bytearray(5)))
    for slab in taken:
        slabs.give_back(memoryview(slab))
    again = [slabs.take() for _ in range(40)]
    assert sum(any(slab is one for one in taken) for slab in again) == KEPT_SLABS
    assert {len(slab) for slab in again} == {BLOCK_BYTES}, "what is no slab is not kept"
