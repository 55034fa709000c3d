"""The way in, for both fronts: facts and chunks become a durable, routed instance, or nothing.

A `Visit` is one association or one STOW request; a `Reception` is one instance within it. Fronts know nothing else
of the core. Bytes are all written before they are journalled, flush and commit run side by side, and `accept` waits
for both (D1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

import anyio
import structlog

from router.config.model import Config
from router.dicom.attributes import INDEX_PATHS, AttributePath
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header, HeaderScanner
from router.dicom.uids import Uid, new_uid
from router.errors import Refused, StorageError
from router.ingest.facts import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    Facts,
    RowMemory,
    check_declared,
    is_broken,
    joined,
    read_facts,
)
from router.ingest.room import Room
from router.journal import requests
from router.journal.acceptance import accept, drop_instance, mark_flushed
from router.journal.journal import Journal, Told
from router.journal.records import Acceptance, Accepted, QuietUnitRow, RouteRow
from router.journal.writer import CommitUnknown
from router.rules.decision import Decision
from router.store.disk import NoSpace
from router.store.files import Store, StoredFile, Writer

log = structlog.get_logger()

ROOM_CHECK_BYTES: Final = 64 * 1024**2
"""Received between two looks at the free space, within one instance (D7)."""
MAX_DISTRUSTS: Final = 3
"""How often a repeat is journalled anew because the file it would share is not whole."""

Wake = Callable[[Iterable[str]], None]
"""Told the names of destinations that have something new. A hint."""


class Rules(Protocol):
    """What is asked of a rule book."""

    @property
    def wanted(self) -> frozenset[AttributePath]: ...

    def decide(self, source: Source, header: Header) -> Decision: ...


class Ingest:
    """The one door in. `rules` gives the book that is in force just now; `now` Unix seconds."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        rules: Callable[[], Rules],
        config: Config,
        wake: Wake,
        *,
        now: Callable[[], float] = time.time,
        room: Room | None = None,
    ):
        self.store, self.journal, self.rules, self.wake, self.now = store, journal, rules, wake, now
        self.config = config
        self.room = room or Room(config.state.path, config.state.min_free_bytes)
        self.unflushed: dict[str, Writer] = {}
        """Files that are journalled, or about to be, and not known to be on the disk."""
        self.memory = RowMemory()
        self._book: Rules | None = None
        self._wanted = INDEX_PATHS

    def open_visit(self, source: Source) -> Visit:
        return Visit(self, source)

    def replace(self, config: Config) -> None:
        """Go over to new limits; the state folder stays the one that was opened."""
        self.config = config
        self.room.min_free_bytes = config.state.min_free_bytes

    def has_room(self) -> bool:
        """Whether new associations and requests should be let in: free space above the floor. Cached for 200 ms."""
        return not self.room.shortage()

    def wanted_by(self, book: Rules) -> frozenset[AttributePath]:
        """What a scan must keep for the index and this book."""
        if book is not self._book:
            self._book, self._wanted = book, INDEX_PATHS | book.wanted
        return self._wanted


class Visit:
    """What one sender brings in one association or request; its send requests close with it."""

    def __init__(self, ingest: Ingest, source: Source):
        self.ingest, self.source = ingest, source
        self._requests: dict[tuple[str, str], Uid] = {}
        self._opened: set[Uid] = set()

    def receive(self, declared: Declared) -> Reception:
        """Begin an instance. Raises Refused (bad UIDs, no room on the disk)."""
        check_declared(declared, odd_uids=self.ingest.config.dicom.accept_odd_uids)
        if shortage := self.ingest.room.shortage():
            raise Refused(OUT_OF_RESOURCES, shortage)
        return Reception(self, declared)

    def acceptance(
        self,
        declared: Declared,
        source: Source,
        received_at: float,
        facts: Facts,
        decision: Decision,
        stored: StoredFile,
    ) -> Acceptance:
        """Put all together that is journalled of one instance that is stored already."""
        return self.prepare(declared, source, received_at, facts, decision)(stored)

    def prepare(
        self, declared: Declared, source: Source, received_at: float, facts: Facts, decision: Decision
    ) -> Callable[[StoredFile], Acceptance]:
        """Put all together that is journalled of one instance, but for where it is stored: what is given adds that, on
        any thread. Each rule and destination has one send request a visit.
        """
        ingest, note = self.ingest, facts.note
        if decision.problem:
            log.error("rules not sure", problem=decision.problem, sop_instance_uid=declared.sop_instance_uid)
            note = joined(note, decision.problem)
        known = self._requests
        routes = []
        for route in decision.routes:
            uid = known.get((route.rule, route.destination))
            if uid is None:
                uid = known[route.rule, route.destination] = new_uid()
            routes.append(RouteRow(route.rule, route.destination, uid))
        due_at = ingest.now() + ingest.config.rules.quiet_period_s if decision.votes else 0.0
        units = tuple(
            QuietUnitRow(vote.rule, vote.level, vote.destinations, vote.matched, vote.vetoed, due_at)
            for vote in decision.votes
        )

        def complete(stored: StoredFile) -> Acceptance:
            instance = facts.instance_row(declared, source, received_at, stored, note)
            return Acceptance(facts.study, facts.series, instance, tuple(routes), units)

        return complete

    def accepted(self, acceptance: Acceptance, accepted: Accepted) -> None:
        """Remember which send requests there are now, tell of a conflict, wake the lanes."""
        for route in acceptance.routes:
            if route.destination in accepted.destinations:
                self._opened.add(route.transaction_uid)
        if accepted.conflict:
            log.warning(
                "sop instance uid conflict, both are kept",
                sop_instance_uid=acceptance.instance.declared.sop_instance_uid,
                file=accepted.file,
                sha256=acceptance.instance.data_set_sha256.hex(),
            )
        if accepted.destinations:
            self.ingest.wake(accepted.destinations)

    async def close(self) -> None:
        """Close the send requests that this visit opened. Never raises."""
        opened, self._opened = tuple(self._opened), set()
        if not opened:
            return
        with anyio.CancelScope(shield=True):
            try:
                await self.ingest.journal.write(partial(requests.close, transaction_uids=opened, now=self.ingest.now()))
            except StorageError as error:
                log.error("send requests not closed, the next start will", problem=str(error), count=len(opened))


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
        self._scanner = HeaderScanner(declared.transfer_syntax_uid, ingest.wanted_by(self._book))
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
            await self._store(complete)

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

    async def _store(self, complete: Callable[[StoredFile], Acceptance]) -> None:
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
            accepted = await writer.finish_beside(journal)
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
