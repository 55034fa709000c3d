"""Speed beside real peers: ingest, sending, end to end (issue 2, "Speed and memory")."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import Daemon, Orthanc, StoreScp, free_port

from bench.measure import Line, Samples, dcmsend, in_turn, last_written, rates, wait_for, written_rate
from bench.own_process import OwnProcess

ROUNDS = 5
STOCK_COUNT = 150
"""Instances for a peer that takes 40 ms for each."""
KEEP_ONLY = ""
"""No rule: what arrives is kept, indexed and counted as unrouted."""
TO_ARCHIVE = '[[rule]]\nname = "Everything"\nsend = ["archive"]\n'


def archive_at(port: int, associations: int = 1) -> str:
    return (
        '[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\n'
        f"port = {port}\nassociations = {associations}\n"
    )


@contextmanager
def fresh_daemon(folder: Path, config: str, rules: str) -> Iterator[Daemon]:
    """A daemon with an empty state: repeats of the same instances would be coalesced instead of stored."""
    name = f"sendrs-{time.monotonic_ns()}"
    with Daemon(folder / name, config, rules) as daemon:
        yield daemon


@contextmanager
def fresh_storescp(folder: Path, port: int | None = None, *, nodelay: bool = True) -> Iterator[StoreScp]:
    """A storescp with an empty folder of its own.

    Nothing is deleted between rounds: for some minutes after a mass deletion ext4 takes 80 times as long to make a file
    nearby, which storescp would pay for each instance.
    """
    with StoreScp(folder / f"scp-{time.monotonic_ns()}", port, nodelay=nodelay) as scp:
        yield scp


def ingest_nodelay(folder: Path, samples: Samples, goal: float) -> Line:
    """One association from TCP_NODELAY=1 dcmsend: the router, durable, against storescp, which flushes nothing."""

    def ours() -> float:
        with fresh_daemon(folder, "", KEEP_ONLY) as daemon:
            return samples.count / dcmsend(daemon.dicom_port, samples, nodelay=True)

    what = f"ingest, one association from TCP_NODELAY=1 dcmsend, {samples.name}"
    return _beside_storescp(what, folder, samples, ours, goal)


def ingest_of_front(folder: Path, samples: Samples, *, flushed: bool) -> Line:
    """The same into our DIMSE front with nothing behind it, or no more than one flush of a file that is always the
    same: what is left of the goals for file and journal.
    """

    def ours() -> float:
        home = folder / f"forgetful-{time.monotonic_ns()}"
        with OwnProcess("forgetful_scp", home, *([home / "log"] if flushed else [])) as front:
            return samples.count / dcmsend(front.port, samples, nodelay=True)

    behind = "one flush" if flushed else "nothing"
    what = f"the same into our DIMSE front with {behind} behind it, {samples.name}"
    return _beside_storescp(what, folder, samples, ours, None)


def _beside_storescp(what: str, folder: Path, samples: Samples, ours: Callable[[], float], goal: float | None) -> Line:
    """Run `ours` and TCP_NODELAY=1 dcmsend into storescp in turn; both give instances a second."""

    def theirs() -> float:
        with fresh_storescp(folder) as scp:
            return samples.count / dcmsend(scp.port, samples, nodelay=True)

    return rates(what, ROUNDS, ours, "TCP_NODELAY=1 storescp", theirs, goal)


def ingest_stock(folder: Path, samples: Samples) -> Line:
    """The same from a stock dcmsend, whose every small write waits for a delayed ACK at a stock storescp."""
    few = samples.first(STOCK_COUNT)

    def ours() -> float:
        with fresh_daemon(folder, "", KEEP_ONLY) as daemon:
            return samples.count / dcmsend(daemon.dicom_port, samples, nodelay=False)

    def theirs() -> float:
        with fresh_storescp(folder, nodelay=False) as scp:
            return len(few) / dcmsend(scp.port, few, nodelay=False)

    a, b, ratio = in_turn(3, ours, theirs)
    return Line(
        f"ingest from a stock dcmsend, {samples.name}",
        f"{a:,.0f}/s",
        f"stock storescp {b:,.1f}/s",
        ratio,
        "≥ 50",
        ratio >= 50,
    )


def send_queue(folder: Path, samples: Samples) -> Line:
    """A prepared queue over one association to a stock storescp, against dcmsend; from first to last file there."""

    def ours() -> float:
        port = free_port()
        with fresh_daemon(folder, archive_at(port), TO_ARCHIVE) as daemon:
            dcmsend(daemon.dicom_port, samples, nodelay=True)
            with fresh_storescp(folder, port, nodelay=False) as sink:
                return written_rate(sink.received, samples.count, 120.0)

    def theirs() -> float:
        with fresh_storescp(folder) as sink:
            dcmsend(sink.port, samples, nodelay=True)
            return written_rate(sink.received, samples.count, 120.0)

    what = f"sending a prepared queue to a stock storescp, one association, {samples.name}"
    return rates(what, ROUNDS, ours, "TCP_NODELAY=1 dcmsend to TCP_NODELAY=1 storescp", theirs, 1)


LUA = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin['RequestOrigin'] == 'DicomProtocol' then
    SendToModality(instanceId, 'archive')
  end
end
"""


def end_to_end(folder: Path, samples: Samples, *, nodelay: bool) -> Line:
    """dcmsend → router → storescp against dcmsend → Orthanc with Lua → storescp, until the last file is there.

    `nodelay`: Orthanc too without Nagle's algorithm; stock it sends some 20 instances a second, so it gets fewer.
    """
    their_count = samples.count if nodelay else STOCK_COUNT

    def measure(port: int, sink: StoreScp, count: int) -> float:
        paths = samples.first(count)
        start = time.time()
        dcmsend(port, paths, nodelay=True)
        wait_for(lambda: len(sink.files()) >= count, 300.0)
        time.sleep(0.2)
        return count / (last_written(sink.received) - start)

    def ours() -> float:
        with (
            fresh_storescp(folder) as sink,
            fresh_daemon(folder, archive_at(sink.port, associations=2), TO_ARCHIVE) as daemon,
        ):
            return measure(daemon.dicom_port, sink, samples.count)

    def theirs() -> float:
        with fresh_storescp(folder) as sink:
            settings = {"DicomModalities": {"archive": ["ARCHIVE", "127.0.0.1", sink.port]}}
            home = folder / f"orthanc-{time.monotonic_ns()}"
            with Orthanc(home, lua=LUA, settings=settings, nodelay=nodelay) as orthanc:
                return measure(orthanc.dicom_port, sink, their_count)

    peer = f"{'TCP_NODELAY=1' if nodelay else 'stock'} Orthanc with Lua SendToModality"
    return rates(f"end to end, {samples.name}", 3, ours, peer, theirs, 4)


def counts(daemon: Daemon) -> dict[str, int]:
    rows = json.loads(daemon.cli("status", "--json").stdout)["destinations"]
    return {name: sum(row[name] for row in rows) for name in ("remaining", "completed", "warning", "failed")}
