"""Carries out the send requests of proxies (Sup 248 B.X3): C-MOVE after C-MOVE, asked of the archive behind each.

The journal says what is due and is told what became of it; a batch counts as asked for before it is asked. One C-MOVE
at a time and archive; of several requests each gets its turn.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Protocol, TypeVar

import anyio
import msgspec
import structlog

from router.config.model import Config, DimseUpstream
from router.delivery.move_outcome import judge, words_of
from router.delivery.query import MoveProgress
from router.dicom.json_model import JsonDataSet
from router.dicom.query_retrieve import QueryLevel
from router.errors import DeliveryError, StorageError, Transient
from router.journal import proxied
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.proxied import Batch
from router.sending.clock import Clock
from router.sending.retry import backoff_s

log = structlog.get_logger()

T = TypeVar("T")

LOOK_S: Final = 5.0
"""How often the journal is looked at without a hint."""
IDLE_S: Final = 10.0
"""An association without work is released after so long."""
AFTER_FAILURE_S: Final = 10.0
MAX_UID_CHARACTERS: Final = 65_000
"""One list of UIDs: an element of VR UI holds 64 KiB where VRs are explicit (PS3.5 §7.1.2)."""
RETRY_AFTER_CAP_S: Final = 3600.0


class Mover(Protocol):
    """Has one archive move instances, as `query.MoveClient` does."""

    async def move(
        self, keys: JsonDataSet, destination_aet: str, *, level: str, progress: Callable[[MoveProgress], None]
    ) -> MoveProgress:
        """Give the final response, whatever it says. Raises Transient, Misconfigured."""
        ...

    async def aclose(self) -> None: ...


class ProxiedSends:
    """All proxies with a DIMSE upstream. `movers` makes what asks one; `config` is that in force just now."""

    def __init__(
        self,
        journal: Journal,
        upstreams: Mapping[str, DimseUpstream],
        mover_for: Callable[[DimseUpstream], Mover],
        config: Callable[[], Config],
        *,
        clock: Clock,
        rng: random.Random | None = None,
    ):
        self._runners = {
            name: _Runner(name, upstream, mover_for(upstream), journal, config, clock, rng or random.Random())
            for name, upstream in upstreams.items()
        }

    def wake(self, proxy: str) -> None:
        """Hint that a proxy has something new to do."""
        if runner := self._runners.get(proxy):
            runner.wake()

    async def run(self) -> None:
        """Carry out for ever; a task of the root group, ended by cancelling it: what is asked then is asked again."""
        async with anyio.create_task_group() as tasks:
            for runner in self._runners.values():
                tasks.start_soon(runner.run)


class _Runner:
    """One archive."""

    def __init__(
        self,
        name: str,
        upstream: DimseUpstream,
        mover: Mover,
        journal: Journal,
        config: Callable[[], Config],
        clock: Clock,
        rng: random.Random,
    ):
        self._name, self._upstream, self._mover, self._journal = name, upstream, mover, journal
        self._config, self._clock, self._rng = config, clock, rng
        self._hint = anyio.Event()

    def wake(self) -> None:
        self._hint.set()

    async def run(self) -> None:
        try:
            while True:
                batch = await self._next()
                try:
                    await self._carry(batch)
                except Exception:  # a stage's edge: one odd answer must not end the router
                    log.exception("send request of a proxy crashed", **self._about(batch))
                    await self._put_off(batch, Transient("this router failed in its own code; its log says where"))
        finally:
            with anyio.CancelScope(shield=True):
                await self._mover.aclose()

    async def _next(self) -> Batch:
        """Wait for a batch that is due, and claim it."""
        idle_since = self._clock.now()
        while True:
            hint, now = self._hint, self._clock.now()
            due_at = await self._try(lambda: self._journal.read(partial(proxied.next_due, proxy=self._name)))
            if due_at is not None and due_at <= now:
                claim = partial(
                    proxied.claim,
                    proxy=self._name,
                    now=now,
                    most=self._upstream.batch_instances,
                    most_characters=MAX_UID_CHARACTERS,
                )
                batch = await self._write(claim)
                if batch is not None:
                    return batch
                continue
            if not 0 <= now - idle_since < IDLE_S:
                await self._mover.aclose()
            wait_s = LOOK_S if due_at is None else min(LOOK_S, due_at - now)
            if await self._clock.wait(hint, wait_s):
                self._hint = anyio.Event()

    async def _carry(self, batch: Batch) -> None:
        """Ask for one batch and write down what became of it."""
        try:
            last = await self._mover.move(
                _keys(batch), batch.move_destination, level=QueryLevel.IMAGE.lower(), progress=_ignore
            )
        except DeliveryError as error:
            await self._put_off(batch, error)
            return
        judgement, now = judge(batch, last), self._clock.now()
        words = words_of(batch, last)
        if judgement.refused:
            failed = await self._write(partial(proxied.refuse, batch=batch, now=now, status=last.status, reason=words))
            log.error("archive refuses the send request", failed=failed, problem=words, **self._about(batch))
            return
        if judgement.ended or not judgement.again:
            settle = partial(
                proxied.settle, request_id=batch.request_id, ended=judgement.ended, alone=judgement.alone, now=now
            )
            await self._write(settle)
        if judgement.again:
            over = {one.row_id for one in judgement.ended}
            rest = [one for one in batch.instances if one.row_id not in over]
            put_off = partial(
                proxied.put_off,
                batch=msgspec.structs.replace(batch, instances=tuple(rest)),
                due_at=now + self._backoff_s(batch),
                status=last.status,
                reason=words,
            )
            await self._write(put_off)
            log.warning("archive could not send", again=len(rest), problem=words, **self._about(batch))

    async def _put_off(self, batch: Batch, error: DeliveryError) -> None:
        """Nothing is known of the batch: all of it is asked for again."""
        wait_s = self._backoff_s(batch)
        if isinstance(error, Transient) and error.retry_after_s is not None:
            wait_s = min(error.retry_after_s, RETRY_AFTER_CAP_S)
        put_off = partial(
            proxied.put_off,
            batch=batch,
            due_at=self._clock.now() + wait_s,
            status=None,
            reason=error.problem,
            counts=False,
        )
        await self._write(put_off)
        log.warning(
            "archive behind a proxy cannot be asked",
            again_in_s=round(wait_s, 1),
            problem=error.problem,
            **self._about(batch),
        )

    def _backoff_s(self, batch: Batch) -> float:
        sending = self._config().sending
        return backoff_s(batch.tries + 1, sending.backoff_first_s, sending.backoff_cap_s, self._rng)

    async def _write(self, operation: Callable[[WritingConnection], T]) -> T:
        return await self._try(lambda: self._journal.write(operation))

    async def _try(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Go on when the journal can: what the archive did must not be forgotten before."""
        while True:
            try:
                return await ask()
            except StorageError as error:
                log.error("proxy waits for the journal", proxy=self._name, problem=str(error))
                await self._clock.wait(anyio.Event(), AFTER_FAILURE_S)

    def _about(self, batch: Batch) -> dict[str, str]:
        return {"proxy": self._name, "transaction_uid": batch.transaction_uid, "destination": batch.move_destination}


def _keys(batch: Batch) -> JsonDataSet:
    """Name the instances as C-MOVE wants it: one study, one series, a list of instances."""
    uids = {
        QueryLevel.STUDY: [batch.study],
        QueryLevel.SERIES: [batch.series],
        QueryLevel.IMAGE: [one.sop_instance_uid for one in batch.instances],
    }
    return {level.unique_key: {"vr": "UI", "Value": values} for level, values in uids.items()}


def _ignore(progress: MoveProgress) -> None:
    """What a pending response counts is not told apart by instance: only the end is written down."""
