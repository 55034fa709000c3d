"""The control socket: what commands ask of the running router, and what they say when it cannot be asked."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from filled_journal import ended, put, take

from router.control.client import NoAnswer, ask
from router.control.language import (
    MAX_ANSWER_BYTES,
    MAX_QUESTION_BYTES,
    ListPending,
    Pending,
    PendingCaller,
    Retried,
    Retry,
    socket_of,
)
from router.control.server import serve_control
from router.dicom.uids import AETitle
from router.errors import StorageError
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.sub_operations import finish
from router.scp.pending import PendingPeers
from router.sending.parked import RetryReport

NOON = 1_700_000_000.0


class Woken:
    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, names: Iterable[str]) -> None:
        self.names += names


def park(count: int) -> Callable[[WritingConnection], None]:
    """So many instances that "archive" refused."""

    def operation(conn: WritingConnection) -> None:
        for n in range(1, count + 1):
            put(conn, n)
        while deliveries := take(conn, max_instances=1_000):
            finish(conn, [ended(delivery, "failed", status=0xA900) for delivery in deliveries])

    return operation


@asynccontextmanager
async def serving(state: Path, peers: PendingPeers | None = None) -> AsyncIterator[tuple[Journal, Woken]]:
    known = peers or PendingPeers(lambda: NOON)
    woken = Woken()
    async with Journal.open(state) as journal, anyio.create_task_group() as tasks:
        await tasks.start(
            partial(serve_control, socket_of(state), journal, woken, known.listing, now=lambda: NOON + 100)
        )
        yield journal, woken
        tasks.cancel_scope.cancel()


async def test_what_is_parked_is_due_again_in_steps_and_its_lane_woken(tmp_path: Path) -> None:
    async with serving(tmp_path) as (journal, woken):
        await journal.write(park(1_500))
        answer = await run_sync(ask, tmp_path, Retry(), Retried)
        assert answer.report == RetryReport(1_500, 0, ("archive",))
        assert woken.names == ["archive"]
        again = await run_sync(ask, tmp_path, Retry("archive"), Retried)
        assert again.report == RetryReport(0, 0, ())
        assert len(await journal.write(partial(take, now=NOON + 100))) == 64


async def test_another_destination_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (journal, woken):
        await journal.write(park(2))
        answer = await run_sync(ask, tmp_path, Retry("cloud"), Retried)
        assert (answer.report.retried, woken.names) == (0, [])


async def test_who_was_turned_away_is_listed(tmp_path: Path) -> None:
    peers = PendingPeers(lambda: NOON)
    peers.add(AETitle("CT1"), "10.1.2.3")
    peers.add(AETitle("CT1"), "10.1.2.3")
    async with serving(tmp_path, peers):
        answer = await run_sync(ask, tmp_path, ListPending(), Pending)
    assert answer.peers == [PendingCaller("CT1", "10.1.2.3", NOON, NOON, 2)]


async def test_only_the_owner_may_connect_and_nothing_is_left_behind(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert stat.S_IMODE(socket_of(tmp_path).stat().st_mode) == 0o600
    assert not socket_of(tmp_path).exists()


async def test_the_socket_of_a_killed_router_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_of(tmp_path)))
    with pytest.raises(NoAnswer, match="nobody answers at"):
        ask(tmp_path, ListPending(), Pending)
    async with serving(tmp_path):
        assert (await run_sync(ask, tmp_path, ListPending(), Pending)).peers == []


async def test_a_state_folder_with_a_long_path_has_a_control_socket_too(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 120)
    state.mkdir()
    async with serving(state):
        assert (await run_sync(ask, state, ListPending(), Pending)).peers == []
        assert stat.S_IMODE(socket_of(state).stat().st_mode) == 0o600
    assert not socket_of(state).exists()


async def test_a_router_that_cannot_make_its_socket_runs_without_it(tmp_path: Path) -> None:
    socket_of(tmp_path).mkdir()
    async with serving(tmp_path) as (journal, _):
        await journal.write(park(1))
        with pytest.raises(NoAnswer, match=r"nobody answers|cannot be asked"):
            await run_sync(ask, tmp_path, Retry(), Retried)
    assert socket_of(tmp_path).is_dir()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"\n", "not a question"),
        (b"{}\n", "not a question"),
        (b'{"ask":"shutdown"}\n', "not a question"),
        (b'{"ask":"retry","destination":7}\n', "not a question"),
        (b"\xff\xfe\n", "not a question"),
    ],
)
async def test_what_is_no_question_is_answered_with_an_error(tmp_path: Path, line: bytes, told: str) -> None:
    async with serving(tmp_path):
        async with await anyio.connect_unix(socket_of(tmp_path)) as stream:
            await stream.send(line)
            answer = json.loads(await stream.receive())
        assert told in answer["error"]
        assert (await run_sync(ask, tmp_path, ListPending(), Pending)).peers == []


async def test_one_who_says_nothing_or_too_much_harms_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path):
        async with await anyio.connect_unix(socket_of(tmp_path)):
            pass
        async with await anyio.connect_unix(socket_of(tmp_path)) as stream:
            await stream.send(b"x" * (MAX_QUESTION_BYTES + 1))
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        assert (await run_sync(ask, tmp_path, ListPending(), Pending)).peers == []


async def test_a_failing_journal_is_told_to_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(query: object) -> None:
        raise StorageError("cannot read the journal: disk I/O error")

    async with serving(tmp_path) as (journal, _):
        monkeypatch.setattr(journal, "read", read)
        with pytest.raises(NoAnswer, match="the router says: cannot read the journal: disk I/O error"):
            await run_sync(ask, tmp_path, Retry(), Retried)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "another version"),
        (b'{"answer":"pending-peers","peers":[]}\n', "something else"),
        (b"x" * (MAX_ANSWER_BYTES + 1), "an answer of more than"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_not_believed(tmp_path: Path, answer: bytes, told: str) -> None:
    async def impostor(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    async with await anyio.create_unix_listener(socket_of(tmp_path)) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, impostor)
        with pytest.raises(NoAnswer, match=told):
            await run_sync(ask, tmp_path, Retry(), Retried)
        tasks.cancel_scope.cancel()


def test_a_router_that_does_not_answer_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(socket_of(tmp_path)))
        silent.listen()
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.1 s"):
            ask(tmp_path, ListPending(), Pending, timeout_s=0.1)
