"""`python -m bench [NAME …]`: run the benchmarks, write bench/RESULTS.md. Names: see plan."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import measure, memory, speed, web, web_large
from bench.filled_index import SEARCHED
from bench.measure import ROOT, Line
from bench.send_request import send_65535

BIG_BYTES = 2 * memory.GIB
ROOM_GIB = 30.0


def plan(folder: Path) -> Iterator[tuple[str, Callable[[], Line]]]:
    """Give every benchmark with the group it belongs to."""
    small, large = measure.prepare(folder)
    yield "ingest", lambda: speed.ingest_nodelay(folder, small, 0.7)
    yield "ingest", lambda: speed.ingest_nodelay(folder, large, 0.8)
    for flushed in (False, True):
        yield "ingest", partial(speed.ingest_of_front, folder, small, flushed=flushed)
        yield "ingest", partial(speed.ingest_of_front, folder, large, flushed=flushed)
    yield "ingest", lambda: speed.ingest_stock(folder, small)
    yield "queue", lambda: speed.send_queue(folder, small)
    yield "queue", lambda: speed.send_queue(folder, large)
    for nodelay in (False, True):
        yield "end", partial(speed.end_to_end, folder, small, nodelay=nodelay)
        yield "end", partial(speed.end_to_end, folder, large, nodelay=nodelay)
    yield "memory", lambda: memory.many_associations(folder, large)
    yield "memory", lambda: memory.dead_destination(folder)
    yield "memory", lambda: memory.by_c_store(folder, memory.big_instance(folder, BIG_BYTES))
    yield "memory", lambda: memory.by_stow(folder, folder / "big.dcm")
    for per_request in (100, 1):
        yield "stow", partial(web.store_instances, folder, small, per_request)
    yield "stow", lambda: web.store_in_front(folder, small)
    yield "qido", lambda: web.search_studies(folder)
    for name in SEARCHED:
        yield "qido", partial(web_large.search_large, folder, name)
    yield "wado", lambda: web.retrieve_study(folder, large)
    yield "send", lambda: send_65535(folder)


def machine() -> str:
    """Say what this ran on, without names of hosts or people."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpus if "model name" in line), platform.machine())
    return (
        f"{os.cpu_count()} cores {model}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, "
        f"{memory.dcmtk_version().strip('$ ').split(' ', 1)[1]}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    )


def main(wanted: list[str]) -> int:
    lines: list[Line] = []
    folder = Path(tempfile.mkdtemp(prefix="sendrs-bench-", dir=os.environ.get("BENCH_DIR")))
    console = Console()
    if memory.free_space_gib(folder) < ROOM_GIB:
        console.print(f"{folder} has less than {ROOM_GIB:.0f} GiB free; set BENCH_DIR to a folder that has")
        return 2
    try:
        for group, run in plan(folder):
            if wanted and group not in wanted:
                continue
            line = run()
            lines.append(line)
            console.print(f"{line.what}: {line.ours} · {line.theirs} · ratio {_ratio(line)} (goal {line.goal})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _show(console, lines)
    if not wanted:
        (ROOT / "bench" / "RESULTS.md").write_text(_markdown(lines))
    return 0 if all(line.holds for line in lines) else 1


def _ratio(line: Line) -> str:
    return "–" if line.ratio is None else f"{line.ratio:.2f}"


def _met(line: Line) -> str:
    if line.goal == measure.NO_GOAL:
        return measure.NO_GOAL
    return "yes" if line.holds else "**no**"


def _show(console: Console, lines: list[Line]) -> None:
    table = Table("what", "sendrs", "beside it", "ratio", "goal", "")
    for line in lines:
        table.add_row(line.what, line.ours, line.theirs, _ratio(line), line.goal, _met(line).strip("*"))
    console.print(table)


def _markdown(lines: list[Line]) -> str:
    rows = [
        f"| {line.what} | {line.ours} | {line.theirs} | {_ratio(line)} | {line.goal} | {_met(line)} |" for line in lines
    ]
    head = "| what | sendrs | beside it | ratio | goal | met |\n| --- | --- | --- | --- | --- | --- |\n"
    return (
        f"# Measured by `make bench`\n\n{machine()}. Medians of pairs run in turn.\n\n{head}" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
