"""A Storage SCP on a loopback port in front of a fake door, and a peer that speaks bytes written here by hand.

Nothing of `router.dimse` encodes or decodes what the tests send and expect.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import msgspec
from anyio.abc import SocketStream

from router.config.model import DicomConfig, Listen, Peer
from router.dicom.envelope import Declared, Source
from router.scp.offer import ServicesByTitle
from router.scp.policy import IdentityHook, ignore_identity
from router.scp.server import StorageScp

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
ANSWER_S = 5.0
"""The catalogue asks for an answer within a second; a loaded machine gets five."""

RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")


@dataclass
class FakeReception:
    """Keeps what it is given, and fails where it is told to."""

    door: FakeDoor
    declared: Declared
    chunks: list[bytes] = field(default_factory=list)
    bytes: int = 0
    largest_chunk: int = 0
    ended: str = ""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        assert not self.ended, f"written to after {self.ended}"
        self.door.writing.set()
        await self.door.may_write.wait()
        if self.door.fail_write is not None:
            raise self.door.fail_write
        self.bytes += len(chunk)
        self.largest_chunk = max(self.largest_chunk, len(chunk))
        if self.door.keep_bytes:
            self.chunks.append(bytes(chunk))

    async def accept(self) -> None:
        assert not self.ended, f"accepted after {self.ended}"
        self.ended = "failed" if self.door.fail_accept else "accepted"
        await self.door.may_accept.wait()
        if self.door.fail_accept is not None:
            raise self.door.fail_accept

    async def discard(self) -> None:
        assert not self.ended, f"discarded after {self.ended}"
        self.ended = "discarded"
        self.door.discarded.set()


@dataclass
class FakeVisit:
    door: FakeDoor
    source: Source
    closed: bool = False

    def receive(self, declared: Declared) -> FakeReception:
        assert not self.closed
        if self.door.fail_receive is not None:
            raise self.door.fail_receive
        reception = FakeReception(self.door, declared)
        self.door.receptions.append(reception)
        return reception

    async def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.door.visit_closed.set()


def _already_set() -> anyio.Event:
    event = anyio.Event()
    event.set()
    return event


@dataclass
class FakeDoor:
    """Stands for the ingest stage."""

    room: bool = True
    keep_bytes: bool = True
    fail_receive: Exception | None = None
    fail_write: Exception | None = None
    fail_accept: Exception | None = None
    visits: list[FakeVisit] = field(default_factory=list)
    receptions: list[FakeReception] = field(default_factory=list)
    writing: anyio.Event = field(default_factory=anyio.Event)
    may_write: anyio.Event = field(default_factory=_already_set)
    may_accept: anyio.Event = field(default_factory=_already_set)
    discarded: anyio.Event = field(default_factory=anyio.Event)
    visit_closed: anyio.Event = field(default_factory=anyio.Event)

    def open_visit(self, source: Source) -> FakeVisit:
        visit = FakeVisit(self, source)
        self.visits.append(visit)
        return visit

    def has_room(self) -> bool:
        return self.room


@dataclass
class Served:
    """A running SCP: its address, and `stopped` when `run` has returned."""

    scp: StorageScp
    port: int
    stopped: anyio.Event
    callers: list[Caller] = field(default_factory=list)

    async def connect(self) -> Caller:
        """Open a connection; it is closed with the SCP if not before."""
        caller = Caller(await anyio.connect_tcp("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller

    async def associate(
        self, contexts: Sequence[tuple[int, str, Sequence[str]]] = ((1, CT, (EXPLICIT,)),), **request: Any
    ) -> Caller:
        """Open an association and check that it is accepted."""
        caller = await self.connect()
        await caller.send(associate_rq(contexts=contexts, **request))
        kind, _ = await caller.pdu()
        assert kind == 2
        return caller


@asynccontextmanager
async def serving(
    door: FakeDoor,
    *,
    peers: Mapping[str, Peer] | None = None,
    identity: IdentityHook = ignore_identity,
    clock: Any = None,
    services: ServicesByTitle | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Run a Storage SCP called SENDRS with these settings of `[dicom]`; cancelled at the end."""
    config = msgspec.structs.replace(DicomConfig(listen=Listen("127.0.0.1", 0)), **settings)
    clocks = {} if clock is None else {"clock": clock}
    scp = StorageScp(config, peers or {}, door, services or {}, identity=identity, **clocks)
    stopped = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def run(*, task_status: Any) -> None:
            await scp.run(task_status=task_status)
            stopped.set()

        address = await tasks.start(run)
        served = Served(scp, address.port, stopped)
        try:
            yield served
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                for caller in served.callers:
                    await caller.hang_up()


class Caller:
    """The other end of the socket."""

    def __init__(self, socket: SocketStream) -> None:
        self.socket = socket
        self._read = b""

    async def send(self, *parts: bytes) -> None:
        with anyio.fail_after(ANSWER_S):
            await self.socket.send(b"".join(parts))

    async def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        with anyio.fail_after(ANSWER_S):
            while len(self._read) < size:
                self._read += await self.socket.receive()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    async def pdu(self) -> tuple[int, bytes]:
        """Read one PDU: its type and its body."""
        kind, length = struct.unpack(">BxI", await self.read(6))
        return kind, await self.read(length)

    async def response(self) -> dict[int, Any]:
        """Read one P-DATA-TF with a command; its elements by number."""
        kind, body = await self.pdu()
        assert kind == 4, f"PDU type {kind}: {body.hex()}"
        length, _, control = struct.unpack_from(">IBB", body)
        assert control == 3
        assert length + 4 == len(body)
        return elements(body[6:])

    async def rest(self) -> bytes:
        """Read until the other side closes; a reset counts as closed."""
        rest, self._read = self._read, b""
        with anyio.fail_after(ANSWER_S):
            while True:
                try:
                    rest += await self.socket.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return rest

    async def hang_up(self) -> None:
        await self.socket.aclose()

    async def release(self) -> None:
        """Release and see it confirmed."""
        await self.send(RELEASE_RQ)
        assert await self.read(10) == RELEASE_RP
        await self.hang_up()


def reject(result: int, source: int, reason: int) -> bytes:
    return bytes((3, 0, 0, 0, 0, 4, 0, result, source, reason))


def abort(source: int, reason: int) -> bytes:
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason))


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def max_length(size: int) -> bytes:
    return item(0x51, struct.pack(">I", size))


def context(context_id: int, abstract_syntax: str, transfer_syntaxes: Sequence[str]) -> bytes:
    syntaxes = b"".join(item(0x40, uid.encode()) for uid in transfer_syntaxes)
    return item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, abstract_syntax.encode()) + syntaxes)


def associate_rq(
    *,
    called: bytes = b"SENDRS",
    calling: bytes = b"CT1",
    contexts: Sequence[tuple[int, str, Sequence[str]]] = ((1, CT, (EXPLICIT,)),),
    application_context: str = "1.2.840.10008.3.1.1.1",
    version: int = 1,
    user: bytes | None = None,
    more_user: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ; `user` replaces the user information, `more_user` is added to it."""
    if user is None:
        user = max_length(16384) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    body += item(0x10, application_context.encode())
    body += b"".join(context(*one) for one in contexts) + item(0x50, user + more_user)
    return struct.pack(">BxI", 1, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body)) + body


def command_set(values: Mapping[int, int | str]) -> bytes:
    """A command set in Implicit VR Little Endian; numbers are US, texts are UIDs."""
    body = b""
    for number, value in sorted(values.items()):
        raw = struct.pack("<H", value) if isinstance(value, int) else value.encode("latin-1")
        raw += b"\0" * (len(raw) % 2)
        body += struct.pack("<HHI", 0, number, len(raw)) + raw
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def elements(data: bytes) -> dict[int, Any]:
    """The elements of a command set: two bytes are a number, the rest text."""
    found: dict[int, Any] = {}
    while data:
        group, number, length = struct.unpack_from("<HHI", data)
        assert group == 0
        raw, data = data[8 : 8 + length], data[8 + length :]
        found[number] = struct.unpack("<H", raw)[0] if length == 2 else raw.rstrip(b"\0 ").decode("latin-1")
    return found


def store_command(
    *, message_id: int = 7, sop_class: str = CT, instance: str = "1.2.3.4.5", **changes: int | str | None
) -> dict[int, int | str]:
    """The elements of a C-STORE-RQ; `changes` by hexadecimal number (`x0800=…`), None leaves one out."""
    values: dict[int, int | str | None] = {
        0x0002: sop_class,
        0x0100: 0x0001,
        0x0110: message_id,
        0x0700: 0,
        0x0800: 0,
        0x1000: instance,
    }
    values.update({int(number[1:], 16): value for number, value in changes.items()})
    return {number: value for number, value in values.items() if value is not None}


def store_rq(data_set: bytes = b"D" * 100, *, context_id: int = 1, **command: Any) -> bytes:
    """A whole C-STORE request: the command in one PDU, the data set in another."""
    return p_data(pdv(context_id, 3, command_set(store_command(**command)))) + p_data(pdv(context_id, 2, data_set))


def echo_rq(message_id: int = 1, context_id: int = 1) -> bytes:
    values = {0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: message_id, 0x0800: 0x0101}
    return p_data(pdv(context_id, 3, command_set(values)))
