"""C-ECHO: whether a peer is there, takes our association, and answers (PS3.4 Annex A)."""

from __future__ import annotations

from time import monotonic

import msgspec

from router.dicom.uids import VERIFICATION
from router.dimse.commands import C_ECHO_RQ
from router.dimse.events import Command
from router.errors import Transient
from router.net.nodes import DimseNode
from router.net.proposals import Proposal
from router.net.requestor import Requestor


class Echo(msgspec.Struct, frozen=True):
    """What a peer that took our association did. `answered_s` is None when it does not take Verification."""

    associated_s: float
    answered_s: float | None


async def verify(node: DimseNode) -> Echo:
    """Send one C-ECHO on an association of its own. Raises Transient or Misconfigured."""
    began = monotonic()
    async with await Requestor.open(node, [Proposal(VERIFICATION)]) as requestor:
        associated = monotonic()
        if requestor.transfer_syntax(VERIFICATION) is None:
            return Echo(associated - began, None)
        request = Command(C_ECHO_RQ, affected_sop_class_uid=VERIFICATION)
        try:
            async for response in requestor.ask(VERIFICATION, request):
                if response.command.status:
                    raise Transient(f"status {response.command.status:04X}H")
        except Transient as error:
            raise Transient(f"C-ECHO failed: {error.problem}") from error
        return Echo(associated - began, monotonic() - associated)
