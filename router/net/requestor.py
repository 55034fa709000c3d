"""One association that we opened to ask for something: C-ECHO, C-FIND, C-MOVE, N-ACTION. One operation at a time.

Puts responses together and says in terms of `DeliveryError` when the peer breaks its word. Knows no service: what a
status means is for the caller to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import anyio
import msgspec

from router.dicom.status import context_refused
from router.dicom.sub_operation_status import PENDING_STATUSES
from router.dicom.uids import Uid
from router.dimse.commands import C_CANCEL_RQ, RESPONSE
from router.dimse.events import (
    Command,
    CommandReceived,
    DataReceived,
    Event,
    ReleaseRequested,
)
from router.errors import Misconfigured, PeerError, Transient
from router.net.association import AssociationStream
from router.net.connect import connect_association, ending, release
from router.net.nodes import DimseNode
from router.net.proposals import Proposal, answered_contexts, proposed_contexts

MAX_DATA_SET_BYTES = 1024 * 1024
"""Largest data set of a response or of a request of the peer: it is held in memory."""
MAX_REQUESTS_KEPT = 64
"""Requests of the peer that wait for `listen`."""
RELEASE_S = 2.0
"""Longest wait for the peer to confirm a release."""
MAX_MESSAGE_ID = 0xFFFF


class Response(NamedTuple):
    """A response with its whole data set, b"" for none."""

    command: Command
    data_set: bytes


class _Message(NamedTuple):
    context_id: int
    command: Command
    data_set: bytes


class Requestor:
    """An established association of ours. `aclose` it, or use it as an asynchronous context manager."""

    def __init__(self, stream: AssociationStream, proposals: Sequence[Proposal], answer_s: float):
        self._stream = stream
        self._answer_s = answer_s
        self._contexts = answered_contexts(proposals, stream.layer.contexts)
        self._message_id = 0
        self._under_way: tuple[int, Command] | None = None
        self._over = ""  # why nothing more can be said or heard
        self._responses: deque[_Message] = deque()
        self._requests: deque[_Message] = deque()
        self._incoming: Command | None = None
        self._gathered = bytearray()

    @classmethod
    async def open(cls, node: DimseNode, proposals: Sequence[Proposal]) -> Requestor:
        """Open an association, proposing each SOP class in a context of its own.

        Raises Transient or Misconfigured, as `connect_association`; a refused SOP class is no error here.
        """
        stream = await connect_association(
            host=node.host,
            port=node.port,
            called_aet=node.ae_title,
            calling_aet=node.calling_aet,
            contexts=proposed_contexts(proposals),
            max_pdu_bytes=node.max_pdu_bytes,
            connect_s=node.connect_s,
            answer_s=node.answer_s,
            roles={one.sop_class: one.roles for one in proposals if one.roles is not None},
            extended={one.sop_class: one.extended for one in proposals if one.extended},
        )
        return cls(stream, proposals, node.answer_s)

    def transfer_syntax(self, sop_class: Uid) -> Uid | None:
        """Give the transfer syntax in which data sets for a SOP class travel; None when it was refused."""
        context = self._contexts[sop_class]
        return context.transfer_syntax if context.result == 0 else None

    def refusal(self, sop_class: Uid) -> str:
        """Say why a SOP class was refused (PS3.8 Table 9-18)."""
        return context_refused(self._contexts[sop_class].result).words

    def granted(self, sop_class: Uid) -> bytes:
        """Give what the peer answered to `Proposal.extended`, b"" for nothing (PS3.7 §D.3.3.5)."""
        return self._stream.layer.extended.get(sop_class, b"")

    async def ask(self, sop_class: Uid, command: Command, data_set: bytes = b"") -> AsyncIterator[Response]:
        """Send a request and give its responses, the last of which is not pending. The Message ID is filled in.

        Raises Misconfigured when the SOP class was refused; Transient when the association is lost, when the peer
        breaks the protocol or lets `answer_s` pass without a response. Whoever stops listening before the end can only
        `aclose`.
        """
        context = self._contexts[sop_class]
        if context.result != 0:
            raise Misconfigured(f"SOP class {sop_class} refused: {self.refusal(sop_class)}")
        if self._over:
            raise Transient(self._over)
        if self._under_way is not None:
            raise RuntimeError("an operation is under way on this association")
        self._message_id = self._message_id % MAX_MESSAGE_ID + 1
        command = msgspec.structs.replace(command, message_id=self._message_id, has_data_set=bool(data_set))
        self._under_way = (context.context_id, command)
        await self._send(context.context_id, command, data_set)
        while self._under_way is not None:
            message = await self._next(self._responses, self._answer_s)
            self._check(message, context.context_id, command)
            if message.command.status not in PENDING_STATUSES:
                self._under_way = None
            yield Response(message.command, message.data_set)

    async def cancel(self) -> None:
        """Ask the peer to end what is under way (C-CANCEL-RQ, PS3.7 §9.3.2.3); its final response still comes.

        Does nothing when nothing is under way. Never raises: `ask` finds out when the association is lost.
        """
        if self._under_way is None or self._over:
            return
        context_id, command = self._under_way
        with suppress(Transient):  # `ask` says so
            await self._send(context_id, Command(C_CANCEL_RQ, message_id_responded_to=command.message_id))

    async def listen(self, timeout_s: float) -> tuple[int, Command, bytes]:
        """Wait for a request that the peer makes on this association: its context id, command and data set.

        Raises TimeoutError when none comes (the association is as good as before), Transient when it is lost.
        """
        message = await self._next(self._requests, timeout_s, give_up=False)
        return message.context_id, message.command, message.data_set

    async def answer(self, context_id: int, command: Command) -> None:
        """Answer a request that `listen` gave; `command` is complete, without a data set. Raises Transient."""
        await self._send(context_id, command)

    async def is_alive(self) -> bool:
        """Say whether it can be asked something: nothing is under way, and nothing happened to it meanwhile."""
        if self._under_way is not None:
            return False
        with suppress(TimeoutError, Transient):
            await self._next(self._responses, 0.0, give_up=False)
        return not self._over

    async def aclose(self) -> None:
        """Release the association, or abort it when something is under way or wrong; close. Never raises."""
        layer = self._stream.layer
        with anyio.CancelScope(shield=True):
            if self._under_way is None and not self._over:
                self._over = "closed by us"
                await release(self._stream, RELEASE_S)
                return
            self._over = self._over or "closed by us"
            if not layer.closed:
                layer.abort()
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- within ----------------------------------------------------------------------------------------------------

    async def _send(self, context_id: int, command: Command, data_set: bytes = b"") -> None:
        if self._over:
            raise Transient(self._over)
        layer = self._stream.layer
        layer.send_command(context_id, command)
        if data_set:
            layer.send_data(context_id, data_set, last=True)
        try:
            await self._stream.flush(self._answer_s)
        except TimeoutError:
            raise self._lost(f"the peer took nothing for {self._answer_s:g} s") from None
        except PeerError as error:
            raise self._lost(error.problem) from error

    async def _next(self, queue: deque[_Message], timeout_s: float, *, give_up: bool = True) -> _Message:
        """Read until something is in `queue`. When nothing comes, TimeoutError, or Transient with `give_up`."""
        deadline = anyio.current_time() + timeout_s
        while not queue:
            if self._over:
                raise Transient(self._over)
            try:
                for event in await self._stream.events(max(deadline - anyio.current_time(), 0.0)):
                    self._take(event)
            except TimeoutError:
                if not give_up:
                    raise
                raise self._lost(f"the peer did not answer within {timeout_s:g} s") from None
            except PeerError as error:
                raise self._lost(error.problem) from error
        return queue.popleft()

    def _take(self, event: Event) -> None:
        match event:
            case CommandReceived(context_id, command):
                self._gathered = bytearray()
                self._incoming = command
                if not command.has_data_set:
                    self._keep(context_id)
            case DataReceived(context_id, fragment, last):
                self._gathered += fragment
                if len(self._gathered) > MAX_DATA_SET_BYTES:
                    raise PeerError(f"a data set of more than {MAX_DATA_SET_BYTES} bytes in a message")
                if last:
                    self._keep(context_id)
            case _:
                if isinstance(event, ReleaseRequested):
                    self._stream.layer.confirm_release()
                self._over = ending(event)

    def _keep(self, context_id: int) -> None:
        """Put the message that is complete now where it is waited for."""
        assert self._incoming is not None
        message = _Message(context_id, self._incoming, bytes(self._gathered))
        self._incoming, self._gathered = None, bytearray()
        if message.command.field & RESPONSE:
            if self._under_way is None:
                raise PeerError(f"protocol violation: a response {message.command.field:04X}H that nobody asked for")
            self._responses.append(message)
        elif len(self._requests) < MAX_REQUESTS_KEPT:
            self._requests.append(message)
        else:
            raise PeerError(f"more than {MAX_REQUESTS_KEPT} requests while we wait for a response")

    def _check(self, message: _Message, context_id: int, asked: Command) -> None:
        """See that a response belongs to what is under way. Raises Transient."""
        response = message.command
        problem = ""
        if response.field != asked.field | RESPONSE:
            problem = f"a response {response.field:04X}H where {asked.field | RESPONSE:04X}H was due"
        elif response.message_id_responded_to != asked.message_id:
            problem = f"a response to message {response.message_id_responded_to} where {asked.message_id} is in hand"
        elif message.context_id != context_id:
            problem = f"a response on presentation context {message.context_id} where {context_id} was asked"
        elif response.status is None:
            problem = "a response without a status"
        if problem:
            raise self._lost(f"protocol violation: {problem}")

    def _lost(self, problem: str) -> Transient:
        self._over = self._over or problem
        return Transient(problem)
