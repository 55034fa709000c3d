"""Asking others for storage commitment because somebody asks us: the upstream of a proxy, or destinations.

A question is journalled before it is asked. Who does not take it is asked again after a while; who took it is looked
at for its answer, or reports it by itself (`Commitments.reported`); who took it and says nothing for long, or knows
nothing of it any more after a restart, is asked once more, under a new Transaction UID. `deciding` ends it when
`[commitment] decide_s` is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from router.commitment.clock import Clock
from router.commitment.language import Asker, Forgotten, Reference, Ruling
from router.commitment.requests import keep_answer, reference_of
from router.commitment.watching import Watcher, carry_each
from router.dicom.uids import new_uid
from router.errors import DeliveryError
from router.journal import commitment_questions
from router.journal.commitment_questions import Question
from router.journal.journal import Journal

log = structlog.get_logger()

ASKING: Final = 8
"""Questions being asked at once."""
RETRY_FIRST_S, RETRY_CAP_S = 5.0, 600.0
"""Waits after it was not taken, doubling."""
AGAIN_FIRST_S, AGAIN_CAP_S = 3600.0, 86_400.0
"""After so long without an answer it is asked once more, doubling: who forgot it will not answer by itself."""

Askers = Callable[[str], Asker | None]
"""Gives who is called "proxies.<name>" or "destinations.<name>"; None when nobody is (any more)."""


class Asking:
    """Carries questions; run `watch` in the root task group. `decided` is told when an answer may decide a request."""

    def __init__(self, journal: Journal, askers: Askers, *, clock: Clock, decided: Callable[[], None]):
        self._journal, self._askers, self._clock, self._decided = journal, askers, clock, decided
        self._watcher = Watcher("commitment questions", clock)

    def wake(self) -> None:
        self._watcher.wake()

    async def watch(self) -> None:
        """Ask for ever; a task of the root group, ended by cancelling it."""
        await self._watcher.watch(self.look)

    async def look(self) -> None:
        """Ask, or look for the answer to, each question that is due. Raises StorageError."""
        due = await self._journal.read(partial(commitment_questions.due, now=self._clock.now()))
        await carry_each(due, self._carry, at_once=ASKING, crashed=self._crashed)

    async def _crashed(self, question: Question) -> None:
        log.exception("commitment question crashed", asker=question.asker)
        await self._put_off(question, "this router failed to ask", asked=question.asked)

    async def _carry(self, question: Question) -> None:
        asker = self._askers(question.asker)
        if asker is None:
            await self._put_off(question, f"{question.asker} is not configured (any more)", asked=question.asked)
            return
        items = await self._journal.read(partial(commitment_questions.items, question_id=question.question_id))
        references = [reference_of(item) for item in items]
        try:
            if question.asked and (question.again_at is None or self._clock.now() < question.again_at):
                await self._look_for_answer(question, asker, references)
            else:
                await self._ask(question, asker, references)
        except Forgotten:
            await self._put_off(question, "it knows nothing of what we asked", asked=False)
        except DeliveryError as error:
            await self._put_off(question, error.problem, asked=question.asked)

    async def _ask(self, question: Question, asker: Asker, references: Sequence[Reference]) -> None:
        """Ask; for a proxy under the UID of its requester, until that was taken once."""
        now = self._clock.now()
        uid = question.request_uid if question.proxied and question.again_at is None else new_uid()
        lease = partial(
            commitment_questions.begin,
            question_id=question.question_id,
            now=now,
            due_at=now + _doubled(RETRY_FIRST_S, question.tries, RETRY_CAP_S),
        )
        if not await self._journal.write(partial(lease, transaction_uid=uid)):
            uid = new_uid()
            await self._journal.write(partial(lease, transaction_uid=uid))
        rulings = await asker.ask(uid, references)
        log.info("commitment asked", asker=question.asker, transaction_uid=uid, instances=len(references))
        if rulings is not None:
            await self._take_answer(question, rulings)
            return
        await self._journal.write(
            partial(
                commitment_questions.await_answer,
                question_id=question.question_id,
                due_at=now + asker.poll_s,
                again_at=now + _doubled(AGAIN_FIRST_S, question.tries, AGAIN_CAP_S),
            )
        )

    async def _look_for_answer(self, question: Question, asker: Asker, references: Sequence[Reference]) -> None:
        rulings = await asker.check(question.transaction_uid, references)
        if rulings is not None:
            await self._take_answer(question, rulings)
            return
        await self._journal.write(
            partial(
                commitment_questions.await_answer,
                question_id=question.question_id,
                due_at=self._clock.now() + asker.poll_s,
            )
        )

    async def _take_answer(self, question: Question, rulings: Sequence[Ruling]) -> None:
        await keep_answer(self._journal, question, rulings, now=self._clock.now())
        log.info("commitment answered", asker=question.asker, request=question.request_uid)
        self._decided()

    async def _put_off(self, question: Question, problem: str, *, asked: bool) -> None:
        wait_s = _doubled(RETRY_FIRST_S, question.tries, RETRY_CAP_S)
        log.warning("commitment not asked", asker=question.asker, request=question.request_uid, problem=problem)
        await self._journal.write(
            partial(
                commitment_questions.put_off,
                question_id=question.question_id,
                due_at=self._clock.now() + wait_s,
                problem=problem,
                asked=asked,
            )
        )


def _doubled(first_s: float, times: int, cap_s: float) -> float:
    return min(first_s * 2.0 ** min(times, 30), cap_s)
