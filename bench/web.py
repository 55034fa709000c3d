"""The origin server beside Orthanc's DICOMweb plugin: Store, Search, Retrieve (issue 3, "Speed")."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peers import Daemon, Orthanc
from pydicom import dcmread

from bench.measure import Line, Samples, in_turn, peak_mb, rates
from bench.own_process import OwnProcess
from bench.speed import KEEP_ONLY, fresh_daemon
from bench.web_client import FILES, Client, ask_ms, bodies, store
from router.cli.samples import ct_series

ROUNDS = 5
SINGLES = 600
"""Instances of a round with one a request."""
LOADED_A_REQUEST = 20
STUDIES_FOUND = 10
SEARCHES_A_ROUND = 40
STORE_GOAL, SEARCH_GOAL, RETRIEVE_GOAL = 2.0, 0.25, 3.0
FLAT_MB = 32.0
"""A Retrieve of 300 MB may take so much more than the daemon took before."""
PLAIN = {"KeepAlive": True, "TcpNoDelay": True}
"""Orthanc at its best over one connection: kept alive, without Nagle's algorithm."""


@contextmanager
def fresh_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An Orthanc with its DICOMweb plugin and nothing in it."""
    with Orthanc(folder / f"orthanc-{time.monotonic_ns()}", settings=PLAIN, nodelay=True) as orthanc:
        yield orthanc


def store_instances(folder: Path, samples: Samples, per_request: int) -> Line:
    """Store over one kept-alive connection: the daemon, durable, against the plugin."""
    paths = samples.first(samples.count if per_request > 1 else SINGLES)

    def ours(made: list[bytes]) -> float:
        with fresh_daemon(folder, "", KEEP_ONLY) as daemon:
            return store(daemon.http_port, made)

    what = f"STOW-RS, one connection, {per_request} a request, CT of 16 KiB"
    return _store_beside_orthanc(what, folder, paths, per_request, ours, STORE_GOAL)


def store_in_front(folder: Path, samples: Samples) -> Line:
    """The same into our HTTP front with nothing behind it: what is left of the goal for file and journal."""

    def ours(made: list[bytes]) -> float:
        with OwnProcess("forgetful_web", folder / f"forgetful-{time.monotonic_ns()}") as front:
            return store(front.port, made)

    what = "the same into our HTTP front with nothing behind it, 1 a request"
    return _store_beside_orthanc(what, folder, samples.first(SINGLES), 1, ours, None)


def _store_beside_orthanc(
    what: str,
    folder: Path,
    paths: Sequence[Path],
    per_request: int,
    ours: Callable[[list[bytes]], float],
    goal: float | None,
) -> Line:
    """Store by `ours`, which gives the seconds that it took, and in Orthanc, in turn."""
    made = list(bodies(paths, per_request))

    def theirs() -> float:
        with fresh_orthanc(folder) as orthanc:
            return store(orthanc.http_port, made)

    count = len(paths)
    return rates(what, ROUNDS, lambda: count / ours(made), "Orthanc", lambda: count / theirs(), goal)


def search_studies(folder: Path) -> Line:
    """Search ten studies by PatientID: the median of many requests over one connection."""
    paths = [
        path
        for number in range(STUDIES_FOUND)
        for path in ct_series(folder / f"study-{number}", 1, rows=96, columns=76, patient_id="TEN")
    ]
    [body] = bodies(paths, len(paths))
    with (
        _both_with(folder, [body]) as (daemon, orthanc),
        Client(daemon.http_port) as us,
        Client(orthanc.http_port) as it,
    ):
        path = "/dicom-web/studies?PatientID=TEN"

        def median_ms(client: Client) -> float:
            return statistics.median(ask_ms(client, path) for _ in range(SEARCHES_A_ROUND))

        median_ms(us), median_ms(it)
        a, b, ratio = in_turn(ROUNDS, lambda: median_ms(us), lambda: median_ms(it))
        return Line(
            f"QIDO-RS, studies by PatientID, {STUDIES_FOUND} results",
            f"{a:.1f} ms",
            f"Orthanc {b:.1f} ms",
            ratio,
            f"≤ {SEARCH_GOAL:g}",
            ratio <= SEARCH_GOAL,
        )


def retrieve_study(folder: Path, samples: Samples) -> Line:
    """Retrieve a study of 300 MB as it is stored; the peak of the daemon is of all rounds."""
    paths = samples.first(samples.count)
    study = dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID
    total = sum(path.stat().st_size for path in paths)
    with _both_with(folder, bodies(paths, LOADED_A_REQUEST)) as (daemon, orthanc):
        daemon.stop()
        daemon.start()
        idle = peak_mb(daemon.pid)

        def rate(port: int) -> float:
            with Client(port) as client:
                start = time.perf_counter()
                size = client.get(f"/dicom-web/studies/{study}", FILES)
                assert size > 0.99 * total, (size, total)
                return size / 1e6 / (time.perf_counter() - start)

        a, b, ratio = in_turn(ROUNDS, lambda: rate(daemon.http_port), lambda: rate(orthanc.http_port))
        peak = peak_mb(daemon.pid)
        return Line(
            f"WADO-RS of a study of {total / 1e6:,.0f} MB, {samples.name}",
            f"{a:,.0f} MB/s; peak {peak:,.0f} MB, idle {idle:,.0f} MB",
            f"Orthanc {b:,.0f} MB/s",
            ratio,
            f"≥ {RETRIEVE_GOAL:g}; peak ≤ idle + {FLAT_MB:.0f} MB",
            ratio >= RETRIEVE_GOAL and peak <= idle + FLAT_MB,
        )


@contextmanager
def _both_with(folder: Path, made: Iterator[bytes] | list[bytes]) -> Iterator[tuple[Daemon, Orthanc]]:
    """Both servers with the same instances."""
    with fresh_daemon(folder, "", KEEP_ONLY) as daemon, fresh_orthanc(folder) as orthanc:
        for body in made:
            store(daemon.http_port, [body])
            store(orthanc.http_port, [body])
        yield daemon, orthanc
