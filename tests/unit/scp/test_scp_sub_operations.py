"""What services ask of the peer on its own association: C-STORE sub-operations, event reports."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from scp_harness import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    FakeDoor,
    abort,
    command_set,
    echo_rq,
    p_data,
    pdv,
    serving,
)
from service_harness import (
    C_GET,
    C_STORE,
    COMMITMENT,
    GET,
    N_ACTION,
    N_EVENT_REPORT,
    PENDING,
    STORE,
    committer,
    get_association,
    get_two,
    getter,
    message,
    offering,
    request,
    response,
    role,
)

from router.dicom.uids import Uid
from router.dimse.events import Command
from router.net.association import ConnectionLost
from router.scp import operations
from router.scp.service import Exchange, Invocation


async def test_sub_operations_on_the_same_association() -> None:
    service = getter(get_two)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", message_id=4, sop_class=GET))
        command, data_set = await message(caller)
        assert (command[0x0100], command[0x0110], command[0x1000], data_set) == (C_STORE, 1, "1.2.3", b"streamed!")
        await caller.send(response(C_STORE, 1, context_id=3))
        command, _ = await message(caller)
        assert (command[0x0900], command[0x1020], command[0x1021], command[0x0120]) == (PENDING, 1, 1, 4)
        command, data_set = await message(caller)
        assert (command[0x0110], data_set) == (2, b"whole.")
        await caller.send(response(C_STORE, 2, 0xA700, context_id=3))
        command, _ = await message(caller)
        assert (command[0x0900], command[0x1021], command[0x1022]) == (0xB000, 1, 1)
        await caller.release()


async def test_an_answer_to_an_echo_never_stands_inside_a_message_being_sent() -> None:
    on_its_way, go_on = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"be"
        yield b"gin"[:2]
        on_its_way.set()
        await go_on.wait()
        yield b"end."

    async def get(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.invoke(3, STORE, slow())
        await exchange.respond(Command(0, status=0))

    async with serving(FakeDoor(), services=offering(getter(get))) as served:
        caller = await served.associate(
            [(1, GET, (EXPLICIT,)), (3, CT, (EXPLICIT,)), (5, VERIFICATION, (IMPLICIT,))], more_user=role(CT, 0, 1)
        )
        await caller.send(request(C_GET, b"keys", message_id=4, sop_class=GET))
        await on_its_way.wait()
        await caller.send(echo_rq(6, context_id=5))
        await anyio.wait_all_tasks_blocked()
        go_on.set()
        command, data_set = await message(caller)
        assert (command[0x0100], data_set) == (C_STORE, b"begiend.")
        assert (await message(caller))[0][0x0100] == 0x8030
        await caller.send(response(C_STORE, 1, context_id=3))
        assert (await message(caller))[0][0x0900] == 0


async def test_content_that_cannot_be_read_to_its_end_aborts_the_association() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        yield b"more"
        raise OSError("disk")

    async def get(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.invoke(3, STORE, broken())

    async with serving(FakeDoor(), services=offering(getter(get))) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", sop_class=GET))
        assert (await caller.rest()).endswith(abort(0, 0))


async def test_content_is_closed_when_the_peer_goes_away_inside_of_it() -> None:
    closed = anyio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65_536)
        finally:
            closed.set()

    async def get(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.invoke(3, STORE, endless())

    service = getter(get)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", sop_class=GET))
        await caller.pdu()
        await caller.hang_up()
        with anyio.fail_after(5):
            await service.ended.wait()
    assert closed.is_set()
    assert isinstance(service.raised[0], ConnectionLost)


async def test_content_that_cannot_be_begun_costs_nothing() -> None:
    async def broken() -> AsyncIterator[bytes]:
        raise OSError("disk")
        yield b""

    async def get(invocation: Invocation, exchange: Exchange) -> None:
        with pytest.raises(OSError, match="disk"):
            await exchange.invoke(3, STORE, broken())
        await exchange.respond(Command(0, status=0xA702))

    async with serving(FakeDoor(), services=offering(getter(get))) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", sop_class=GET))
        assert (await message(caller))[0][0x0900] == 0xA702
        await caller.release()


@pytest.mark.parametrize(
    "wrong",
    [
        response(C_STORE, 99, context_id=3),
        response(C_STORE, 1, context_id=1),
        response(N_EVENT_REPORT, 1, context_id=3),
        p_data(pdv(3, 3, command_set({0x0100: 0x8001, 0x0120: 1, 0x0800: 0x0101}))),
    ],
    ids=["message id", "context", "command", "no status"],
)
async def test_a_response_to_something_else_aborts_the_association(wrong: bytes) -> None:
    service = getter(get_two)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", sop_class=GET))
        await message(caller)
        await caller.send(wrong)
        assert await caller.read(10) == abort(0, 0)
        await caller.hang_up()
        await service.ended.wait()
    assert isinstance(service.raised[0], ConnectionLost)


async def test_a_peer_that_does_not_answer_a_sub_operation_is_aborted() -> None:
    service = getter(get_two)
    async with serving(FakeDoor(), services=offering(service), idle_s=0.2) as served:
        caller = await get_association(served, role(CT, 0, 1))
        await caller.send(request(C_GET, b"keys", sop_class=GET))
        await message(caller)
        assert await caller.read(10) == abort(0, 0)
    assert isinstance(service.raised[0], TimeoutError)


async def test_an_operation_may_report_on_the_same_association_after_its_answer() -> None:
    report = anyio.Event()
    answers: list[int | None] = []

    async def commit(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.respond(Command(0, status=0))
        await report.wait()
        event = Command(
            N_EVENT_REPORT,
            affected_sop_class_uid=Uid(COMMITMENT),
            affected_sop_instance_uid=Uid("1.2"),
            event_type_id=1,
        )
        answers.append((await exchange.invoke(1, event, b"report")).status)

    service = committer(commit)
    async with serving(FakeDoor(), services=offering(service), idle_s=0.3) as served:
        caller = await served.associate([(1, COMMITMENT, (IMPLICIT,)), (3, VERIFICATION, (IMPLICIT,))])
        await caller.send(
            request(
                N_ACTION, b"info", message_id=2, x0002=None, x0003=COMMITMENT, x1001="1.2.840.10008.1.20.1.1", x1008=1
            )
        )
        answer, _ = await message(caller)
        assert (answer[0x0002], answer[0x1000]) == (COMMITMENT, "1.2.840.10008.1.20.1.1")
        await anyio.sleep(0.6)  # longer than idle_s: what lingers keeps the association
        await caller.send(echo_rq(3, context_id=3))
        assert (await message(caller))[0][0x0900] == 0
        report.set()
        command, data_set = await message(caller)
        assert (command[0x0100], command[0x1002], command[0x1000], data_set) == (N_EVENT_REPORT, 1, "1.2", b"report")
        await caller.send(response(N_EVENT_REPORT, command[0x0110]))
        await service.ended.wait()
        await caller.release()
    assert answers == [0]


async def test_lingering_operations_of_one_association_are_bounded() -> None:
    async def linger(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.respond(Command(0, status=0))
        await exchange.cancelled.wait()

    async with serving(FakeDoor(), services=offering(committer(linger))) as served:
        caller = await served.associate([(1, COMMITMENT, (IMPLICIT,))])
        said = []
        for number in range(operations.MAX_RUNNING + 1):
            await caller.send(request(N_ACTION, b"info", message_id=number, sop_class=COMMITMENT))
            said.append((await message(caller))[0][0x0900])
        assert said == [0] * operations.MAX_RUNNING + [0x0213]
        await caller.release()
