"""Requests of storage commitment that nobody may ask for any more (PS3.18 §13.5).

The result is kept `[commitment] result_ttl_s` after it was ready (then 410: `Commitments.state`), the Transaction UID
`tombstone_ttl_s` longer (then 404, and free again). What is still to be reported is never forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import structlog

from router.commitment.clock import Clock
from router.config.model import Config
from router.errors import StorageError
from router.journal import commitments
from router.journal.journal import Journal

log = structlog.get_logger()

FORGET_S: Final = 600.0
"""How often the journal is asked for requests that may be forgotten; their dates are days."""


async def watch(journal: Journal, config: Callable[[], Config], *, clock: Clock) -> None:
    """Forget for ever; a task of the root group, ended by cancelling it."""
    never = anyio.Event()
    while True:
        try:
            await forget_old(journal, config(), now=clock.now())
        except StorageError as error:
            log.error("commitment requests not forgotten", problem=str(error))
        await clock.wait(never, FORGET_S)


async def forget_old(journal: Journal, config: Config, *, now: float) -> int:
    """Delete requests that were ready so long ago that their UIDs are free again, in small steps; answers how many.

    Raises StorageError.
    """
    before = now - config.commitment.result_ttl_s - config.commitment.tombstone_ttl_s
    forgotten = 0
    while ids := await journal.read(partial(commitments.forgettable, before=before)):
        for request_id in ids:
            while await journal.write(partial(commitments.forget, request_id=request_id)):
                pass
        forgotten += len(ids)
    if forgotten:
        log.info("commitment requests forgotten", requests=forgotten)
    return forgotten
