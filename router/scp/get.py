"""C-GET as SCP (PS3.4 §C.4.3.3): C-STORE sub-operations on the same association, one after the other.

The requestor is the Storage SCP of those classes for which it was granted that role. Nothing is journalled: what is
asked for goes with the association, and ends with it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from router.config.model import Config
from router.dicom.status import Verdict, store_status
from router.dicom.uids import Uid
from router.dimse.commands import C_GET_RQ, C_STORE_RQ
from router.dimse.events import Command, NegotiatedContext, Roles
from router.errors import StorageError
from router.scp.escape import printable
from router.scp.get_content import NotSendable, can_go_as, content_of
from router.scp.retrieve_search import MODELS, UNABLE_TO_PROCESS, RetrieveRefused, RetrieveSearch
from router.scp.service import Exchange, Invocation
from router.scp.sub_operations import Counters, cancelled, failed_list, final, pending
from router.search import Index, StoredInstance
from router.search.non_patient import NonPatientIndex
from router.store.files import Store

log = structlog.get_logger()

LOCATED_AT_ONCE: Final = 500
"""Instances looked up in the journal by one query."""

Locate = Callable[[Sequence[int]], Awaitable[list[StoredInstance]]]
"""Gives instances by the row ids of a match set, in their order."""


class _Tally:
    """Counts sub-operations, and names those that failed."""

    def __init__(self, total: int):
        self.counters = Counters(total)
        self.failed: dict[Uid, None] = {}

    def add(self, instance: StoredInstance, verdict: Verdict) -> None:
        before = self.counters
        match verdict:
            case Verdict.COMPLETED:
                after = msgspec.structs.replace(before, completed=before.completed + 1)
            case Verdict.WARNING:
                after = msgspec.structs.replace(before, warning=before.warning + 1)
            case _:
                after = msgspec.structs.replace(before, failed=before.failed + 1)
                self.failed[instance.sop_instance_uid] = None
        self.counters = msgspec.structs.replace(after, remaining=before.remaining - 1)


class GetService:
    """C-GET of Patient Root, Study Root and the non-patient models. `config` gives the configuration in force."""

    def __init__(
        self,
        index: Index,
        non_patient: NonPatientIndex,
        store: Store,
        locate: Locate,
        config: Callable[[], Config],
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        models = {model.get: model for model in MODELS}
        self.sop_classes: Mapping[Uid, frozenset[int]] = {sop_class: frozenset({C_GET_RQ}) for sop_class in models}
        self._search = RetrieveSearch(models, index, non_patient)
        self._store, self._locate, self._config, self._clock = store, locate, config, clock

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Grant relational retrieval."""
        return self._search.grant(sop_class, offered)

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """The requestor is the SCU."""
        return Roles(proposed.scu, scp=False)

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Store what is asked for to the requestor and say how far it is."""
        request = invocation.command
        try:
            matched = await self._search.match(invocation)
        except RetrieveRefused as refusal:
            log.warning(
                "C-GET refused",
                peer=invocation.peer_address,
                calling_aet=printable(invocation.calling_aet),
                answer=f"{refusal.status:04X}",
                why=printable(refusal.words, 200),
            )
            await exchange.respond(refusal.response(request))
            return
        tally = _Tally(len(matched.instance_ids))
        every_s, told_at = self._config().dicom.move_pending_s, self._clock()
        try:
            async for instance in self._instances(matched.instance_ids):
                if exchange.cancelled.is_set():
                    break
                if every_s and self._clock() - told_at >= every_s:
                    told_at = self._clock()
                    await exchange.respond(pending(request, tally.counters))
                tally.add(instance, await self._store_one(instance, request, exchange))
        except StorageError as error:
            log.error("C-GET broken off, the journal cannot be read", problem=str(error))
            unable = RetrieveRefused(UNABLE_TO_PROCESS, "the archive cannot be read just now")
            await exchange.respond(unable.response(request))
            return
        await self._end(tally, invocation, exchange)

    async def _instances(self, instance_ids: Sequence[int]) -> AsyncIterator[StoredInstance]:
        for start in range(0, len(instance_ids), LOCATED_AT_ONCE):
            for instance in await self._locate(instance_ids[start : start + LOCATED_AT_ONCE]):
                yield instance

    async def _store_one(self, instance: StoredInstance, request: Command, exchange: Exchange) -> Verdict:
        """Store one instance to the requestor; raises only what ends the association."""
        context = _context_for(instance, exchange)
        if context is None:
            log.info(
                "C-GET: no presentation context for an instance",
                sop_class_uid=instance.sop_class_uid,
                transfer_syntax_uid=instance.transfer_syntax_uid,
            )
            return Verdict.NEVER
        try:
            content = await content_of(self._store, instance, context.transfer_syntax)
        except NotSendable as why:
            log.error("instance not sent", sop_instance_uid=instance.sop_instance_uid, problem=str(why))
            return Verdict.NEVER
        store = Command(
            C_STORE_RQ,
            affected_sop_class_uid=instance.sop_class_uid,
            affected_sop_instance_uid=instance.sop_instance_uid,
            priority=request.priority or 0,
            has_data_set=True,
        )
        answer = await exchange.invoke(context.context_id, store, content)
        return Verdict.UNCERTAIN if answer.status is None else store_status(answer.status).verdict

    async def _end(self, tally: _Tally, invocation: Invocation, exchange: Exchange) -> None:
        request, counters = invocation.command, tally.counters
        if not exchange.cancelled.is_set():  # what is no longer there has failed (O-24)
            counters = msgspec.structs.replace(counters, remaining=0, failed=counters.failed + counters.remaining)
        response = cancelled(request, counters) if counters.remaining else final(request, counters)
        log.info(
            "C-GET ended",
            peer=invocation.peer_address,
            calling_aet=printable(invocation.calling_aet),
            answer=f"{response.status:04X}",
            completed=counters.completed,
            warning=counters.warning,
            failed=counters.failed,
            cancelled=counters.remaining,
        )
        await exchange.respond(response, failed_list(list(tally.failed), invocation.context.transfer_syntax))


def _context_for(instance: StoredInstance, exchange: Exchange) -> NegotiatedContext | None:
    """Choose among the contexts in which the requestor is the SCP: as stored, or else converted."""
    sop_class = instance.sop_class_uid
    roles = exchange.roles.get(sop_class)
    if roles is None or not roles.scp:
        return None
    usable = [
        context
        for context in exchange.contexts.values()
        if context.result == 0
        and context.abstract_syntax == sop_class
        and can_go_as(instance.transfer_syntax_uid, context.transfer_syntax)
    ]
    usable.sort(key=lambda context: context.transfer_syntax != instance.transfer_syntax_uid)
    return usable[0] if usable else None
