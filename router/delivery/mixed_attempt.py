"""One attempt by several mechanisms: what each made of the instance, and what that means; what is known of each one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from router.config.model import Mechanism
from router.dicom.status import Verdict
from router.errors import DeliveryError, Misconfigured
from router.journal.records import Delivery
from router.sending.courier import MAX_REASON_CHARACTERS, BrokenOff, Courier, Outcome

log = structlog.get_logger()

PASSED_OVER_S: Final = 60.0
"""A mechanism that failed as a whole is not tried for so long, as long as another one is left."""

STORED: Final = (Verdict.COMPLETED, Verdict.WARNING)
_HOPE: Final = (Verdict.NEVER, Verdict.INSTANCE, Verdict.MISCONFIGURED, Verdict.DESTINATION, Verdict.UNCERTAIN)
"""Failures by how much may still become of them: an instance is parked only if no mechanism leaves hope."""


class Way:
    """One mechanism of a destination, and whether it works just now."""

    def __init__(self, destination: str, mechanism: Mechanism, courier: Courier, clock: Callable[[], float]):
        self.mechanism, self.courier = mechanism, courier
        self.problem = ""
        self._destination, self._clock = destination, clock
        self._down_until = 0.0

    @property
    def is_down(self) -> bool:
        return bool(self.problem) and self._clock() < self._down_until

    def works(self) -> None:
        """It was talked to."""
        if self.problem:
            log.info("mechanism works again", destination=self._destination, mechanism=self.mechanism)
        self.problem = ""

    def fails(self, problem: str) -> None:
        """It failed as a whole: use another for a while."""
        if not self.problem:
            log.warning(
                "mechanism does not work, another is used",
                destination=self._destination,
                mechanism=self.mechanism,
                reason=problem,
            )
        self.problem, self._down_until = problem, self._clock() + PASSED_OVER_S


class _Try(msgspec.Struct, frozen=True):
    """What one mechanism made of an instance. `judged`: it spoke of this very instance."""

    mechanism: Mechanism
    verdict: Verdict
    reason: str
    judged: bool
    outcome: Outcome | None = None


class Attempt:
    """One instance on its way through the mechanisms."""

    def __init__(self, delivery: Delivery):
        self.delivery = delivery
        self.is_broken = False
        """A connection broke while it was in hand, so that it may be why."""
        self._tries: dict[Mechanism, _Try] = {}

    def ended(self, mechanism: Mechanism, outcome: Outcome) -> None:
        """A mechanism said what became of it."""
        judged = outcome.verdict in (*STORED, Verdict.INSTANCE, Verdict.NEVER)
        self._tries[mechanism] = _Try(mechanism, outcome.verdict, outcome.reason, judged, outcome)

    def broke(self, mechanism: Mechanism, error: BrokenOff) -> None:
        """The connection of a mechanism broke while this instance was on it."""
        self.is_broken = True
        self._tries.setdefault(mechanism, _Try(mechanism, Verdict.INSTANCE, error.problem, judged=False))

    def failed(self, mechanism: Mechanism, error: DeliveryError) -> None:
        """A mechanism failed as a whole before it came to this instance."""
        verdict = Verdict.MISCONFIGURED if isinstance(error, Misconfigured) else Verdict.DESTINATION
        self._tries.setdefault(mechanism, _Try(mechanism, verdict, error.problem, judged=False))

    @property
    def is_judged(self) -> bool:
        return any(one.judged for one in self._tries.values())

    @property
    def reason(self) -> str:
        return joined((one.mechanism, one.reason or one.verdict.value) for one in self._tries.values())

    def outcome(self) -> Outcome:
        """How the attempt ended: as its last mechanism says, but no worse than any of them leaves hope."""
        *_, last = self._tries.values()
        told = last.outcome or Outcome(self.delivery, last.verdict)
        if len(self._tries) == 1:
            return told
        verdict = last.verdict
        if verdict not in STORED:
            verdict = max((one.verdict for one in self._tries.values()), key=_HOPE.index)
            if verdict is Verdict.MISCONFIGURED and self.is_judged:
                verdict = Verdict.DESTINATION  # one mechanism works: the lane must not stop
        return msgspec.structs.replace(told, verdict=verdict, reason=self.reason, spares_destination=self.is_judged)


def joined(reasons: Iterable[tuple[Mechanism, str]]) -> str:
    """Say the reasons of several mechanisms in one, none of them squeezed out by another."""
    named = list(reasons)
    room = MAX_REASON_CHARACTERS // max(len(named), 1) - len("stow-rs: ; ")
    return "; ".join(f"{mechanism}: {reason[:room]}" for mechanism, reason in named)
