"""Storage Commitment Push Model SOP Class (PS3.4 Annex J): as SCP we take N-ACTION, as SCU what others report to us.

A request is journalled before it is answered. Its association is then used for the report, if we have decided before
the peer closes it and within LINGER_S; otherwise `commitment.reporting` brings it on another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import anyio
import structlog
from anyio import to_thread

from router.commitment.language import Ruling
from router.commitment.reporting import Reporting
from router.commitment.requests import Commitments, UidInUse
from router.dicom.commitment import DUPLICATE_TRANSACTION_UID, PROCESSING_FAILURE
from router.dicom.commitment_information import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_STORAGE_COMMITMENT,
    event_information,
    read_action_information,
    read_event_information,
)
from router.dicom.uids import AETitle, Uid
from router.dimse.commands import N_ACTION_RQ, N_EVENT_REPORT_RQ, RESPONSE
from router.dimse.commitment_messages import check_event_answer, event_report
from router.dimse.events import Command, Roles
from router.errors import Refused, StorageError
from router.journal.commitment_reports import Report
from router.scp.service import Exchange, Invocation

log = structlog.get_logger()

LINGER_S: Final = 30.0
"""How long the association of a request may be used for its report."""
NO_SUCH_SOP_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
NO_SUCH_ACTION: Final = 0x0123


class CommitmentScp:
    """A `DimseService`. `proxy` names the [proxies] entry whose upstream decides, "" when we do."""

    sop_classes: Mapping[Uid, frozenset[int]] = {PUSH_MODEL: frozenset({N_ACTION_RQ, N_EVENT_REPORT_RQ})}

    def __init__(self, commitments: Commitments, reporting: Reporting, *, proxy: str = ""):
        self._commitments, self._reporting, self._proxy = commitments, reporting, proxy

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """There is no extended negotiation."""
        return b""

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """Both: who asks is SCU, who reports on an association of its own is SCP (PS3.4 §J.3.3)."""
        return proposed

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Answer N-ACTION and, perhaps, report; or take a report."""
        if invocation.command.field == N_ACTION_RQ:
            await self._take_request(invocation, exchange)
        else:
            await self._take_report(invocation, exchange)

    async def _take_request(self, invocation: Invocation, exchange: Exchange) -> None:
        command = invocation.command
        answer = partial(_answer, exchange, command, action_type_id=command.action_type_id)
        try:
            _check(command.requested_sop_instance_uid)
            if command.action_type_id != REQUEST_STORAGE_COMMITMENT:
                raise Refused(NO_SUCH_ACTION, f"no Action Type {command.action_type_id}")
            uid, references = await to_thread.run_sync(
                read_action_information, invocation.data_set, invocation.context.transfer_syntax
            )
        except Refused as refusal:
            _log_refusal("commitment request not taken", invocation, refusal)
            await answer(refusal)
            return
        with self._reporting.held(uid):
            try:
                await self._commitments.submit(
                    transaction_uid=uid,
                    origin="dimse",
                    requester=invocation.calling_aet,
                    called_aet=invocation.called_aet,
                    references=references,
                    proxy=self._proxy,
                )
            except UidInUse:
                in_use = Refused(DUPLICATE_TRANSACTION_UID, "Transaction UID is or was in use")
                _log_refusal("commitment request not taken", invocation, in_use)
                await answer(in_use)
                return
            except StorageError as error:
                log.error("commitment request not journalled", transaction_uid=uid, problem=str(error))
                await answer(Refused(PROCESSING_FAILURE, "cannot be journalled now"))
                return
            await answer(None)
            if await self._is_decided(uid, exchange):
                await self._reporting.bring_by(uid, partial(_bring, invocation, exchange))

    async def _is_decided(self, uid: Uid, exchange: Exchange) -> bool:
        """Wait for the decision as long as the peer stays, LINGER_S at most."""
        decided = False

        async def watch(scope: anyio.CancelScope) -> None:
            await exchange.cancelled.wait()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            try:
                decided = (await self._commitments.wait(uid, LINGER_S)).finished
            except StorageError as error:
                log.error("commitment not followed", transaction_uid=uid, problem=str(error))
            group.cancel_scope.cancel()
        return decided and not exchange.cancelled.is_set()

    async def _take_report(self, invocation: Invocation, exchange: Exchange) -> None:
        command = invocation.command
        answer = partial(_answer, exchange, command, event_type_id=command.event_type_id)
        try:
            _check(command.affected_sop_instance_uid)
            if command.event_type_id not in (ALL_COMMITTED, FAILURES_EXIST):
                raise Refused(NO_SUCH_EVENT_TYPE, f"no Event Type {command.event_type_id}")
            uid, rulings = await to_thread.run_sync(
                read_event_information, invocation.data_set, invocation.context.transfer_syntax
            )
            if not await self._commitments.reported(invocation.calling_aet, uid, rulings):
                raise Refused(NO_SUCH_SOP_INSTANCE, f"not asked: {uid}"[:64])
        except Refused as refusal:
            _log_refusal("commitment report not taken", invocation, refusal)
            await answer(refusal)
        except StorageError as error:
            log.error("commitment report not journalled", peer=invocation.calling_aet, problem=str(error))
            await answer(Refused(PROCESSING_FAILURE, "cannot be journalled now"))
        else:
            await answer(None)


def _check(instance_uid: Uid) -> None:
    """Raise Refused when it is not about the one instance of the SOP class."""
    if instance_uid != PUSH_MODEL_INSTANCE:
        raise Refused(NO_SUCH_SOP_INSTANCE, "not the well-known instance")


async def _bring(invocation: Invocation, exchange: Exchange, report: Report, rulings: Sequence[Ruling]) -> None:
    """Report on the association of the request."""
    event_type, content = await to_thread.run_sync(
        event_information,
        report.transaction_uid,
        rulings,
        AETitle(invocation.called_aet),
        invocation.context.transfer_syntax,
    )
    check_event_answer(await exchange.invoke(invocation.context.context_id, event_report(event_type), content))


async def _answer(
    exchange: Exchange,
    command: Command,
    refusal: Refused | None,
    *,
    action_type_id: int | None = None,
    event_type_id: int | None = None,
) -> None:
    await exchange.respond(
        Command(
            command.field | RESPONSE,
            affected_sop_class_uid=PUSH_MODEL,
            affected_sop_instance_uid=PUSH_MODEL_INSTANCE,
            action_type_id=action_type_id,
            event_type_id=event_type_id,
            status=0 if refusal is None else refusal.status,
            error_comment="" if refusal is None else refusal.reason[:64],
        )
    )


def _log_refusal(event: str, invocation: Invocation, refusal: Refused) -> None:
    log.warning(event, peer=invocation.peer_address, calling_aet=invocation.calling_aet, answer=str(refusal))
