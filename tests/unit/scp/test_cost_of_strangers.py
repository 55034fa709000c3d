"""Rows B2, B3 and B46: what a connection may cost before it is associated, and what is left of it afterwards."""

from __future__ import annotations

import gc
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest
from scp_harness import CT, EXPLICIT, FakeDoor, Served, abort, associate_rq, item, reject, serving
from structlog.testing import capture_logs

from router.dimse.pdu import MAX_ASSOCIATE_BYTES
from router.dimse.upper_layer import UpperLayer
from router.net.association import AssociationStream

STRANGERS = 20
BOOKKEEPING_BYTES = 24 * 1024
"""Two read buffers, a task, a protocol machine: what a connection costs that says nothing at all (measured: 17 KiB)."""


@contextmanager
def measured(served: Served) -> Iterator[list[socket.socket]]:
    """Open connections; tracemalloc runs from before that."""
    callers: list[socket.socket] = []
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(STRANGERS):
            caller = socket.create_connection(("127.0.0.1", served.port), timeout=5)
            caller.setblocking(False)
            callers.append(caller)
        yield callers
    finally:
        tracemalloc.stop()
        for caller in callers:
            caller.close()


async def push(callers: list[socket.socket], sent: bytes) -> None:
    """Send it all over each connection, letting the router read between."""
    left = dict.fromkeys(callers, 0)
    with anyio.fail_after(20):
        while left:
            for caller, at in list(left.items()):
                try:
                    left[caller] = at + caller.send(sent[at : at + 65_536])
                except BlockingIOError:
                    pass
                except ConnectionError:  # closed by the router: it wants no more
                    left[caller] = len(sent)
                if left[caller] >= len(sent):
                    del left[caller]
            await anyio.sleep(0.001)
        await anyio.sleep(0.05)


@pytest.mark.parametrize(
    ("sent", "held_bytes"),
    [
        (b"", 0),
        (b"\x01\0\0", 0),
        (struct.pack(">BxI", 1, MAX_ASSOCIATE_BYTES) + bytes(MAX_ASSOCIATE_BYTES - 1), MAX_ASSOCIATE_BYTES),
        (struct.pack(">BxI", 1, MAX_ASSOCIATE_BYTES + 1) + bytes(500_000), 0),
        (b"\x01\0\xff\xff\xff\xff" + bytes(3_000_000), 0),
        (b"\x04\0\xff\xff\xff\xff" + bytes(3_000_000), 0),
        (b"\xee\0\0\0\0\0" * 300_000, 0),
    ],
    ids=[
        "silence",
        "half a header",
        "all but a byte of the longest request",
        "a byte more than the longest request",
        "4 GiB announced, 3 MB sent",
        "data before an association",
        "PDUs of no type",
    ],
)
async def test_b2_a_stranger_has_at_most_64_kib_of_its_bytes_held(sent: bytes, held_bytes: int) -> None:
    assert MAX_ASSOCIATE_BYTES == 64 * 1024
    async with serving(FakeDoor(), connections_burst=1000) as served:
        with capture_logs(), measured(served) as callers:
            await push(callers, sent)
            gc.collect()
            now, peak = tracemalloc.get_traced_memory()
    assert now <= STRANGERS * (held_bytes + BOOKKEEPING_BYTES)
    # While a request is decoded there is a copy of it, one at a time.
    assert peak <= STRANGERS * (held_bytes + BOOKKEEPING_BYTES) + 4 * MAX_ASSOCIATE_BYTES


async def test_b3_a_request_of_many_items_that_is_turned_away_leaves_nothing_held() -> None:
    packed = associate_rq(called=b"OTHER", more_user=item(0x99, b"") * 3_500)
    async with serving(FakeDoor(), connections_burst=1000) as served:
        with capture_logs(), measured(served) as callers:
            await push(callers, packed)
            gc.collect()
            now, peak = tracemalloc.get_traced_memory()
            assert served.scp.connections == STRANGERS  # turned away, and not closed by the peers yet
    assert now <= STRANGERS * BOOKKEEPING_BYTES
    assert peak < STRANGERS * BOOKKEEPING_BYTES + (1 << 20)


async def test_b10_who_is_rejected_may_go_on_sending_and_costs_no_more() -> None:
    async with serving(FakeDoor(), connections_burst=1000) as served:
        with capture_logs(), measured(served) as callers:
            await push(callers, associate_rq(called=b"OTHER"))
            assert [caller.recv(100) for caller in callers] == [reject(1, 1, 7)] * STRANGERS
            await push(callers, associate_rq() * 10_000)
            gc.collect()
            now, _ = tracemalloc.get_traced_memory()
            assert served.scp.associations == 0
    assert now <= STRANGERS * BOOKKEEPING_BYTES


async def test_b7_a_request_that_drips_is_ended_by_artim_all_the_same() -> None:
    whole = associate_rq()
    async with serving(FakeDoor(), artim_s=0.3) as served:
        caller = await served.connect()
        ended = False
        for n in range(len(whole) - 1):
            try:
                await caller.socket.send(whole[n : n + 1])
                with anyio.move_on_after(0.05):
                    await caller.socket.receive()
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                ended = True
                break
    assert ended


def held_by_us() -> int:
    """Bytes allocated in our modules and still held."""
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/router/*")
    statistics = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
    return sum(one.size for one in statistics)


async def test_b46_a_thousand_associations_leave_nothing_behind() -> None:
    """Associate and abort, hang up, be rejected, talk rubbish: a thousand times, the first 300 to warm up."""
    door = FakeDoor(keep_bytes=False)
    lives = [
        associate_rq() + abort(0, 0),
        associate_rq(contexts=[(n * 2 + 1, CT, (EXPLICIT,)) for n in range(128)]),
        associate_rq(called=b"OTHER"),
        b"GET / HTTP/1.1\r\n\r\n",
    ]

    async def live(served: Served, times: int) -> None:
        for n in range(times):
            caller = await served.connect()
            await caller.send(lives[n % len(lives)])
            await caller.hang_up()
            served.callers.clear()
        with anyio.fail_after(10):
            while served.scp.connections:
                await anyio.wait_all_tasks_blocked()
        door.visits.clear()
        door.receptions.clear()

    with capture_logs() as logs:
        async with serving(door, connections_burst=100_000) as served:
            await live(served, 100)
            gc.collect()
            tracemalloc.start()
            try:
                await live(served, 200)
                logs.clear()
                gc.collect()
                before = held_by_us()
                await live(served, 700)
                logs.clear()
                gc.collect()
                grown = held_by_us() - before
            finally:
                tracemalloc.stop()
            assert served.scp.associations == 0
            left = [one for one in gc.get_objects() if isinstance(one, AssociationStream | UpperLayer)]
    assert grown < 16 * 1024
    assert left == []
