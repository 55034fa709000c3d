"""The way in, for both fronts: a `Visit` is one association or one STOW request, with the send requests it opens.

Fronts know nothing else of the core. What becomes of one instance is in `reception`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import anyio
import structlog

from router.config.model import Config
from router.dicom.attributes import INDEX_PATHS, AttributePath
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header
from router.dicom.uids import Uid, new_uid
from router.errors import Refused, StorageError
from router.ingest.facts import (
    OUT_OF_RESOURCES,
    Facts,
    RowMemory,
    check_declared,
    joined,
)
from router.ingest.non_patient_facts import wanted_of
from router.ingest.reception import Reception
from router.ingest.room import Room
from router.journal import requests
from router.journal.journal import Journal
from router.journal.records import Acceptance, Accepted, QuietUnitRow, RouteRow
from router.rules.decision import Decision
from router.store.files import Store, StoredFile, Writer

log = structlog.get_logger()

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

    def wanted_by(self, book: Rules, sop_class_uid: Uid) -> frozenset[AttributePath]:
        """What a scan must keep for the index and this book."""
        if book is not self._book:
            self._book, self._wanted = book, INDEX_PATHS | book.wanted
        return self._wanted | keys if (keys := wanted_of(sop_class_uid)) else self._wanted


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
            return Acceptance(facts.study, facts.series, instance, tuple(routes), units, facts.non_patient)

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
