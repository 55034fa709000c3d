"""Prefer: wait=… (RFC 7240)."""

from __future__ import annotations

import pytest

from router.dicomweb.prefer import read_wait


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        ([], None),
        (["wait=10"], 10),
        (["respond-async, Wait = 10; foo=1"], 10),
        (["respond-async", 'wait="7"'], 7),
        (["wait=3, wait=9"], 3),
        (["wait"], None),
        (["wait=soon, wait=9"], None),
        (["wait=-1"], None),
        (["waiting=5"], None),
        (["wait=99999999999999999999"], None),
        ([", , ;"], None),
    ],
)
def test_the_first_wait_counts_and_nonsense_is_ignored(fields: list[str], wait: int | None) -> None:
    assert read_wait(fields) == wait
