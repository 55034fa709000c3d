"""Services of the DIMSE front as a peer sees them, who speaks bytes: responses, cancel, requests at bad moments."""

from __future__ import annotations

import anyio
import pytest
from scp_harness import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    FakeDoor,
    abort,
    echo_rq,
    p_data,
    pdv,
    serving,
    store_rq,
)
from service_harness import (
    C_FIND,
    CANCELLED,
    COMMITMENT,
    FIND,
    N_ACTION,
    PENDING,
    cancel,
    committer,
    find_association,
    find_two,
    finder,
    message,
    offering,
    request,
    until_cancelled,
)
from structlog.testing import capture_logs

from router.dimse.events import Command
from router.errors import PeerError
from router.scp import operations
from router.scp.service import Exchange, Invocation


async def test_a_query_is_answered_by_pending_responses_and_a_last_one() -> None:
    service = finder(find_two)
    with capture_logs() as logs:
        async with serving(FakeDoor(), services=offering(service)) as served:
            caller = await find_association(served)
            await caller.send(request(C_FIND, b"keys", message_id=9))
            said = [await message(caller) for _ in range(3)]
            await caller.release()
    assert [(command[0x0900], data_set) for command, data_set in said] == [
        (PENDING, b"one."),
        (PENDING, b"two."),
        (0, b""),
    ]
    for command, _ in said:
        assert (command[0x0002], command[0x0100], command[0x0120]) == (FIND, C_FIND | 0x8000, 9)
    (invocation,) = service.invocations
    assert invocation.data_set == b"keys"
    assert (invocation.calling_aet, invocation.called_aet, invocation.peer_address) == ("CT1", "SENDRS", "127.0.0.1")
    assert invocation.context.transfer_syntax == EXPLICIT
    (line,) = [line for line in logs if line["event"] == "operation ended"]
    assert (line["operation"], line["status"], line["pending"], line["ended"]) == ("C-FIND", "0000", 2, "answered")
    assert (line["calling_aet"], line["peer"], line["sop_class_uid"]) == ("CT1", "127.0.0.1", FIND)


async def test_an_identifier_in_many_fragments_is_one_data_set() -> None:
    service = finder(find_two)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, x0800=0), p_data(pdv(1, 0, b"ke"), pdv(1, 0, b"ys"), pdv(1, 2, b"!!")))
        await message(caller)
    assert service.invocations[0].data_set == b"keys!!"


async def test_cancel_reaches_the_operation_that_it_names_only() -> None:
    async with serving(FakeDoor(), services=offering(finder(until_cancelled))) as served:
        caller = await find_association(served)
        await caller.send(cancel(3), request(C_FIND, b"keys", message_id=5), cancel(4))
        assert (await message(caller))[0][0x0900] == PENDING
        with anyio.move_on_after(0.05) as waited:
            await caller.pdu()
        assert waited.cancelled_caught
        await caller.send(cancel(5))
        command, data_set = await message(caller)
        assert (command[0x0900], command[0x0120], data_set) == (CANCELLED, 5, b"")
        await caller.send(cancel(5))  # it crossed with the last response
        await caller.release()


async def test_a_query_that_never_waits_can_be_cancelled() -> None:
    async def endless(invocation: Invocation, exchange: Exchange) -> None:
        while not exchange.cancelled.is_set():
            await exchange.respond(Command(0, status=PENDING), b"hit.")
        await exchange.respond(Command(0, status=CANCELLED))

    async with serving(FakeDoor(), services=offering(finder(endless))) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
        await caller.send(cancel(1))
        while (await message(caller))[0][0x0900] == PENDING:
            pass
        await caller.release()


@pytest.mark.parametrize(("message_id", "status"), [(1, 0x0210), (2, 0x0213)])
async def test_a_second_request_is_refused_and_the_first_goes_on(message_id: int, status: int) -> None:
    service = finder(until_cancelled)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await served.associate([(1, FIND, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,))])
        await caller.send(request(C_FIND, b"keys", message_id=1))
        assert (await message(caller))[0][0x0900] == PENDING
        await caller.send(request(C_FIND, b"more", message_id=message_id), echo_rq(7, context_id=3))
        refused, _ = await message(caller)
        assert (refused[0x0900], refused[0x0120]) == (status, message_id)
        echoed, _ = await message(caller)
        assert (echoed[0x0100], echoed[0x0900]) == (0x8030, 0)
        await caller.send(cancel(1))
        assert (await message(caller))[0][0x0900] == CANCELLED
        await caller.send(request(C_FIND, b"next", message_id=3))  # the association is free again
        assert (await message(caller))[0][0x0900] == PENDING
    assert len(service.invocations) == 2


async def test_an_instance_is_refused_while_a_query_runs_and_taken_after_it() -> None:
    door = FakeDoor()
    async with serving(door, services=offering(finder(until_cancelled))) as served:
        caller = await served.associate([(1, FIND, (EXPLICIT,)), (3, CT, (EXPLICIT,))])
        await caller.send(request(C_FIND, b"keys", message_id=1))
        await message(caller)
        await caller.send(store_rq(context_id=3, message_id=8))
        assert (await message(caller))[0][0x0900] == 0x0213
        await caller.send(cancel(1))
        await message(caller)
        await caller.send(store_rq(context_id=3, message_id=8))
        assert (await message(caller))[0][0x0900] == 0
    assert [one.ended for one in door.receptions] == ["accepted"]


@pytest.mark.parametrize(
    ("field", "sop_class", "status"),
    [(C_FIND, FIND, 0xA900), (N_ACTION, COMMITMENT, 0x0110)],
    ids=["C-FIND", "N-ACTION"],
)
async def test_a_data_set_beyond_the_bound_is_read_dropped_and_refused(
    field: int, sop_class: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "MAX_DATA_SET_BYTES", 1000)
    services = [finder(find_two), committer(find_two)]
    async with serving(FakeDoor(), services=offering(*services)) as served:
        caller = await served.associate([(1, sop_class, (EXPLICIT,))])
        piece = p_data(pdv(1, 0, bytes(400)))
        await caller.send(request(field, sop_class=sop_class, x0800=0), piece * 5, p_data(pdv(1, 2, b"end.")))
        refused, _ = await message(caller)
        assert (refused[0x0900], refused[0x0902]) == (status, "data set of more than 1000 bytes")
        await caller.send(request(field, bytes(1000), sop_class=sop_class))
        assert (await message(caller))[0][0x0900] == PENDING


async def test_operations_that_no_service_performs_are_answered_0211() -> None:
    door = FakeDoor()
    async with serving(door, services=offering(finder(find_two))) as served:
        caller = await find_association(served)
        await caller.send(request(0x0021, b"move"), store_rq(sop_class=FIND), echo_rq())
        assert [(await message(caller))[0][0x0900] for _ in range(3)] == [0x0211] * 3
    assert not door.receptions


async def test_what_fails_in_our_code_is_answered_0110_and_the_association_goes_on() -> None:
    failures = iter([True, False])

    async def fails_once(invocation: Invocation, exchange: Exchange) -> None:
        if next(failures):
            raise ZeroDivisionError
        await exchange.respond(Command(0, status=0))

    async def says_nothing(invocation: Invocation, exchange: Exchange) -> None:
        pass

    with capture_logs() as logs:
        async with serving(FakeDoor(), services=offering(finder(fails_once), committer(says_nothing))) as served:
            caller = await served.associate([(1, FIND, (EXPLICIT,)), (3, COMMITMENT, (IMPLICIT,))])
            await caller.send(request(C_FIND, b"keys", message_id=1))
            assert (await message(caller))[0][0x0900] == 0x0110
            await caller.send(request(N_ACTION, b"info", message_id=2, context_id=3, sop_class=COMMITMENT))
            assert (await message(caller))[0][0x0900] == 0x0110
            await caller.send(request(C_FIND, b"keys", message_id=3))
            assert (await message(caller))[0][0x0900] == 0
    assert [line["event"] for line in logs].count("operation failed in our code") == 2


async def test_a_peer_that_breaks_the_protocol_with_a_service_is_aborted() -> None:
    async def offended(invocation: Invocation, exchange: Exchange) -> None:
        raise PeerError("nonsense")

    with capture_logs() as logs:
        async with serving(FakeDoor(), services=offering(finder(offended))) as served:
            caller = await find_association(served)
            await caller.send(request(C_FIND, b"keys"))
            assert await caller.read(10) == abort(0, 0)
    assert {line["ended"] for line in logs} == {"nonsense"}


async def test_a_peer_that_takes_no_responses_stops_the_operation_and_then_loses_it() -> None:
    async def endless(invocation: Invocation, exchange: Exchange) -> None:
        while True:
            await exchange.respond(Command(0, status=PENDING), bytes(65_536))

    service, door = finder(endless), FakeDoor()
    async with serving(door, services=offering(service), idle_s=0.3) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        with anyio.fail_after(5):
            await service.ended.wait()
            await door.visit_closed.wait()
    assert isinstance(service.raised[0], TimeoutError)
