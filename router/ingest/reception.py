"""One instance on its way in: facts and chunks become a durable, routed instance, or nothing.

Bytes are all written before they are journalled, flush and commit run side by side, and `accept` waits for both (D1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from router.dicom.envelope import Declared
from router.dicom.header import HeaderScanner
from router.dicom.uids import Uid
from router.errors import Refused, StorageError
from router.ingest.facts import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    Facts,
    is_broken,
    read_facts,
)
from router.journal.acceptance import accept, drop_instance, mark_flushed
from router.journal.journal import Told
from router.journal.outcomes import CommitUnknown
from router.journal.records import Acceptance, Accepted
from router.rules.decision import Decision
from router.store.disk import NoSpace
from router.store.files import StoredFile

if TYPE_CHECKING:
    from router.ingest.visit import Visit

log = structlog.get_logger()

ROOM_CHECK_BYTES: Final = 64 * 1024**2
"""Received between two looks at the free space, within one instance (D7)."""
MAX_DISTRUSTS: Final = 3
"""How often a repeat is journalled anew because the file it would share is not whole."""


class Reception:
    """One instance being received. Exactly one of `accept` and `discard` ends it."""

    __slots__ = (
        "_book",
        "_bytes",
        "_declared",
        "_max_bytes",
        "_next_room_check",
        "_received_at",
        "_scanner",
        "_visit",
        "_writer",
    )

    def __init__(self, visit: Visit, declared: Declared):
        ingest = visit.ingest
        self._visit, self._declared = visit, declared
        self._book = ingest.rules()
        self._received_at = ingest.now()
        wanted = ingest.wanted_by(self._book, declared.sop_class_uid)
        self._scanner = HeaderScanner(declared.transfer_syntax_uid, wanted)
        self._writer = ingest.store.begin(declared, visit.source, self._received_at)
        self._bytes = 0
        self._max_bytes = ingest.config.dicom.max_instance_bytes
        self._next_room_check = ROOM_CHECK_BYTES

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take bytes of the data set; they are copied. Raises Refused (too large, disk full) or StorageError; then
        `discard`.
        """
        self._bytes += len(chunk)
        if self._bytes > self._max_bytes:
            raise Refused(OUT_OF_RESOURCES, f"data set exceeds {self._max_bytes} bytes")
        if self._bytes > self._next_room_check:
            self._next_room_check = self._bytes + ROOM_CHECK_BYTES
            if shortage := self._visit.ingest.room.shortage():
                raise Refused(OUT_OF_RESOURCES, shortage)
        if not self._scanner.done:
            self._scanner.feed(chunk)
        try:
            await self._writer.write(chunk)
        except NoSpace as error:
            raise Refused(OUT_OF_RESOURCES, "no space left") from error

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        """Check, decide, make durable, journal. When it returns, the sender may hear Success.

        `study_instance_uid` is the one that the data set must have (STOW to /studies/{study}). Raises Refused with
        the status for the sender (PS3.4 Table B.2-1), or StorageError; the instance is then gone, unless nobody
        knows whether it was journalled (CommitUnknown): then the next start will see.
        """
        # once begun it runs to its end, which takes a flush and a commit: all of it is there afterwards, or nothing
        with anyio.CancelScope(shield=True):
            try:
                facts, decision = self._judge(study_instance_uid)
                visit = self._visit
                complete = visit.prepare(self._declared, visit.source, self._received_at, facts, decision)
            except BaseException:
                await self._writer.discard()
                raise
            await self._store(complete, wanted=bool(decision.routes or decision.votes))

    async def discard(self) -> None:
        """Leave nothing behind: the sender broke off. Never raises."""
        with anyio.CancelScope(shield=True):
            await self._writer.discard()

    def _judge(self, study_instance_uid: Uid | None) -> tuple[Facts, Decision]:
        """Check the header and ask the rules."""
        if self._bytes == 0:
            raise Refused(DOES_NOT_MATCH, "empty data set")
        header = self._scanner.finish()
        ingest = self._visit.ingest
        odd_uids = ingest.config.dicom.accept_odd_uids
        facts = read_facts(self._declared, header, study_instance_uid, odd_uids=odd_uids, memory=ingest.memory)
        decision = self._book.decide(self._visit.source, header)
        if decision.problem and is_broken(header):
            raise Refused(CANNOT_UNDERSTAND, header.problem or "data set cannot be understood")
        return facts, decision

    async def _store(self, complete: Callable[[StoredFile], Acceptance], *, wanted: bool) -> None:
        """Write, then journal while the flush goes on, on the threads that do it; wait for both."""
        visit, writer = self._visit, self._writer
        ingest = visit.ingest
        journalled: list[Acceptance] = []

        def journal(stored: StoredFile, told: Told) -> None:
            """Journal the instance: all its bytes are in the file by now. Runs on a thread of the store."""
            ingest.unflushed[stored.file] = writer
            acceptance = complete(stored)
            journalled.append(acceptance)
            ingest.journal.hand_in(partial(accept, acceptance=acceptance), told)

        try:
            accepted = await writer.finish_beside(journal, wanted=wanted)
            [acceptance] = journalled
            accepted = await self._trust(accepted, acceptance)
        except CommitUnknown:
            raise  # nothing is deleted: the next start sees what became of the transaction
        except Exception as error:
            # nothing was written. (A cancellation is no Exception: its transaction is committed all the same.)
            for acceptance in journalled:
                del ingest.unflushed[acceptance.instance.file]
            await writer.discard()
            if isinstance(error, NoSpace):
                raise Refused(OUT_OF_RESOURCES, "no space left") from error
            raise
        if accepted.coalesced:
            del ingest.unflushed[acceptance.instance.file]
            await writer.discard()
        else:
            await self._wait_for_flush(accepted, acceptance.instance.file)
        visit.accepted(acceptance, accepted)

    async def _trust(self, accepted: Accepted, acceptance: Acceptance) -> Accepted:
        """Let a repeat share the earlier file only when that is whole and on the disk; else journal it anew."""
        ingest = self._visit.ingest
        for _ in range(MAX_DISTRUSTS):
            if not accepted.coalesced or await self._is_safe(accepted, acceptance):
                return accepted
            log.error("stored file lost or damaged, a repeat takes its place", file=accepted.file)
            accepted = await ingest.journal.write(partial(accept, acceptance=acceptance, distrusted_file=accepted.file))
        raise StorageError(f"no sound file for {acceptance.instance.declared.sop_instance_uid}")

    async def _is_safe(self, accepted: Accepted, acceptance: Acceptance) -> bool:
        """Whether the file of an earlier instance with the same content can stand for this one."""
        ingest = self._visit.ingest
        earlier = ingest.unflushed.get(accepted.file)
        if earlier is not None:
            try:
                await earlier.flush()
            except StorageError:
                return False
            return True
        instance = acceptance.instance
        return await ingest.store.holds(
            StoredFile(accepted.file, accepted.data_set_offset, instance.data_set_bytes, instance.data_set_sha256)
        )

    async def _wait_for_flush(self, accepted: Accepted, file: str) -> None:
        """Wait until the file is on the disk; if it does not get there, take the instance back."""
        ingest = self._visit.ingest
        try:
            await self._writer.flush()
        except StorageError:
            # stays in `unflushed` until its row is gone, so that no repeat ever relies on it
            await ingest.journal.write(partial(drop_instance, file=file))
            del ingest.unflushed[file]
            raise
        del ingest.unflushed[file]
        ingest.journal.post(partial(mark_flushed, instance_ids=(accepted.instance_id,)))
