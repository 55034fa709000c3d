"""`sendrs demo`: sample studies through the real daemon to two receivers, and the proof that nothing changed.

The daemon is a process of its own with a temporary state, started as `sendrs serve`; the receivers live here.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer
from anyio.abc import TaskGroup
from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from router.cli.demo_files import Likeness, Sample, compare, make_samples, send_by_c_store, send_by_stow
from router.cli.logs import set_up_logging
from router.cli.receivers import FolderDoor
from router.cli.this_command import this_command
from router.config.model import DicomConfig, HttpConfig, Listen, LogConfig
from router.errors import RouterError
from router.http_server import serve_http
from router.journal.overview import DestinationOverview, Totals, destinations, totals
from router.journal.readers import open_readonly
from router.scp.server import StorageScp
from router.store.files import Store
from router.web.app import make_app

START_S = 30.0
FINISH_S = 180.0
LOOK_S = 0.2
LOOPBACK = "127.0.0.1"

CONFIG = """\
# Written by `sendrs demo`; the shipped router.toml explains every key.
[dicom]
ae_title = "SENDRS"
listen = "127.0.0.1:{dicom}"
connections_burst = 1000
[http]
listen = "127.0.0.1:{http}"
[state]
path = "state"
unsafe_filesystem = true
min_free_bytes = 0
[destinations.archive]
kind = "dimse"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive}
[destinations.cloud]
kind = "stow-rs"
url = "http://127.0.0.1:{cloud}/dicom-web"
"""
RULES = """\
[[rule]]
name = "Everything to the archive"
send = ["archive"]

[[rule]]
name = "Everything to the cloud"
send = ["cloud"]
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything runs and writes. `url` is the base URI of the router's DICOMweb front."""

    folder: Path
    config_file: Path
    dicom_port: int
    url: str
    receivers: Mapping[str, FolderDoor]


@dataclass(slots=True)
class Proof:
    """What the comparison of everything delivered with everything sent gave."""

    identical: int = 0
    reencoded: int = 0
    problems: list[str] = field(default_factory=list)


def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Keep everything running afterwards, until Ctrl-C.")] = False,
) -> int:
    """Send sample studies through a router of their own, and prove that they arrive unchanged.

    For example: sendrs demo --stay
    """
    folder = Path(tempfile.mkdtemp(prefix="sendrs-demo-"))
    with (folder / "receivers.log").open("w") as log:
        set_up_logging(LogConfig(), log)
        return anyio.run(_play, folder, stay, backend="asyncio")


async def _play(folder: Path, stay: bool) -> int:
    console = Console(highlight=False)
    files = await anyio.to_thread.run_sync(make_samples, folder / "samples")
    async with anyio.create_task_group() as tasks:
        stage = await _set_stage(folder, tasks)
        with _daemon(stage) as process:
            await _until_ready(stage, process)
            finished = await _watch(console, stage, files, tasks)
            proof = await anyio.to_thread.run_sync(_prove, stage, files)
            if not finished:
                proof.problems.insert(0, f"not everything was delivered within {FINISH_S:.0f} s")
            _tell(console, stage, files, proof)
            if stay and not proof.problems:
                await _stay(console, stage)
        tasks.cancel_scope.cancel()
    return 1 if proof.problems else 0


async def _set_stage(folder: Path, tasks: TaskGroup) -> Stage:
    """Start the two receivers, then write the configuration that sends to them."""
    receivers = {name: FolderDoor(folder / name) for name in ("archive", "cloud")}
    anywhere = Listen(LOOPBACK, 0)
    scp = StorageScp(DicomConfig(ae_title="ARCHIVE", listen=anywhere, connections_burst=1000), {}, receivers["archive"])
    archive = await tasks.start(scp.run)
    cloud = await tasks.start(
        serve_http, make_app(HttpConfig(listen=anywhere), receivers["cloud"]), anywhere, anyio.Event()
    )
    dicom_port, http_port = _free_ports(2)
    config_file = folder / "router.toml"
    config_file.write_text(CONFIG.format(dicom=dicom_port, http=http_port, archive=archive.port, cloud=cloud.port))
    (folder / "rules").mkdir()
    (folder / "rules" / "10-everything.toml").write_text(RULES)
    return Stage(folder, config_file, dicom_port, f"http://{LOOPBACK}:{http_port}/dicom-web", receivers)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sendrs serve` as its users do; ended by SIGTERM."""
    command = [*this_command(), "serve", "--config", str(stage.config_file)]
    with (stage.folder / "daemon.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


async def _until_ready(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    log_file = stage.folder / "daemon.log"
    with anyio.move_on_after(START_S):
        while " ready" not in log_file.read_text() and process.poll() is None:  # noqa: ASYNC110  another process
            await anyio.sleep(LOOK_S)
        if process.poll() is None:
            return
    raise RouterError(f"the router did not start; its log: {log_file}\n{log_file.read_text()[-2000:]}")


async def _watch(console: Console, stage: Stage, files: Sequence[Sample], tasks: TaskGroup) -> bool:
    """Send half by C-STORE and half by STOW-RS, and show how it goes; False when it does not come to an end."""
    by_dimse, by_web = files[::2], files[1::2]
    console.print(f"Sending {len(by_dimse)} instances by C-STORE and {len(by_web)} by STOW-RS into the router.\n")
    async with Store.open(stage.folder / "samples") as store, open_readonly(stage.folder / "state") as readers:
        tasks.start_soon(send_by_c_store, by_dimse, store, stage.dicom_port)
        tasks.start_soon(send_by_stow, by_web, store, stage.url)
        with Live(console=console, auto_refresh=False) as live, anyio.move_on_after(FINISH_S):
            while True:
                everything = await readers.read(totals)
                rows = await readers.read(destinations)
                live.update(_picture(everything, rows, len(files)), refresh=True)
                done = sum(row.completed + row.warning + row.failed for row in rows)
                if everything.instances >= len(files) and done >= len(files) * len(stage.receivers):
                    return True
                await anyio.sleep(LOOK_S)
    return False


def _picture(everything: Totals, rows: Sequence[DestinationOverview], expected: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "progress"):
        table.add_column(heading)
    for heading in ("received", "delivered", "waiting", "failed"):
        table.add_column(heading, justify="right")
    table.add_row("router", _bar(everything.instances, expected), str(everything.instances), "", "", "")
    for row in rows:
        delivered = row.completed + row.warning
        table.add_row(row.name, _bar(delivered, expected), "", str(delivered), str(row.remaining), str(row.failed))
    return table


def _bar(value: int, expected: int) -> ProgressBar:
    return ProgressBar(total=expected, completed=value, width=40)


def _prove(stage: Stage, files: Sequence[Sample]) -> Proof:
    """Compare every delivered data set with the one sent."""
    proof = Proof()
    for name, receiver in stage.receivers.items():
        for sample in files:
            arrived = receiver.received.get(sample.declared.sop_instance_uid, [])
            if not arrived:
                proof.problems.append(f"{sample.path.name} did not arrive at {name}")
            for path in arrived:
                match compare(sample, path):
                    case Likeness.IDENTICAL:
                        proof.identical += 1
                    case Likeness.REENCODED:
                        proof.reencoded += 1
                    case Likeness.CHANGED:
                        proof.problems.append(f"{sample.path.name} arrived changed at {name}: {path}")
    return proof


def _tell(console: Console, stage: Stage, files: Sequence[Sample], proof: Proof) -> None:
    console.print()
    for problem in proof.problems:
        console.print(f"[red]NOT AS SENT[/red] {problem}", soft_wrap=True)
    if not proof.problems:
        console.print(
            f"[green]Verified[/green]: {len(files)} instances at {len(stage.receivers)} destinations; "
            f"{proof.identical} data sets are byte-identical to what was sent; {proof.reencoded} were re-encoded for "
            "the web, which forbids Implicit VR and Big Endian, and have equal values.\n",
            soft_wrap=True,
        )
    console.print("Where to look:")
    for what, path in (
        ("configuration", stage.config_file),
        ("rules", stage.folder / "rules"),
        ("log of the router", stage.folder / "daemon.log"),
        ("store and journal", stage.folder / "state"),
        *((f"received by {name}", receiver.folder) for name, receiver in stage.receivers.items()),
    ):
        console.print(f"  {what:20} {path}", soft_wrap=True)
    console.print(f"\nNext: sendrs jobs --config {stage.config_file}", soft_wrap=True)


async def _stay(console: Console, stage: Stage) -> None:
    console.print(
        f"\nStill running until Ctrl-C: C-STORE to SENDRS at {LOOPBACK}:{stage.dicom_port}, "
        f"STOW-RS to {stage.url}/studies",
        soft_wrap=True,
    )
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for _ in received:
            return
