"""A courier made of couriers: what fails by one mechanism is tried by the next, in one attempt (PS3.4 §C.4.2.3.1.1.7).

A success or warning ends it: a warning is never tried again (REQ-139). Only the end of the attempt is reported, so that
an instance counts as Remaining until then (O-35).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Final

from router.config.model import Mechanism
from router.delivery.mixed_attempt import STORED, Attempt, Way, joined
from router.errors import DeliveryError, Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import BrokenOff, Courier, Outcome, Report, Session

MAX_BREAKS: Final = 1
"""Connections that may break in one batch, blamed on the instance in hand, before the mechanism counts as down."""


class MixedCourier:
    """A `sending.Courier` of at least two others, in the order to try. What it learns is shared by its sessions."""

    def __init__(
        self,
        name: str,
        couriers: Sequence[tuple[Mechanism, Courier]],
        *,
        clock: Callable[[], float] = monotonic,
    ):
        self.ways = [Way(name, mechanism, courier, clock) for mechanism, courier in couriers]
        first = couriers[0][1]
        self.batch_instances, self.batch_bytes = first.batch_instances, first.batch_bytes
        self.sessions = min(courier.sessions for _, courier in couriers)
        self.idle_s = min(courier.idle_s for _, courier in couriers)

    def session(self) -> Session:
        return MixedSession(self)

    async def probe(self) -> None:
        """Ask by each mechanism in turn; one that is there will do. Raises Transient; Misconfigured when all say no."""
        failures: list[tuple[Mechanism, DeliveryError]] = []
        for way in self.ways:
            try:
                await way.courier.probe()
            except DeliveryError as error:
                failures.append((way.mechanism, error))
            else:
                way.works()
                return
        problem = joined((mechanism, error.problem) for mechanism, error in failures)
        if all(isinstance(error, Misconfigured) for _, error in failures):
            raise Misconfigured(problem)
        raise Transient(problem)


class MixedSession:
    """A session of each mechanism, opened when it is first needed."""

    def __init__(self, courier: MixedCourier):
        self._ways = courier.ways
        self._sessions = [way.courier.session() for way in courier.ways]

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Send `batch` by the first mechanism, what fails of it by the next, and report how each attempt ended.

        A mechanism that is known to be down is passed over while another is left. Raises what the last one raises for
        what none has judged.
        """
        deliver = _Batch(batch, report)
        open_ways = [way for way in self._ways if not way.is_down] or self._ways
        for way in self._ways:
            if way not in open_ways:
                deliver.pass_over(way)
        for way, session in zip(self._ways, self._sessions, strict=True):
            if way in open_ways and deliver.waiting and not deliver.enough:
                await deliver.by(way, session, is_last=way is open_ways[-1])

    async def aclose(self) -> None:
        for session in self._sessions:
            await session.aclose()


class _Batch:
    """One batch on its way through the mechanisms. `waiting` has what is not reported yet, in its order."""

    def __init__(self, batch: Sequence[Delivery], report: Report):
        self._attempts = [Attempt(delivery) for delivery in batch]
        self.waiting = {attempt.delivery.sub_operation_id: attempt for attempt in self._attempts}
        self.enough = False
        self._report = report

    def pass_over(self, way: Way) -> None:
        for attempt in self.waiting.values():
            attempt.failed(way.mechanism, Transient(way.problem))

    async def by(self, way: Way, session: Session, *, is_last: bool) -> None:
        """Send what waits by one mechanism, in batches of its size. Raises DeliveryError, only when `is_last`."""
        todo = {number: attempt.delivery for number, attempt in self.waiting.items()}
        breaks = 0

        async def take(outcome: Outcome) -> bool:
            number = outcome.delivery.sub_operation_id
            if todo.pop(number, None) is not None:
                way.works()
                attempt = self.waiting[number]
                attempt.ended(way.mechanism, outcome)
                if is_last or outcome.verdict in STORED:
                    await self._end(attempt)
            return self.enough

        while todo and not self.enough:
            some = _some(todo.values(), way.courier)
            before = len(todo)
            try:
                await session.deliver(some, take)
            except BrokenOff as error:
                breaks += 1
                if blamed := self.waiting.get(error.delivery.sub_operation_id):
                    blamed.broke(way.mechanism, error)
                if is_last or breaks > MAX_BREAKS:
                    await self._fail(way, error, list(todo), is_last=is_last)
                    return
                todo.pop(error.delivery.sub_operation_id, None)
            except DeliveryError as error:
                await self._fail(way, error, list(todo), is_last=is_last)
                return
            else:
                if len(todo) == before:
                    return  # left unreported: the lane says so

    async def _fail(self, way: Way, error: DeliveryError, todo: Sequence[int], *, is_last: bool) -> None:
        """The mechanism failed as a whole. What another has judged is reported, the rest is for the lane to keep."""
        way.fails(error.problem)
        for number in todo:
            self.waiting[number].failed(way.mechanism, error)
        if not is_last:
            return
        for number in todo:
            attempt = self.waiting[number]
            if attempt.is_judged and not self.enough:
                await self._end(attempt)
        unjudged = [attempt for attempt in self._attempts if not attempt.is_judged]
        if unjudged:
            raise _in_words_of_all(error, unjudged)

    async def _end(self, attempt: Attempt) -> None:
        del self.waiting[attempt.delivery.sub_operation_id]
        self.enough = bool(await self._report(attempt.outcome())) or self.enough


def _some(deliveries: Iterable[Delivery], courier: Courier) -> list[Delivery]:
    """The first of `deliveries`, as many as the courier wants at once; at least one."""
    chosen: list[Delivery] = []
    room = courier.batch_bytes
    for delivery in deliveries:
        if len(chosen) == courier.batch_instances or (chosen and delivery.data_set_bytes > room):
            break
        chosen.append(delivery)
        room -= delivery.data_set_bytes
    return chosen


def _in_words_of_all(error: DeliveryError, unjudged: Sequence[Attempt]) -> DeliveryError:
    """The failure of the last mechanism as the lane is to hear it; blamed on the instance that broke a connection."""
    broken = next((attempt for attempt in unjudged if attempt.is_broken), unjudged[0])
    match error:
        case BrokenOff(delivery=delivery):
            return BrokenOff(broken.reason, delivery)
        case Transient() if broken.is_broken:
            return BrokenOff(broken.reason, broken.delivery)
        case Transient(retry_after_s=retry_after_s):
            return Transient(broken.reason, retry_after_s)
        case _:
            return Misconfigured(broken.reason)
