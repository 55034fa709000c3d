"""Deciding what we commit to, by `[commitment] means` (PS3.4 §J.3.2): is it here, whole, and where its rules want it?

Open requests are looked at again and again, a page of instances at a time so that a large one keeps nobody waiting,
until each instance has its ruling or `decide_s` is over. A ruling is journalled and never changed.

"stored": the newest version is in the journal under that SOP class, and its file, read again from the disk, hashes to
what was received. "delivered": also, every destination of its rules has it; while one may still get it we wait, one
that is parked fails it at once, and what no rule sends anywhere is as good as delivered. "committed": also, each of
those destinations has committed to it: those with confirm = "commitment" did so before it counted as delivered, the
others are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal

import anyio
import structlog

from router.commitment.clock import Clock
from router.commitment.language import CLASS_INSTANCE_CONFLICT, NO_SUCH_OBJECT_INSTANCE, PROCESSING_FAILURE
from router.commitment.requests import DESTINATIONS
from router.commitment.watching import Watcher
from router.config.model import Config, SendRsDestination
from router.errors import StorageError
from router.journal import commitment_facts, commitment_questions, commitments
from router.journal.commitment_facts import OpenItem, StoredInstance
from router.journal.commitments import CommitmentRow
from router.journal.journal import Journal
from router.store.files import DamagedFile, Store

log = structlog.get_logger()

PAGE: Final = 200
"""Instances of one request looked at before others have their turn."""
READING: Final = 4
"""Files read at once: fewer than the store's threads, which arriving instances need."""
PAUSE_LEAST_S, PAUSE_MOST_S = 1.0, 60.0
"""Between two looks at a request that waits for deliveries: a tenth of its age."""

Waits = Literal["waits"]
WAITS: Final = "waits"
Decision = int | Waits | None
"""A Failure Reason, None for committed, or WAITS: it may still become so."""


class Deciding:
    """Looks after all open requests; run `watch` in the root task group. `wake` says that one was made."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        config: Callable[[], Config],
        *,
        clock: Clock,
        asked: Callable[[], None],
        decided: Callable[[], None],
    ):
        """`asked` is told when there is a new question for `asking`, `decided` when a request is ready."""
        self._journal, self._store, self._config, self._clock = journal, store, config, clock
        self._asked, self._decided = asked, decided
        self._watcher = Watcher("commitment requests", clock)
        self._places: dict[int, int] = {}
        """Requests inside which the next look goes on, and behind which position."""

    def wake(self) -> None:
        self._watcher.wake()

    async def watch(self) -> None:
        """Decide for ever; a task of the root group, ended by cancelling it."""
        await self._watcher.watch(self.look)

    async def look(self) -> int:
        """Look at each request that is due, once; answers how many there were. Raises StorageError."""
        due = await self._journal.read(partial(commitments.due, now=self._clock.now()))
        for request in due:
            try:
                await self._look_at(request)
            except StorageError:
                raise
            except Exception:  # a stage's edge: one odd request must not keep the others waiting
                log.exception("commitment request crashed", transaction_uid=request.transaction_uid)
                again_at = self._clock.now() + PAUSE_MOST_S
                await self._journal.write(partial(commitments.postpone, request_id=request.request_id, due_at=again_at))
        return len(due)

    async def _look_at(self, request: CommitmentRow) -> None:
        """Rule on a page of its instances, and say when it is to be looked at again."""
        now = self._clock.now()
        overdue = now >= request.created_at + self._config().commitment.decide_s
        after = self._places.pop(request.request_id, -1)
        again_at = now + min(max((now - request.created_at) / 10, PAUSE_LEAST_S), PAUSE_MOST_S)
        if not request.proxy:
            page = await self._journal.read(
                partial(commitment_facts.open_items, request_id=request.request_id, after=after, limit=PAGE)
            )
            if await self._rule_on(request, page):
                return
            if len(page) == PAGE:
                self._places[request.request_id] = page[-1].position
                again_at, overdue = now, False
        if overdue:
            failed = await self._journal.write(
                partial(
                    commitments.rule_all_open,
                    request_id=request.request_id,
                    failure_reason=PROCESSING_FAILURE,
                    now=self._clock.now(),
                )
            )
            log.warning(
                "commitment not decided in time", transaction_uid=request.transaction_uid, failed_instances=failed
            )
            self._decided()
            return
        await self._journal.write(partial(commitments.postpone, request_id=request.request_id, due_at=again_at))

    async def _rule_on(self, request: CommitmentRow, page: Sequence[OpenItem]) -> bool:
        """Rule on what can be decided now; says whether the whole request is ready."""
        found = await self._journal.read(
            partial(commitment_facts.instances, sop_instance_uids=[item.sop_instance_uid for item in page])
        )
        decisions: list[Decision] = [WAITS] * len(page)
        limiter = anyio.CapacityLimiter(READING)

        async def decide(at: int, item: OpenItem, instance: StoredInstance | None) -> None:
            async with limiter:
                try:
                    decisions[at] = await self._decide(request, item, instance)
                except StorageError as error:
                    log.error("instance cannot be committed to yet", uid=item.sop_instance_uid, problem=str(error))

        async with anyio.create_task_group() as group:
            for at, (item, instance) in enumerate(zip(page, found, strict=True)):
                group.start_soon(decide, at, item, instance)
        rulings = [(item.position, one) for item, one in zip(page, decisions, strict=True) if one != WAITS]
        if self._config().commitment.means == "committed":
            await self._ask_destinations(request, page, found, decisions)
        if not rulings:
            return False
        ready = await self._journal.write(
            partial(commitments.rule, request_id=request.request_id, rulings=rulings, now=self._clock.now())
        )
        if ready:
            log.info("commitment decided", transaction_uid=request.transaction_uid, requester=request.requester)
            self._decided()
        return ready

    async def _decide(self, request: CommitmentRow, item: OpenItem, instance: StoredInstance | None) -> Decision:
        if instance is None or not _is_where_it_should_be(item, instance):
            return NO_SUCH_OBJECT_INSTANCE
        if instance.sop_class_uid != item.sop_class_uid:
            return CLASS_INSTANCE_CONFLICT
        if self._config().commitment.means != "stored":
            delivered = await self._is_delivered(request, item, instance)
            if delivered is not None:
                return delivered
        try:
            await self._store.confirm(instance)
        except DamagedFile as damage:
            log.error("instance cannot be committed to: damaged", file=damage.file, problem=damage.problem)
            return PROCESSING_FAILURE
        return None

    async def _is_delivered(self, request: CommitmentRow, item: OpenItem, instance: StoredInstance) -> Decision:
        deliveries, config = instance.deliveries, self._config()
        if deliveries.failed:
            return PROCESSING_FAILURE
        if deliveries.waiting or deliveries.undecided:
            return WAITS
        unconfirmed = [name for name in deliveries.done if not _confirms(config, name)]
        if config.commitment.means == "delivered" or not unconfirmed:
            return None
        if any(not _can_be_asked(config, name) for name in unconfirmed):
            return PROCESSING_FAILURE
        answers = await self._journal.read(
            partial(commitment_facts.answers, request_id=request.request_id, position=item.position)
        )
        given = {answer.asker: answer.failure_reason for answer in answers if answer.answered}
        if any(DESTINATIONS + name not in given for name in unconfirmed):
            return WAITS
        return next((reason for reason in given.values() if reason is not None), None)

    async def _ask_destinations(
        self,
        request: CommitmentRow,
        page: Sequence[OpenItem],
        found: Sequence[StoredInstance | None],
        decisions: Sequence[Decision],
    ) -> None:
        """Ask each destination that has instances of this page, and was not asked yet, to commit to them."""
        config = self._config()
        questions: dict[str, list[int]] = {}
        for item, instance, decision in zip(page, found, decisions, strict=True):
            if decision != WAITS or instance is None or instance.deliveries.waiting or instance.deliveries.undecided:
                continue
            answers = await self._journal.read(
                partial(commitment_facts.answers, request_id=request.request_id, position=item.position)
            )
            posed = {answer.asker for answer in answers}
            for name in instance.deliveries.done:
                if not _confirms(config, name) and DESTINATIONS + name not in posed:
                    questions.setdefault(DESTINATIONS + name, []).append(item.position)
        for asker, positions in questions.items():
            await self._journal.write(
                partial(
                    commitment_questions.pose,
                    request_id=request.request_id,
                    asker=asker,
                    positions=positions,
                    now=self._clock.now(),
                )
            )
        if questions:
            self._asked()


def _is_where_it_should_be(item: OpenItem, instance: StoredInstance) -> bool:
    """Say whether it is of the study and series that the request named, if it did."""
    return item.study in ("", instance.study) and item.series in ("", instance.series)


def _confirms(config: Config, name: str) -> bool:
    destination = config.destinations.get(name)
    return (
        destination is not None
        and not isinstance(destination, SendRsDestination)
        and destination.confirm == "commitment"
    )


def _can_be_asked(config: Config, name: str) -> bool:
    """A SEND-RS server only passes on, and a destination that is no longer configured cannot be asked."""
    destination = config.destinations.get(name)
    return destination is not None and not isinstance(destination, SendRsDestination)
