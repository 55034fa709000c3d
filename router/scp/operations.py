"""The operations of services on one association: begun, cancelled, answered, ended; what is no service's goes to
`storage`.

One operation at a time, for no asynchronous operations window is ever granted (PS3.7 §D.3.3.3): a request that comes
before the last one is answered gets 0210H if its Message ID is that one's, else 0213H (PS3.7 Annex C), and the
association goes on. C-ECHO is answered at any time. What is answered may go on, to invoke something later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from router.dimse.commands import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    RESPONSE,
)
from router.dimse.events import AssociateRequest, Command, CommandReceived
from router.errors import PeerError
from router.net.association import AssociationStream
from router.scp.escape import printable
from router.scp.exchange import AssociationExchange
from router.scp.invoking import Invoker
from router.scp.offer import Offer
from router.scp.outlet import Outlet
from router.scp.service import DimseService, Invocation
from router.scp.storage import PROCESSING_FAILURE, UNRECOGNIZED_OPERATION, StorageService

log = structlog.get_logger()

DUPLICATE_INVOCATION: Final = 0x0210
RESOURCE_LIMITATION: Final = 0x0213
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900

MAX_DATA_SET_BYTES: Final = 1024 * 1024
"""Largest Identifier or Information of a request: it is held in memory."""
MAX_RUNNING: Final = 16
"""Operations of one association that run at once, all but one of them answered and waiting to invoke something."""
END_S: Final = 5.0
"""Longest that operations may take to end when their association is over; then they are cancelled."""
STOP_S: Final = 10.0
"""Longest that an operation which is not answered holds up our stop."""

_NAMES: Final = {
    C_FIND_RQ: "C-FIND",
    C_MOVE_RQ: "C-MOVE",
    C_GET_RQ: "C-GET",
    N_ACTION_RQ: "N-ACTION",
    N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
}
_QUERIES: Final = (C_FIND_RQ, C_MOVE_RQ, C_GET_RQ)
_BUSY: Final = (RESOURCE_LIMITATION, "one operation at a time")


class _Gathering:
    """A message whose data set is coming in: a request for a service, or a response whose data set nobody reads."""

    def __init__(self, event: CommandReceived, service: DimseService | None) -> None:
        self.event, self.service = event, service
        self.data_set = bytearray()


class Operations:
    """What runs on one association. `tasks` is to outlive `end`."""

    def __init__(
        self,
        tasks: TaskGroup,
        stream: AssociationStream,
        outlet: Outlet,
        storage: StorageService,
        offer: Offer,
        request: AssociateRequest,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.draining = False  # wake who reads when nothing is left to be answered
        self._tasks, self._stream, self._outlet, self._storage = tasks, stream, outlet, storage
        self._offer, self._request, self._clock = offer, request, clock
        self._invoker = Invoker(outlet)
        self._gathering: _Gathering | None = None
        self._active: AssociationExchange | None = None
        self._running: set[AssociationExchange] = set()
        self._all_ended = anyio.Event()

    @property
    def inside_message(self) -> bool:
        """Whether the data set of a message is coming in."""
        return self._gathering is not None

    @property
    def owing(self) -> bool:
        """Whether a request has begun that is not finally answered."""
        return self._gathering is not None or self._active is not None

    @property
    def running(self) -> bool:
        """Whether anything runs, answered or not."""
        return bool(self._running)

    async def begin(self, event: CommandReceived) -> None:
        """Take a command. Raises PeerError for one that cannot be answered; TimeoutError, ConnectionLost from writing
        an answer.
        """
        command = event.command
        if command.field & RESPONSE:
            if command.has_data_set:
                self._gathering = _Gathering(event, None)
            else:
                self._invoker.take(event)
        elif command.field == C_CANCEL_RQ:
            self._cancel(command)
        else:
            sop_class = self._stream.layer.contexts[event.context_id].abstract_syntax
            service = self._offer.service(sop_class, command.field)
            refusal = self._refusal(command, service)
            if refusal is None and service is None and self._offer.has(sop_class):
                refusal = UNRECOGNIZED_OPERATION, f"operation {command.field:04X}H is not served here"
            if refusal is not None or service is None:
                await self._storage.begin(event, refusal)
            elif command.has_data_set:
                self._gathering = _Gathering(event, service)
            else:
                self._start(event, service, b"")

    async def take(self, fragment: bytes | memoryview, last: bool) -> None:
        """Take a fragment of the data set that is coming in; raises as `begin` does."""
        gathering = self._gathering
        if gathering is None:
            raise PeerError("data set without a command")
        service = gathering.service
        if service is not None:
            if len(gathering.data_set) + len(fragment) > MAX_DATA_SET_BYTES:
                self._gathering = None
                await self._storage.begin(gathering.event, _too_large(gathering.event.command))
                await self._storage.take(fragment, last)
                return
            gathering.data_set += fragment
        if last:
            self._gathering = None
            if service is None:
                self._invoker.take(gathering.event)
            else:
                self._start(gathering.event, service, bytes(gathering.data_set))

    async def end(self, why: str) -> None:
        """Tell what runs that the association is over, and cancel what has not ended within `END_S`."""
        self._outlet.close(why)
        self._stream.write_queued()
        self._invoker.close()
        for exchange in self._running:
            exchange.cancelled.set()
        if self._running:
            with anyio.move_on_after(END_S):
                await self._all_ended.wait()
        self._tasks.cancel_scope.cancel()

    # --- within ----------------------------------------------------------------------------------------------------

    def _refusal(self, command: Command, service: DimseService | None) -> tuple[int, str] | None:
        """Say why a request is not performed now, whatever it is."""
        if self._active is None:
            full = service is not None and len(self._running) >= MAX_RUNNING
            return (RESOURCE_LIMITATION, "too many operations on this association") if full else None
        if command.message_id == self._active.invocation.command.message_id:
            return DUPLICATE_INVOCATION, "that Message ID is in use"
        return None if command.field == C_ECHO_RQ else _BUSY

    def _cancel(self, command: Command) -> None:
        """Cancel what is named, if it is not answered: a C-CANCEL-RQ may cross with the last response."""
        if self._active is not None and self._active.invocation.command.message_id == command.message_id_responded_to:
            self._active.cancelled.set()

    def _start(self, event: CommandReceived, service: DimseService, data_set: bytes) -> None:
        context = self._stream.layer.contexts[event.context_id]
        invocation = Invocation(
            context=context,
            command=event.command,
            data_set=data_set,
            calling_aet=self._request.calling_aet,
            called_aet=self._request.called_aet,
            peer_address=self._stream.peer_address,
            granted=self._stream.layer.extended.get(context.abstract_syntax, b""),
        )
        exchange = AssociationExchange(invocation, self._stream, self._outlet, self._invoker, self._settled)
        self._active = exchange
        self._running.add(exchange)
        self._tasks.start_soon(self._perform, service, exchange)

    async def _perform(self, service: DimseService, exchange: AssociationExchange) -> None:
        began = self._clock()
        ended = "cut off by us"
        try:
            ended = await self._guard(service, exchange)
        finally:
            self._settled(exchange)
            self._running.discard(exchange)
            if not self._running and self._outlet.over:
                self._all_ended.set()
            _tell(exchange, ended, self._clock() - began)

    async def _guard(self, service: DimseService, exchange: AssociationExchange) -> str:
        """Perform it; say how it ended. Nothing that goes wrong in there reaches other operations (F17)."""
        try:
            await service.perform(exchange.invocation, exchange)
            if not exchange.is_answered:
                raise RuntimeError("performed without a response")
            return "answered"
        except (PeerError, TimeoutError) as error:
            ended = error.problem if isinstance(error, PeerError) else "the peer took or answered nothing in time"
            self._outlet.abort(ended)
            return ended
        except Exception:  # the stage's edge: one operation fails, the association goes on
            log.exception("operation failed in our code", operation=_name(exchange.invocation.command))
            if not exchange.is_answered:
                with suppress(PeerError, TimeoutError):
                    failure = Command(0, status=PROCESSING_FAILURE, error_comment="internal error, try again later")
                    await exchange.respond(failure)
            return "failed in our code"

    def _settled(self, exchange: AssociationExchange) -> None:
        """Let the next operation begin: this one is answered, or will never be."""
        if self._active is exchange:
            self._active = None
            if self.draining:
                self._stream.interrupt()


def _too_large(command: Command) -> tuple[int, str]:
    status = IDENTIFIER_DOES_NOT_MATCH if command.field in _QUERIES else PROCESSING_FAILURE
    return status, f"data set of more than {MAX_DATA_SET_BYTES} bytes"


def _name(command: Command) -> str:
    return _NAMES.get(command.field, f"{command.field:04X}")


def _tell(exchange: AssociationExchange, ended: str, seconds: float) -> None:
    invocation = exchange.invocation
    log.info(
        "operation ended",
        operation=_name(invocation.command),
        sop_class_uid=printable(invocation.context.abstract_syntax),
        peer=invocation.peer_address,
        calling_aet=invocation.calling_aet,
        called_aet=invocation.called_aet,
        status="none" if exchange.status is None else f"{exchange.status:04X}",
        pending=exchange.pending,
        seconds=round(seconds, 3),
        ended=printable(ended, 200),
    )
