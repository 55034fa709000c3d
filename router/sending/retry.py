"""What to do after an attempt: done, again and when, or park.

Pure: no clock, no journal, the dice are handed in (D12, §6.4).
"""

from __future__ import annotations

import random
from typing import assert_never

import msgspec

from router.config.model import SendingConfig
from router.dicom.status import Verdict
from router.sending.courier import Outcome

INSTANCE_WAITS_S = (10.0, 60.0, 300.0, 1800.0)
"""Waits of an instance that itself is refused. Some archives answer Cxxx for trouble with their database."""

MOVE_WAITS_S = (2.0, 8.0, 20.0)
"""Waits between the attempts of a C-MOVE, as far as `[sending] move_retry_s` allows. One that itself is refused has
failed: its SCU can ask again."""

RETRY_AFTER_CAP_S = 3600.0
"""Longest that a destination may put us off with Retry-After."""

_TRIED_AGAIN = frozenset({Verdict.INSTANCE, Verdict.DESTINATION, Verdict.UNCERTAIN, Verdict.MISCONFIGURED})

MAX_DOUBLINGS = 30
"""Keeps 2**n small; every cap is reached long before."""


class Completed(msgspec.Struct, frozen=True):
    """Stored; with a warning that people should see, or without."""

    warning: bool


class Retry(msgspec.Struct, frozen=True):
    """Again at `due_at` (Unix seconds).

    `blames_instance` counts against it, `uncertain` says it may be there already.
    """

    due_at: float
    blames_instance: bool = False
    uncertain: bool = False


class Park(msgspec.Struct, frozen=True):
    """No further attempt until a person says so. Nothing is deleted."""

    reason: str
    blames_instance: bool = False


Decision = Completed | Retry | Park


def decide(outcome: Outcome, *, now: float, config: SendingConfig, rng: random.Random) -> Decision:
    """Decide what follows from `outcome` (reliability-study D12)."""
    delivery = outcome.delivery
    if delivery.is_of_move and outcome.verdict in _TRIED_AGAIN:
        return _decide_of_move(outcome, now, config)
    match outcome.verdict:
        case Verdict.COMPLETED:
            return Completed(warning=False)
        case Verdict.WARNING:
            return Completed(warning=True)
        case Verdict.NEVER:
            return Park(outcome.reason, blames_instance=True)
        case Verdict.INSTANCE:
            due_at = instance_retry_at(delivery.instance_failures, now)
            if due_at is None:
                return Park(outcome.reason, blames_instance=True)
            return Retry(due_at, blames_instance=True)
        case Verdict.DESTINATION | Verdict.UNCERTAIN | Verdict.MISCONFIGURED as verdict:
            if now >= delivery.created_at + config.lifetime_s:
                return Park(expired_reason(config, outcome.reason))
            if outcome.retry_after_s is not None:
                wait_s = min(max(outcome.retry_after_s, 0.0), RETRY_AFTER_CAP_S)
            else:
                wait_s = backoff_s(delivery.attempts, config.backoff_first_s, config.backoff_cap_s, rng)
            return Retry(now + wait_s, uncertain=verdict is Verdict.UNCERTAIN)
        case _:
            assert_never(outcome.verdict)


def instance_retry_at(failures: int, now: float) -> float | None:
    """Say when an instance is sent again that itself failed `failures` times before this one; None: never."""
    return now + INSTANCE_WAITS_S[failures] if failures < len(INSTANCE_WAITS_S) else None


def _decide_of_move(outcome: Outcome, now: float, config: SendingConfig) -> Decision:
    """A C-MOVE is waited for: its instances are tried a few times within `move_retry_s`, if trying can help at all."""
    attempts, blames_instance = outcome.delivery.attempts, outcome.verdict is Verdict.INSTANCE
    waited_s = sum(MOVE_WAITS_S[:attempts])
    if blames_instance or attempts > len(MOVE_WAITS_S) or waited_s > config.move_retry_s:
        return Park(outcome.reason, blames_instance=blames_instance)
    return Retry(now + MOVE_WAITS_S[attempts - 1], uncertain=outcome.verdict is Verdict.UNCERTAIN)


def backoff_s(attempts: int, first_s: float, cap_s: float, rng: random.Random) -> float:
    """Draw a wait with full jitter: up to `first_s`, doubled for each attempt after the first, at most `cap_s`."""
    doublings = min(max(attempts - 1, 0), MAX_DOUBLINGS)
    return rng.uniform(0.0, min(cap_s, first_s * 2.0**doublings))


def expired_reason(config: SendingConfig, last: str) -> str:
    """Say why an instance is parked that was tried for its whole lifetime."""
    days = config.lifetime_s / 86_400
    return f"not delivered within {days:g} days; last: {last}" if last else f"not delivered within {days:g} days"
