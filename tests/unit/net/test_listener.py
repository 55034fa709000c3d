"""The listener by itself: where it listens, what it does when it cannot, and how it ends."""

from __future__ import annotations

import socket

import anyio
import pytest

from router.config.model import Listen
from router.net.association import AssociationStream
from router.net.listener import BACKLOG, Listener


def listener(listen: Listen, served: list[AssociationStream], release: anyio.Event) -> Listener:
    async def handle(stream: AssociationStream) -> None:
        served.append(stream)
        await release.wait()

    return Listener(
        listen, handle, max_pdu_bytes=16384, max_associations=4, connections_per_s=20.0, connections_burst=200
    )


async def test_an_address_in_use_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = Listen("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await listener(listen, [], anyio.Event()).serve()


async def test_port_0_reports_the_port_bound_and_stop_ends_it() -> None:
    one = listener(Listen("127.0.0.1", 0), [], anyio.Event())
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(one.serve)
        assert address.host == "127.0.0.1"
        assert address.port > 0
        one.stop()


async def test_stop_waits_for_the_connections_that_are_open_and_lets_none_in() -> None:
    served: list[AssociationStream] = []
    release = anyio.Event()
    one = listener(Listen("127.0.0.1", 0), served, release)
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(one.serve)
        async with await anyio.connect_tcp("127.0.0.1", address.port) as stream:
            while not served:
                await anyio.wait_all_tasks_blocked()
            one.stop()
            await anyio.wait_all_tasks_blocked()
            assert one.connections == 1
            with pytest.raises(OSError, match="connection attempts failed"):
                await anyio.connect_tcp("127.0.0.1", address.port)
            release.set()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
    assert one.connections == 0


async def test_the_kernel_keeps_a_burst_of_connections_while_the_loop_is_busy() -> None:
    served: list[AssociationStream] = []
    release = anyio.Event()
    one = listener(Listen("127.0.0.1", 0), served, release)
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(one.serve)
        burst = BACKLOG // 2
        # Blocking calls: the loop cannot accept any of them before all are connected.
        callers = [socket.create_connection(("127.0.0.1", address.port), timeout=5) for _ in range(burst)]
        with anyio.fail_after(5):
            while len(served) < burst:
                await anyio.wait_all_tasks_blocked()
        release.set()
        for caller in callers:
            caller.close()
        one.stop()
