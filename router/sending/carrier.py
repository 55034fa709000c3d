"""Carry batches over one session of the courier and say what became of each instance.

Decides nothing about dates (D12, F45).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import structlog

from router.dicom.status import Verdict
from router.errors import Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import BrokenOff, Courier, Outcome
from router.sending.handover import Batch
from router.sending.recorder import Recorder
from router.sending.standing import Standing

log = structlog.get_logger()


class Carrier:
    """One session and what it carries.

    `release` gives back what was not sent; `stopping` ends a batch after the instance in hand, `let_go_through` that of
    attempts up to this one.
    """

    def __init__(
        self,
        courier: Courier,
        recorder: Recorder,
        standing: Standing,
        *,
        release: Callable[[Sequence[Delivery], str], Awaitable[None]],
        stopping: Callable[[], bool],
        let_go_through: Callable[[], int] = lambda: 0,
    ):
        self._courier, self._recorder, self._standing = courier, recorder, standing
        self._release, self._stopping, self._let_go_through = release, stopping, let_go_through
        self._session = courier.session()
        self._answered = False

    async def carry(self, batch: Batch, *, others: int) -> bool:
        """Deliver a batch while `others` carriers are busy too. Answers False when this session was one too many."""
        if batch.alone:
            await self._session.aclose()
            await self._carry_alone(batch.deliveries[0])
            return True
        return await self._carry_together(batch.deliveries, others)

    async def aclose(self) -> None:
        """Close the session, also when cancelled."""
        with anyio.CancelScope(shield=True):
            await self._session.aclose()

    async def _carry_together(self, deliveries: list[Delivery], others: int) -> bool:
        standing = self._standing
        unreported = {delivery.sub_operation_id: delivery for delivery in deliveries}
        asked_to_stop = False

        async def report(outcome: Outcome) -> bool:
            nonlocal asked_to_stop
            if outcome.verdict is Verdict.MISCONFIGURED:  # its instance is given back, uncharged
                standing.learn_from(outcome)
            elif unreported.pop(outcome.delivery.sub_operation_id, None) is not None:
                self._answered = True
                standing.learn_from(outcome)
                await self._recorder.put(outcome)
            given_back = deliveries[-1].attempt_id <= self._let_go_through()
            asked_to_stop = self._stopping() or given_back or (not standing.ready and standing.wait_s > 0)
            return asked_to_stop

        bearable, reason = True, ""
        try:
            await self._session.deliver(deliveries, report)
        except Misconfigured as error:
            reason = error.problem
            standing.misconfigured(reason)
        except Transient as error:
            reason = error.problem
            if isinstance(error, BrokenOff):
                standing.suspects.broke(error.delivery)
            if others and not self._answered and standing.ready:
                bearable = False
                standing.refuses_another(others + 1, reason)
            else:
                standing.lost(error, progressed=self._answered)
            self._answered = False
        else:
            if unreported and not asked_to_stop:
                reason = "the courier left instances unreported"
                standing.lost(Transient(reason), progressed=False)
        await self._release(list(unreported.values()), reason or standing.reason)
        return bearable

    async def _carry_alone(self, delivery: Delivery) -> None:
        """Deliver a suspect over a session of its own, so that its like does not drag others down."""
        outcome: Outcome | None = None

        async def report(reported: Outcome) -> bool:
            nonlocal outcome
            outcome = reported
            return True

        session = self._courier.session()
        try:
            await session.deliver([delivery], report)
        except Misconfigured as error:
            self._standing.misconfigured(error.problem)
        except BrokenOff as error:
            outcome = await self._blame(delivery, error, outcome)
        except Transient as error:
            self._standing.lost(error, progressed=False)
        finally:
            with anyio.CancelScope(shield=True):
                await session.aclose()
        if outcome is not None:
            self._standing.learn_from(outcome)
        if outcome is None or outcome.verdict is Verdict.MISCONFIGURED:
            await self._release([delivery], self._standing.reason)
        else:
            await self._recorder.put(outcome)

    async def _blame(self, delivery: Delivery, error: BrokenOff, reported: Outcome | None) -> Outcome | None:
        """The outcome of a suspect that broke its own connection: its own fault when the destination is well."""
        breaks = self._standing.suspects.broke(delivery)
        try:
            await self._courier.probe()
        except Misconfigured as refusal:
            self._standing.misconfigured(refusal.problem)
        except Transient as trouble:
            self._standing.lost(trouble, progressed=False)
        else:
            log.warning(
                "instance breaks its connection",
                destination=self._standing.name,
                sop_instance_uid=delivery.declared.sop_instance_uid,
                breaks=breaks,
            )
            reason = f"{error.problem} (sent alone, after {breaks - 1} such breaks)"
            return Outcome(delivery, Verdict.INSTANCE, reason=reason)
        return reported
