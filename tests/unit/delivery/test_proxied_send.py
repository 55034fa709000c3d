"""C-MOVE after C-MOVE: what an archive is asked for a send request, and what becomes of it when that goes wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from router.config.model import Config, DimseUpstream, SendingConfig
from router.delivery.proxied_send import ProxiedSends
from router.delivery.query import MoveProgress
from router.dicom.json_model import JsonDataSet
from router.dicom.uids import AETitle, Uid
from router.errors import StorageError, Transient
from router.journal import proxied, send_requests
from router.journal.journal import Journal
from router.journal.proxied import ProxiedInstance
from router.journal.send_requests import RequestState
from router.sending.proxied import ProxiedRequests
from router.sending.requests import SendRequest, UidInUse

pytestmark = pytest.mark.anyio

NOON = 1_700_000_000.0
UPSTREAM = DimseUpstream(ae_title="PACS", host="127.0.0.1", batch_instances=3)
UID = Uid("2.25.1")


class SkippingClock:
    """Time passes only by waiting, and then at once."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> float:
        return self.time

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        await checkpoint()
        if event.is_set():
            return True
        self.time += timeout_s
        return False


Answer = Callable[[Sequence[str]], MoveProgress]


def success(uids: Sequence[str]) -> MoveProgress:
    return MoveProgress(status=0x0000, completed=len(uids), failed=0, warning=0)


def says(status: int, **counters: Any) -> Answer:
    return lambda uids: MoveProgress(status=status, **counters)


def unreachable(uids: Sequence[str]) -> MoveProgress:
    raise Transient("connection refused")


def without(bad: str, *, listed: bool) -> Answer:
    """An archive that cannot send one of them, and names it or not."""

    def answer(uids: Sequence[str]) -> MoveProgress:
        failed = int(bad in uids)
        names = (Uid(bad),) if failed and listed else ()
        status = 0x0000 if not failed else (0xB000 if len(uids) > 1 else 0xA702)
        return MoveProgress(status=status, completed=len(uids) - failed, failed=failed, warning=0, failed_uids=names)

    return answer


@dataclass
class FakeMover:
    """Answers as the script says, the last for ever."""

    script: list[Answer]
    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    closed: int = 0

    async def move(
        self, keys: JsonDataSet, destination_aet: str, *, level: str, progress: Callable[[MoveProgress], None]
    ) -> MoveProgress:
        await checkpoint()
        assert level == "image"
        assert keys["0020000D"]["Value"] == ["1.7"]
        uids = tuple(keys["00080018"]["Value"])
        self.asked.append((destination_aet, keys["0020000E"]["Value"][0], uids))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return answer(uids)

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def sizes(self) -> list[int]:
        return [len(uids) for _, _, uids in self.asked]


@dataclass
class Proxy:
    journal: Journal
    mover: FakeMover
    clock: SkippingClock
    sends: ProxiedSends
    requests: ProxiedRequests

    async def submit(self, *series: int, uid: Uid = UID) -> None:
        """Ask for as many instances of each series as the number says."""
        instances = [
            ProxiedInstance(Uid("1.7"), Uid(f"1.8.{at}"), Uid(f"1.9.{at}.{n}"))
            for at, count in enumerate(series)
            for n in range(count)
        ]
        request = SendRequest(uid, "/pacs/studies", "store", "me", "web", "q")
        await self.requests.submit(request, proxy="pacs", move_destination=AETitle("STORE"), instances=instances)

    async def state(self, uid: Uid = UID) -> RequestState:
        found = await self.journal.read(partial(send_requests.state, transaction_uid=uid))
        assert found is not None
        return found

    async def run(self, until: Callable[[], bool] = lambda: False) -> RequestState:
        """Carry out until the request has ended, or that holds."""
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.sends.run)
                while (await self.state()).ended_at is None and not until():
                    await checkpoint()
                tasks.cancel_scope.cancel()
        return await self.state()


@asynccontextmanager
async def a_proxy(folder: Path, *script: Answer) -> AsyncIterator[Proxy]:
    config = Config(file=folder / "router.toml", sending=SendingConfig(backoff_first_s=1.0, backoff_cap_s=8.0))
    clock, mover = SkippingClock(), FakeMover(list(script))
    async with Journal.open(folder) as journal:
        sends = ProxiedSends(
            journal, {"pacs": UPSTREAM}, lambda _: mover, lambda: config, clock=clock, rng=random.Random(1)
        )
        requests = ProxiedRequests(journal, sends.wake, lambda: config, clock=clock)
        yield Proxy(journal, mover, clock, sends, requests)


async def test_req_107_batches_are_of_one_series_and_counters_are_summed(tmp_path: Path) -> None:
    async with a_proxy(tmp_path, success) as proxy:
        await proxy.submit(4, 2)
        state = await proxy.run()
        assert (state.completed, state.failed) == (6, 0)
        assert [(to, series, len(uids)) for to, series, uids in proxy.mover.asked] == [
            ("STORE", "1.8.0", 3),
            ("STORE", "1.8.0", 1),
            ("STORE", "1.8.1", 2),
        ]
        assert proxy.mover.closed, "the association is given back"


async def test_a_uid_is_taken_once(tmp_path: Path) -> None:
    async with a_proxy(tmp_path, success) as proxy:
        await proxy.submit(1)
        with pytest.raises(UidInUse):
            await proxy.submit(1)


@pytest.mark.parametrize("listed", [True, False])
async def test_what_failed_is_named_even_if_the_archive_only_counts_it(tmp_path: Path, listed: bool) -> None:
    async with a_proxy(tmp_path, without("1.9.0.1", listed=listed)) as proxy:
        await proxy.submit(3, 1)
        state = await proxy.run()
        assert (state.completed, state.warning, state.failed) == (3, 0, 1)
        assert state.failed_uids == ("1.9.0.1",)
        assert proxy.mover.sizes == ([3, 1] if listed else [3, 1, 1, 1, 1])


async def test_an_archive_that_cannot_be_asked_is_asked_again_with_less(tmp_path: Path) -> None:
    async with a_proxy(tmp_path, unreachable, unreachable, success) as proxy:
        await proxy.submit(3)
        state = await proxy.run()
        assert (state.completed, state.failed) == (3, 0)
        assert proxy.mover.sizes == [3, 1, 1, 2]


async def test_it_is_asked_again_until_time_is_up(tmp_path: Path) -> None:
    """What waits is failed by `expiry`, like everything that was asked for; the reason can be seen."""
    async with a_proxy(tmp_path, unreachable) as proxy:
        await proxy.submit(3)
        await proxy.run(until=lambda: len(proxy.mover.asked) >= 5)
        [overview] = await proxy.journal.read(proxied.overview)
        assert overview.reason == "connection refused"
        assert (await proxy.state()).remaining == 3


async def test_an_answer_that_breaks_our_code_ends_neither_the_router_nor_the_request(tmp_path: Path) -> None:
    def odd(uids: Sequence[str]) -> MoveProgress:
        raise KeyError("an answer that nobody foresaw")

    async with a_proxy(tmp_path, odd, success) as proxy:
        await proxy.submit(3)
        state = await proxy.run()
        assert (state.completed, state.failed) == (3, 0)
        assert len(proxy.mover.asked) > 1


async def test_an_unknown_destination_ends_the_request_at_once(tmp_path: Path) -> None:
    async with a_proxy(tmp_path, success, says(0xA801)) as proxy:
        await proxy.submit(3, 2, 2)
        state = await proxy.run()
        assert (state.completed, state.failed) == (3, 4)
        assert proxy.mover.sizes == [3, 2]


async def test_an_archive_that_only_says_that_it_cannot_is_believed_the_third_time(tmp_path: Path) -> None:
    async with a_proxy(tmp_path, says(0xC000)) as proxy:
        await proxy.submit(1)
        state = await proxy.run()
        assert (state.failed, len(proxy.mover.asked)) == (1, 3)


async def test_o34_nothing_found_is_nothing_sent(tmp_path: Path) -> None:
    """Deleted since the search."""
    async with a_proxy(tmp_path, says(0x0000, completed=0, failed=0, warning=0)) as proxy:
        await proxy.submit(2)
        assert (await proxy.run()).failed == 2


async def test_what_was_in_flight_when_we_ended_is_asked_again(tmp_path: Path) -> None:
    def forever(uids: Sequence[str]) -> MoveProgress:
        raise AssertionError

    class Hanging(FakeMover):
        async def move(self, keys: JsonDataSet, destination_aet: str, **how: Any) -> MoveProgress:
            self.asked.append(("", "", ()))
            await anyio.sleep_forever()
            return forever(())

    async with a_proxy(tmp_path, success) as proxy:
        hanging = Hanging([success])
        config = Config(file=tmp_path / "router.toml")
        first = ProxiedSends(proxy.journal, {"pacs": UPSTREAM}, lambda _: hanging, lambda: config, clock=proxy.clock)
        await proxy.submit(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            while not hanging.asked:
                await checkpoint()
            tasks.cancel_scope.cancel()
        assert await proxy.journal.write(proxied.take_back) == 2
        assert (await proxy.run()).completed == 2


async def test_a_journal_that_fails_makes_it_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the archive did is not forgotten before it is written down."""
    async with a_proxy(tmp_path, success) as proxy:
        await proxy.submit(1)
        write, failures = proxy.journal.write, [StorageError("disk full")] * 2

        async def failing(operation: Any) -> Any:
            if proxy.mover.asked and failures:
                raise failures.pop()
            return await write(operation)

        monkeypatch.setattr(proxy.journal, "write", failing)
        assert (await proxy.run()).completed == 1
        assert proxy.mover.sizes == [1]
