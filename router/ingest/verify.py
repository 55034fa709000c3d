"""`sendrs verify`: prove that store and journal agree. Changes nothing, runs beside a live daemon or without one (D16).

Every row has its file, every file its row, every hash is that of the disk, not of the page cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from router.dicom.part10 import ForeignFile
from router.errors import StorageError
from router.journal import recovery
from router.journal.lock import holder_of
from router.journal.readers import Readers, open_readonly
from router.journal.recovery import FileRow
from router.store.files import STORE_FOLDER
from router.store.listing import Found, check_content, foreign_in_root, list_shard, list_shards, preface_of

IN_HAND_S: Final = 60.0
"""Beside a live daemon, a file without a row that was written to so lately may be an instance just coming in."""
MAX_DIFFERENCES: Final = 1_000
"""Told one by one; beyond, they are only counted."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that does not agree. `file` is relative to the store."""

    file: str
    problem: str


class VerifyReport(msgspec.Struct):
    """What was looked at and what is wrong. `differences` holds the first thousand of `different`."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    in_hand: int = 0
    """Files of a live daemon that are being received, or made ahead."""
    foreign: int = 0
    different: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    daemon: int | None = None
    """Process id of the daemon that was running meanwhile."""

    @property
    def agrees(self) -> bool:
        return self.different == 0

    def differ(self, file: str, problem: str) -> None:
        self.different += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(Difference(file, problem))


Progress = Callable[[VerifyReport], None]


async def verify(
    state: Path, *, hashes: bool = True, progress: Progress | None = None, now: Callable[[], float] = time.time
) -> VerifyReport:
    """Compare the journal of a state folder with its store; `hashes` reads every file whole.

    `progress` is told the report so far after each shard. Raises StorageError when there is nothing to look at.
    """
    root = state / STORE_FOLDER
    report = VerifyReport(daemon=await anyio.to_thread.run_sync(holder_of, state))
    async with open_readonly(state) as readers:
        try:
            shards = set(await anyio.to_thread.run_sync(list_shards, root))
            report.foreign = await anyio.to_thread.run_sync(foreign_in_root, root)
        except OSError as error:
            raise StorageError(f"cannot read {root}: {error.strerror}") from error
        after = ""
        while (shard := await readers.read(partial(recovery.next_shard, after=after))) is not None:
            shards.add(shard)
            after = shard
        for shard in sorted(shards):
            await _Comparison(root, readers, report, hashes, now).compare(shard)
            if progress is not None:
                progress(report)
    return report


class _Comparison:
    """One shard, files first, then rows: what a live daemon adds in between is a row that is looked at again."""

    def __init__(self, root: Path, readers: Readers, report: VerifyReport, hashes: bool, now: Callable[[], float]):
        self._root, self._readers, self._report, self._hashes, self._now = root, readers, report, hashes, now

    async def compare(self, shard: str) -> None:
        found, foreign = await anyio.to_thread.run_sync(list_shard, self._root, shard)
        rows = {row.file: row for row in await self._readers.read(partial(recovery.rows_in_shard, shard=shard))}
        self._report.rows += len(rows)
        self._report.files += len(found)
        self._report.foreign += foreign
        for one in found:
            row = rows.pop(one.file, None)
            if row is None:
                await self._without_row(one)
            else:
                await self._check(row, one.bytes)
        for row in rows.values():
            await self._check(row, None)

    async def _check(self, row: FileRow, size: int | None) -> None:
        expected = row.data_set_offset + row.data_set_bytes
        if not self._hashes and size == expected:
            return
        self._report.bytes += expected
        problem = await anyio.to_thread.run_sync(_problem_with, self._root / row.file, row)
        # a live daemon may have taken an instance back meanwhile that never was acknowledged
        if problem and (row.flushed or await self._readers.read(partial(recovery.has_file, file=row.file))):
            self._report.differ(row.file, problem)

    async def _without_row(self, found: Found) -> None:
        live = self._report.daemon is not None
        if found.bytes == 0 and live:
            self._report.in_hand += 1  # a blank
        elif await self._readers.read(partial(recovery.has_file, file=found.file)):
            self._report.rows += 1  # journalled since; the next run looks at its hash
        elif live and self._now() - found.modified_at < IN_HAND_S:
            self._report.in_hand += 1
        else:
            problem = await anyio.to_thread.run_sync(_what_is, self._root / found.file, found)
            self._report.differ(found.file, problem)


def _problem_with(path: Path, row: FileRow) -> str:
    try:
        check_content(path, row)
    except StorageError as error:
        return str(error).removeprefix(f"{row.file}: ")
    return ""


def _what_is(path: Path, found: Found) -> str:
    """Say what a file without a row is; the next start deals with it."""
    if found.bytes == 0:
        return "empty file without a row"
    try:
        preface = preface_of(path)
    except (ForeignFile, StorageError) as error:
        return f"file without a row: {error}"
    return "unfinished file without a row" if preface.sha256 is None else "whole file without a row"
