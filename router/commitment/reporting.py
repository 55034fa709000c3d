"""Bringing results to DIMSE requesters (N-EVENT-REPORT, PS3.4 §J.3.3): journalled until the requester has answered.

First on the association of the request, as long as that is open (`bring_by`, called by the front); else, and again and
again, by the courier on one that we open. After `[commitment] report_s` it is given up, which is logged and shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import anyio
import structlog

from router.commitment.clock import Clock
from router.commitment.language import Ruling
from router.commitment.requests import ruling_of
from router.commitment.watching import Watcher, carry_each
from router.config.forms import show_duration
from router.config.model import Config
from router.dicom.uids import Uid
from router.errors import DeliveryError, PeerError, Refused
from router.journal import commitment_reports, commitments
from router.journal.commitment_reports import Report
from router.journal.journal import Journal

log = structlog.get_logger()

BRINGING: Final = 8
"""Reports under way at once."""
RETRY_FIRST_S, RETRY_CAP_S = 10.0, 600.0
"""Waits after a requester could not be reached, doubling."""

Bring = Callable[[Report, Sequence[Ruling]], Awaitable[None]]
"""Tells a requester. Raises Transient or Misconfigured: it does not know; Refused: it does, and will not have it."""


class Reporting:
    """The queue of reports; run `watch` in the root task group. `bring` opens an association to the requester."""

    def __init__(self, journal: Journal, config: Callable[[], Config], bring: Bring, *, clock: Clock):
        self._journal, self._config, self._bring, self._clock = journal, config, bring, clock
        self._watcher = Watcher("commitment reports", clock)
        self._held: set[Uid] = set()

    def wake(self) -> None:
        self._watcher.wake()

    @contextmanager
    def held(self, transaction_uid: Uid) -> Iterator[None]:
        """Leave this one to the association on which it was asked, until the end of the block."""
        self._held.add(transaction_uid)
        try:
            yield
        finally:
            self._held.discard(transaction_uid)
            self.wake()

    async def bring_by(self, transaction_uid: Uid, bring: Bring) -> bool:
        """Report a request that is ready by `bring`; says whether the requester has it. Raises StorageError."""
        report = await self._journal.read(partial(commitment_reports.of_transaction, transaction_uid=transaction_uid))
        return report is not None and await self._report(report, bring)

    async def watch(self) -> None:
        """Report for ever; a task of the root group, ended by cancelling it."""
        await self._watcher.watch(self.look)

    async def look(self) -> None:
        """Report what is due, once each. Raises StorageError."""
        due = await self._journal.read(partial(commitment_reports.due, now=self._clock.now()))
        free = [report for report in due if report.transaction_uid not in self._held]
        await carry_each(free, lambda report: self._report(report, self._bring), at_once=BRINGING, crashed=_crashed)

    async def _report(self, report: Report, bring: Bring) -> bool:
        now, request_id = self._clock.now(), report.request_id
        who = {"transaction_uid": report.transaction_uid, "requester": report.requester}
        report_s = self._config().commitment.report_s
        if now >= report.ready_at + report_s:
            problem = f"not reported within {show_duration(report_s)}"
            await self._journal.write(
                partial(commitment_reports.finish, request_id=request_id, reported_at=None, problem=problem)
            )
            log.error("commitment report given up", problem=problem, **who)
            return False
        again_at = now + min(RETRY_FIRST_S * 2.0 ** min(report.tries, 30), RETRY_CAP_S)
        await self._journal.write(partial(commitment_reports.begin, request_id=request_id, due_at=again_at))
        items = await self._journal.read(partial(commitments.items, request_id=request_id))
        problem, reported_at = "", None
        try:
            await bring(report, [ruling_of(item) for item in items])
            reported_at = self._clock.now()
        except Refused as refusal:
            problem = f"the requester answered {refusal}"
        except (DeliveryError, PeerError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            await self._journal.write(
                partial(commitment_reports.put_off, request_id=request_id, due_at=again_at, problem=problem)
            )
            log.warning("commitment not reported", problem=problem, again_in_s=round(again_at - now), **who)
            return False
        with anyio.CancelScope(shield=True):
            await self._journal.write(
                partial(commitment_reports.finish, request_id=request_id, reported_at=reported_at, problem=problem)
            )
        if problem:
            log.error("commitment report refused", problem=problem, **who)
        else:
            failed = sum(item.failure_reason is not None for item in items)
            log.info("commitment reported", committed=len(items) - failed, failed=failed, **who)
        return not problem


async def _crashed(report: Report) -> None:
    log.exception("commitment report crashed", requester=report.requester)
