"""What a well-behaved sender, pynetdicom included, and the operator see of the Storage SCP: streaming, draining,
cancelling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, StoragePresentationContexts, build_context
from pynetdicom.association import Association
from scp_harness import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    FakeDoor,
    FakeReception,
    Served,
    abort,
    associate_rq,
    command_set,
    echo_rq,
    p_data,
    pdv,
    reject,
    serving,
    store_command,
    store_rq,
)
from structlog.testing import capture_logs

from router.net import association as net_association
from router.net.association import AssociationStream

MIB = 1024 * 1024


async def test_64_mib_stream_through_within_the_buffers_of_one_association(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk makes us stop reading; the sender waits, our memory does not grow."""
    streams: list[AssociationStream] = []
    made = AssociationStream.connection_made

    def remember(stream: AssociationStream, transport: Any) -> None:
        streams.append(stream)
        made(stream, transport)

    monkeypatch.setattr(AssociationStream, "connection_made", remember)
    door = FakeDoor(keep_bytes=False, may_write=anyio.Event())
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command()))))
        piece = p_data(pdv(1, 0, bytes(131_072 - 6)))
        pieces = 64 * MIB // len(piece)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(pieces):
                await caller.socket.send(piece)
                sent += len(piece)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await door.writing.wait()
            await anyio.wait_all_tasks_blocked()
            (stream,) = streams
            assert sent < 32 * MIB  # what the kernel holds; the rest waits at the sender
            assert stream.bytes_read <= 2 * net_association.BUFFER_BYTES
            door.may_write.set()
        await caller.send(p_data(pdv(1, 2, b"end.")))
        assert (await caller.response())[0x0900] == 0
        (reception,) = door.receptions
        assert reception.bytes == pieces * (131_072 - 6) + 4
        assert reception.largest_chunk == 131_072 - 6
        held = len(stream._filling) + len(stream._resting)
        assert held <= 2 * net_association.BUFFER_BYTES
        await caller.release()


async def test_a_stranger_gets_small_buffers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[AssociationStream] = []
    monkeypatch.setattr(AssociationStream, "peer_address", "", raising=False)
    taken = AssociationStream._take

    def remember(stream: AssociationStream) -> memoryview:
        streams.append(stream)
        return taken(stream)

    monkeypatch.setattr(AssociationStream, "_take", remember)
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(b"\x01\0\0\1\0\0" + bytes(60_000))  # a request of 64 KiB, not finished
        while not streams or streams[0].bytes_read < 60_006:
            await anyio.wait_all_tasks_blocked()
        held = len(streams[0]._filling) + len(streams[0]._resting)
        assert held == 2 * net_association.FIRST_BUFFER_BYTES


async def test_many_pdvs_in_one_pdu_and_many_messages_in_one_write() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        command = command_set(store_command())
        whole = p_data(
            pdv(1, 1, command[:10]), pdv(1, 3, command[10:]), pdv(1, 0, b"ab"), pdv(1, 0, b"cd"), pdv(1, 2, b"ef")
        )
        await caller.send(whole * 5)
        assert [(await caller.response())[0x0900] for _ in range(5)] == [0] * 5
    assert [b"".join(reception.chunks) for reception in door.receptions] == [b"abcdef"] * 5


@pytest.mark.parametrize("split", [1, 5, 13, 100])
async def test_a_message_may_come_in_pieces_of_any_size(split: int) -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        whole = store_rq(bytes(range(200)))
        for at in range(0, len(whole), split):
            await caller.send(whole[at : at + split])
        assert (await caller.response())[0x0900] == 0
    assert b"".join(door.receptions[0].chunks) == bytes(range(200))


async def test_what_a_sender_sent_before_it_closed_its_side_is_still_stored() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(store_rq())
        await caller.socket.send_eof()
        assert (await caller.response())[0x0900] == 0
    assert door.receptions[0].ended == "accepted"


async def test_an_association_is_one_line_in_the_log() -> None:
    with capture_logs() as logs:
        async with serving(FakeDoor()) as served:
            caller = await served.associate([(1, CT, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,))])
            await caller.send(store_rq() + store_rq() + echo_rq(context_id=3))
            for _ in range(3):
                await caller.response()
            await caller.release()
    (line,) = logs
    del line["seconds"]
    assert line == {
        "event": "association ended",
        "log_level": "info",
        "peer": "127.0.0.1",
        "calling_aet": "CT1",
        "called_aet": "SENDRS",
        "received": 2,
        "refused": 0,
        "echoed": 1,
        "bytes": 200,
        "ended": "released",
    }


async def test_stopping_lets_the_instance_in_hand_finish_and_aborts_the_association() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        idle = await served.associate()
        asking = await served.connect()
        command, data_set = store_rq()[:120], store_rq()[120:]
        await caller.send(command)
        await anyio.wait_all_tasks_blocked()
        served.scp.stop()
        assert await idle.read(10) == abort(0, 0)
        assert await asking.read(10) == abort(0, 0)
        with pytest.raises(OSError):
            await anyio.connect_tcp("127.0.0.1", served.port)
        assert not served.stopped.is_set()
        await caller.send(data_set)
        assert (await caller.response())[0x0900] == 0
        assert await caller.read(10) == abort(0, 0)
        for one in (caller, idle, asking):
            await one.hang_up()
        with anyio.fail_after(5):
            await served.stopped.wait()
    assert [reception.ended for reception in door.receptions] == ["accepted"]
    assert all(visit.closed for visit in door.visits)


async def test_stopping_stops_a_sender_that_never_pauses_between_instances() -> None:
    door = FakeDoor(may_accept=anyio.Event())
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(store_rq() * 10)
        await anyio.wait_all_tasks_blocked()
        served.scp.stop()
        door.may_accept.set()
        assert (await caller.response())[0x0900] == 0
        assert await caller.read(10) == abort(0, 0)
        await caller.hang_up()
        await served.stopped.wait()
    assert [reception.ended for reception in door.receptions] == ["accepted"]


async def test_cancelling_discards_what_is_in_hand_and_closes_the_visit() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD")))
        await door.writing.wait()
    assert [reception.ended for reception in door.receptions] == ["discarded"]
    assert [visit.closed for visit in door.visits] == [True]


async def test_an_instance_being_made_durable_is_not_discarded_by_a_cancel() -> None:
    door = FakeDoor(may_accept=anyio.Event())
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(store_rq())
        await anyio.wait_all_tasks_blocked()
    assert [reception.ended for reception in door.receptions] == ["accepted"]
    assert [visit.closed for visit in door.visits] == [True]


async def test_an_error_in_the_door_ends_one_association_and_not_the_others() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        held = await served.associate()

        def broken(source: object) -> Any:
            raise RuntimeError("a mistake of ours")

        door.open_visit = broken  # type: ignore[method-assign]
        with capture_logs() as logs:
            caller = await served.connect()
            await caller.send(associate_rq())
            await caller.rest()
        assert [line["event"] for line in logs] == ["association failed in our code"]
        await held.send(store_rq())
        assert (await held.response())[0x0900] == 0
        assert served.scp.associations == 1


async def test_a_request_that_comes_while_stopping_is_told_to_come_back() -> None:
    async with serving(FakeDoor()) as served:
        held = await served.associate()
        caller = await served.connect()
        await caller.send(b"\x01\0")
        await anyio.wait_all_tasks_blocked()
        served.scp.stop()
        assert await held.read(10) == abort(0, 0)
        assert await caller.read(10) in (abort(0, 0), reject(2, 3, 1))
        await caller.hang_up()
        await held.hang_up()
        await served.stopped.wait()


@contextmanager
def pynetdicom_association(served: Served, **options: Any) -> Iterator[Association]:
    ae = AE("CT1")
    ae.requested_contexts = [build_context(VERIFICATION), *StoragePresentationContexts[:120]]
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    association = ae.associate("127.0.0.1", served.port, ae_title="SENDRS", **options)
    assert association.is_established
    yield association
    association.release()


@pytest.mark.parametrize("max_pdu", [0, 512, 16382, 100_000])
async def test_pynetdicom_echoes_and_stores(max_pdu: int) -> None:
    door = FakeDoor()
    names = ["CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "waveform_ecg.dcm"]
    data_sets = [dcmread(get_testdata_file(name, download=False)) for name in names]

    def send() -> list[int]:
        with pynetdicom_association(served, max_pdu=max_pdu) as association:
            answers = [association.send_c_echo().Status]
            answers += [association.send_c_store(data_set).Status for data_set in data_sets]
        assert association.is_released
        return answers

    async with serving(door, max_pdu_bytes=4096) as served:
        assert await anyio.to_thread.run_sync(send) == [0] * (1 + len(names))
    stored: list[FakeReception] = door.receptions
    assert [one.declared.sop_instance_uid for one in stored] == [one.SOPInstanceUID for one in data_sets]
    assert all(one.ended == "accepted" for one in stored)
    assert all(one.largest_chunk <= 4096 for one in stored)
