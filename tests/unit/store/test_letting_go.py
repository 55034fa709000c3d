"""What nobody is going to read soon leaves the system's memory; what somebody waits for stays (docs/decisions/0010)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.store.disk import let_go
from router.store.files import Store, StoredFile
from router.store.writer import Done

DECLARED = Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.9.1"), Uid("1.2.840.10008.1.2.1"))
CONTENT = os.urandom(600_000)


def _in_memory(path: Path) -> bool:
    """Ask the system whether it can give all of a file without reading from the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        wanted = path.stat().st_size
        return os.preadv(fd, [bytearray(wanted)], 0, os.RWF_NOWAIT) == wanted
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def can_be_asked(tmp_path: Path) -> None:
    """Skip where the system cannot be asked, or keeps files in memory for good (tmpfs)."""
    path = tmp_path / "probe"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        if not hasattr(os, "RWF_NOWAIT") or not _in_memory(path):
            pytest.skip("this system cannot be asked what it holds in memory")
        let_go(fd)
    except OSError:
        pytest.skip("this system cannot be asked what it holds in memory")
    finally:
        os.close(fd)
    if _in_memory(path):
        pytest.skip("files stay in memory here")


async def _stored(store: Store, *, wanted: bool, content: bytes = CONTENT) -> StoredFile:
    writer = store.begin(DECLARED, Source("C-STORE", "192.0.2.7"), 1_700_000_000.0)
    await writer.write(content)

    def beside(stored: StoredFile, done: Done[StoredFile]) -> None:
        done(stored, None)

    stored = await writer.finish_beside(beside, wanted=wanted)
    await writer.flush()
    return stored


@pytest.mark.parametrize("size", [16_384, len(CONTENT)])
async def test_what_goes_nowhere_leaves_memory_once_it_is_on_the_disk(tmp_path: Path, size: int) -> None:
    async with Store.open(tmp_path) as store:
        going = await _stored(store, wanted=True, content=CONTENT[:size])
        assert _in_memory(store.path_of(going.file))
        staying = await _stored(store, wanted=False, content=CONTENT[:size])
        assert not _in_memory(store.path_of(staying.file))
        assert await store.read_small([staying]) == [CONTENT[:size]]


async def test_what_is_read_for_the_last_time_leaves_memory(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        stored = await _stored(store, wanted=True)
        path = store.path_of(stored.file)
        assert await store.read_small([stored]) == [CONTENT]
        assert _in_memory(path), "somebody else waits for it"
        assert await store.read_small([stored], last=True) == [CONTENT]
        assert not _in_memory(path)


async def test_a_small_one_read_on_the_spot_for_the_last_time_leaves_memory(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        stored = await _stored(store, wanted=True, content=CONTENT[:16_384])
        if store.read_cached(stored) is None:
            pytest.skip("this system cannot open what it holds in memory")
        assert _in_memory(store.path_of(stored.file))
        assert store.read_cached(stored, last=True) == CONTENT[:16_384]
        assert not _in_memory(store.path_of(stored.file))


async def test_what_was_not_read_to_its_end_stays_for_the_next_attempt(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        stored = await _stored(store, wanted=True)
        async with store.open_data_set(stored, chunk_bytes=100_000, last=True) as reader:
            await reader.next()
        assert _in_memory(store.path_of(stored.file))


@pytest.mark.parametrize("last", [True, False])
async def test_what_is_read_in_chunks_leaves_memory_when_it_is_closed(tmp_path: Path, last: bool) -> None:
    async with Store.open(tmp_path) as store:
        stored = await _stored(store, wanted=True)
        read = bytearray()
        async with store.open_data_set(stored, chunk_bytes=100_000, last=last) as reader:
            while chunk := await reader.next():
                read += chunk
        assert read == CONTENT
        assert _in_memory(store.path_of(stored.file)) is not last
