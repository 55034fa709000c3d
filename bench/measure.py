"""What every benchmark shares: sample files, one timed command, resident memory, and pairs run in turn.

A figure here is a ratio between two things measured in the same run, A B A B …: this machine's absolute speed is noise.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from router.cli.samples import ct_series  # noqa: E402

NO_GOAL = "–"
"""The goal of a line that explains another one."""
SMALL, LARGE = "2,000 CT of 16 KiB", "600 CT of 512x512"


@dataclass(frozen=True, slots=True)
class Samples:
    """One prepared folder of instances."""

    name: str
    folder: Path
    count: int

    def first(self, count: int) -> list[Path]:
        return sorted(self.folder.iterdir())[:count]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `ratio` is ours over theirs, None where only `ours` counts; `holds`: the goal is met."""

    what: str
    ours: str
    theirs: str
    ratio: float | None
    goal: str
    holds: bool


def prepare(folder: Path, *, small: int = 2000, large: int = 600) -> tuple[Samples, Samples]:
    """Write the two sample sets into `folder`."""
    list(ct_series(folder / "small", small, rows=96, columns=76, patient_id="SMALL"))
    list(ct_series(folder / "large", large, rows=512, columns=512, patient_id="LARGE"))
    return Samples(SMALL, folder / "small", small), Samples(LARGE, folder / "large", large)


def dcmsend(port: int, samples: Samples | Iterable[Path], *, nodelay: bool, timeout_s: float = 600.0) -> float:
    """Send by one dcmsend over one association; gives the seconds that the whole command took."""
    what = ["+sd", str(samples.folder)] if isinstance(samples, Samples) else [str(path) for path in samples]
    environment = {**os.environ, **({"TCP_NODELAY": "1"} if nodelay else {})}
    command = ["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(port), *what]
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        # Popen.wait with a limit looks every 50 ms only
        watchdog = threading.Timer(timeout_s, process.kill)
        watchdog.start()
        code = process.wait()
        taken = time.perf_counter() - start
        watchdog.cancel()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return taken


def in_turn(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Run A B A B …: medians of both, and the median of the ratio ours / theirs pair by pair.

    What one run leaves unwritten is written before the next begins: peers that flush nothing would else be faster for
    what the other side waits for.
    """

    def after_sync(run: Callable[[], float]) -> float:
        os.sync()
        return run()

    pairs = [(after_sync(ours), after_sync(theirs)) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def rates(
    what: str, rounds: int, ours: Callable[[], float], peer: str, theirs: Callable[[], float], goal: float | None
) -> Line:
    """Measure both in turn, in things a second. `goal`: the least ratio, None when the line explains another one."""
    a, b, ratio = in_turn(rounds, ours, theirs)
    return Line(
        what,
        f"{a:,.0f}/s",
        f"{peer} {b:,.0f}/s",
        ratio,
        NO_GOAL if goal is None else f"≥ {goal:g}",
        holds=goal is None or ratio >= goal,
    )


def written_rate(folder: Path, count: int, timeout_s: float) -> float:
    """Wait until `folder` holds `count` files; files per second from the first to the last, by their times."""
    wait_for(lambda: sum(1 for _ in folder.iterdir()) >= count, timeout_s)
    time.sleep(0.2)
    times = sorted(path.stat().st_mtime_ns for path in folder.iterdir())
    return (len(times) - 1) / ((times[-1] - times[0]) / 1e9)


def last_written(folder: Path) -> float:
    """When the newest file of `folder` was last written, Unix seconds."""
    return max(path.stat().st_mtime_ns for path in folder.iterdir()) / 1e9


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a benchmark waited in vain")
        time.sleep(0.02)


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process so far, in MB (VmHWM)."""
    return _status_kib(pid, "VmHWM") * 1024 / 1e6


def resident_mb(pid: int) -> float:
    return _status_kib(pid, "VmRSS") * 1024 / 1e6


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)
