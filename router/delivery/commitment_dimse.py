"""Storage commitment asked of a DIMSE SCP (PS3.4 Annex J): N-ACTION, and its N-EVENT-REPORT if that comes at once.

Keeps nothing: what was asked is journalled by who asks. A report that comes later comes on an association that the
peer opens to us, and is taken by the DIMSE front.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from router.dicom.commitment import PROCESSING_FAILURE, Reference, Ruling
from router.dicom.commitment_information import PUSH_MODEL, action_information, judged, read_event_information
from router.dicom.uids import Uid
from router.dimse.commands import N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP
from router.dimse.commitment_messages import ACTION, check_action_answer
from router.dimse.events import Command
from router.errors import Misconfigured, Refused, Transient
from router.net.nodes import DimseNode
from router.net.proposals import Proposal
from router.net.requestor import Requestor

LISTEN_S: Final = 3.0
"""How long the association is kept open for a report that comes at once."""
POLL_S: Final = 3600.0
"""There is nothing to look at: the peer reports by itself."""


class DimseAsker:
    """A `commitment.language.Asker` for the SCP at `node`."""

    def __init__(self, node: DimseNode):
        self._node = node

    @property
    def poll_s(self) -> float:
        return POLL_S

    async def ask(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """See `Asker.ask`. A peer that has this Transaction UID already will report it: None."""
        async with await Requestor.open(self._node, [Proposal(PUSH_MODEL)]) as requestor:
            syntax = requestor.transfer_syntax(PUSH_MODEL)
            if syntax is None:
                raise Misconfigured(f"it does not commit to storage: {requestor.refusal(PUSH_MODEL)}")
            content = await to_thread.run_sync(action_information, transaction_uid, references, syntax)
            async for response in requestor.ask(PUSH_MODEL, ACTION, content):
                check_action_answer(response.command)
            return await _listen(requestor, syntax, transaction_uid, references)

    async def check(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """See `Asker.check`."""
        return None


async def _listen(
    requestor: Requestor, syntax: Uid, transaction_uid: Uid, references: Sequence[Reference]
) -> Sequence[Ruling] | None:
    """Wait a little for the report of this transaction, and answer it; None when it does not come."""
    deadline = anyio.current_time() + LISTEN_S
    try:
        while True:
            context_id, command, data = await requestor.listen(max(deadline - anyio.current_time(), 0.0))
            status, rulings = PROCESSING_FAILURE, None
            if command.field == N_EVENT_REPORT_RQ:
                try:
                    uid, said = await to_thread.run_sync(partial(read_event_information, data, syntax))
                    if uid == transaction_uid:
                        status, rulings = 0, judged(references, said)
                except Refused as refusal:
                    status = refusal.status
            await requestor.answer(
                context_id,
                Command(
                    N_EVENT_REPORT_RSP,
                    message_id_responded_to=command.message_id,
                    affected_sop_class_uid=command.affected_sop_class_uid,
                    affected_sop_instance_uid=command.affected_sop_instance_uid,
                    event_type_id=command.event_type_id,
                    status=status,
                ),
            )
            if rulings is not None:
                return rulings
    except (TimeoutError, Transient):
        return None
