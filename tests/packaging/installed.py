"""An installed `sendrs`, however it was installed, as a daemon between dcmtk's tools; and what building it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ledger import data_set_of
from peers import Daemon, StoreScp, free_port, run_dcmtk, wait_until

from router.cli.samples import ct_series

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "*.egg-info")
TO_ARCHIVE = '[[rule]]\nname = "Everything to the archive"\nsend = ["archive"]\n'
DELIVER_S = 60.0
NOBODY = 65534
"""The user and the group that a test becomes when it is root: an installation for oneself needs no more."""


def archive_at(port: int) -> str:
    """Give the table of the destination `archive` on this machine."""
    return f'[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'


def run(
    command: Sequence[str | Path], *, timeout_s: float = 240.0, check: bool = True, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run a command; one that fails ends the test with what it said."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done


def copy_sources(target: Path, source: Path = ROOT) -> Path:
    """Copy what sendrs is built from, as a fresh clone would have it."""
    shutil.copytree(source, target, ignore=NOT_SOURCES, copy_function=shutil.copyfile)
    shutil.copyfile(source / ".gitignore", target / ".gitignore")
    return target


def build_distributions(sources: Path, out: Path, *options: str, environment: Mapping[str, str] | None = None) -> Path:
    """Build wheel and sdist as `make wheel` does; gives the wheel."""
    command = [sys.executable, "-m", "build", *options, "--outdir", out, sources]
    run(command, env={**os.environ, **(environment or {})})
    [wheel] = out.glob("sendrs-*.whl")
    return wheel


def as_nobody() -> list[str]:
    """Give the words before a command that make it run without root's rights; none when there are none to drop."""
    drop = [
        shutil.which("setpriv") or "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all",
    ]
    return drop if os.geteuid() == 0 else []


def give_to_nobody(*folders: Path) -> None:
    """Make the folders and all that is in them belong to whom `as_nobody` becomes."""
    for path in (each for folder in folders for each in (folder, *folder.rglob("*")) if as_nobody()):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


class InstalledDaemon(Daemon):
    """`Daemon` from an installed program, with what its `sendrs init` wrote; `program` are the words that start it."""

    def __init__(self, folder: Path, program: Sequence[str], archive_port: int, *, env: Mapping[str, str]):
        home = folder / "init"
        home.mkdir(parents=True)
        give_to_nobody(home)
        wanted = ["--destination", f"ARCHIVE@127.0.0.1:{archive_port}", "--listen", f"127.0.0.1:{free_port()}"]
        run([*program, "init", "--yes", "--folder", home, *wanted], env=dict(env))
        text = (home / "router.toml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}")
        [rule] = (home / "rules").glob("*.toml")
        super().__init__(folder / "daemon", text, rule.read_text(), env=env)
        self.program = list(program)
        self.state_folder.mkdir()
        give_to_nobody(self.folder)

    def command(self) -> list[str]:
        return [*self.program, "serve", "--config", str(self.config_file)]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONUNBUFFERED": "1", **self._env}


def forward_ten_slices(folder: Path, program: Sequence[str], env: Mapping[str, str]) -> None:
    """Configure by `sendrs init`, run between `dcmsend` and `storescp`: ten CT slices must arrive byte for byte."""
    slices = list(ct_series(folder / "slices", 10, rows=96, columns=74))
    with (
        StoreScp(folder / "archive") as archive,
        InstalledDaemon(folder / "sendrs", program, archive.port, env=env) as daemon,
    ):
        send(slices, daemon.dicom_port)
        wait_until(lambda: len(archive.files()) >= len(slices), DELIVER_S, f"{len(slices)} files\n{daemon.log()}")
        assert daemon.stop() == 0
        assert_arrived(slices, archive)


def send(files: Sequence[Path], port: int) -> None:
    """Send by `dcmsend` to SENDRS on this machine."""
    run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(port), *files])


def assert_arrived(sent: Sequence[Path], archive: StoreScp) -> None:
    """Compare the data sets, whatever the files are called."""
    there = sorted(data_set_of(path.read_bytes()) for path in archive.files())
    assert there == sorted(data_set_of(path.read_bytes()) for path in sent)
