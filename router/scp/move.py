"""C-MOVE as SCP (PS3.4 §C.4.2.3): a send request like any other, reported to its SCU until nothing remains of it.

The sub-operations are those of the destination's lane: on other associations, by the mechanisms that it is configured
for. When the association of the C-MOVE is lost they go on (REQ-122): what was asked for is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

import structlog

from router.config.model import Config, Destination
from router.config.titles import with_ae_title
from router.dicom.uids import AETitle, Uid, new_uid
from router.dimse.commands import C_MOVE_RQ
from router.dimse.events import Command, Roles
from router.errors import PeerError, StorageError
from router.scp.escape import printable
from router.scp.retrieve_search import (
    MODELS,
    MOVE_DESTINATION_UNKNOWN,
    UNABLE_TO_PROCESS,
    Matched,
    RetrieveRefused,
    RetrieveSearch,
)
from router.scp.service import Exchange, Invocation
from router.scp.sub_operations import Counters, cancelled, failed_list, final, pending
from router.search import Index
from router.search.non_patient import NonPatientIndex
from router.sending.requests import Progress, SendRequest, SendRequests

log = structlog.get_logger()

PRIORITIES: Final = (0, 1, 2)
"""MEDIUM, HIGH, LOW (PS3.7 §9.3.4.1)."""
_MOVE_DESTINATION: Final = 0x0000_0600


def principal_of_aet(ae_title: AETitle) -> str:
    """Name who asked by DIMSE, as the journal does: as no caller over the web is ever named (`web.principal`)."""
    return f"aet:{ae_title}"


class MoveService:
    """C-MOVE of Patient Root, Study Root and the non-patient models. `config` gives the configuration in force."""

    def __init__(
        self, index: Index, non_patient: NonPatientIndex, requests: SendRequests, config: Callable[[], Config]
    ):
        models = {model.move: model for model in MODELS}
        self.sop_classes: Mapping[Uid, frozenset[int]] = {sop_class: frozenset({C_MOVE_RQ}) for sop_class in models}
        self._search = RetrieveSearch(models, index, non_patient)
        self._requests, self._config = requests, config

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Grant relational retrieval."""
        return self._search.grant(sop_class, offered)

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """The requestor is the SCU."""
        return Roles(proposed.scu, scp=False)

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Send what is asked for and say how far it is, until all of it has its last outcome."""
        request = invocation.command
        try:
            destination = self._destination(request)
            matched = await self._search.match(invocation)
            asked = _asked(invocation, destination, matched)
            if matched.instance_ids:
                await self._submit(asked, matched)
        except RetrieveRefused as refusal:
            log.warning(
                "C-MOVE refused",
                peer=invocation.peer_address,
                calling_aet=printable(invocation.calling_aet),
                move_destination=printable(request.move_destination),
                answer=f"{refusal.status:04X}",
                why=printable(refusal.words, 200),
            )
            await exchange.respond(refusal.response(request))
            return
        log.info(
            "C-MOVE taken",
            transaction_uid=asked.transaction_uid,
            calling_aet=printable(invocation.calling_aet),
            destination=destination.name,
            instances=len(matched.instance_ids),
        )
        if not matched.instance_ids:
            await exchange.respond(final(request, Counters(0)))
            return
        try:
            await self._report(asked, invocation, exchange)
        except (PeerError, TimeoutError):
            log.warning(
                "association of a C-MOVE lost, its instances are sent all the same",
                transaction_uid=asked.transaction_uid,
                calling_aet=printable(invocation.calling_aet),
                destination=destination.name,
            )
            raise

    def _destination(self, request: Command) -> Destination:
        destination = with_ae_title(self._config().destinations, request.move_destination)
        if destination is None:
            raise RetrieveRefused(
                MOVE_DESTINATION_UNKNOWN,
                f"no destination has the AE title {printable(request.move_destination, 16)}",
                (_MOVE_DESTINATION,),
            )
        return destination

    async def _submit(self, asked: SendRequest, matched: Matched) -> None:
        try:
            await self._requests.submit(asked, matched.instance_ids)
        except StorageError as error:
            raise RetrieveRefused(UNABLE_TO_PROCESS, "the request cannot be journalled just now") from error

    async def _report(self, asked: SendRequest, invocation: Invocation, exchange: Exchange) -> None:
        request, every_s = invocation.command, self._config().dicom.move_pending_s
        async with aclosing(self._requests.follow(asked.transaction_uid, every_s, exchange.cancelled)) as steps:
            async for progress in steps:
                if progress.finished:
                    await self._end(asked, progress, invocation, exchange)
                    return
                await exchange.respond(pending(request, _counters(progress)))
        # Cancelled, or the peer has gone: then this raises, and the send goes on.
        await exchange.respond(pending(request, _counters(await self._requests.wait(asked.transaction_uid, 0))))
        progress = await self._requests.cancel(asked.transaction_uid, asked.destination)
        await self._end(asked, progress, invocation, exchange)

    async def _end(self, asked: SendRequest, progress: Progress, invocation: Invocation, exchange: Exchange) -> None:
        """Say how it ended. What was cancelled is not among those that failed, but among those not initiated."""
        request, counters = invocation.command, _counters(progress)
        response = cancelled(request, counters) if progress.cancelled else final(request, counters)
        log.info(
            "C-MOVE ended",
            transaction_uid=asked.transaction_uid,
            destination=asked.destination,
            answer=f"{response.status:04X}",
            completed=counters.completed,
            warning=counters.warning,
            failed=counters.failed,
            cancelled=progress.cancelled,
        )
        unwanted = frozenset(progress.cancelled_uids)
        failed = [uid for uid in progress.failed_uids if uid not in unwanted]
        await exchange.respond(response, failed_list(failed, invocation.context.transfer_syntax))


def _asked(invocation: Invocation, destination: Destination, matched: Matched) -> SendRequest:
    request = invocation.command
    return SendRequest(
        new_uid(),
        matched.retrieve.resource,
        destination.name,
        principal_of_aet(invocation.calling_aet),
        source=f"C-MOVE of {printable(invocation.calling_aet)} at {invocation.peer_address}",
        query=matched.retrieve.query,
        origin="c-move",
        originator_aet=invocation.calling_aet,
        originator_message_id=request.message_id,
        priority=request.priority if request.priority in PRIORITIES else 0,
    )


def _counters(progress: Progress) -> Counters:
    return Counters(
        remaining=progress.remaining + progress.cancelled,
        completed=progress.completed,
        failed=progress.failed - progress.cancelled,
        warning=progress.warning,
    )
