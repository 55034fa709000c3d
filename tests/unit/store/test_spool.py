"""A place for parts that are put together: nothing of it stays, nothing of it is mixed up."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.errors import StorageError
from router.store.disk import NoSpace, SystemDisk
from router.store.files import Store


class FullDisk(SystemDisk):
    """Has room for 300,000 bytes in one file."""

    @staticmethod
    def pwrite(fd: int, data: bytes, offset: int, /) -> int:  # type: ignore[override]
        room = 300_000 - offset
        if room <= 0:
            raise OSError(28, "No space left on device")
        return os.pwrite(fd, data[:room], offset)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(tmp_path) as opened:
        yield opened


async def test_what_was_written_can_be_read_in_any_order(store: Store) -> None:
    content = os.urandom(1_000_000)
    async with store.spool() as spool:
        for at in range(0, len(content), 7_777):
            await spool.write(content[at : at + 7_777])
        assert spool.size == len(content)
        await spool.settle()
        assert await spool.read(900_000, 50_000) == content[900_000:950_000]
        assert await spool.read(0, 2_000_000) == content
        assert await spool.read(len(content), 5) == b""


async def test_it_has_no_name_and_is_gone_at_the_end(store: Store, tmp_path: Path) -> None:
    before = names_in(tmp_path)
    async with store.spool() as spool:
        await spool.write(bytes(300_000))
        assert names_in(tmp_path) == before
    with pytest.raises(StorageError, match="thrown away"):
        spool.read_now(0, 1)
    await spool.write(b"x")
    with pytest.raises(StorageError, match="thrown away"):
        await spool.settle()


async def test_a_full_disk_is_no_space(tmp_path: Path) -> None:
    async with Store.open(tmp_path, disk=FullDisk()) as store, store.spool() as spool:
        with pytest.raises(NoSpace):
            await spool.write(bytes(400_000))


async def test_a_folder_that_is_gone_is_a_storage_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "root", Path("/nowhere/store"))
    with pytest.raises(StorageError, match="cannot make a file"):
        async with store.spool():
            pass
