"""How a lane and its destination get on: ready, waiting or misconfigured, and when to look again (§6.3).

Pure; dice handed in.

While a lane is not ready, one instance at a time is tried when the date has come; a success makes it ready at once.
"""

from __future__ import annotations

import random

from router.journal.destinations import DestinationState, LaneState
from router.sending.retry import MAX_DOUBLINGS

BACKOFF_FIRST_S = 2.0
"""After the first failure a destination is left alone for up to 2 s, doubling to `[sending] probe_s`."""

FLAP_S = 60.0
"""A destination that is lost again so soon after it came back is flapping: its waits start longer (F55)."""
FLAP_MAX_DOUBLINGS = 5
"""The longest start of a flapping destination's waits: 2 s * 2**5, about a minute."""


class Health:
    """One destination's state. Times are Unix seconds."""

    def __init__(self, name: str, *, probe_s: float, now: float, rng: random.Random):
        self._name = name
        self._probe_s = probe_s
        self._rng = rng
        self._failures = 0
        self._flaps = 0
        self._recovered_at: float | None = None
        self.state: LaneState = "ready"
        self.reason = ""
        self.since = now
        self.retry_at = now

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    def success(self, now: float) -> None:
        """The destination answered about an instance: it is there and takes us."""
        if self.ready:
            return
        self._failures = 0
        self._recovered_at = now
        self._enter("ready", "", now, now)

    def trouble(self, problem: str, now: float, *, progressed: bool, retry_after_s: float | None = None) -> None:
        """The destination could not be talked to. `progressed`: not before it had answered about something.

        While a wait is already running this changes nothing: several sessions lose the same destination together.
        """
        if not self.ready and now < self.retry_at:
            return
        if self.ready:
            self._count_flap(now, progressed)
        doublings = min(self._failures + self._flaps, MAX_DOUBLINGS)
        wait_s = self._rng.uniform(0.0, min(self._probe_s, BACKOFF_FIRST_S * 2.0**doublings))
        if retry_after_s is not None:
            wait_s = max(wait_s, retry_after_s)
        self._failures += 1
        self._enter("waiting", problem, now, now + wait_s)

    def misconfigured(self, problem: str, now: float) -> None:
        """The destination refuses us as such; look again after `probe_s`."""
        self._enter("misconfigured", problem, now, now + self._probe_s)

    def try_now(self, now: float) -> None:
        """Somebody waits for this destination: it is left alone no longer."""
        self.retry_at = min(self.retry_at, now)

    def as_row(self) -> DestinationState:
        """What people and the next start should know."""
        return DestinationState(
            name=self._name,
            state=self.state,
            reason=self.reason,
            since=self.since,
            retry_at=None if self.ready else self.retry_at,
        )

    def _enter(self, state: LaneState, reason: str, now: float, retry_at: float) -> None:
        if state != self.state:
            self.since = now
        self.state, self.reason, self.retry_at = state, reason, retry_at

    def _count_flap(self, now: float, progressed: bool) -> None:
        if progressed:
            return  # it breaks off now and then, but is there: nothing is gained by waiting
        if self._recovered_at is not None and now - self._recovered_at < FLAP_S:
            self._flaps = min(self._flaps + 1, FLAP_MAX_DOUBLINGS)
        else:
            self._flaps = 0
