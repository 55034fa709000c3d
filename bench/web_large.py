"""QIDO-RS in an index of 100,000 studies beside a small one, through HTTP, request by request in turn (issue 3)."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.filled_index import INSTANCES, SMALL_INSTANCES, SMALL_STUDIES, STUDIES, fill, search_values
from bench.measure import Line
from bench.own_process import OwnProcess
from bench.web_client import Client, ask_ms

ROUNDS = 5
SEARCHES_A_ROUND = 200
GOAL = 3.0


def search_large(folder: Path, name: str) -> Line:
    """Search studies by the attribute `name`, with other values each time; the median of the rounds' p95."""
    small, large = (
        _filled(folder, "small", SMALL_STUDIES, SMALL_INSTANCES),
        _filled(folder, "large", STUDIES, INSTANCES),
    )
    with (
        OwnProcess("search_server", small, small) as small_one,
        OwnProcess("search_server", large, large) as large_one,
        Client(small_one.port) as few,
        Client(large_one.port) as many,
    ):
        _round(few, many, name, seed=0)
        rounds = [_round(few, many, name, seed=number) for number in range(1, ROUNDS + 1)]
    beside, ours = (statistics.median(one) for one in zip(*rounds, strict=True))
    ratio = statistics.median(large_ms / small_ms for small_ms, large_ms in rounds)
    return Line(
        f"QIDO-RS by {name}, {STUDIES:,} studies, {INSTANCES:,} instances",
        f"p95 {ours:.1f} ms",
        f"{SMALL_STUDIES:,} studies p95 {beside:.1f} ms",
        ratio,
        f"< {GOAL:g}",
        ratio < GOAL,
    )


def _filled(folder: Path, size: str, studies: int, instances: int) -> Path:
    """Fill an index once in a run."""
    state = folder / f"index-{size}"
    if not state.exists():
        fill(state, studies, instances)
    return state


def _round(few: Client, many: Client, name: str, seed: int) -> tuple[float, float]:
    """Give the p95 in ms of both, small first."""
    chance = random.Random(seed)
    small_ms, large_ms = [], []
    for _ in range(SEARCHES_A_ROUND):
        small_ms.append(_search(few, name, chance.randint(1, SMALL_STUDIES)))
        large_ms.append(_search(many, name, chance.randint(1, STUDIES)))
    return _p95(small_ms), _p95(large_ms)


def _search(client: Client, name: str, number: int) -> float:
    return ask_ms(client, f"/dicom-web/studies?{name}={search_values(number)[name]}")


def _p95(all_ms: Sequence[float]) -> float:
    return statistics.quantiles(all_ms, n=20)[-1]
