"""L0: the n-th disk operation fails, for every n, once or for ever. What was acknowledged is intact, always."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from ingest_harness import Core, FaultyDisk, data_set, open_core
from peers import require

from router.errors import Refused, StorageError
from router.ingest.verify import verify
from router.journal.journal import Journal
from router.journal.outcomes import CommitUnknown
from router.store.disk import SystemDisk

FAULTS = [
    pytest.param(errno.EIO, False, id="EIO once"),
    pytest.param(errno.EIO, True, id="EIO for ever"),
    pytest.param(errno.ENOSPC, False, id="ENOSPC once"),
    pytest.param(errno.ENOSPC, True, id="ENOSPC for ever"),
]


async def _acknowledged(core: Core, contents: dict[str, bytes]) -> set[str]:
    """Send each twice, as a sender does that heard a failure; give those that were acknowledged."""
    heard = set()
    for uid, content in contents.items():
        for _ in range(2):
            try:
                await core.send(uid, content, chunk=100_000)
            except (Refused, StorageError):
                continue
            heard.add(uid)
            break
    return heard


async def _assert_kept(state: Path, contents: dict[str, bytes], heard: set[str]) -> None:
    """After a restart on a sound disk: acknowledged means intact and to be sent, and nothing disagrees."""
    async with open_core(state) as core:
        assert core.swept.lost_after_ack == 0
        files = core.files()
        rows = await core.rows("SELECT sop_instance_uid, file, data_set_offset FROM instance WHERE superseded = 0")
        kept = {uid: files[file][offset:] for uid, file, offset in rows}
        waiting = {row[0] for row in await core.rows("SELECT sop_instance_uid FROM sub_operation")}
    for uid in heard:
        assert kept[uid] == contents[uid]
        assert uid in waiting
    report = await verify(state)
    assert report.differences == []


@pytest.mark.parametrize(("code", "forever"), FAULTS)
async def test_f16_f18_whatever_disk_operation_fails_an_acknowledged_instance_is_intact(
    tmp_path: Path, code: int, forever: bool
) -> None:
    small = data_set("1.2.9.1")
    large = data_set("1.2.9.2", pixels=bytes(range(256)) * 2400)
    contents = {"1.2.9.1": small, "1.2.9.2": large}
    reached = 0
    for fail_at in itertools.count(1):
        state = tmp_path / str(fail_at)
        disk = FaultyDisk(only=("pwrite", "fdatasync", "close", "unlink", "rename"))
        async with open_core(state, disk=disk) as core:
            # blanks are there before anything can fail; their own faults have a test below
            disk.count, disk.fail_at, disk.code, disk.forever = 0, fail_at, code, forever
            heard = await _acknowledged(core, contents)
            reached = disk.count
        await _assert_kept(state, contents, heard)
        shutil.rmtree(state)
        if not disk.failed or fail_at > 40:
            break
    assert reached >= 8, "both instances went through"
    assert heard == set(contents) or forever


@pytest.mark.parametrize("operation", ["open", "fsync", "mkdir"])
async def test_f15_when_no_file_can_be_created_the_sender_hears_out_of_resources(
    tmp_path: Path, operation: str
) -> None:
    disk = FaultyDisk(only=(operation,))
    async with open_core(tmp_path, disk=disk) as core:
        disk.count, disk.fail_at, disk.code, disk.forever = 0, 1, errno.ENOSPC, True
        with pytest.raises(Refused) as refused:
            await core.send("1.2.9.1")
        assert refused.value.status == 0xA700
        disk.fail_at = 0
        disk.forever = False
        await core.send("1.2.9.1")  # space is back


async def test_f12_a_full_disk_refuses_the_instance_and_the_next_small_one_is_stored(tmp_path: Path) -> None:
    disk = FaultyDisk(only=("pwrite",))
    async with open_core(tmp_path, disk=disk) as core:
        disk.count, disk.fail_at, disk.code = 0, 2, errno.ENOSPC
        with pytest.raises(Refused) as refused:
            await core.send("1.2.9.1", data_set("1.2.9.1", pixels=bytes(1_000_000)))
        assert refused.value.status == 0xA700
        assert core.files() == {}
        await core.send("1.2.9.2")
        assert len(core.files()) == 1
    assert list((tmp_path / "suspect").iterdir()) == []


async def test_f16_a_file_whose_flush_failed_is_set_aside_and_never_flushed_again(tmp_path: Path) -> None:
    disk = FaultyDisk(only=("fdatasync",))
    async with open_core(tmp_path, disk=disk) as core:
        disk.count, disk.fail_at, disk.code = 0, 1, errno.EIO
        with pytest.raises(StorageError):
            await core.send("1.2.9.1")
        assert await core.rows("SELECT count(*) FROM instance") == [(0,)], "its row was taken back"
        assert await core.rows("SELECT count(*) FROM sub_operation") == [(0,)]
        assert core.files() == {}
        assert core.ingest.unflushed == {}
    assert disk.count == 1
    assert len(list((tmp_path / "suspect").iterdir())) == 1


class GatedDisk(SystemDisk):
    """Flushes nothing before `gate` opens, and then fails for the file `bad`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.bad = ""
        self.fdatasync = self._fdatasync  # type: ignore[method-assign]

    def _fdatasync(self, fd: int) -> None:
        self.gate.wait(10)
        if str(Path(f"/proc/self/fd/{fd}").readlink()).endswith(self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


async def test_a_repeat_beside_a_failing_flush_is_acknowledged_only_with_a_file_of_its_own(tmp_path: Path) -> None:
    """Four senders bring the same instance at once: one row. When its file does not reach the disk, it must not
    count.
    """
    disk = GatedDisk()
    outcomes: list[str] = []

    async def send(core: Core) -> None:
        try:
            await core.send("1.2.9.1")
            outcomes.append("acknowledged")
        except StorageError:
            outcomes.append("failed")

    async with open_core(tmp_path, disk=disk) as core:
        async with anyio.create_task_group() as senders:
            for _ in range(4):
                senders.start_soon(send, core)
            rows: list[tuple[Any, ...]] = []
            while not rows:
                rows = await core.rows("SELECT file FROM instance")
            disk.bad = rows[0][0]
            disk.gate.set()
        assert core.ingest.unflushed == {}
    assert sorted(outcomes) == ["acknowledged"] * 3 + ["failed"]
    await _assert_kept(tmp_path, {"1.2.9.1": data_set("1.2.9.1")}, {"1.2.9.1"})


async def test_a_journal_that_refuses_the_transaction_leaves_no_file(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.journal.write(lambda conn: conn.execute("ALTER TABLE quiet_unit RENAME TO elsewhere").rowcount)
        await core.journal.write(
            lambda conn: conn.execute("ALTER TABLE instance RENAME COLUMN note TO remark").rowcount
        )
        with pytest.raises(StorageError):
            await core.send("1.2.9.1")
        assert core.files() == {}
        assert core.ingest.unflushed == {}


async def test_the_bytes_are_in_the_file_when_the_row_is_committed(tmp_path: Path) -> None:
    """D2: kill -9 between any two steps leaves no row without its bytes."""
    async with open_core(tmp_path) as core:
        seen: list[bool] = []
        conn = core.journal._writer._writing
        execute = conn.execute

        def watched(sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                rows = execute("SELECT file, data_set_offset + data_set_bytes FROM instance").fetchall()
                seen.append(all(core.store.path_of(file).stat().st_size == size for file, size in rows))
            return execute(sql, *arguments)

        conn.execute = watched  # type: ignore[method-assign]
        for number in range(20):
            await core.send(f"1.2.9.{number + 1}")
    assert all(seen)
    assert len(seen) >= 20


STRACED = """
    import asyncio, os, sys
    from pathlib import Path
    sys.path[:0] = {paths!r}
    from ingest_harness import data_set, open_core

    async def main() -> None:
        async with open_core(Path({state!r})) as core:
            await core.send("1.2.9.1")          # the stock of blanks is there now
            os.write(2, b"begin\\n")
            await core.send("1.2.9.2")
            os.write(2, b"answered\\n")

    asyncio.run(main())
"""


def test_l1_the_kernel_sees_folder_and_file_and_journal_flushed_before_the_answer(tmp_path: Path) -> None:
    """L1: what the process really asks of the kernel, in which order."""
    require("strace")
    root = Path(__file__).parents[3]
    script = tmp_path / "straced.py"
    state = tmp_path / "state"
    script.write_text(textwrap.dedent(STRACED.format(paths=[str(root), str(Path(__file__).parent)], state=str(state))))
    trace = tmp_path / "trace"
    calls = "openat,write,pwrite64,fdatasync,fsync,unlink"
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not attach here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if '"begin\\n"' in line)
    answered = next(i for i, line in enumerate(lines) if '"answered\\n"' in line)
    during = lines[begin:answered]
    written = next(line for line in during if "pwrite64(" in line and "/store/" in line)
    name = written.split("/store/")[1].split(">")[0]
    wrote = during.index(written)
    flushed = next(i for i, line in enumerate(during) if "fdatasync(" in line and name in line)
    journalled = next(i for i, line in enumerate(during) if "pwrite64(" in line and "journal.db-wal" in line)
    committed = next(i for i, line in enumerate(during) if "fdatasync(" in line and "journal.db-wal" in line)
    assert wrote < flushed
    assert wrote < journalled < committed
    created = next(i for i, line in enumerate(lines) if "openat(" in line and name in line)
    named = next(
        i for i, line in enumerate(lines) if i > created and "fsync(" in line and f"/store/{name[:6]}>" in line
    )
    assert created < named < begin + wrote, "the name was durable before anything was written under it"


async def test_f18_a_commit_whose_outcome_is_unknown_is_not_acknowledged_and_deletes_nothing(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await core.send("1.2.9.1")
        _fail_next_commit(core.journal)
        with pytest.raises(CommitUnknown):
            await core.send("1.2.9.2")
        assert len(core.files()) == 2, "its bytes stay: the transaction may be on the disk"
        await core.send("1.2.9.3")  # the journal was opened again
        await core.send("1.2.9.2")  # the sender tries again
    contents = {uid: data_set(uid) for uid in ("1.2.9.1", "1.2.9.2", "1.2.9.3")}
    await _assert_kept(tmp_path, contents, set(contents))


def _fail_next_commit(journal: Journal) -> None:
    """Make the writing connection fail its next COMMIT as a failed fdatasync of the log does."""
    conn = journal._writer._writing
    execute = conn.execute

    def failing(sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return execute(sql, *arguments)

    conn.execute = failing  # type: ignore[method-assign]
