"""Turn series and studies that have become quiet into send requests (rules with when = "series", "study").

The votes are counted in `journal.quiet_units`; here is only the watch, which wakes the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import anyio
import structlog

from router.errors import StorageError
from router.journal import quiet_units
from router.journal.journal import Journal
from router.sending.clock import Clock

log = structlog.get_logger()

LOOK_S = 1.0
"""How often the journal is asked: since the last look a first unit may have come, or one with a shorter period."""
MIN_WAIT_S = 0.05
AFTER_FAILURE_S = 10.0
"""Wait after the journal failed; the units stay due."""


async def watch(journal: Journal, wake: Callable[[Iterable[str]], None], *, clock: Clock) -> None:
    """Watch for quiet units for ever; a task of the root group, ended by cancelling it."""
    never = anyio.Event()
    while True:
        try:
            wait_s = await fire_due(journal, wake, clock=clock)
        except StorageError as error:
            log.error("quiet series and studies not looked at", problem=str(error))
            wait_s = AFTER_FAILURE_S
        await clock.wait(never, wait_s)


async def fire_due(journal: Journal, wake: Callable[[Iterable[str]], None], *, clock: Clock) -> float:
    """Fire all that is due now; answers after how many seconds to look again. Raises StorageError."""
    now = clock.now()
    units = await journal.read(partial(quiet_units.due, now=now))
    for unit in units:
        fired = await journal.write(partial(quiet_units.fire, unit=unit, now=now))
        for request in fired:
            log.info(
                "quiet unit sent",
                rule=request.rule,
                level=unit.level,
                destination=request.destination,
                transaction_uid=request.transaction_uid,
                instances=request.instances,
            )
        wake(request.destination for request in fired)
    if len(units) == quiet_units.DUE_LIMIT:
        return 0.0
    next_due = await journal.read(quiet_units.next_due)
    if next_due is None:
        return LOOK_S
    return min(max(next_due - now, MIN_WAIT_S), LOOK_S)
