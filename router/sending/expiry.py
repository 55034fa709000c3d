"""Send requests that end because time is up, and those that nobody may ask for any more (O-26).

What was asked for ends within `[sending] request_lifetime_s`, a C-MOVE sooner when its destination takes nothing for
`move_retry_s`: what remains then is failed. A request is forgotten `[http] result_ttl_s` and `tombstone_ttl_s` after
its end; undelivered work never is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import structlog

from router.config.forms import show_duration
from router.config.model import Config
from router.errors import StorageError
from router.journal import send_requests
from router.journal.journal import Journal
from router.journal.moves import Patience
from router.sending.clock import Clock

log = structlog.get_logger()

LOOK_S = 1.0
"""How often the journal is asked for requests whose time is up."""
FORGET_S = 600.0
"""How often it is asked for requests that may be forgotten; their dates are days."""
AFTER_FAILURE_S = 10.0


async def watch(journal: Journal, config: Callable[[], Config], *, clock: Clock) -> None:
    """Expire and forget for ever; a task of the root group, ended by cancelling it."""
    never, forget_at = anyio.Event(), clock.now()
    while True:
        wait_s = LOOK_S
        try:
            await expire_overdue(journal, config(), now=clock.now())
            if clock.now() >= forget_at:
                forget_at = clock.now() + FORGET_S
                await forget_old(journal, config(), now=clock.now())
        except StorageError as error:
            log.error("send requests not looked after", problem=str(error))
            wait_s = AFTER_FAILURE_S
        await clock.wait(never, wait_s)


async def expire_overdue(journal: Journal, config: Config, *, now: float) -> int:
    """Fail what remains of requests whose time is up, in small steps; answers how many. Raises StorageError."""
    if not await journal.read(partial(send_requests.has_overdue, now=now)):
        return 0
    reason = f"not delivered within {show_duration(config.sending.request_lifetime_s)}, the time a request may take"
    patience = Patience(config.sending.move_retry_s, config.sending.request_lifetime_s)
    failed = 0
    while True:
        step = await journal.write(partial(send_requests.expire, now=now, reason=reason, patience=patience))
        failed += step.failed
        if not step.more:
            break
    if failed:
        log.error("requested instances failed, their time is up", instances=failed)
    return failed


async def forget_old(journal: Journal, config: Config, *, now: float) -> int:
    """Delete requests that ended so long ago that their UIDs are free again, in small steps; answers how many.

    Raises StorageError.
    """
    before = now - config.http.result_ttl_s - config.http.tombstone_ttl_s
    after = forgotten = 0
    while ids := await journal.read(partial(send_requests.forgettable, before=before, after=after)):
        for request_id in ids:
            while await journal.write(partial(send_requests.forget, request_id=request_id)):
                pass
        after, forgotten = ids[-1], forgotten + len(ids)
    if forgotten:
        log.info("send requests forgotten", requests=forgotten)
    return forgotten
