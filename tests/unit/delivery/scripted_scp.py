"""A storage SCP on loopback that answers as a script says, right or wrong; and a store with instances to send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from router.config.model import DimseDestination
from router.delivery.cstore import CStoreCourier
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.dimse.commands import C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP
from router.dimse.events import (
    Aborted,
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
from router.journal.records import Delivery
from router.sending.courier import Outcome
from router.store.files import Store

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
MR = Uid("1.2.840.10008.5.1.4.1.1.4")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
IMPLICIT = Uid("1.2.840.10008.1.2")
JPEG = Uid("1.2.840.10008.1.2.4.70")


@dataclass
class Received:
    """One whole instance as it came in."""

    command: Command
    transfer_syntax: Uid
    data: bytes


class Hangup(Exception):
    """Raised by a script: abort the association (or, silently, close the connection)."""

    def __init__(self, *, abort: bool = True):
        self.abort = abort


class Silence(Exception):
    """Raised by a script: no answer."""


def success(received: Received) -> list[Command]:
    return [respond(received)]


def respond(received: Received, status: int = 0, comment: str = "") -> Command:
    rq = received.command
    return Command(
        C_STORE_RSP,
        message_id_responded_to=rq.message_id,
        affected_sop_class_uid=rq.affected_sop_class_uid,
        affected_sop_instance_uid=rq.affected_sop_instance_uid,
        status=status,
        error_comment=comment,
    )


Contexts = tuple[NegotiatedContext, ...]


@dataclass
class ScriptedScp:
    """`on_store` answers a whole instance, `on_command` and `on_data` see the parts of one before it is whole."""

    on_store: Callable[[Received], Sequence[Command]] = success
    on_command: Callable[[Command], Sequence[Command]] = lambda command: ()
    on_data: Callable[[int], Sequence[Command]] = lambda size: ()
    accepts_sop_class: Callable[[Uid], bool] = lambda uid: True
    accepts_transfer_syntax: Callable[[Uid], bool] = lambda uid: True
    change_contexts: Callable[[Contexts], Contexts] = lambda contexts: contexts
    rejection: tuple[int, int, int] | None = None
    max_pdu_bytes: int = 16_384
    received: list[Received] = field(default_factory=list)
    requests: list[AssociateRequest] = field(default_factory=list)
    aborts: int = 0
    releases: int = 0
    echoes: int = 0
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedScp]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.close()

    def close_all(self) -> None:
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        layer = UpperLayer(requestor=False, max_pdu_bytes=self.max_pdu_bytes)
        command, data = None, bytearray()
        try:
            while not layer.closed:
                chunk = await reader.read(65_536)
                if not chunk:
                    return
                for event in layer.receive(chunk):
                    match event:
                        case AssociateRequested(request):
                            self._associate(layer, request)
                        case CommandReceived(context_id, rq) if rq.field == C_ECHO_RQ:
                            self.echoes += 1
                            answer = Command(C_ECHO_RSP, message_id_responded_to=rq.message_id, status=0)
                            layer.send_command(context_id, answer)
                        case CommandReceived(context_id, rq) if rq.field == C_STORE_RQ:
                            command, data = rq, bytearray()
                            self._send(layer, context_id, self.on_command(rq))
                        case DataReceived(context_id, fragment, last):
                            data += fragment
                            if not last:
                                self._send(layer, context_id, self.on_data(len(data)))
                            else:
                                assert command is not None
                                syntax = layer.contexts[context_id].transfer_syntax
                                received = Received(command, syntax, bytes(data))
                                self.received.append(received)
                                self._send(layer, context_id, self.on_store(received))
                        case ReleaseRequested():
                            self.releases += 1
                            layer.confirm_release()
                        case Aborted():
                            self.aborts += 1
                writer.writelines(layer.take_output())
                await writer.drain()
        except Silence:
            await reader.read()
        except Hangup as hangup:
            if hangup.abort:
                layer.abort()
                writer.writelines(layer.take_output())
        except (PeerError, ConnectionError):
            pass
        finally:
            writer.close()

    def _associate(self, layer: UpperLayer, request: AssociateRequest) -> None:
        self.requests.append(request)
        if self.rejection is not None:
            layer.reject(*self.rejection)
            return
        layer.accept(
            self.change_contexts(
                answer_contexts(
                    request.contexts,
                    accepts_sop_class=self.accepts_sop_class,
                    accepts_transfer_syntax=self.accepts_transfer_syntax,
                )
            )
        )

    def _send(self, layer: UpperLayer, context_id: int, commands: Sequence[Command]) -> None:
        for command in commands:
            layer.send_command(context_id, command)


class Stored:
    """A store with instances; `deliveries` come in the order in which they were put."""

    def __init__(self, store: Store):
        self.store = store
        self.count = 0

    async def put(self, data: bytes, *, sop_class: Uid = CT, syntax: Uid = EXPLICIT) -> Delivery:
        self.count += 1
        declared = Declared(sop_class, Uid(f"1.2.9.{self.count}"), syntax)
        writer = self.store.begin(declared, Source("C-STORE", "127.0.0.1"), 0.0)
        await writer.write(data)
        stored = await writer.finish()
        await writer.flush()
        return Delivery(
            sub_operation_id=self.count,
            attempt_id=self.count,
            attempts=1,
            instance_failures=0,
            created_at=0.0,
            instance_id=self.count,
            declared=declared,
            file=stored.file,
            data_set_offset=stored.data_set_offset,
            data_set_bytes=stored.data_set_bytes,
            data_set_sha256=stored.data_set_sha256,
        )

    def flip_bit(self, delivery: Delivery, at: int) -> None:
        """Damage the stored data set at byte `at`."""
        path: Path = self.store.path_of(delivery.file)
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[delivery.data_set_offset + at] ^= 0x10
        path.write_bytes(content)

    def remove(self, delivery: Delivery) -> None:
        self.store.path_of(delivery.file).unlink()


class Reports:
    """Collects outcomes; `stop_after` asks the courier to stop."""

    def __init__(self, stop_after: int = 1_000_000) -> None:
        self.outcomes: list[Outcome] = []
        self.stop_after = stop_after

    async def __call__(self, outcome: Outcome) -> bool:
        self.outcomes.append(outcome)
        return len(self.outcomes) >= self.stop_after

    @property
    def verdicts(self) -> list[str]:
        return [outcome.verdict.value for outcome in self.outcomes]


def courier_for(scp: ScriptedScp, store: Store, **changes: object) -> CStoreCourier:
    destination = DimseDestination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=scp.port, answer_s=5.0)
    return CStoreCourier(msgspec.structs.replace(destination, **changes), "SENDRS", store)


def wrong(received: Received, **changes: object) -> list[Command]:
    return [msgspec.structs.replace(respond(received), **changes)]
