"""Memory: one instance of 2 GiB in and out by both protocols; 64 associations; a long queue to a dead destination."""

from __future__ import annotations

import http.client
import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ledger import Instances
from peers import StoreScp, free_port

from bench.measure import Line, Samples, dcmsend, peak_mb, resident_mb, wait_for
from bench.own_process import OwnProcess
from bench.speed import TO_ARCHIVE, archive_at, counts, fresh_daemon
from router.cli.samples import minimal

GIB = 1024**3
LIMIT_MB = 200.0
BLOCK = 1024**2
BOUNDARY = "sendrs-bench"


def big_instance(folder: Path, size: int) -> Path:
    """Write one instance with `size` bytes of pixel data."""
    path = minimal(folder / "big.dcm", "1.2.840.10008.5.1.4.1.1.7.3")
    with path.open("ab") as file:
        file.write(struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OW", size))
        block = os.urandom(BLOCK)
        for _ in range(size // BLOCK):
            file.write(block)
    return path


def by_c_store(folder: Path, big: Path) -> Line:
    with StoreScp(folder / "big-scp") as sink, fresh_daemon(folder, archive_at(sink.port), TO_ARCHIVE) as daemon:
        before = peak_mb(daemon.pid)
        start = time.perf_counter()
        dcmsend(daemon.dicom_port, [big], nodelay=True)
        wait_for(lambda: counts(daemon)["completed"] == 1, 300.0)
        return _memory_line("one instance of 2 GiB in and out by C-STORE", daemon.pid, before, start)


def by_stow(folder: Path, big: Path) -> Line:
    with OwnProcess("stow_sink", folder / "big-stow", folder / "big-stow" / "received") as sink:
        config = f'[destinations.archive]\nkind = "stow-rs"\nurl = "http://127.0.0.1:{sink.port}/dicom-web"\n'
        with fresh_daemon(folder, config, TO_ARCHIVE) as daemon:
            before = peak_mb(daemon.pid)
            start = time.perf_counter()
            status = _stow(daemon.http_port, big)
            assert status == 200, status
            wait_for(lambda: counts(daemon)["completed"] == 1, 300.0)
            return _memory_line("one instance of 2 GiB in and out by STOW-RS", daemon.pid, before, start)


def _memory_line(what: str, pid: int, before: float, start: float) -> Line:
    peak, seconds = peak_mb(pid), time.perf_counter() - start
    return Line(
        what, f"peak {peak:,.0f} MB", f"idle {before:,.0f} MB; {seconds:.0f} s", None, "< 200 MB", peak < LIMIT_MB
    )


def _stow(port: int, path: Path) -> int:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
        yield tail

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
        "Accept": "application/dicom+json",
    }
    connection.request("POST", "/dicom-web/studies", body(), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def many_associations(folder: Path, samples: Samples) -> Line:
    """64 dcmsend at once, each with its own large instances, one after another."""
    paths = samples.first(samples.count)
    shares = [paths[n::64] for n in range(64)]
    with fresh_daemon(folder, "[dicom]\nmax_associations_per_peer = 64\n", "") as daemon:
        before = peak_mb(daemon.pid)
        start = time.perf_counter()
        threads = [
            threading.Thread(target=dcmsend, args=(daemon.dicom_port, share), kwargs={"nodelay": True})
            for share in shares
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return _memory_line("64 associations at once, 600 CT of 512x512", daemon.pid, before, start)


def dead_destination(folder: Path, count: int = 5000) -> Line:
    """Queue `count` instances to a port where nobody listens: memory after 1,000 and after all of them."""
    supply = Instances(folder / "template", 7)
    queue = folder / "queue"
    queue.mkdir()
    for number in range(count):
        (queue / f"{number:05}.dcm").write_bytes(supply.next()[1])
    paths = sorted(queue.iterdir())
    with fresh_daemon(folder, archive_at(free_port()), TO_ARCHIVE) as daemon:
        for share in _shares(paths[:1000]):
            dcmsend(daemon.dicom_port, share, nodelay=True)
        early = resident_mb(daemon.pid)
        for share in _shares(paths[1000:]):
            dcmsend(daemon.dicom_port, share, nodelay=True)
        assert counts(daemon)["remaining"] == count
        time.sleep(5)
        late = resident_mb(daemon.pid)
    return Line(
        f"{count:,} instances queued to a dead destination",
        f"{late:,.1f} MB resident",
        f"{early:,.1f} MB after the first 1,000",
        late / early,
        "≤ 1.1",
        late / early <= 1.1,
    )


def _shares(paths: list[Path]) -> list[list[Path]]:
    return [paths[start : start + 500] for start in range(0, len(paths), 500)]


def free_space_gib(folder: Path) -> float:
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize / GIB


def dcmtk_version() -> str:
    return subprocess.run(["dcmsend", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
