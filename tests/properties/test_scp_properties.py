"""Whatever comes to the listening DIMSE socket, in whatever pieces: the next caller is served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from router.config.model import DicomConfig, Listen
from router.dicom.envelope import Declared, Source
from router.dicom.uids import VERIFICATION, AETitle, Uid
from router.dimse.commands import C_ECHO_RQ, C_STORE_RQ, encode_command
from router.dimse.events import Command, CommandReceived, ProposedContext
from router.dimse.pdata import encode_command_pdus, encode_data_pdus
from router.dimse.pdu import RELEASE_RQ_PDU, encode_abort
from router.dimse.upper_layer import UpperLayer
from router.net.connect import connect_association, release
from router.scp.server import StorageScp

CT, EXPLICIT, IMPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1"), Uid("1.2.840.10008.1.2")
CONTEXTS = (ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(3, VERIFICATION, (IMPLICIT,)))


@dataclass
class Drain:
    """A door, its visit and its reception: takes everything and keeps nothing."""

    open: int = 0
    unended: int = 0

    def open_visit(self, source: Source) -> Drain:
        self.open += 1
        return self

    def has_room(self) -> bool:
        return True

    def receive(self, declared: Declared) -> Drain:
        self.unended += 1
        return self

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        pass

    async def accept(self) -> None:
        self.unended -= 1

    async def discard(self) -> None:
        self.unended -= 1

    async def close(self) -> None:
        self.open -= 1


def _request() -> bytes:
    layer = UpperLayer(requestor=True, max_pdu_bytes=16_384)
    layer.request(called_aet=AETitle("SENDRS"), calling_aet=AETitle("CT1"), contexts=CONTEXTS)
    return b"".join(layer.take_output())


def _store() -> bytes:
    command = Command(C_STORE_RQ, 7, None, CT, Uid("1.2.3.4.5"), 0, None, "", True)
    parts = encode_command_pdus(1, encode_command(command), 16_384) + encode_data_pdus(1, b"D" * 500, True, 16_384)
    return b"".join(parts)


def _echo() -> bytes:
    command = encode_command(Command(C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION))
    return b"".join(encode_command_pdus(3, command, 16_384))


REQUEST, STORE, ECHO = _request(), _store(), _echo()

headers = st.builds(
    lambda kind, length, body: bytes((kind, 0)) + length.to_bytes(4, "big") + body,
    st.integers(0, 255),
    st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
    st.binary(max_size=300),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A whole conversation with some bytes changed, left out or put in."""
    whole = bytearray(REQUEST + STORE + ECHO + STORE + RELEASE_RQ_PDU)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(whole) - 1))
        whole[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
    return bytes(whole)


said = st.one_of(
    st.binary(max_size=400),
    headers,
    damaged(),
    st.sampled_from([REQUEST, STORE, ECHO, RELEASE_RQ_PDU, encode_abort(0, 0), b"GET / HTTP/1.1\r\n\r\n"]),
)
conversations = st.lists(said, min_size=1, max_size=5).map(b"".join)


async def speak(port: int, bytes_said: bytes, pieces: Sequence[int], *, hang_up_first: bool) -> None:
    """Say it in pieces, then hang up, at once or when the router has answered what it wants to answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    at = 0
    try:
        for size in (*pieces, len(bytes_said)):
            writer.write(bytes_said[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
            at += size
        if not hang_up_first:
            writer.write_eof()
            await reader.read()
    except OSError:
        pass  # the router closed it already: ENOTCONN, which is no ConnectionError, if there is nothing left to shut
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def echo(port: int) -> int | None:
    """The status that a well-behaved caller hears."""
    stream = await connect_association(
        host="127.0.0.1",
        port=port,
        called_aet=AETitle("SENDRS"),
        calling_aet=AETitle("NEXT"),
        contexts=CONTEXTS,
        max_pdu_bytes=16_384,
        connect_s=10.0,
        answer_s=10.0,
    )
    stream.layer.send_command(3, Command(C_ECHO_RQ, message_id=1, affected_sop_class_uid=VERIFICATION))
    (event,) = await stream.events(10.0)
    assert isinstance(event, CommandReceived)
    await release(stream, 10.0)
    return event.command.status


async def _serve_after(bytes_said: Sequence[bytes], pieces: Sequence[int], hang_up_first: bool) -> None:
    door = Drain()
    config = DicomConfig(listen=Listen("127.0.0.1", 0), max_pdu_bytes=16_384, artim_s=0.2, idle_s=0.2)
    scp = StorageScp(config, {}, door)
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(scp.run)
        for one in bytes_said:
            await speak(address.port, one, pieces, hang_up_first=hang_up_first)
        assert await echo(address.port) == 0
        scp.stop()
    assert (door.open, door.unended, scp.associations, scp.connections) == (0, 0, 0, 0)


@settings(max_examples=120, deadline=None)
@given(
    bytes_said=st.lists(conversations, min_size=1, max_size=3),
    pieces=st.lists(st.integers(1, 200), max_size=4),
    hang_up_first=st.booleans(),
)
def test_no_bytes_keep_the_next_caller_from_its_echo(
    bytes_said: list[bytes], pieces: list[int], hang_up_first: bool
) -> None:
    with capture_logs() as logs:
        anyio.run(_serve_after, bytes_said, pieces, hang_up_first)
    assert [line for line in logs if line["log_level"] == "error"] == []
