"""Destinations with confirm = "commitment": ask them to commit to what they took, and settle what they say.

What they took is 'remaining' in the journal until then, so that a crash loses nothing. One question at a time to a
destination, for many instances; a slow one delays itself only. Knows no protocol: it asks through an `Asker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import anyio
import structlog

from router.commitment.clock import Clock
from router.commitment.language import Asker, Forgotten, Reference, Ruling
from router.config.confirmation import confirm_s_of
from router.config.forms import show_duration
from router.config.model import Config, Destination
from router.dicom.status import Verdict, commitment_failure
from router.dicom.uids import Uid, new_uid
from router.errors import DeliveryError, StorageError
from router.journal import confirmations
from router.journal.confirmations import Awaited, Settlement
from router.journal.journal import Journal

log = structlog.get_logger()

LOOK_S: Final = 1.0
"""How often the journal is looked at: what was answered since the last look is still coming in."""
AT_ONCE: Final = 500
"""Most instances in one question."""
GATHER_LOOKS: Final = 10
"""Looks after which is asked, though more is still coming in."""
KEEP_S: Final = 86_400.0
"""A question that is over is known for so long: a report whose answer was lost comes again."""
FORGET_S: Final = 600.0
AFTER_FAILURE_S: Final = 10.0
NOT_NAMED: Final = "the destination's answer about commitment does not name it"

RetryAt = Callable[[int, float], float | None]
"""`sending.retry.instance_retry_at`: when to send again what itself failed so often by now; None: never."""


class Confirmations:
    """Asks every destination of `config()` that is to commit to what it takes. `wake` tells lanes of what is due."""

    def __init__(
        self,
        journal: Journal,
        config: Callable[[], Config],
        asker_for: Callable[[Destination], Asker],
        *,
        retry_at: RetryAt,
        wake: Callable[[Iterable[str]], None],
        clock: Clock,
    ):
        self._journal, self._config, self._asker_for = journal, config, asker_for
        self._retry_at, self._wake, self._clock = retry_at, wake, clock
        self._paces: dict[str, _Pace] = {}
        self._busy: set[str] = set()

    async def watch(self) -> None:
        """Ask and settle for ever; a task of the root group, ended by cancelling it."""
        never, forget_at, wait_s = anyio.Event(), self._clock.now(), LOOK_S
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    now = self._clock.now()
                    if now >= forget_at:
                        forget_at = now + FORGET_S
                        await self._journal.write(partial(confirmations.forget, before=now - KEEP_S))
                    wait_s = LOOK_S
                    for destination in self._config().destinations.values():
                        if destination.name not in self._busy and await self._has_work(destination):
                            self._busy.add(destination.name)
                            tasks.start_soon(self._look_after, destination)
                except StorageError as error:
                    log.error("storage commitment not looked after", problem=str(error))
                    wait_s = AFTER_FAILURE_S
                await self._clock.wait(never, wait_s)

    async def reported(self, peer_aet: str, transaction_uid: Uid, rulings: Sequence[Ruling]) -> bool:
        """Take a report (N-EVENT-REPORT) that came in; False when the Transaction UID is none of ours.

        Who sends it is only noted: some archives report under another AE title than they were asked by. Raises
        StorageError: nothing was taken.
        """
        found = await self._journal.read(partial(confirmations.find, transaction_uid=transaction_uid))
        if found is None:
            return False
        log.debug("commitment reported", destination=found.destination, by=peer_aet, transaction_uid=transaction_uid)
        if found.ended_at is None:
            await self._settle(found.destination, transaction_uid, rulings)
        return True

    # --- one destination -------------------------------------------------------------------------------------------

    async def _has_work(self, destination: Destination) -> bool:
        return await self._journal.read(partial(confirmations.is_confirming, destination=destination.name))

    async def _look_after(self, destination: Destination) -> None:
        """Do all that is to be done for a destination just now: a stage's edge, where trouble is logged."""
        try:
            await self._step(destination)
        except StorageError as error:
            log.error("storage commitment not looked after", destination=destination.name, problem=str(error))
        except Exception:
            log.exception("storage commitment crashed", destination=destination.name)
            self._pace(destination).put_off(self._clock.now(), self._config(), "this router failed to ask")
        finally:
            self._busy.discard(destination.name)

    async def _step(self, destination: Destination) -> None:
        name, now = destination.name, self._clock.now()
        confirm_s = confirm_s_of(destination)
        if confirm_s is None:
            let_go = await self._journal.write(partial(confirmations.let_go, destination=name, now=now))
            log.info("taken as delivered without commitment, as is configured now", destination=name, instances=let_go)
            return
        pace = self._pace(destination)
        await self._give_up(name, confirm_s, pace)
        await self._check(destination, pace)
        count = await self._journal.read(partial(confirmations.unasked, destination=name, limit=AT_ONCE))
        if pace.is_time(count, now):
            await self._ask(destination, pace)

    def _pace(self, destination: Destination) -> _Pace:
        """What is known of a destination; anew when it, or how we are called, was configured anew."""
        pace, configured = self._paces.get(destination.name), (destination, self._config().dicom.ae_title)
        if pace is None or pace.configured != configured:
            pace = self._paces[destination.name] = _Pace(configured, self._asker_for(destination))
        return pace

    async def _give_up(self, name: str, confirm_s: float, pace: _Pace) -> None:
        now = self._clock.now()
        if not await self._journal.read(partial(confirmations.has_overdue, destination=name, now=now)):
            return
        reason = f"the destination did not commit to it within {show_duration(confirm_s)}"
        if pace.problem:
            reason += f"; last: {pace.problem}"
        failed = await self._journal.write(partial(confirmations.give_up, destination=name, reason=reason, now=now))
        if failed:
            log.error("destination did not commit to instances in time", destination=name, instances=failed)

    async def _check(self, destination: Destination, pace: _Pace) -> None:
        """Look for the answers of questions, where one can look."""
        now = self._clock.now()
        for question in await self._journal.read(
            partial(confirmations.to_check, destination=destination.name, now=now)
        ):
            uid = question.transaction_uid
            waiting = await self._journal.read(partial(confirmations.awaited, transaction_uid=uid))
            try:
                rulings = await pace.asker.check(uid, [_reference(one) for one in waiting])
            except Forgotten:
                rulings, pace.problem = (), "the destination forgot that it was asked for commitment"
            except DeliveryError as error:
                pace.problem, rulings = error.problem, None
            else:
                pace.problem = ""
            if rulings is None:
                await self._check_later(uid, pace)
            else:
                await self._settle(destination.name, uid, rulings)

    async def _ask(self, destination: Destination, pace: _Pace) -> None:
        uid = new_uid()
        waiting = await self._journal.write(
            partial(
                confirmations.gather,
                destination=destination.name,
                transaction_uid=uid,
                limit=AT_ONCE,
                now=self._clock.now(),
            )
        )
        if not waiting:
            return
        try:
            rulings = await pace.asker.ask(uid, [_reference(one) for one in waiting])
        except DeliveryError as error:
            pace.put_off(self._clock.now(), self._config(), error.problem)
            log.warning(
                "destination could not be asked for storage commitment", destination=destination.name, **pace.as_words()
            )
            await self._write_settled(uid, ())
            return
        pace.asked()
        if rulings is None:
            await self._check_later(uid, pace)
        else:
            await self._settle(destination.name, uid, rulings)

    async def _check_later(self, uid: Uid, pace: _Pace) -> None:
        check_at = self._clock.now() + pace.asker.poll_s
        await self._journal.write(partial(confirmations.check_later, transaction_uid=uid, next_check_at=check_at))

    # --- what was said ---------------------------------------------------------------------------------------------

    async def _settle(self, name: str, uid: Uid, rulings: Sequence[Ruling]) -> None:
        """Write what `rulings` mean for the instances of a question. Raises StorageError."""
        waiting = await self._journal.read(partial(confirmations.awaited, transaction_uid=uid))
        said = {ruling.reference.sop_instance_uid: ruling for ruling in rulings}
        now = self._clock.now()
        settlements = [self._judge(one, said.get(one.sop_instance_uid), now) for one in waiting]
        again = [one for one in settlements if one.becomes == "ask"]
        if again and (pace := self._paces.get(name)) is not None:
            pace.put_off(now, self._config(), pace.problem or again[0].reason)
        await self._write_settled(uid, settlements)
        counts = {what: sum(one.becomes == what for one in settlements) for what in ("failed", "send", "ask")}
        if any(counts.values()):
            log.warning("destination did not commit to instances", destination=name, transaction_uid=uid, **counts)
        if counts["send"]:
            self._wake([name])

    async def _write_settled(self, uid: Uid, settlements: Sequence[Settlement]) -> None:
        await self._journal.write(
            partial(confirmations.settle, transaction_uid=uid, settlements=settlements, now=self._clock.now())
        )

    def _judge(self, waiting: Awaited, ruling: Ruling | None, now: float) -> Settlement:
        row = waiting.sub_operation_id
        if ruling is None:
            return Settlement(row, "ask", reason=NOT_NAMED)
        if ruling.failure_reason is None:
            return Settlement(row, "committed")
        status, meaning = ruling.failure_reason, commitment_failure(ruling.failure_reason)
        if meaning.verdict is Verdict.DESTINATION:
            return Settlement(row, "ask", reason=meaning.words)
        due_at = self._retry_at(waiting.instance_failures, now) if meaning.verdict is Verdict.INSTANCE else None
        if due_at is None:
            return Settlement(row, "failed", status=status, reason=meaning.words)
        return Settlement(row, "send", due_at=due_at, status=status, reason=meaning.words)


class _Pace:
    """When to ask a destination next: once what it answers has stopped coming in, and not too soon after trouble."""

    def __init__(self, configured: object, asker: Asker):
        self.configured, self.asker = configured, asker
        self.problem = ""
        self._failures = self._looks = self._count = 0
        self._not_before = 0.0

    def is_time(self, count: int, now: float) -> bool:
        """Say whether to ask now, when `count` instances are still to be asked for."""
        grew, self._count = count > self._count, count
        self._looks = self._looks + 1 if count else 0
        if not count or now < self._not_before:
            return False
        return count >= AT_ONCE or not grew or self._looks >= GATHER_LOOKS

    def asked(self) -> None:
        self.problem, self._failures, self._looks, self._count = "", 0, 0, 0

    def put_off(self, now: float, config: Config, problem: str) -> None:
        """Wait before the next question: longer each time until one was taken."""
        sending = config.sending
        wait_s = min(sending.backoff_first_s * 2.0 ** min(self._failures, 30), sending.backoff_cap_s)
        self._failures += 1
        self._not_before = now + wait_s
        self.problem = problem

    def as_words(self) -> dict[str, object]:
        return {"reason": self.problem, "failures": self._failures}


def _reference(waiting: Awaited) -> Reference:
    return Reference(waiting.sop_class_uid, waiting.sop_instance_uid, waiting.study, waiting.series)
