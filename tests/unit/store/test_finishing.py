"""How an instance is finished: what runs beside its flush, in which order, and what each of the two ends with."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.errors import StorageError
from router.store.blocks import BLOCK_BYTES
from router.store.disk import SystemDisk
from router.store.files import Store, StoredFile, Writer
from router.store.workers import Workers
from router.store.writer import Done

DECLARED = Declared(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.9.1"), Uid("1.2.840.10008.1.2.1"))
SIZES = [1, 16_384, 5 * BLOCK_BYTES + 17]


class TracingDisk(SystemDisk):
    """Writes down what is done to instance files, and can make one kind of call fail."""

    def __init__(self, failing: str = "") -> None:
        self.done: list[str] = []
        for name in ("pwrite", "fdatasync", "start_writing_back"):
            setattr(self, name, self._traced(name, getattr(SystemDisk, name), fails=name == failing))

    def _traced(self, name: str, operation: Callable[..., object], *, fails: bool) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.done.append(name)
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return operation(*arguments)

        return call


async def _filled(store: Store, content: bytes) -> Writer:
    writer = store.begin(DECLARED, Source("C-STORE", "192.0.2.7"), 1_700_000_000.0)
    for start in range(0, len(content), 100_000):
        await writer.write(content[start : start + 100_000])
    return writer


@pytest.mark.parametrize("size", SIZES)
async def test_what_runs_beside_begins_when_all_bytes_are_in_the_sealed_file(tmp_path: Path, size: int) -> None:
    content, disk, seen = os.urandom(size), TracingDisk(), list[bytes]()
    async with Store.open(tmp_path, disk=disk) as store:
        writer = await _filled(store, content)

        def beside(stored: StoredFile, done: Done[str]) -> None:
            assert "fdatasync" not in disk.done
            seen.append(store.path_of(stored.file).read_bytes())
            disk.done.append("beside")
            done(stored.data_set_sha256.hex(), None)

        assert await writer.finish_beside(beside) == hashlib.sha256(content).hexdigest()
        await writer.flush()
    assert seen[0].endswith(content)
    assert hashlib.sha256(content).digest() in seen[0][: len(seen[0]) - size]
    assert disk.done[-2:] == ["beside", "fdatasync"]
    assert disk.done.count("fdatasync") == 1


async def test_blocks_of_a_large_instance_are_sent_on_to_the_disk_as_they_come(tmp_path: Path) -> None:
    disk = TracingDisk()
    async with Store.open(tmp_path, disk=disk) as store:
        await (await _filled(store, bytes(5 * BLOCK_BYTES))).finish()
        assert disk.done.count("start_writing_back") >= 3
        disk.done.clear()
        await (await _filled(store, bytes(16_384))).finish()
    assert disk.done == ["pwrite", "fdatasync"], "a small one is written and flushed, no more"


async def test_both_are_waited_for_whichever_ends_first(tmp_path: Path) -> None:
    gate, returned = threading.Event(), list[str]()
    disk = SystemDisk()
    flushing = threading.Event()

    def slow_flush(fd: int) -> None:
        flushing.set()
        gate.wait(10)
        os.fdatasync(fd)

    disk.fdatasync = slow_flush  # type: ignore[assignment]
    async with Store.open(tmp_path, disk=disk) as store, anyio.create_task_group() as tasks:
        writer = await _filled(store, b"x" * 1000)

        async def finish() -> None:
            returned.append(await writer.finish_beside(lambda stored, done: done("beside", None)))

        tasks.start_soon(finish)
        await anyio.to_thread.run_sync(flushing.wait, 10)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert returned == [], "the flush is not over"
        gate.set()
    assert returned == ["beside"]


@pytest.mark.parametrize("how", ["told", "raised"])
async def test_the_error_of_what_runs_beside_is_raised_when_the_flush_is_over(tmp_path: Path, how: str) -> None:
    disk = TracingDisk()

    def beside(stored: StoredFile, done: Done[None]) -> None:
        if how == "raised":
            raise ZeroDivisionError
        done(None, ZeroDivisionError())

    async with Store.open(tmp_path, disk=disk) as store:
        writer = await _filled(store, b"x" * 1000)
        with pytest.raises(ZeroDivisionError):
            await writer.finish_beside(beside)
        assert disk.done[-1] == "fdatasync"
        await writer.flush()
        await writer.discard()
    assert list((tmp_path / "store").rglob("*.dcm")) == []


@pytest.mark.parametrize("size", SIZES)
async def test_f16_what_cannot_be_written_is_not_journalled_and_not_flushed(tmp_path: Path, size: int) -> None:
    disk, begun = TracingDisk("pwrite"), list[StoredFile]()
    async with Store.open(tmp_path, disk=disk) as store:

        async def receive() -> None:
            writer = await _filled(store, bytes(size))
            await writer.finish_beside(lambda stored, done: begun.append(stored))

        with pytest.raises(StorageError, match="write"):
            await receive()
    assert begun == []
    assert "fdatasync" not in disk.done


async def test_f16_a_flush_that_failed_is_told_by_flush(tmp_path: Path) -> None:
    async with Store.open(tmp_path, disk=TracingDisk("fdatasync")) as store:
        writer = await _filled(store, b"x" * 1000)
        assert await writer.finish_beside(lambda stored, done: done(stored.data_set_bytes, None)) == 1000
        for _ in range(2):
            with pytest.raises(StorageError, match="flush"):
                await writer.flush()


async def test_cancelling_does_not_stop_what_was_begun(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as store:
        writer = await _filled(store, b"x" * 1000)
        later: list[Done[None]] = []
        begun = anyio.Event()
        token = anyio.lowlevel.current_token()

        def beside(stored: StoredFile, done: Done[None]) -> None:
            later.append(done)
            anyio.from_thread.run_sync(begun.set, token=token)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.finish_beside, beside)
            await begun.wait()
            tasks.cancel_scope.cancel()
        later[0](None, None)
        await writer.flush()
    assert len(list((tmp_path / "store").rglob("*.dcm"))) == 1


async def test_the_pool_grows_to_its_size_and_runs_jobs_in_order(tmp_path: Path) -> None:
    workers, gate, names = Workers("test", 3), threading.Event(), set[str]()
    order: list[int] = []

    def job(number: int) -> None:
        order.append(number)
        names.add(threading.current_thread().name)
        gate.wait(10)

    waiting = [workers.start(lambda number=number: job(number)) for number in range(9)]  # type: ignore[misc]
    gate.set()
    for one in waiting:
        await one
    assert order == list(range(9))
    assert names <= {"test-0", "test-1", "test-2"}
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(lambda: None)


async def test_a_job_that_fails_in_our_code_does_not_take_its_thread_along() -> None:
    workers = Workers("test", 1)
    workers.submit(lambda: 1 // 0)  # type: ignore[arg-type]
    assert await workers.run(lambda: "still here") == "still here"
    workers.close()
