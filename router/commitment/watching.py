"""What the tasks that look after the journal have in common: they look again and again, and at a few things at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import anyio
import structlog

from router.commitment.clock import Clock
from router.errors import StorageError

log = structlog.get_logger()

LOOK_S: Final = 1.0
"""How often the journal is asked for what is due, when nothing wakes us."""
AFTER_FAILURE_S: Final = 10.0

T = TypeVar("T")


class Watcher:
    """Looks for ever. `what` is looked after, in the words of the log."""

    def __init__(self, what: str, clock: Clock):
        self._what, self._clock = what, clock
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Hint that there is something new."""
        self._woken.set()

    async def watch(self, look: Callable[[], Awaitable[object]]) -> None:
        """Look until cancelled; at once again when a look says that there was something. A failed one is logged."""
        while True:
            self._woken = anyio.Event()
            wait_s = LOOK_S
            try:
                if await look():
                    wait_s = 0.0
            except StorageError as error:
                log.error(f"{self._what} not looked after", problem=str(error))
                wait_s = AFTER_FAILURE_S
            await self._clock.wait(self._woken, wait_s)


async def carry_each(
    rows: Iterable[T],
    carry: Callable[[T], Awaitable[object]],
    *,
    at_once: int,
    crashed: Callable[[T], Awaitable[None]],
) -> None:
    """Carry rows, `at_once` at a time. One that fails in our code is left to `crashed` and keeps no other waiting.

    Raises the first StorageError, when all are through.
    """
    limiter = anyio.CapacityLimiter(at_once)
    failures: list[StorageError] = []

    async def carry_one(row: T) -> None:
        async with limiter:
            try:
                try:
                    await carry(row)
                except StorageError:
                    raise
                except Exception:  # noqa: BLE001 - a stage's edge, where `crashed` says what was odd
                    await crashed(row)
            except StorageError as error:
                failures.append(error)

    async with anyio.create_task_group() as group:
        for row in rows:
            group.start_soon(carry_one, row)
    if failures:
        raise failures[0]
