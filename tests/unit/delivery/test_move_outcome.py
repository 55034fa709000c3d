"""What a C-MOVE's final response says of each instance (O-56): counters, list, both, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from router.delivery.move_outcome import MAX_ASKED, judge, words_of
from router.delivery.query import MoveProgress
from router.dicom.uids import AETitle, Uid
from router.journal.proxied import Asked, Batch

FOUR = (1, 2, 3, 4)


def batch(*rows: int, times: int = 1) -> Batch:
    """Instances 1.<row> in one C-MOVE."""
    named = tuple(Asked(row, Uid(f"1.{row}"), times) for row in rows)
    return Batch(7, Uid("2.25.1"), AETitle("STORE"), Uid("1.2"), Uid("1.3"), named, tries=0)


def said(status: int, completed: int | None, warning: int | None, failed: int | None, *listed: int) -> MoveProgress:
    return MoveProgress(
        status=status,
        completed=completed,
        warning=warning,
        failed=failed,
        failed_uids=tuple(Uid(f"1.{row}") for row in listed),
    )


def states(rows: tuple[int, ...], last: MoveProgress, **how: Any) -> dict[int, str]:
    """The state of each instance; those asked for again are "alone" or "again"."""
    judgement = judge(batch(*rows, **how), last)
    ended = {one.row_id: str(one.state) for one in judgement.ended}
    alone = dict.fromkeys(judgement.alone, "alone")
    again = {row: "again" for row in rows if judgement.again and row not in ended}
    return {**ended, **alone, **again}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (said(0x0000, 4, 0, 0), "completed completed completed completed"),
        (said(0x0000, None, None, None), "completed completed completed completed"),
        (said(0x0000, 6, 0, 0), "completed completed completed completed"),
        (said(0xB000, 3, 1, 0), "warning completed completed completed"),
        (said(0xB000, 0, 4, 0), "warning warning warning warning"),
        (said(0xB000, 3, 0, 1, 2), "completed failed completed completed"),
        (said(0xB000, 2, 1, 1, 2), "warning failed completed completed"),
        (said(0xB000, None, None, None, 2), "completed failed completed completed"),
        (said(0xB000, None, None, None), "warning warning warning warning"),
        (said(0xA702, 0, 0, 4, 1, 2, 3, 4), "failed failed failed failed"),
        (said(0xA702, 0, 0, 4), "failed failed failed failed"),
        (said(0xC000, 0, 0, 4), "failed failed failed failed"),
        (said(0x0000, 0, 0, 0), "failed failed failed failed"),
        (said(0xB000, 3, 0, 1), "alone alone alone alone"),
        (said(0xB000, 2, 0, 2, 3), "alone alone failed alone"),
        (said(0x0000, 3, 0, 0), "alone alone alone alone"),
        (said(0xA701, None, None, None), "again again again again"),
        (said(0xC000, 0, 0, 0), "again again again again"),
        (said(0xFE00, 2, 0, 0), "again again again again"),
    ],
)
def test_each_instance_has_the_outcome_that_can_be_told(last: MoveProgress, expected: str) -> None:
    assert states(FOUR, last) == dict(zip(FOUR, expected.split(), strict=True))


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (said(0x0000, 1, 0, 0), "completed"),
        (said(0xB000, 0, 1, 0), "warning"),
        (said(0xB000, 0, 0, 1), "failed"),
        (said(0xB000, 1, 0, 1), "failed"),
        (said(0x0000, 0, 0, 0), "failed"),
        (said(0xA702, 0, 0, 1, 1), "failed"),
    ],
)
def test_of_one_instance_alone_nothing_is_left_open(last: MoveProgress, expected: str) -> None:
    assert states((1,), last) == {1: expected}


@pytest.mark.parametrize("status", [0xA801, 0xA900, 0x0122, 0x0124])
def test_a_refusal_that_would_come_again_ends_the_request(status: int) -> None:
    assert judge(batch(*FOUR), said(status, None, None, None)).refused


def test_an_archive_that_only_says_that_it_cannot_is_not_asked_for_ever() -> None:
    assert states(FOUR, said(0xC000, None, None, None), times=MAX_ASKED) == dict.fromkeys(FOUR, "failed")


def test_an_unknown_move_destination_says_what_to_do() -> None:
    words = words_of(batch(1), said(0xA801, None, None, None))
    assert "A801H" in words
    assert "STORE" in words
