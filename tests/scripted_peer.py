"""A DIMSE peer on loopback that answers each message as a script says, right or wrong: C-FIND, C-MOVE, N-ACTION."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from router.dicom.uids import AETitle, Uid
from router.dimse.commands import RESPONSE
from router.dimse.events import (
    AssociateRequest,
    AssociateRequested,
    Command,
    CommandReceived,
    DataReceived,
    NegotiatedContext,
    ReleaseRequested,
)
from router.dimse.negotiation import answer_contexts
from router.dimse.upper_layer import UpperLayer
from router.errors import PeerError
from router.net.nodes import DimseNode


@dataclass
class Message:
    """A whole message as it came in."""

    context: NegotiatedContext
    command: Command
    data: bytes = b""


class Hangup(Exception):
    """Raised by a script: abort the association; without `abort` the connection just closes."""

    def __init__(self, *, abort: bool = True):
        self.abort = abort


Reply = tuple[Command, bytes]


def response(message: Message, status: int | None, data: bytes = b"", **fields: object) -> Reply:
    """Answer `message` as it should be, but for `fields`."""
    rq = message.command
    rsp = Command(
        rq.field | RESPONSE,
        message_id_responded_to=rq.message_id,
        affected_sop_class_uid=rq.affected_sop_class_uid,
        status=status,
        has_data_set=bool(data),
    )
    return msgspec.structs.replace(rsp, **fields), data


@dataclass
class ScriptedPeer:
    """`on_message` gives what to say to each message, C-CANCEL-RQ too. All that came is kept."""

    on_message: Callable[[Message], Iterable[Reply]]
    accepts: Callable[[Uid], bool] = lambda uid: True
    extended: Callable[[AssociateRequest], dict[Uid, bytes]] = lambda request: {}
    rejection: tuple[int, int, int] | None = None
    requests: list[AssociateRequest] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    releases: int = 0
    port: int = 0

    def node(self, **changes: object) -> DimseNode:
        node = DimseNode(
            ae_title=AETitle("PACS"), host="127.0.0.1", port=self.port, calling_aet=AETitle("SENDRS"), answer_s=10.0
        )
        return msgspec.structs.replace(node, **changes)

    @property
    def commands(self) -> list[Command]:
        return [message.command for message in self.messages]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedPeer]:
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await self._serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in writers:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        layer = UpperLayer(requestor=False, max_pdu_bytes=65_536)
        message = None
        try:
            while not layer.closed and (chunk := await reader.read(65_536)):
                for event in layer.receive(chunk):
                    match event:
                        case AssociateRequested(request):
                            self._associate(layer, request)
                        case CommandReceived(context_id, command):
                            message = Message(layer.contexts[context_id], command)
                            if not command.has_data_set:
                                self._answer(layer, message)
                        case DataReceived(_, fragment, last):
                            assert message is not None
                            message.data += fragment
                            if last:
                                self._answer(layer, message)
                        case ReleaseRequested():
                            self.releases += 1
                            layer.confirm_release()
                writer.writelines(layer.take_output())
                await writer.drain()
        except Hangup as hangup:
            if hangup.abort:
                layer.abort()
            writer.writelines(layer.take_output() if hangup.abort else [])
        except (PeerError, ConnectionError):
            pass
        finally:
            writer.close()

    def _associate(self, layer: UpperLayer, request: AssociateRequest) -> None:
        self.requests.append(request)
        if self.rejection is not None:
            layer.reject(*self.rejection)
            return
        contexts = answer_contexts(
            request.contexts, accepts_sop_class=self.accepts, accepts_transfer_syntax=lambda uid: True
        )
        layer.accept(contexts, extended=self.extended(request))

    def _answer(self, layer: UpperLayer, message: Message) -> None:
        self.messages.append(message)
        for command, data in self.on_message(message):
            layer.send_command(message.context.context_id, command)
            if data:
                layer.send_data(message.context.context_id, data, last=True)
