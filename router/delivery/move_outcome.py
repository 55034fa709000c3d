"""What the final response of a C-MOVE says of each instance that it named (PS3.4 §C.4.2.1.5 to §C.4.2.1.9, O-56).

Pure. Counters and the list of the failed are believed where they fit together. Where they leave open which instance
failed, each of those is asked for alone: then there is nothing left to confuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from router.delivery.query import MoveProgress
from router.dicom.query_retrieve import CANCELLED
from router.dicom.sub_operation_status import SUCCESS, WARNING
from router.journal.proxied import Asked, Batch, Ended, EndState

MAX_ASKED = 3
"""C-MOVEs in which an instance is named before it has failed, when the archive only says that it cannot."""
UNKNOWN_DESTINATION = 0xA801
FOR_GOOD = frozenset({UNKNOWN_DESTINATION, 0xA900, 0x0122, 0x0124, 0x0211, 0x0212})
"""Statuses that come again however often the same is asked: nothing of the request can be moved."""


class Judgement(msgspec.Struct, frozen=True):
    """`ended` are done with. `alone` are rows to ask for again one by one; `again`: ask for the rest as it was.

    `refused`: no C-MOVE of this request will be answered otherwise.
    """

    ended: tuple[Ended, ...] = ()
    alone: tuple[int, ...] = ()
    again: bool = False
    refused: bool = False


def judge(batch: Batch, last: MoveProgress) -> Judgement:
    """Say what became of a batch, from the final response to its C-MOVE."""
    if last.status in FOR_GOOD:
        return Judgement(refused=True)
    counters = (last.completed, last.warning, last.failed)
    stored = (last.completed or 0) + (last.warning or 0)
    if counters == (None, None, None) and last.status in (SUCCESS, WARNING):
        return _uncounted(batch, last)
    if last.status == CANCELLED or not (stored or last.failed or last.status in (SUCCESS, WARNING)):
        return _again(batch, last)
    return _counted(batch, last, stored)


def words_of(batch: Batch, last: MoveProgress) -> str:
    """Say what the archive answered, and to an operator what to do about it."""
    if last.status == UNKNOWN_DESTINATION:
        return f"{last.words}: the archive must know the AE title {batch.move_destination}, and where it is"
    return last.words


def _uncounted(batch: Batch, last: MoveProgress) -> Judgement:
    """An archive that does not count names what failed, when it says that something was not right."""
    listed, rest = _listed(batch, last)
    warned = last.status == WARNING and not listed
    return Judgement((*_failed(listed, last), *_stored(rest, last, len(rest) if warned else 0)))


def _counted(batch: Batch, last: MoveProgress, stored: int) -> Judgement:
    listed, rest = _listed(batch, last)
    failed = last.failed or 0
    if stored >= len(rest) and failed <= len(listed):
        return Judgement((*_failed(listed, last), *_stored(rest, last, last.warning or 0)))
    if not stored:
        if failed:
            return Judgement(tuple(_failed(batch.instances, last)))
        gone = "the archive found nothing to send: it no longer has the instance"
        return Judgement(tuple(_ended(batch.instances, "failed", last, gone)))
    if len(batch.instances) > 1:
        return Judgement(tuple(_failed(listed, last)), alone=tuple(one.row_id for one in rest))
    return Judgement(tuple(_failed(batch.instances, last)))  # sent, and failed: it may have it twice


def _again(batch: Batch, last: MoveProgress) -> Judgement:
    """Ask again, but not for ever: the archive answers, and only says that it cannot."""
    enough = [one for one in batch.instances if one.times >= MAX_ASKED]
    return Judgement(tuple(_failed(enough, last)), again=True)


def _listed(batch: Batch, last: MoveProgress) -> tuple[list[Asked], list[Asked]]:
    named = set(last.failed_uids)
    listed = [one for one in batch.instances if one.sop_instance_uid in named]
    return listed, [one for one in batch.instances if one.sop_instance_uid not in named]


def _stored(rows: Sequence[Asked], last: MoveProgress, warnings: int) -> Iterable[Ended]:
    """Which of them had the warnings is not said; the counters come out right."""
    words = f"sent; {warnings} of {len(rows)} had a warning, which ones is not said" if warnings else "sent"
    yield from _ended(rows[:warnings], "warning", last, words)
    yield from _ended(rows[warnings:], "completed", last, "sent")


def _failed(rows: Iterable[Asked], last: MoveProgress) -> Iterable[Ended]:
    return _ended(rows, "failed", last, f"the archive could not send it: {last.words}")


def _ended(rows: Iterable[Asked], state: EndState, last: MoveProgress, reason: str) -> Iterable[Ended]:
    return [Ended(one.row_id, state, last.status, reason) for one in rows]
