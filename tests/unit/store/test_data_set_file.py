"""Looking for something in a stored data set: one job on a thread, or several with the file kept open."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.errors import PeerError, StorageError
from router.store.files import DamagedFile, Store, StoredFile

DECLARED = Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.9.1"), Uid("1.2.840.10008.1.2.1"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(tmp_path) as opened:
        yield opened


async def keep(store: Store, content: bytes) -> StoredFile:
    writer = store.begin(DECLARED, Source("C-STORE", "192.0.2.7"), 1_700_000_000.0)
    await writer.write(content)
    located = await writer.finish()
    await writer.flush()
    return located


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no other way to count them


async def test_the_file_stands_at_the_data_set_for_every_job(store: Store) -> None:
    located = await keep(store, b"0123456789")
    assert await store.examine(located, lambda file: file.read()) == b"0123456789"
    async with store.open_file(located) as file:
        assert await file.run(lambda one: one.read(4)) == b"0123"
        assert await file.run(lambda one: (one.seek(5, io.SEEK_CUR), one.read())[1]) == b"56789"


async def test_another_file_may_take_its_place(store: Store) -> None:
    def doubled(file: BinaryIO) -> BinaryIO:
        return io.BytesIO(file.read() * 2)

    located = await keep(store, b"ab")
    async with store.open_file(located, prepare=doubled) as file:
        assert await file.run(lambda one: one.read()) == b"abab"


async def test_nothing_stays_open(store: Store) -> None:
    def fail(_: BinaryIO) -> BinaryIO:
        raise PeerError("not what was hoped for")

    located = await keep(store, b"ab")
    before = open_files()
    with pytest.raises(PeerError):
        await store.examine(located, fail)
    with pytest.raises(PeerError):
        async with store.open_file(located, prepare=fail):
            pass
    async with store.open_file(located) as file:
        with pytest.raises(PeerError):
            await file.run(fail)
    assert open_files() == before
    with pytest.raises(StorageError, match="closed"):
        await file.run(lambda one: one.read())


async def test_a_missing_or_shortened_file_is_damaged(store: Store) -> None:
    located = await keep(store, b"0123456789")
    path = store.path_of(located.file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile):
        await store.examine(located, lambda file: file.read())
    path.unlink()
    with pytest.raises(DamagedFile):
        async with store.open_file(located):
            pass


async def test_an_error_of_the_disk_is_told_as_one(store: Store) -> None:
    def fail(_: BinaryIO) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(DamagedFile, match="Input/output error"):
        await store.examine(await keep(store, b"ab"), fail)
