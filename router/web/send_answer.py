"""The answer to Send and to Check Send Result: one for both (Sup 248 §10.X.3, §10.Y.3; REQ-068, REQ-105).

202 while the module's status is Pending, 200 when it is final, whatever became of the instances (O-32, O-33). A job of
a rule is Pending as long as its sender may bring more, for a moment also with nothing remaining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from router.dicom.sub_operation_status import PENDING, final_status
from router.dicomweb.accept import Offer
from router.dicomweb.lenient import MAX_US
from router.dicomweb.send_response import SendResult, module
from router.sending.requests import Progress
from router.web.rendering import render

MANY: Final = 1_000
"""Beyond so many failed UIDs the answer is made on a thread: 65,535 of them take 100 ms as XML."""


def result_of(progress: Progress) -> SendResult:
    """Say the progress of a send request as a module does."""
    counters = {"completed": progress.completed, "warning": progress.warning, "failed": progress.failed}
    status = final_status(**counters) if progress.finished else PENDING
    remaining = None if progress.finished else progress.remaining
    return SendResult(status=status, remaining=remaining, failed_uids=progress.failed_uids, **counters)


async def answer(
    request: Request,
    progress: Progress,
    offer: Offer,
    *,
    now: float,
    headers: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Response:
    """Make the answer. `now` is Unix seconds, for Retry-After."""
    fields = {"Cache-Control": "no-store", **(headers or {})}
    if not progress.finished:
        fields["Retry-After"] = str(progress.poll_after_s(now))
    make = partial(
        _make,
        request,
        result_of(progress),
        offer=offer,
        status=200 if progress.finished else 202,
        headers=fields,
        warnings=[*warnings, *_too_large(progress)],
    )
    return await to_thread.run_sync(make) if len(progress.failed_uids) > MANY else make()


def _make(
    request: Request,
    result: SendResult,
    *,
    offer: Offer,
    status: int,
    headers: Mapping[str, str],
    warnings: Sequence[str],
) -> Response:
    return render(request, [module(result)], offer=offer, status=status, headers=headers, warnings=warnings)


def _too_large(progress: Progress) -> list[str]:
    """A rule's job may be larger than a counter can say (US); one that was asked for never is."""
    counts = (progress.remaining, progress.completed, progress.warning, progress.failed)
    if max(counts) <= MAX_US:
        return []
    remaining, completed, warning, failed = counts
    return [
        f'299 sendrs "A counter is larger than {MAX_US}: remaining {remaining}, completed {completed}, '
        f'warning {warning}, failed {failed}."'
    ]
