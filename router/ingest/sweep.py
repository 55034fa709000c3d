"""At start: bring store and journal into agreement, before anybody may come in (D8, D10).

Files are adopted or put aside, never forgotten; rows whose file never was acknowledged are dropped, the others
raise an alarm. Run again after a crash in the middle of it, it comes to the same end.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
import structlog

from router.dicom.envelope import Source
from router.dicom.part10 import ForeignFile, StoredPreface
from router.errors import Refused, StorageError
from router.ingest.adoption import adopt
from router.ingest.visit import Ingest, Visit
from router.journal import recovery, requests
from router.journal.acceptance import drop_instance, mark_flushed
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.recovery import FileRow
from router.store.files import Store, StoredFile
from router.store.listing import Found
from router.store.reading import DamagedFile

log = structlog.get_logger()

CLOCK_GRAIN_S: Final = 2
"""Times of files and of the last start are compared this coarsely."""


class SweepReport(msgspec.Struct):
    """What a sweep found and did, in counts. `lost_after_ack` must be 0 on honest hardware."""

    files: int = 0
    adopted: int = 0
    """Whole files that no row pointed to; the rules decided anew."""
    duplicates: int = 0
    """Whole files whose content another file holds; removed."""
    blanks: int = 0
    unfinished: int = 0
    """Files that were being received when the last run ended; removed."""
    put_aside: int = 0
    """Files now in lost+found/: unfinished ones from before, damaged ones, ones that cannot be understood."""
    foreign: int = 0
    confirmed: int = 0
    """Rows whose file was not yet known to be on the disk, and is."""
    dropped: int = 0
    """Rows whose file is not whole and was never acknowledged."""
    lost_after_ack: int = 0
    in_flight: int = 0
    requests_closed: int = 0

    def counts(self) -> dict[str, int]:
        """All counts by name, for one log line."""
        return msgspec.structs.asdict(self)


async def sweep(store: Store, journal: Journal, ingest: Ingest) -> SweepReport:
    """Bring store and journal into agreement. Nobody else may use either yet. Raises StorageError."""
    report = SweepReport()
    now, longest_wait_s = ingest.now(), ingest.config.sending.backoff_cap_s
    report.in_flight = await journal.write(
        partial(recovery.take_back_in_flight, now=now, longest_wait_s=longest_wait_s)
    )
    report.requests_closed = await journal.write(partial(requests.close_all, now=now))
    shards, report.foreign = await store.shards()
    # adopted instances of all senders share one send request for each rule and destination
    visit = ingest.open_visit(Source("C-STORE", "sweep"))
    for shard in sorted({*shards, *await _shards_of_rows(journal)}):
        await _Shard(store, journal, visit, report).sweep(shard)
    await visit.close()
    return report


async def _shards_of_rows(journal: Journal) -> list[str]:
    shards: list[str] = []
    while (shard := await journal.read(partial(recovery.next_shard, after=shards[-1] if shards else ""))) is not None:
        shards.append(shard)
    return shards


class _Shard:
    """One folder and the rows that point into it."""

    def __init__(self, store: Store, journal: Journal, visit: Visit, report: SweepReport):
        self._store, self._journal, self._visit, self._report = store, journal, visit, report
        self._confirmed: list[int] = []
        self._dropped: list[str] = []
        self._lost: list[int] = []

    async def sweep(self, shard: str) -> None:
        rows = {row.file: row for row in await self._journal.read(partial(recovery.rows_in_shard, shard=shard))}
        found, foreign = await self._store.list_shard(shard)
        self._report.files += len(found)
        self._report.foreign += foreign
        without_row = []
        for one in found:
            row = rows.pop(one.file, None)
            if row is None:
                without_row.append(one)
            elif not row.flushed or one.bytes != row.data_set_offset + row.data_set_bytes:
                await self._check(row)
        for row in rows.values():
            self._missing(row)
        await self._write_down()
        if without_row:
            await self._store.sync_shard(shard)
            for one in without_row:
                await self._adopt(one)

    async def _check(self, row: FileRow) -> None:
        """Make sure of a file that may not be on the disk, or does not look right."""
        try:
            await self._store.confirm(row)
        except DamagedFile as damage:
            log.error("stored file damaged", file=row.file, problem=damage.problem, acknowledged=row.flushed)
            self._missing(row)
            await self._put_aside(row.file)
        else:
            if not row.flushed:
                self._confirmed.append(row.instance_id)

    def _missing(self, row: FileRow) -> None:
        if not row.flushed:
            self._dropped.append(row.file)
        elif not row.known_lost:
            log.critical("lost after acknowledgement", alarm="lost_after_ack", file=row.file)
            self._lost.append(row.instance_id)

    async def _write_down(self) -> None:
        confirmed, dropped, lost, now = self._confirmed, self._dropped, self._lost, self._visit.ingest.now()
        if not (confirmed or dropped or lost):
            return

        def operation(conn: WritingConnection) -> None:
            mark_flushed(conn, confirmed)
            for file in dropped:
                drop_instance(conn, file)
            recovery.mark_lost(conn, lost, now=now)

        await self._journal.write(operation)
        self._report.confirmed += len(confirmed)
        self._report.dropped += len(dropped)
        self._report.lost_after_ack += len(lost)

    async def _adopt(self, found: Found) -> None:
        """Decide about a file that no row points to."""
        if found.bytes == 0:
            await self._store.remove(found.file)
            self._report.blanks += 1
            return
        try:
            preface = await self._store.preface_of(found.file)
        except ForeignFile as error:
            await self._put_aside(found.file, str(error))
            return
        if preface.sha256 is None:
            await self._unfinished(found)
            return
        await self._adopt_whole(found, preface, preface.sha256)

    async def _unfinished(self, found: Found) -> None:
        if found.modified_at >= self._journal.opened.last_start - CLOCK_GRAIN_S:
            await self._store.remove(found.file)
            self._report.unfinished += 1
        else:
            await self._put_aside(found.file, "unfinished, and older than the last run")

    async def _adopt_whole(self, found: Found, preface: StoredPreface, sha256: bytes) -> None:
        stored = StoredFile(found.file, preface.data_set_offset, preface.data_set_bytes, sha256)
        try:
            await self._store.confirm(stored)
            accepted = await adopt(self._visit, self._store, preface, stored)
        except (DamagedFile, Refused) as error:
            await self._put_aside(found.file, str(error))
            return
        if accepted.coalesced:
            await self._store.remove(found.file)
            self._report.duplicates += 1
        else:
            log.info("file adopted", file=found.file, sop_instance_uid=preface.declared.sop_instance_uid)
            self._report.adopted += 1

    async def _put_aside(self, file: str, problem: str = "") -> None:
        try:
            await self._store.put_aside(file)
        except StorageError as error:
            log.error("file not put aside", file=file, problem=str(error))
            return
        log.warning("file put aside", file=file, problem=problem)
        self._report.put_aside += 1
