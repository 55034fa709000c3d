"""One destination's lane: claim what is due, hand it to carriers, keep to what the destination can bear (D6, §6).

One task claims (`_dispatch`), up to `courier.sessions` tasks carry (`Carrier`), one writes outcomes (`Recorder`). The
journal is the only memory: a lane that dies, or is cancelled, takes its claims back when it starts anew (`recover`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from router.config.model import SendingConfig
from router.errors import DeliveryError
from router.journal import claims, destinations, sub_operations
from router.journal.journal import Journal
from router.journal.records import Delivery
from router.sending.carrier import Carrier
from router.sending.clock import Clock
from router.sending.courier import Courier
from router.sending.handover import Batch, HandOver
from router.sending.recorder import Recorder
from router.sending.retry import INSTANCE_WAITS_S, RETRY_AFTER_CAP_S, expired_reason
from router.sending.standing import Standing

log = structlog.get_logger()

POLL_S = 10.0
"""A lane looks into the journal at least so often: a lost hint costs this, never an instance."""
BLOCKED_POLL_S = 0.5
"""What is due but waits for another of its UID is looked at again after this, or when an outcome is written."""
GATHER_S = 0.02
"""After a claim that left nothing behind, let so much arrive before the next: fewer and fuller batches."""


class Lane:
    """Carries what the journal holds for one destination. `run` once; `stop` to end it cleanly.

    `confirm_s` as `Recorder` has it.
    """

    def __init__(
        self,
        name: str,
        courier: Courier,
        journal: Journal,
        config: SendingConfig,
        *,
        clock: Clock,
        rng: random.Random,
        confirm_s: float | None = None,
    ):
        self.name = name
        self._courier, self._journal, self._config, self._clock = courier, journal, config, clock
        self._standing = Standing(
            name, config, sessions=courier.sessions, clock=clock, rng=rng, changed=self._on_standing
        )
        self._saved: destinations.DestinationState | None = None
        self._recorder = Recorder(journal, config, clock=clock, rng=rng, written=self._on_written, confirm_s=confirm_s)
        self._handover = HandOver(clock, taken=self._look)
        self._hint = anyio.Event()
        self._changed = anyio.Event()
        self._stop_asked = anyio.Event()
        self._trial_asked = anyio.Event()
        self._stopping = self._blocked = False
        self._carriers = self._busy = 0
        self._claimed_through = self._let_go_through = 0

    async def run(self) -> None:
        """Carry until `stop`; then let the instances in hand finish and give the rest back. Raises StorageError."""
        longest_s = max(self._config.backoff_cap_s, RETRY_AFTER_CAP_S, *INSTANCE_WAITS_S)
        recovered = await self._journal.write(
            partial(sub_operations.recover, destination=self.name, now=self._clock.now(), longest_wait_s=longest_s)
        )
        if recovered:
            log.info("interrupted deliveries taken back", destination=self.name, instances=recovered)
        async with anyio.create_task_group() as recording:
            recording.start_soon(self._recorder.run)
            async with anyio.create_task_group() as carriers:
                await self._dispatch(carriers)
                self._handover.close()
            await self._save_state()
            self._recorder.close()

    def wake(self) -> None:
        """Hint that something new is due."""
        self._hint.set()

    def hurry(self) -> None:
        """Somebody waits for what is new: try the destination now, also when it is being left alone."""
        self._standing.try_now()
        self._trial_asked.set()
        self._hint.set()

    def let_go(self) -> None:
        """Give back what is claimed and not begun: some of it may not be wanted any more. The rest is claimed anew."""
        self._let_go_through = self._claimed_through
        self._look()

    def stop(self) -> None:
        """Claim nothing more and end; `run` returns when the instances in hand are done."""
        self._stopping = True
        self._stop_asked.set()
        self._trial_asked.set()
        self._hint.set()
        self._look()

    # --- claiming --------------------------------------------------------------------------------------------------

    async def _dispatch(self, carriers: TaskGroup) -> None:
        while not self._stopping:
            await self._save_state()
            trial = not self._standing.ready
            if trial and not await self._worth_a_trial():
                continue
            claimed = await self._claim(1 if trial else self._courier.batch_instances)
            if not claimed:
                self._standing.nothing_to_try()
                await self._save_state()
                await self._wait_for_work()
                continue
            self._claimed_through = max(delivery.attempt_id for delivery in claimed)
            full = len(claimed) == self._courier.batch_instances
            for batch in self._standing.suspects.batches(claimed):
                await self._hand_over(batch, carriers, grow=full)
            if trial:
                await self._until_nothing_is_carried()
            elif not full:
                await self._clock.wait(self._stop_asked, GATHER_S)

    async def _claim(self, most: int) -> list[Delivery]:
        self._hint = anyio.Event()
        return await self._journal.write(
            partial(
                claims.claim,
                destination=self.name,
                now=self._clock.now(),
                max_instances=most,
                max_bytes=self._courier.batch_bytes,
            )
        )

    async def _wait_for_work(self) -> None:
        """Wait for a hint, or until something is due."""
        self._recorder.hurry()
        hint = self._hint
        due_at = await self._journal.read(partial(sub_operations.next_due, destination=self.name))
        wait_s = POLL_S
        if due_at is not None:
            left_s = due_at - self._clock.now()
            self._blocked = left_s <= 0
            wait_s = BLOCKED_POLL_S if self._blocked else min(left_s, POLL_S)
        await self._clock.wait(hint, wait_s)
        self._blocked = False

    async def _worth_a_trial(self) -> bool:
        """Sit out the wait; then say whether one instance should be tried."""
        wait_s = self._standing.wait_s
        if wait_s > 0:
            asked = self._trial_asked = anyio.Event()
            await self._expire()
            if not self._stopping:
                await self._clock.wait(asked, wait_s)
        if self._stopping:
            return False
        if self._standing.is_misconfigured:
            try:
                await self._courier.probe()
            except DeliveryError as error:
                self._standing.misconfigured(error.problem)
                return False
        return True

    async def _expire(self) -> None:
        now = self._clock.now()
        expired = await self._journal.write(
            partial(
                sub_operations.expire,
                destination=self.name,
                created_before=now - self._config.lifetime_s,
                reason=expired_reason(self._config, self._standing.reason),
                now=now,
            )
        )
        if expired:
            log.error("instances parked at the end of their lifetime", destination=self.name, instances=expired)

    async def _release(self, deliveries: Sequence[Delivery], reason: str) -> None:
        if deliveries:
            await self._journal.write(
                partial(sub_operations.release, deliveries=deliveries, reason=reason, now=self._clock.now())
            )

    async def _save_state(self) -> None:
        row = self._standing.as_row()
        if row != self._saved:
            await self._journal.write(partial(destinations.save, state=row))
            self._saved = row

    # --- carrying --------------------------------------------------------------------------------------------------

    async def _hand_over(self, batch: Batch, carriers: TaskGroup, *, grow: bool) -> None:
        """Offer a batch until a carrier takes it, adding one when that is due; give it back if things turn bad."""
        self._handover.offer(batch)
        while not self._handover.empty:
            given_back = batch.deliveries[-1].attempt_id <= self._let_go_through
            if self._stopping or given_back or self._standing.wait_s > 0:
                self._handover.take_back()
                await self._release(batch.deliveries, self._standing.reason)
                return
            if self._wants_carrier(grow):
                self._carriers += 1
                self._standing.session_added()
                carriers.start_soon(self._carry)
            await self._change()

    def _wants_carrier(self, grow: bool) -> bool:
        if self._carriers == 0:
            return True
        return grow and self._handover.waiting == 0 and self._standing.bears_another(self._carriers)

    async def _carry(self) -> None:
        """Carry batch after batch over one session, until there is nothing to do for `courier.idle_s`."""
        carrier = Carrier(
            self._courier,
            self._recorder,
            self._standing,
            release=self._release,
            stopping=lambda: self._stopping,
            let_go_through=lambda: self._let_go_through,
        )
        try:
            while batch := await self._handover.take(self._courier.idle_s):
                others = self._busy
                self._busy += 1
                try:
                    bearable = await carrier.carry(batch, others=others)
                finally:
                    self._busy -= 1
                    self._look()
                if self._handover.empty:
                    self._recorder.hurry()
                if not bearable:
                    break
        finally:
            try:
                await carrier.aclose()
            finally:
                self._carriers -= 1
                self._look()

    async def _until_nothing_is_carried(self) -> None:
        while self._busy and not self._stopping:
            await self._change()

    async def _change(self) -> None:
        """Wait until something changed that the dispatcher should look at."""
        await self._clock.wait(self._changed, POLL_S)
        self._changed = anyio.Event()

    def _look(self) -> None:
        self._changed.set()

    def _on_standing(self) -> None:
        """How the destination is has changed: journal it at once, others go by it."""
        self._look()
        self._hint.set()

    def _on_written(self) -> None:
        if self._blocked:
            self._hint.set()
