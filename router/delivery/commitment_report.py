"""Telling a DIMSE requester what became of its request: N-EVENT-REPORT on an association of ours (PS3.4 §J.3.3).

It is found among the destinations by its AE title. We are its SCP there (role selection), under the AE title that it
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from anyio import to_thread

from router.config.model import Destination
from router.config.titles import with_ae_title
from router.dicom.commitment import Ruling
from router.dicom.commitment_information import PUSH_MODEL, event_information
from router.dimse.commitment_messages import check_event_answer, event_report
from router.dimse.events import Roles
from router.errors import Misconfigured
from router.journal.commitment_reports import Report
from router.net.nodes import node_of
from router.net.proposals import Proposal
from router.net.requestor import Requestor


class ReportCourier:
    """`commitment.reporting.Bring` for requesters among `destinations()`, which gives those in force just now."""

    def __init__(self, destinations: Callable[[], Mapping[str, Destination]]):
        self._destinations = destinations

    async def __call__(self, report: Report, rulings: Sequence[Ruling]) -> None:
        """Report, and wait for the requester's answer. Raises Transient or Misconfigured: it does not know; Refused: it
        does, and does not take it.
        """
        destination = with_ae_title(self._destinations(), report.requester)
        node = None if destination is None else node_of(destination, report.called_aet)
        if node is None:
            raise Misconfigured(f"no destination that DIMSE reaches has the AE title {report.requester}")
        node = msgspec.structs.replace(node, calling_aet=report.called_aet)
        async with await Requestor.open(node, [Proposal(PUSH_MODEL, roles=Roles(scu=False, scp=True))]) as requestor:
            syntax = requestor.transfer_syntax(PUSH_MODEL)
            if syntax is None:
                raise Misconfigured(f"it does not take reports: {requestor.refusal(PUSH_MODEL)}")
            event_type, content = await to_thread.run_sync(
                event_information, report.transaction_uid, rulings, report.called_aet, syntax
            )
            async for response in requestor.ask(PUSH_MODEL, event_report(event_type), content):
                check_event_answer(response.command)
