"""Outcomes on their way into the journal: gathered, decided on, written many at a time.

The wire never waits for a commit (§6.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import assert_never

import anyio

from router.config.model import SendingConfig
from router.dicom.status import Verdict
from router.journal.journal import Journal
from router.journal.sub_operations import Conclusion, finish
from router.sending.clock import Clock
from router.sending.courier import MAX_REASON_CHARACTERS, Outcome
from router.sending.retry import Completed, Park, Retry, decide

WRITE_AT = 128
"""So many outcomes are written at once …"""
LINGER_S = 0.02
"""… or as many as came in this time. What a crash loses of it is sent once more."""
MAX_UNWRITTEN = 512
"""Beyond so many the courier waits for the journal, so that memory and repeats are bounded."""


class Recorder:
    """One lane's outcomes. `put` never waits unless the journal is far behind.

    With `confirm_s` what the destination took is done only when it has committed to it, within so many seconds.
    """

    def __init__(
        self,
        journal: Journal,
        config: SendingConfig,
        *,
        clock: Clock,
        rng: random.Random,
        written: Callable[[], None],
        confirm_s: float | None = None,
    ):
        self._journal, self._config, self._clock, self._rng = journal, config, clock, rng
        self._written = written
        self._confirm_s = confirm_s
        self._unwritten: list[Conclusion] = []
        self._arrived = anyio.Event()
        self._enough = anyio.Event()
        self._room = anyio.Event()
        self._closed = False

    async def put(self, outcome: Outcome) -> None:
        """Decide what follows from `outcome` and queue it for the journal."""
        self._unwritten.append(self._conclude(outcome))
        count = len(self._unwritten)
        if count == 1:
            self._arrived.set()
        if count >= WRITE_AT:
            self._enough.set()
        while len(self._unwritten) >= MAX_UNWRITTEN:
            await self._room.wait()

    def hurry(self) -> None:
        """Write what is there without waiting for more."""
        if self._unwritten:
            self._enough.set()

    def close(self) -> None:
        """Write what is left, then let `run` end."""
        self._closed = True
        self._arrived.set()
        self._enough.set()

    async def run(self) -> None:
        """Write until closed. Also when cancelled, all that was put is written. Raises StorageError."""
        try:
            while not (self._closed and not self._unwritten):
                await self._arrived.wait()
                if not self._closed:
                    await self._clock.wait(self._enough, LINGER_S)
                await self._write()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._write()
            raise

    async def _write(self) -> None:
        batch, self._unwritten = self._unwritten, []
        if not self._closed:
            self._arrived, self._enough = anyio.Event(), anyio.Event()
        if batch:
            with anyio.CancelScope(shield=True):  # an unknown commit is never guessed
                await self._journal.write(partial(finish, conclusions=batch))
            self._written()
        self._room.set()
        self._room = anyio.Event()

    def _conclude(self, outcome: Outcome) -> Conclusion:
        now = self._clock.now()
        delivery = outcome.delivery
        reason = outcome.reason[:MAX_REASON_CHARACTERS]
        decision = decide(outcome, now=now, config=self._config, rng=self._rng)
        conclude = partial(
            Conclusion,
            sub_operation_id=delivery.sub_operation_id,
            attempt_id=delivery.attempt_id,
            outcome=outcome.verdict.value,
            ended_at=now,
            status=outcome.status,
        )
        match decision:
            case Completed(warning) if self._confirm_s is not None:
                return conclude(
                    state="remaining",
                    due_at=now + self._confirm_s,
                    reason=reason,
                    confirming="warning" if warning else "completed",
                )
            case Completed(warning):
                return conclude(state="warning" if warning else "completed", due_at=now, reason=reason)
            case Retry(due_at, blames_instance, uncertain):
                return conclude(
                    state="remaining",
                    due_at=due_at,
                    reason=reason,
                    blames_instance=blames_instance,
                    uncertain=uncertain,
                )
            case Park(why, blames_instance):
                return conclude(
                    state="failed",
                    due_at=now,
                    reason=why[:MAX_REASON_CHARACTERS],
                    blames_instance=blames_instance,
                    uncertain=outcome.verdict is Verdict.UNCERTAIN,
                )
            case _:
                assert_never(decision)
