"""All that storage commitment asked of us needs, put together: taking, deciding, asking, reporting, forgetting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio

from router.commitment import expiry
from router.commitment.asking import AGAIN_CAP_S, Askers, Asking
from router.commitment.clock import Clock
from router.commitment.deciding import Deciding
from router.commitment.reporting import Bring, Reporting
from router.commitment.requests import Commitments, TakeReport
from router.config.model import Config
from router.journal import commitments
from router.journal.journal import Journal
from router.store.files import Store


class CommitmentDesk:
    """Give `commitments` and `reporting` to the fronts; run `watch` in the root task group.

    `askers` gives those who can be asked, `bring` reports to a requester on an association of ours, `confirmations`
    takes reports about what was sent with confirm = "commitment".
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        config: Callable[[], Config],
        *,
        askers: Askers,
        bring: Bring,
        confirmations: TakeReport | None = None,
        clock: Clock,
    ):
        self._journal, self._config, self._clock = journal, config, clock
        self.reporting = Reporting(journal, config, bring, clock=clock)
        self._asking = Asking(journal, askers, clock=clock, decided=self._decided)
        self._deciding = Deciding(
            journal, store, config, clock=clock, asked=self._asking.wake, decided=self.reporting.wake
        )
        self.commitments = Commitments(journal, config, clock=clock, wake=self._new, confirmations=confirmations)

    async def watch(self) -> None:
        """Look after everything for ever; a task of the root group, ended by cancelling it. Raises StorageError when it
        cannot begin.
        """
        await self._journal.write(partial(commitments.resume, now=self._clock.now(), longest_wait_s=AGAIN_CAP_S))
        async with anyio.create_task_group() as group:
            group.start_soon(self._deciding.watch)
            group.start_soon(self._asking.watch)
            group.start_soon(self.reporting.watch)
            group.start_soon(self._forget)

    async def _forget(self) -> None:
        await expiry.watch(self._journal, self._config, clock=self._clock)

    def _new(self) -> None:
        """A request was made, or a report came in."""
        self._deciding.wake()
        self._asking.wake()
        self.reporting.wake()

    def _decided(self) -> None:
        """An answer came in: it ends a proxied request, or helps to decide another."""
        self._deciding.wake()
        self.reporting.wake()
