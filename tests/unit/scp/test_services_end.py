"""What becomes of operations when their association ends, or we stop."""

from __future__ import annotations

import anyio
import pytest
from scp_harness import (
    RELEASE_RP,
    RELEASE_RQ,
    FakeDoor,
    abort,
    serving,
)
from service_harness import (
    C_FIND,
    CANCELLED,
    PENDING,
    cancel,
    find_association,
    finder,
    message,
    offering,
    request,
    until_cancelled,
)
from structlog.testing import capture_logs

from router.dimse.events import Command
from router.net.association import ConnectionLost
from router.scp import conversation, operations
from router.scp.service import Exchange, Invocation


@pytest.mark.parametrize("way", ["hang up", "abort", "release"])
async def test_an_operation_hears_that_its_association_is_over(way: str) -> None:
    async def wait(invocation: Invocation, exchange: Exchange) -> None:
        await exchange.respond(Command(0, status=PENDING), b"hit.")
        await exchange.cancelled.wait()
        await exchange.respond(Command(0, status=CANCELLED))

    service, door = finder(wait), FakeDoor()
    async with serving(door, services=offering(service)) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
        if way == "release":
            await caller.send(RELEASE_RQ)
            assert await caller.read(10) == RELEASE_RP
        elif way == "abort":
            await caller.send(abort(0, 0))
        await caller.hang_up()
        with anyio.fail_after(5):
            await service.ended.wait()
            await door.visit_closed.wait()
    assert isinstance(service.raised[0], ConnectionLost)


async def test_an_operation_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(invocation: Invocation, exchange: Exchange) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(operations, "END_S", 0.05)
    service, door = finder(deaf), FakeDoor()
    with capture_logs() as logs:
        async with serving(door, services=offering(service)) as served:
            caller = await find_association(served)
            await caller.send(request(C_FIND, b"keys"))
            await anyio.wait_all_tasks_blocked()
            await caller.hang_up()
            with anyio.fail_after(5):
                await service.ended.wait()
                await door.visit_closed.wait()
    (line,) = [line for line in logs if line["event"] == "operation ended"]
    assert (line["status"], line["ended"]) == ("none", "cut off by us")


async def test_silence_does_not_end_an_association_on_which_an_operation_runs() -> None:
    async with serving(FakeDoor(), services=offering(finder(until_cancelled)), idle_s=0.3) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
        await anyio.sleep(0.6)
        await caller.send(cancel(1))
        assert (await message(caller))[0][0x0900] == CANCELLED
        assert await caller.read(10) == abort(0, 0)  # now it is idle


async def test_stopping_waits_for_the_answer_of_an_operation() -> None:
    async with serving(FakeDoor(), services=offering(finder(until_cancelled))) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
        served.scp.stop()
        await anyio.wait_all_tasks_blocked()
        await caller.send(cancel(1))
        assert (await message(caller))[0][0x0900] == CANCELLED
        assert await caller.read(10) == abort(0, 0)
        await caller.hang_up()
        with anyio.fail_after(5):
            await served.stopped.wait()


async def test_stopping_cuts_an_operation_off_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "STOP_S", 0.05)
    async with serving(FakeDoor(), services=offering(finder(until_cancelled))) as served:
        caller = await find_association(served)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
        served.scp.stop()
        assert await caller.read(10) == abort(0, 0)
        await caller.hang_up()
        with anyio.fail_after(5):
            await served.stopped.wait()
