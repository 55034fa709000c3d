"""The association as one operation sees it: `service.Exchange`, made of an outlet and an invoker."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable

import anyio
from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from router.dicom.sub_operation_status import PENDING_STATUSES
from router.dicom.uids import Uid, is_valid_uid
from router.dimse.commands import RESPONSE
from router.dimse.events import Command
from router.net.association import AssociationStream
from router.scp.invoking import Invoker
from router.scp.outlet import Outlet
from router.scp.service import Invocation


class AssociationExchange:
    """One operation of the peer. `status` is that of the last response, `pending` counts those that were Pending.

    `answered` is called when the response that is not Pending goes out.
    """

    def __init__(
        self,
        invocation: Invocation,
        stream: AssociationStream,
        outlet: Outlet,
        invoker: Invoker,
        answered: Callable[[AssociationExchange], None],
    ) -> None:
        self.invocation = invocation
        self.cancelled = anyio.Event()
        self.contexts, self.roles = stream.layer.contexts, stream.layer.roles
        self.status: int | None = None
        self.pending = 0
        self._outlet, self._invoker, self._answered = outlet, invoker, answered

    @property
    def is_answered(self) -> bool:
        """Whether the response that is not Pending has been given out."""
        return self.status is not None and self.status not in PENDING_STATUSES

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        """See `Exchange.respond`. The SOP Instance UID of an N-ACTION request is repeated if the response has none."""
        request = self.invocation.command
        if self.is_answered or response.status is None:
            raise RuntimeError(f"response with status {response.status} after {self.status}")
        self._outlet.check()
        self.status = response.status
        is_pending = self.status in PENDING_STATUSES
        if is_pending:
            self.pending += 1
        else:
            # Before it is written: the peer may ask for the next as soon as it has read this.
            self._answered(self)
        await self._outlet.send(
            self.invocation.context.context_id,
            replace(
                response,
                field=request.field | RESPONSE,
                message_id_responded_to=request.message_id,
                affected_sop_class_uid=_echoed(request.affected_sop_class_uid or request.requested_sop_class_uid),
                affected_sop_instance_uid=response.affected_sop_instance_uid
                or _echoed(request.requested_sop_instance_uid),
                has_data_set=bool(data_set),
            ),
            data_set,
        )
        if is_pending:
            await checkpoint()  # nothing above waits while the peer keeps up: let its C-CANCEL-RQ be read

    async def invoke(self, context_id: int, request: Command, content: bytes | AsyncIterable[bytes] = b"") -> Command:
        """See `Exchange.invoke`."""
        return await self._invoker.invoke(context_id, request, content)


def _echoed(uid: Uid) -> Uid:
    """The UID for the answer; what is not a UID is not sent back."""
    return uid if is_valid_uid(uid, odd=True) else Uid("")
