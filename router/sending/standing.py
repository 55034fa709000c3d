"""What a lane learns of its destination: how it is, how many sessions it bears, which instances to suspect.

No I/O but log lines: those that an operator reads when a destination goes away, refuses us, or comes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import assert_never

import structlog

from router.config.model import SendingConfig
from router.dicom.status import Verdict
from router.errors import Transient
from router.journal.destinations import DestinationState
from router.sending.clock import Clock
from router.sending.courier import Outcome
from router.sending.health import Health
from router.sending.retry import RETRY_AFTER_CAP_S
from router.sending.suspects import Suspects

log = structlog.get_logger()

GROW_AFTER = 32
"""One more session is tried after so many instances were answered since the last was added."""
CEILING_S = 600.0
"""A destination that refused one more session is not asked for it again for so long."""
BLAMED_IN_A_ROW = 3
"""So many answers in a row that blame the destination or say nothing, and it is left alone for a while."""


class Standing:
    """One destination's standing with its lane. `changed` is called when the lane should look again."""

    def __init__(
        self,
        name: str,
        config: SendingConfig,
        *,
        sessions: int,
        clock: Clock,
        rng: random.Random,
        changed: Callable[[], None],
    ):
        self.name = name
        self.suspects = Suspects()
        self._clock = clock
        self._changed = changed
        self._health = Health(name, probe_s=config.probe_s, now=clock.now(), rng=rng)
        self._credit = self._blamed_in_a_row = 0
        self._most_sessions = self._ceiling = sessions
        self._ceiling_until = 0.0

    @property
    def ready(self) -> bool:
        return self._health.ready

    @property
    def is_misconfigured(self) -> bool:
        return self._health.state == "misconfigured"

    @property
    def reason(self) -> str:
        return self._health.reason

    @property
    def wait_s(self) -> float:
        """How long the destination is still to be left alone; 0 when it may be tried."""
        return 0.0 if self._health.ready else max(self._health.retry_at - self._clock.now(), 0.0)

    def try_now(self) -> None:
        """Leave the destination alone no longer: somebody waits for it."""
        self._health.try_now(self._clock.now())

    def as_row(self) -> DestinationState:
        return self._health.as_row()

    # --- sessions --------------------------------------------------------------------------------------------------

    def bears_another(self, sessions: int) -> bool:
        """Say whether one more session than `sessions` may be opened."""
        if self._clock.now() >= self._ceiling_until:
            self._ceiling = self._most_sessions
        return sessions < self._ceiling and self._credit >= GROW_AFTER

    def session_added(self) -> None:
        self._credit = 0

    def refuses_another(self, sessions: int, problem: str) -> None:
        """One session of `sessions` was one too many: do with fewer for a while."""
        self._ceiling = max(sessions - 1, 1)
        self._ceiling_until = self._clock.now() + CEILING_S
        log.info("destination takes no more sessions", destination=self.name, sessions=self._ceiling, reason=problem)

    # --- outcomes --------------------------------------------------------------------------------------------------

    def learn_from(self, outcome: Outcome) -> None:
        """Take in what became of one instance."""
        match outcome.verdict:
            case Verdict.COMPLETED | Verdict.WARNING | Verdict.INSTANCE:
                if outcome.verdict is not Verdict.INSTANCE:
                    self.suspects.clear(outcome.delivery)
                self._blamed_in_a_row = 0
                self._credit += 1
                if self._credit == GROW_AFTER:
                    self._changed()
                if not self._health.ready:
                    self._recover()
            case Verdict.DESTINATION | Verdict.UNCERTAIN if outcome.spares_destination:
                pass
            case Verdict.DESTINATION | Verdict.UNCERTAIN:
                self._blamed_in_a_row += 1
                if self._blamed_in_a_row >= BLAMED_IN_A_ROW:
                    self._trouble(outcome.reason, progressed=False, retry_after_s=outcome.retry_after_s)
            case Verdict.MISCONFIGURED:
                self.misconfigured(outcome.reason)
            case Verdict.NEVER:
                pass  # says nothing about how the destination is: it may not even have been asked
            case _:
                assert_never(outcome.verdict)

    def nothing_to_try(self) -> None:
        """A misconfigured destination answered its probe, and nothing is queued: take it as mended."""
        if self.is_misconfigured and self.wait_s == 0:
            self._recover()

    def lost(self, error: Transient, *, progressed: bool) -> None:
        """A session could not be opened, or was lost. `progressed`: not before it had got an answer."""
        self._trouble(error.problem, progressed=progressed, retry_after_s=error.retry_after_s)

    def misconfigured(self, problem: str) -> None:
        """The destination refuses us as such."""
        if not self.is_misconfigured:
            log.error(
                "destination refuses us: a person must change something, its queue is kept",
                destination=self.name,
                reason=problem,
            )
        self._health.misconfigured(problem, self._clock.now())
        self._changed()

    def _recover(self) -> None:
        self._health.success(self._clock.now())
        log.info("destination is back", destination=self.name)
        self._changed()

    def _trouble(self, problem: str, *, progressed: bool, retry_after_s: float | None) -> None:
        was_ready = self._health.ready
        if retry_after_s is not None:
            retry_after_s = min(max(retry_after_s, 0.0), RETRY_AFTER_CAP_S)
        self._health.trouble(problem, self._clock.now(), progressed=progressed, retry_after_s=retry_after_s)
        if was_ready:
            wait_s = round(self.wait_s, 1)
            log.warning("destination is left alone for a while", destination=self.name, reason=problem, wait_s=wait_s)
        self._changed()
