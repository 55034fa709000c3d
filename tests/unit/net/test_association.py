"""The stream of one association against a raw socket: back-pressure both ways, deadlines, endings."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from router.dicom.uids import AETitle, Uid
from router.dimse.events import CommandReceived, DataReceived, NegotiatedContext, ProposedContext
from router.dimse.upper_layer import State, UpperLayer
from router.errors import PeerError
from router.net.association import BUFFER_BYTES, MIN_BYTES_PER_S, AssociationStream, ConnectionLost
from router.net.gate import Gate

CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")
STORE_COMMAND = struct.pack("<HHIHHHIHHHIH", 0, 0x0100, 2, 1, 0, 0x0110, 2, 1, 0, 0x0800, 2, 0)


def p_data(control: int, fragment: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(fragment) + 6, len(fragment) + 2, 1, control) + fragment


COMMAND_PDU = p_data(3, struct.pack("<HHII", 0, 0, 4, len(STORE_COMMAND)) + STORE_COMMAND)


@asynccontextmanager
async def established() -> AsyncIterator[tuple[AssociationStream, socket.socket]]:
    """An accepted association and the socket at its other end."""
    request = UpperLayer(requestor=True, max_pdu_bytes=131_072)
    request.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=[ProposedContext(1, CT, (EXPLICIT,))])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        loop = asyncio.get_running_loop()
        layer = UpperLayer(requestor=False, max_pdu_bytes=131_072)
        host, port = listening.getsockname()
        _, stream = await loop.create_connection(lambda: AssociationStream(layer), host, port)
        other, _ = listening.accept()
    with other:
        other.settimeout(5)
        other.sendall(b"".join(request.take_output()))
        await stream.events(5)
        layer.accept([NegotiatedContext(1, CT, EXPLICIT, 0)])
        await stream.flush(5)
        assert other.recv(6)[0] == 2
        yield stream, other
    await stream.aclose()


async def test_both_ends_have_nagle_switched_off() -> None:
    async with established() as (stream, _):
        raw = stream._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class CountingSocket:
    """Counts how often the acknowledgement is asked for at once."""

    def __init__(self) -> None:
        self.quick = 0

    def fileno(self) -> int:
        return -1

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option, value) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1):
            self.quick += 1


class CountingTransport(asyncio.Transport):
    def __init__(self, connection: CountingSocket) -> None:
        super().__init__({"socket": connection, "peername": ("10.0.0.1", 104)})

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux has TCP_QUICKACK")
async def test_every_read_is_acknowledged_at_once() -> None:
    """The kernel forgets the option; a peer with Nagle's algorithm on would wait 40 ms for each of its writes."""
    connection = CountingSocket()
    stream = AssociationStream(UpperLayer(requestor=False, max_pdu_bytes=16384))
    stream.connection_made(CountingTransport(connection))
    assert connection.quick == 1
    for reads in range(1, 4):
        stream.get_buffer(-1)[:1] = b"\x01"
        stream.buffer_updated(1)
        assert connection.quick == 1 + reads


async def test_what_an_acknowledgement_brings_is_read_at_once() -> None:
    """A peer with Nagle's algorithm on sends the header of a PDU, and the rest when that is acknowledged."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        ours.setblocking(False)
        async with established() as (stream, _):
            stream._fd = ours.fileno()
            acknowledged: list[int] = []
            stream._quickack = lambda: acknowledged.append(stream.bytes_read)
            stream.get_buffer(-1)[:12] = COMMAND_PDU[:12]
            stream.buffer_updated(12)
            before = stream.bytes_read
            theirs.sendall(COMMAND_PDU[14:])
            stream.get_buffer(-1)[:2] = COMMAND_PDU[12:14]
            stream.buffer_updated(2)
            assert stream.bytes_read == before + len(COMMAND_PDU) - 12
            assert acknowledged == [before, before + 2, stream.bytes_read]  # every read, this one too
            [event] = await stream.events(0)
            assert isinstance(event, CommandReceived)


async def test_nobody_is_woken_for_half_a_pdu(monkeypatch: pytest.MonkeyPatch) -> None:
    async with established() as (stream, other):
        received: list[int] = []
        receive = stream.layer.receive
        monkeypatch.setattr(stream.layer, "receive", lambda data: received.append(len(data)) or receive(data))
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.events, 5)
            for piece in (COMMAND_PDU[:12], COMMAND_PDU[12:20], COMMAND_PDU[20:]):
                read = stream.bytes_read
                await loop.run_in_executor(None, other.sendall, piece)
                while stream.bytes_read < read + len(piece):
                    await anyio.lowlevel.checkpoint()
        assert received == [len(COMMAND_PDU)]


async def test_reading_stops_when_nobody_takes_the_events_and_goes_on_when_somebody_does() -> None:
    async with established() as (stream, other):
        other.setblocking(False)
        loop = asyncio.get_running_loop()
        piece = p_data(0, bytes(65_536))
        pieces = 400
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.sock_sendall, other, COMMAND_PDU + piece * pieces)
            before = await stream.events(5)
            assert isinstance(before[0], CommandReceived)
            while stream._transport.is_reading():
                await anyio.wait_all_tasks_blocked()
            read = stream.bytes_read
            await anyio.wait_all_tasks_blocked()
            assert stream.bytes_read == read
            assert read <= 3 * BUFFER_BYTES
            size = sum(len(event.fragment) for event in before if isinstance(event, DataReceived))
            while size < pieces * 65_536:
                for event in await stream.events(5):
                    assert isinstance(event, DataReceived)
                    assert not event.fragment.strip(b"\0") if isinstance(event.fragment, bytes) else True
                    size += len(event.fragment)
        assert size == pieces * 65_536


async def test_fragments_keep_their_bytes_while_more_comes_in() -> None:
    """What a view shows until the next call is not what arrives meanwhile in the other buffer."""
    async with established() as (stream, other):
        other.sendall(COMMAND_PDU)
        await stream.events(5)
        for byte in (b"a", b"b", b"c", b"d"):
            other.sendall(p_data(0, byte * 3000))
            (event,) = await stream.events(5)
            assert isinstance(event, DataReceived)
            read = stream.bytes_read
            other.sendall(p_data(0, b"x" * 1000))
            while stream.bytes_read == read:
                await anyio.wait_all_tasks_blocked()
            assert bytes(event.fragment) == byte * 3000
            await stream.events(5)


async def test_flush_waits_for_a_peer_that_does_not_read_and_then_times_out() -> None:
    async with established() as (stream, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        async def send_without_end() -> None:
            while True:
                stream.layer.send_data(1, bytes(131_072), last=False)
                await stream.flush(0.05)

        with pytest.raises(TimeoutError):
            await send_without_end()
        assert stream._transport.get_write_buffer_size() < 1024 * 1024


async def test_flush_goes_on_when_the_peer_reads_again() -> None:
    async with established() as (stream, other):
        other.setblocking(False)
        loop = asyncio.get_running_loop()
        received = 0

        async def read() -> None:
            nonlocal received
            while received < 64 * 131_072:
                received += len(await loop.sock_recv(other, 65_536))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for _ in range(64):
                stream.layer.send_data(1, bytes(131_072), last=False)
                await stream.flush(5)
        assert received >= 64 * 131_072


async def test_sent_data_may_be_reused_by_its_owner_at_once() -> None:
    async with established() as (stream, other):
        other.setblocking(False)
        loop = asyncio.get_running_loop()
        buffer = bytearray(65_536)
        for byte in range(32):
            buffer[:] = bytes((byte,)) * 65_536
            stream.layer.send_data(1, memoryview(buffer), last=False)
            await stream.flush(5)
            if byte == 3:
                break  # more than the kernel takes is not needed to see the copy
        buffer[:] = b"\xff" * 65_536
        received = b""
        while len(received) < 4 * 65_536:
            received += await loop.sock_recv(other, 1 << 20)
        assert b"\xff" * 64 not in received


async def test_events_time_out_when_the_peer_is_silent() -> None:
    async with established() as (stream, _):
        with pytest.raises(TimeoutError):
            await stream.events(0.02)


class ScriptedGate(Gate):
    """Lets pieces of a PDU arrive, and the time run out after each of them but the last."""

    def __init__(self, stream: AssociationStream, pieces: list[bytes]) -> None:
        super().__init__(asyncio.get_running_loop())
        self._stream, self._pieces = stream, pieces

    async def wait_until(self, deadline: float) -> None:
        piece = self._pieces.pop(0)
        self._stream.get_buffer(-1)[: len(piece)] = piece
        self._stream.buffer_updated(len(piece))
        if self._pieces:
            self._stream.layer.receive(self._stream._take())  # otherwise it counts as come in time
            raise TimeoutError


@pytest.mark.parametrize(("piece_bytes", "arrives"), [(2 * MIN_BYTES_PER_S, True), (MIN_BYTES_PER_S - 100, False)])
async def test_f36_a_pdu_that_keeps_moving_is_waited_for_and_one_that_drips_is_not(
    piece_bytes: int, arrives: bool
) -> None:
    async with established() as (stream, other):
        other.sendall(COMMAND_PDU)
        await stream.events(5)
        whole = p_data(2, bytes(6 * MIN_BYTES_PER_S))
        pieces = [whole[at : at + piece_bytes] for at in range(0, len(whole), piece_bytes)]
        stream._readable = ScriptedGate(stream, pieces)
        if arrives:
            (event,) = await stream.events(1.0)
            assert isinstance(event, DataReceived)
        else:
            with pytest.raises(TimeoutError):
                await stream.events(1.0)


async def test_a_closed_connection_is_lost_after_what_came_before() -> None:
    async with established() as (stream, other):
        other.sendall(COMMAND_PDU)
        other.close()
        (event,) = await stream.events(5)
        assert isinstance(event, CommandReceived)
        with pytest.raises(ConnectionLost):
            await stream.events(5)
        assert stream.layer.state is State.CLOSED
        stream.kill()
        await anyio.wait_all_tasks_blocked()
        stream.layer.send_data(1, b"late", last=True)
        with pytest.raises(ConnectionLost):
            await stream.flush(5)


async def test_a_violation_is_aborted_before_it_is_raised() -> None:
    async with established() as (stream, other):
        other.sendall(b"\x99\0\0\0\0\0")
        with pytest.raises(PeerError, match="unrecognised PDU type 99H"):
            await stream.events(5)
        other.recv(1000)
        assert stream.layer.state is State.AWAIT_CLOSE


async def test_interrupt_wakes_a_waiting_reader_once() -> None:
    async with established() as (stream, other):
        loop = asyncio.get_running_loop()
        loop.call_soon(stream.interrupt)
        assert await stream.events(5) == ()
        other.sendall(COMMAND_PDU)
        assert len(await stream.events(5)) == 1


async def test_lingering_ignores_what_comes_and_ends_when_the_peer_closes() -> None:
    async with established() as (stream, other):
        stream.layer.abort()
        other.sendall(COMMAND_PDU * 100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.linger, 60)
            await anyio.wait_all_tasks_blocked()
            other.shutdown(socket.SHUT_WR)


async def test_lingering_ends_with_artim() -> None:
    async with established() as (stream, _):
        stream.layer.abort()
        await stream.linger(0.02)
        assert stream.layer.closed


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.net.association.CLOSE_S", 0.05)
    async with established() as (stream, _):
        for _ in range(200):
            stream.layer.send_data(1, bytes(131_072), last=False)
        with anyio.fail_after(5):
            await stream.aclose()
            await stream.aclose()
