"""The decision after an attempt, as a table; dice with known faces."""

from __future__ import annotations

import random

import pytest
from dice import HighestDice

from router.config.model import SendingConfig
from router.dicom.envelope import Declared
from router.dicom.uids import Uid
from router.journal.records import Delivery
from router.sending.courier import Outcome, Verdict
from router.sending.retry import Completed, Decision, Park, Retry, backoff_s, decide

NOW = 1_700_000_000.0
CONFIG = SendingConfig()


def delivery(*, attempts: int = 1, instance_failures: int = 0, age_s: float = 0.0) -> Delivery:
    return Delivery(
        sub_operation_id=1,
        attempt_id=1,
        attempts=attempts,
        instance_failures=instance_failures,
        created_at=NOW - age_s,
        instance_id=1,
        declared=Declared(Uid("1.2"), Uid("1.3"), Uid("1.4")),
        file="1/a.dcm",
        data_set_offset=0,
        data_set_bytes=0,
        data_set_sha256=bytes(32),
    )


def decided(verdict: Verdict, *, retry_after_s: float | None = None, **how: float) -> Decision:
    outcome = Outcome(delivery(**how), verdict, reason="words", retry_after_s=retry_after_s)  # type: ignore[arg-type]
    return decide(outcome, now=NOW, config=CONFIG, rng=HighestDice())


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (decided(Verdict.COMPLETED), Completed(warning=False)),
        (decided(Verdict.WARNING), Completed(warning=True)),
        (decided(Verdict.NEVER), Park("words", blames_instance=True)),
        (decided(Verdict.INSTANCE), Retry(NOW + 10, blames_instance=True)),
        (decided(Verdict.INSTANCE, instance_failures=1), Retry(NOW + 60, blames_instance=True)),
        (decided(Verdict.INSTANCE, instance_failures=2), Retry(NOW + 300, blames_instance=True)),
        (decided(Verdict.INSTANCE, instance_failures=3), Retry(NOW + 1800, blames_instance=True)),
        (decided(Verdict.INSTANCE, instance_failures=4), Park("words", blames_instance=True)),
        (decided(Verdict.DESTINATION), Retry(NOW + 30)),
        (decided(Verdict.DESTINATION, attempts=2), Retry(NOW + 60)),
        (decided(Verdict.DESTINATION, attempts=7), Retry(NOW + 1920)),
        (decided(Verdict.DESTINATION, attempts=8), Retry(NOW + 3600)),
        (decided(Verdict.DESTINATION, attempts=100_000), Retry(NOW + 3600)),
        (decided(Verdict.DESTINATION, retry_after_s=120), Retry(NOW + 120)),
        (decided(Verdict.DESTINATION, retry_after_s=86_400), Retry(NOW + 3600)),
        (decided(Verdict.DESTINATION, retry_after_s=-5), Retry(NOW)),
        (decided(Verdict.UNCERTAIN), Retry(NOW + 30, uncertain=True)),
        (decided(Verdict.UNCERTAIN, attempts=3), Retry(NOW + 120, uncertain=True)),
        (decided(Verdict.DESTINATION, age_s=14 * 86_400 - 1), Retry(NOW + 30)),
        (decided(Verdict.DESTINATION, age_s=14 * 86_400), Park("not delivered within 14 days; last: words")),
        (decided(Verdict.UNCERTAIN, age_s=15 * 86_400), Park("not delivered within 14 days; last: words")),
        (decided(Verdict.COMPLETED, age_s=15 * 86_400), Completed(warning=False)),
    ],
)
def test_each_verdict_is_decided_as_d12_says(decision: Decision, expected: Decision) -> None:
    assert decision == expected


def test_waits_are_spread_over_their_whole_range() -> None:
    rng = random.Random(1)
    waits = [backoff_s(3, 30.0, 3600.0, rng) for _ in range(1000)]
    assert min(waits) < 5.0
    assert max(waits) > 115.0
    assert max(waits) <= 120.0
