"""What the end of a send request says of each instance that it was for (Sup 248 Annex @, O-34, D12).

Pure. The module counts and names the failed, without reasons, and nothing else: where that leaves open what became of
which instance, smaller requests are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.delivery.stow_answer import Judgement
from router.dicom.status import Verdict
from router.dicom.sub_operation_status import SUCCESS, WARNING
from router.dicomweb.send_client import End, How
from router.dicomweb.send_response import SendResult
from router.errors import Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import MAX_REASON_CHARACTERS, Outcome

_ABOUT_THE_INSTANCES = (400, 413)
"""All requests of a lane differ in their UIDs alone: one that is refused so has a bad UID, or too many."""
_TOO_LONG = (414, 431)
_IN_USE = 409
_TROUBLE = (408, 425, 429)


def judge(end: End, batch: Sequence[Delivery]) -> Judgement:
    """Say what became of `batch`. Raises Transient and Misconfigured when the answer is about the server as such.

    `again` never holds the whole batch, so asking again comes to an end.
    """
    match end.how:
        case How.ANSWERED if end.result is not None:
            return _counted(end.result, batch)
        case How.REFUSED:
            return _refused(end, batch)
        case How.NO_ANSWER if end.taken is False:
            if end.status is not None and end.status < 500 and end.status not in _TROUBLE:
                raise Misconfigured(end.words)
            raise Transient(end.words, end.retry_after_s)
        case _:
            reason = end.words[:MAX_REASON_CHARACTERS]
            return Judgement(tuple(Outcome(delivery, Verdict.UNCERTAIN, end.status, reason) for delivery in batch))


def _counted(result: SendResult, batch: Sequence[Delivery]) -> Judgement:
    listed = {uid for delivery in batch if (uid := delivery.declared.sop_instance_uid) in result.failed_uids}
    counted = result.completed + result.warning + result.failed
    says_failed = result.status not in (SUCCESS, WARNING)
    clear = counted >= len(batch) and len(listed) == result.failed and not result.remaining
    if not clear or (says_failed and not listed):
        return Judgement(again=_halves(batch)) if len(batch) > 1 else _single(result, batch[0])
    failed = [delivery for delivery in batch if delivery.declared.sop_instance_uid in listed]
    stored = [delivery for delivery in batch if delivery.declared.sop_instance_uid not in listed]
    outcomes = [_failed(result, delivery) for delivery in failed]
    # Which of them had the warnings is not said. The counters of whoever asked us must come out right (REQ-146).
    words = f"stored; {result.warning} of {len(batch)} had a warning, which ones is not said"
    for number, delivery in enumerate(stored):
        warned = number < result.warning
        outcome = (Verdict.WARNING, WARNING, words) if warned else (Verdict.COMPLETED, SUCCESS, "stored")
        outcomes.append(Outcome(delivery, *outcome))
    return Judgement(tuple(outcomes))


def _single(result: SendResult, delivery: Delivery) -> Judgement:
    if not result.remaining and not result.completed and not result.warning:
        if result.failed:
            return Judgement((_failed(result, delivery),))
        if result.status in (SUCCESS, WARNING):
            reason = "the server holds no such instance"
            return Judgement((Outcome(delivery, Verdict.INSTANCE, result.status, reason),))
    reason = "the counters of the answer contradict each other"
    return Judgement((Outcome(delivery, Verdict.UNCERTAIN, result.status, reason),))


def _failed(result: SendResult, delivery: Delivery) -> Outcome:
    """A failure without a reason, as in STOW. The server has tried as long as it saw fit, so it is not for ever."""
    return Outcome(delivery, Verdict.INSTANCE, result.status, "the server could not send it; it gives no reason")


def _refused(end: End, batch: Sequence[Delivery]) -> Judgement:
    if end.status in (*_ABOUT_THE_INSTANCES, *_TOO_LONG):
        if len(batch) > 1:
            return Judgement(again=_halves(batch))
        if end.status in _ABOUT_THE_INSTANCES:
            reason = end.words[:MAX_REASON_CHARACTERS]
            return Judgement((Outcome(batch[0], Verdict.INSTANCE, end.status, reason),))
    if end.status == _IN_USE:
        raise Transient(end.words)
    raise Misconfigured(end.words)


def _halves(batch: Sequence[Delivery]) -> tuple[tuple[Delivery, ...], ...]:
    middle = len(batch) // 2
    return tuple(batch[:middle]), tuple(batch[middle:])
