"""The truth table of two mechanisms, for SEND-RS and C-MOVE: every outcome of each, in both orders (REQ-125 to 139)."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from scripted import CASES, Case, Scripted, scripted
from unit.ingest.ingest_harness import Core, FixedRules, open_core
from unit.scp.scp_retrieve_harness import FakeExchange, counters, move_of, study_of

from router.config.model import Config, SendingConfig
from router.delivery.mechanisms import courier_for
from router.dicom.uids import Uid
from router.journal.moves import LOOK_AGAIN_S
from router.rules.decision import Decision
from router.scp.move import MoveService
from router.search import Index
from router.search.non_patient import NonPatientIndex
from router.sending.clock import WallClock
from router.sending.expiry import expire_overdue
from router.sending.lanes import Lanes
from router.sending.requests import OPERATOR, SendRequest, SendRequests

STUDIES = "studies"
TRANSACTION = Uid("1.2.3.4.5")


class ImpatientClock(WallClock):
    """Looks often."""

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        return await super().wait(event, min(timeout_s, 0.01))


class LongWaits(random.Random):
    """No wait of a destination or of an instance ends while a test runs, however slow the machine is."""

    def uniform(self, a: float, b: float) -> float:
        return 3600.0


@dataclass
class Site:
    """A router with one instance, and a scripted destination."""

    core: Core
    scripted: Scripted
    requests: SendRequests
    config: Config

    async def after_one_attempt(self) -> list[tuple[str, str]]:
        """Outcome and reason of each attempt that has ended; there is at least one."""
        query = "SELECT outcome, reason FROM attempt WHERE ended_at IS NOT NULL ORDER BY id"
        with anyio.fail_after(30):
            while not (rows := await self.core.rows(query)):  # noqa: ASYNC110 - the journal tells nobody
                await anyio.sleep(0.01)
        return [(outcome, reason) for outcome, reason in rows]


@asynccontextmanager
async def site(tmp_path: Path, case: Case, instances: int = 1) -> AsyncIterator[Site]:
    """Failures are not tried again while the test runs; a C-MOVE is told of them at once."""
    async with open_core(tmp_path, rules=FixedRules(Decision(())), now=time.time) as core, scripted(case) as peer:
        for number in range(1, instances + 1):
            await core.send(f"1.2.9.{number}")
        sending = SendingConfig(backoff_first_s=3600.0, backoff_cap_s=3600.0, probe_s=3600.0, move_retry_s=0.0)
        config = Config(file=tmp_path / "router.toml", destinations={"archive": peer.destination}, sending=sending)
        lanes = Lanes(
            config,
            core.journal,
            lambda destination, now: courier_for(destination, "SENDRS", core.store),
            rng=LongWaits(),
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(lanes.run)
            requests = SendRequests(core.journal, lanes.wake, lambda: config, clock=ImpatientClock())
            yield Site(core, peer, requests, config)
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_becomes_of_an_instance(tmp_path: Path, case: Case) -> None:
    """REQ-136, REQ-138, REQ-139, REQ-130, REQ-131; one try by each mechanism at most, and none after a warning."""
    async with site(tmp_path, case) as router:
        ids = [row for (row,) in await router.core.rows("SELECT id FROM instance")]
        asked = SendRequest(TRANSACTION, STUDIES, "archive", OPERATOR, "a test", "")
        await router.requests.submit(asked, ids)
        ((outcome, reason),) = await router.after_one_attempt()
        progress = await router.requests.progress(TRANSACTION, STUDIES, OPERATOR)
        counted = {name: getattr(progress, name) for name in ("remaining", "completed", "warning", "failed")}
        assert counted == {name: int(name == case.after_one_attempt) for name in counted}
        assert progress.failed_uids == (("1.2.9.1",) if case.after_one_attempt == "failed" else ())
        if case.second_is_tried:
            assert all(f"{mechanism}: " in reason for mechanism in case.deliver), reason
        else:
            assert outcome == STORED_WORDS[case.deeds[0]]
        tried = set(case.deliver if case.second_is_tried else case.deliver[:1])
        assert router.scripted.instances_by_c_store == int("c-store" in tried and case.c_store in REACHES_THE_SCP)
        assert router.scripted.requests_by_stow == int("stow-rs" in tried and case.stow_rs != "unreachable")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_a_c_move_is_told(tmp_path: Path, case: Case) -> None:
    """REQ-125, REQ-132, REQ-133, REQ-134, REQ-135, REQ-136, REQ-138, REQ-140: with move_retry_s = 0 it ends after one
    attempt by each mechanism.
    """
    async with site(tmp_path, case) as router:
        exchange = await moved(router)
    state = case.after_one_attempt if case.after_one_attempt != "remaining" else "failed"
    assert exchange.final.status == {"completed": 0x0000, "warning": 0xB000, "failed": 0xA702}[state]
    remaining, completed, failed, warning = counters(exchange.final)
    assert not remaining
    assert (completed, failed, warning) == tuple(int(state == name) for name in ("completed", "failed", "warning"))
    assert exchange.failed_uids == (["1.2.9.1"] if state == "failed" else [])


async def test_req_129_one_stow_request_moves_the_counters_by_all_its_instances(tmp_path: Path) -> None:
    """REQ-128, REQ-129."""
    async with site(tmp_path, Case("unreachable", "warning", ("stow-rs", "c-store")), instances=5) as router:
        exchange = await moved(router)
        assert router.scripted.requests_by_stow == 1
    assert exchange.final.status == 0xB000
    assert counters(exchange.final)[1:] == (0, 0, 5)


async def moved(router: Site) -> FakeExchange:
    """Perform a C-MOVE of the study, and let its time be over after one attempt."""
    index = Index(router.core.journal, router.core.store)
    non_patient = NonPatientIndex(router.core.journal, router.core.store)
    service = MoveService(index, non_patient, router.requests, lambda: router.config)
    exchange = FakeExchange()
    async with anyio.create_task_group() as tasks:

        async def move() -> None:
            await service.perform(move_of(study_of("1.2.3")), exchange)
            tasks.cancel_scope.cancel()

        tasks.start_soon(move)
        await router.after_one_attempt()
        now = time.time()
        while True:
            await expire_overdue(router.core.journal, router.config, now=now)
            now += LOOK_AGAIN_S
            await anyio.sleep(0.02)
    return exchange


STORED_WORDS = {"success": "completed", "warning": "warning"}
REACHES_THE_SCP = ("success", "warning", "refused", "sop class refused", "busy", "hang-up")
