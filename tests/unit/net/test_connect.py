"""Opening and releasing associations against peers that answer in every way (bytes written by hand)."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from router.dicom.uids import VERIFICATION, AETitle, Uid
from router.dimse.commands import C_ECHO_RQ
from router.dimse.events import Command, CommandReceived, ProposedContext
from router.errors import DeliveryError, Misconfigured, Transient
from router.net.association import AssociationStream
from router.net.connect import connect_association, release

IMPLICIT = Uid("1.2.840.10008.1.2")
RELEASE_RQ, RELEASE_RP = bytes.fromhex("05000000000400000000"), bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")
CLOSE = b"close"
ECHO_RSP = struct.pack(
    "<HHIHHHIHHHIHHHIH", 0, 0x0100, 2, 0x8030, 0, 0x0120, 2, 1, 0, 0x0800, 2, 0x0101, 0, 0x0900, 2, 0
)


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def accept(max_pdu_bytes: int = 16384, result: int = 0) -> bytes:
    user = item(0x51, struct.pack(">I", max_pdu_bytes)) + item(0x52, b"1.2.3")
    body = struct.pack(">HH64x", 1, 0) + item(0x10, b"1.2.840.10008.3.1.1.1")
    body += item(0x21, bytes((1, 0, result, 0)) + item(0x40, IMPLICIT.encode())) + item(0x50, user)
    return struct.pack(">BxI", 2, len(body)) + body


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(fragment) + 6, len(fragment) + 2, context_id, control) + fragment


class Peer:
    """A listener that answers each PDU that comes with the next of its script."""

    def __init__(self, script: Sequence[bytes]) -> None:
        self.script = list(script)
        self.heard: list[int] = []
        self.closed = anyio.Event()

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    kind, length = struct.unpack(">BxI", await self._read(stream, 6))
                    await self._read(stream, length)
                    self.heard.append(kind)
                    answer = self.script.pop(0) if self.script else b""
                    if answer == CLOSE:
                        break
                    await stream.send(answer)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead):
                pass
        self.closed.set()

    async def _read(self, stream: SocketStream, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await stream.receive(size - len(data))
        return data


@asynccontextmanager
async def peer(*script: bytes) -> AsyncIterator[tuple[Peer, int]]:
    """Run a peer for one test; its port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    one = Peer(script)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, one.serve)
        yield one, listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def connect(port: int, **changes: Any) -> AssociationStream:
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "called_aet": AETitle("ARCHIVE"),
        "calling_aet": AETitle("SENDRS"),
        "contexts": [ProposedContext(1, VERIFICATION, (IMPLICIT,))],
        "max_pdu_bytes": 16384,
        "connect_s": 5.0,
        "answer_s": 5.0,
    }
    return await connect_association(**{**options, **changes})


async def failure(*script: bytes, **changes: Any) -> DeliveryError:
    """Why no association came about; the connection must be closed then."""
    async with peer(*script) as (one, port):
        with pytest.raises(DeliveryError) as raised:
            await connect(port, **changes)
        with anyio.fail_after(5):
            await one.closed.wait()
    return raised.value


async def test_an_association_carries_an_echo_and_is_released() -> None:
    group_length = struct.pack("<HHII", 0, 0, 4, len(ECHO_RSP))
    async with peer(accept(), p_data(1, 3, group_length + ECHO_RSP), RELEASE_RP) as (one, port):
        stream = await connect(port)
        assert stream.layer.contexts[1].transfer_syntax == IMPLICIT
        assert stream.layer.peer_max_pdu_bytes == 16384
        assert (stream.peer_address, stream.peer_port) == ("127.0.0.1", port)
        stream.layer.send_command(1, Command(C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION))
        await stream.flush(5)
        (event,) = await stream.events(5)
        assert isinstance(event, CommandReceived)
        assert event.command.status == 0
        await release(stream, 5)
        await one.closed.wait()
        assert one.heard == [1, 4, 5]


async def test_an_association_without_an_accepted_context_is_the_callers_to_judge() -> None:
    async with peer(accept(result=3), RELEASE_RP) as (_, port):
        stream = await connect(port)
        assert stream.layer.contexts[1].result == 3
        await release(stream, 5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((2, 3, 2), "association rejected for now: local limit exceeded (2,3,2)"),
        ((2, 3, 1), "association rejected for now: temporary congestion (2,3,1)"),
        ((1, 3, 1), "association rejected permanently: temporary congestion (1,3,1)"),
        ((1, 3, 2), "association rejected permanently: local limit exceeded (1,3,2)"),
        ((2, 1, 1), "association rejected for now: no reason given (2,1,1)"),
        ((2, 9, 9), "association rejected for now: source 9 reason 9 (2,9,9)"),
    ],
)
async def test_f46_congestion_and_whatever_else_is_for_now_is_transient(
    answer: tuple[int, int, int], words: str
) -> None:
    error = await failure(bytes((3, 0, 0, 0, 0, 4, 0, *answer)))
    assert isinstance(error, Transient)
    assert error.problem == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((1, 1, 7), "association rejected permanently: called AE title not recognised (1,1,7)"),
        ((1, 1, 3), "association rejected permanently: calling AE title not recognised (1,1,3)"),
        ((1, 2, 2), "association rejected permanently: protocol version not supported (1,2,2)"),
    ],
)
async def test_f46_a_permanent_rejection_is_for_a_person(answer: tuple[int, int, int], words: str) -> None:
    error = await failure(bytes((3, 0, 0, 0, 0, 4, 0, *answer)))
    assert isinstance(error, Misconfigured)
    assert error.problem == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ABORT, "aborted by the peer (0,0)"),
        (CLOSE, "connection was closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (RELEASE_RQ, "A-RELEASE-RQ"),
        (accept(max_pdu_bytes=3), "maximum length 3"),
        (b"\x02\0\xff\xff\xff\xff", "bytes"),
    ],
)
async def test_a_peer_that_does_not_answer_as_it_should_is_transient(answer: bytes, words: str) -> None:
    error = await failure(answer)
    assert isinstance(error, Transient)
    assert words in error.problem


async def test_f58_a_peer_that_says_nothing_is_transient() -> None:
    error = await failure(answer_s=0.05)
    assert isinstance(error, Transient)
    assert error.problem == "no answer to the association request within 0.05 s"


async def test_a_peer_that_listens_not_at_all_is_transient_and_says_where() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, not listening
        port = probe.getsockname()[1]
        with pytest.raises(Transient, match=rf"no connection to 127.0.0.1:{port}: .*refused"):
            await connect(port)


async def test_a_name_that_does_not_resolve_is_transient() -> None:
    with pytest.raises(Transient, match=r"no connection to no-such-host.invalid:104: "):
        await connect(104, host="no-such-host.invalid")


async def test_b45_a_release_that_crosses_the_peers_is_resolved() -> None:
    """PS3.8 §7.2.2.7: the requestor answers first, then hears its own confirmation."""
    async with peer(accept(), RELEASE_RQ, RELEASE_RP) as (one, port):
        stream = await connect(port)
        await release(stream, 5)
        await one.closed.wait()
        assert one.heard == [1, 5, 6]


@pytest.mark.parametrize("answer", [b"", ABORT, CLOSE, b"\x99\0\0\0\0\0"])
async def test_a_release_that_is_not_confirmed_ends_all_the_same(answer: bytes) -> None:
    async with peer(accept(), answer) as (one, port):
        stream = await connect(port)
        await release(stream, 0.05)
        with anyio.fail_after(5):
            await one.closed.wait()
        await release(stream, 0.05)  # over already: nothing more happens


async def test_a_cancelled_connect_closes_the_connection() -> None:
    async with peer() as (one, port):
        with anyio.move_on_after(0.05) as scope:
            await connect(port)
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            await one.closed.wait()
