"""The store by itself: what is written comes back, what is damaged does not, nothing is left over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.part10 import read_preface
from router.dicom.uids import AETitle, Uid
from router.errors import StorageError
from router.store import blanks
from router.store.disk import spread_subfolders
from router.store.files import DamagedFile, Store, StoredFile
from router.store.reading import CHUNK_BYTES

DECLARED = Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.9.1"), Uid("1.2.840.10008.1.2.1"))
SOURCE = Source("C-STORE", "192.0.2.7", AETitle("CT1"), AETitle("SENDRS"))


@asynccontextmanager
async def stored(state: Path, *contents: bytes) -> AsyncIterator[tuple[Store, list[StoredFile]]]:
    """A store that has these data sets."""
    async with Store.open(state) as store:
        yield store, [await keep(store, content) for content in contents]


async def keep(store: Store, content: bytes, *, chunk: int = 50_000) -> StoredFile:
    writer = store.begin(DECLARED, SOURCE, 1_700_000_000.0)
    for start in range(0, len(content), chunk):
        await writer.write(memoryview(content)[start : start + chunk])
    file = await writer.finish()
    await writer.flush()
    return file


async def read(store: Store, file: StoredFile, into: list[bytes] | None = None) -> list[bytes]:
    """Read all chunks into a list, which has what was given out also when it ends badly."""
    chunks = [] if into is None else into
    async with store.open_data_set(file, chunk_bytes=CHUNK_BYTES) as reader:
        while chunk := await reader.next():
            chunks.append(chunk)
    return chunks


@pytest.mark.parametrize("size", [1, 16_384, 262_143, 262_144, 262_145, 600_000, 3_000_000])
async def test_what_was_written_is_read_back(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    async with stored(tmp_path, content) as (store, [file]):
        assert (file.data_set_bytes, file.data_set_sha256) == (size, hashlib.sha256(content).digest())
        assert b"".join(await read(store, file)) == content
        preface = read_preface(store.path_of(file.file).read_bytes())
    assert (preface.declared, preface.source, preface.received_at) == (DECLARED, SOURCE, 1_700_000_000.0)
    assert (preface.data_set_offset, preface.data_set_bytes, preface.sha256) == (
        file.data_set_offset,
        file.data_set_bytes,
        file.data_set_sha256,
    )


async def test_an_unfinished_file_shows_itself(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        writer = store.begin(DECLARED, SOURCE, 1_700_000_000.0)
        for _ in range(3):  # the third waits until the first is written
            await writer.write(bytes(300_000))
        [path] = [path for path in store.root.rglob("*.dcm") if path.stat().st_size]
        assert read_preface(path.read_bytes()).sha256 is None
        await writer.discard()
        assert not path.exists()
        await writer.discard()


async def test_the_caller_may_reuse_its_buffer_as_soon_as_write_returns(tmp_path: Path) -> None:
    buffer = bytearray(100_000)
    async with Store.open(tmp_path) as store:
        writer = store.begin(DECLARED, SOURCE, 1_700_000_000.0)
        for value in range(9):
            buffer[:] = bytes([value]) * len(buffer)
            await writer.write(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        file = await writer.finish()
        await writer.flush()
        assert b"".join(await read(store, file)) == b"".join(bytes([value]) * len(buffer) for value in range(9))


async def test_closing_takes_the_blanks_away(tmp_path: Path) -> None:
    async with stored(tmp_path, b"x" * 100) as (store, [file]):
        assert len(list(store.root.rglob("*.dcm"))) > 1
    assert [str(path.relative_to(tmp_path / "store")) for path in (tmp_path / "store").rglob("*.dcm")] == [file.file]


async def test_a_full_folder_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blanks, "SHARD_FILES", 2 * blanks.BATCH)
    async with Store.open(tmp_path) as store:
        files = [(await keep(store, bytes([number]))).file for number in range(5 * blanks.BATCH)]
        assert all(store.path_of(file).exists() for file in files)
    shards = [file.split("/")[0] for file in files]
    assert shards == sorted(shards)
    assert all(shards.count(shard) <= 2 * blanks.BATCH for shard in shards)
    assert len(set(shards)) >= 3
    assert [file.split("/")[1] for file in files] == sorted(file.split("/")[1] for file in files)
    async with Store.open(tmp_path) as store:
        assert (await keep(store, b"again")).file.split("/")[0] >= shards[-1]


async def test_many_at_once_each_get_a_file_of_their_own(tmp_path: Path) -> None:
    files: list[str] = []

    async def one(store: Store, number: int) -> None:
        files.append((await keep(store, bytes([number]) * 1000)).file)

    async with Store.open(tmp_path) as store, anyio.create_task_group() as writers:
        for number in range(200):
            writers.start_soon(one, store, number)
    assert len(set(files)) == 200


@pytest.mark.parametrize("where", [0, 300_000, 599_999])
async def test_f21_the_end_of_a_damaged_data_set_is_never_given_out(tmp_path: Path, where: int) -> None:
    content = bytes(600_000)
    async with stored(tmp_path, content) as (store, [file]):
        path = store.path_of(file.file)
        damaged = bytearray(path.read_bytes())
        damaged[file.data_set_offset + where] ^= 1
        path.write_bytes(damaged)
        given: list[bytes] = []
        with pytest.raises(DamagedFile, match="SHA-256"):
            await read(store, file, into=given)
        assert sum(map(len, given)) == 2 * CHUNK_BYTES, "all but the last chunk"
        assert [type(one) for one in await store.read_small([file])] == [DamagedFile]
        assert not await store.holds(file)


@pytest.mark.parametrize("what", ["missing", "empty", "shorter", "longer", "folder", "link", "fifo"])
async def test_f22_what_is_no_longer_the_file_is_neither_followed_nor_waited_for(tmp_path: Path, what: str) -> None:
    async with stored(tmp_path, bytes(1000), bytes(2000)) as (store, [file, sound]):
        path = store.path_of(file.file)
        content = path.read_bytes()
        path.unlink()
        match what:
            case "empty":
                path.touch()
            case "shorter":
                path.write_bytes(content[:-1])
            case "longer":
                path.write_bytes(content + b"\0")
            case "folder":
                path.mkdir()
            case "link":
                (tmp_path / "elsewhere").write_bytes(content)
                path.symlink_to(tmp_path / "elsewhere")
            case "fifo":
                os.mkfifo(path)
        with pytest.raises(DamagedFile):
            await read(store, file)
        damaged, content = await store.read_small([file, sound])
        assert isinstance(damaged, DamagedFile)
        assert content == bytes(2000), "the others do not suffer"
        assert not await store.holds(file)


async def test_a_reader_can_be_left_in_the_middle_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    async with stored(tmp_path, bytes(2_000_000)) as (store, [file]):
        await read(store, file)
        before = _descriptors()
        for _ in range(20):
            async with store.open_data_set(file, chunk_bytes=10_000) as reader:
                await reader.next()
            with anyio.move_on_after(0):
                async with store.open_data_set(file) as reader:
                    await reader.next()
        await read(store, file)
        assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_store_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file is in the way")
    with pytest.raises(StorageError, match="store"):
        async with Store.open(tmp_path):
            pass


async def test_a_closed_store_gives_nothing_out(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        writer = store.begin(DECLARED, SOURCE, 1_700_000_000.0)
        await writer.write(b"x")
    with pytest.raises(StorageError, match="closed"):
        await writer.finish()


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp"])
def test_a_hint_for_ext4_does_no_harm_on_other_file_systems(folder: str) -> None:
    with TemporaryDirectory(dir=folder) as path:
        spread_subfolders(path)
        (Path(path) / "000001").mkdir()
        assert (Path(path) / "000001").is_dir()
