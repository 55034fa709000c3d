"""What was given up is tried again because a person says so; in steps, so that the journal's writer stays free."""

from __future__ import annotations

from functools import partial

import msgspec

from router.journal.journal import Journal
from router.journal.overview import destinations_with_parked, retry_parked


class RetryReport(msgspec.Struct, frozen=True):
    """How many are due again, how many stay parked because the same or a newer version went after (D6), and where."""

    retried: int
    overtaken: int
    destinations: tuple[str, ...]
    """Those that have something to send now."""


async def retry(journal: Journal, *, destination: str | None, now: float) -> RetryReport:
    """Make what is parked due again, for one destination or (None) for all.

    Raises StorageError: some of it may be due then.
    """
    names = [destination] if destination is not None else await journal.read(destinations_with_parked)
    retried = overtaken = 0
    woken = []
    for name in names:
        before, after = retried, 0
        while True:
            step = await journal.write(partial(retry_parked, destination=name, now=now, after=after))
            if step.last_id is None:
                break
            retried, overtaken, after = retried + step.retried, overtaken + step.overtaken, step.last_id
        if retried > before:
            woken.append(name)
    return RetryReport(retried, overtaken, tuple(woken))
