"""The systemd unit, without systemd running: what it exposes, that it is understood, that the router needs no more."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from installed import DELIVER_S, ROOT, TO_ARCHIVE, archive_at, assert_arrived, run, send
from peers import Daemon, StoreScp, require, wait_until

from router.cli.samples import ct_series

pytestmark = pytest.mark.interop

UNIT = ROOT / "packaging/deb/sendrs.service"
MOST_EXPOSED = 15
"""Tenths of what `systemd-analyze security` says; the unit of issue 5 is to stay at 1.5 or below."""


def test_the_unit_exposes_little() -> None:
    run([require("systemd-analyze"), "security", "--offline=true", f"--threshold={MOST_EXPOSED}", UNIT])


@pytest.mark.parametrize("drop_in", ["", "low-port.conf"])
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path, drop_in: str) -> None:
    analyze = require("systemd-analyze")
    units = tmp_path / "lib/systemd/system"
    shutil.copytree("/lib/systemd/system", units, symlinks=True)
    shutil.copyfile(UNIT, units / UNIT.name)
    if drop_in:
        (units / f"{UNIT.name}.d").mkdir()
        shutil.copyfile(UNIT.with_name(drop_in), units / f"{UNIT.name}.d" / drop_in)
    for program in ("usr/bin/sendrs", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    command = [analyze, "verify", "--man=no", f"--root={tmp_path}", UNIT.name]
    said = run(command, check=False)
    assert [line for line in said.stdout.splitlines() if UNIT.name in line] == []
    assert said.returncode == 0, said.stdout


def test_the_router_runs_with_the_system_calls_that_the_unit_leaves_it(tmp_path: Path) -> None:
    """Here strace refuses what the unit's filter takes away (SQLite's fchown as root, an allocator's mbind)."""
    slices = list(ct_series(tmp_path / "slices", 10, rows=96, columns=74))
    trace = tmp_path / "trace"
    with (
        StoreScp(tmp_path / "archive") as archive,
        FilteredDaemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE, trace=trace) as daemon,
    ):
        send(slices, daemon.dicom_port)
        wait_until(lambda: len(archive.files()) >= len(slices), DELIVER_S, f"{len(slices)} files")
        daemon.cli("status")
        assert daemon.stop() == 0
        assert_arrived(slices, archive)
    made = {found[1] for found in re.finditer(r"^\d+ +([a-z]\w*)\(", trace.read_text(), re.MULTILINE)}
    assert {"fdatasync", "accept4"} <= made, "strace saw nothing of a router"
    allowed, taken_away = unit_filter()
    assert made - allowed - taken_away == set(), "these are in no line of the unit"


class FilteredDaemon(Daemon):
    """A daemon for which the calls that the unit takes away end with EPERM. Its calls are written to `trace`."""

    def __init__(self, folder: Path, config_text: str, rules_text: str, *, trace: Path):
        super().__init__(folder, config_text, rules_text)
        self.trace = trace

    def command(self) -> list[str]:
        refused = ",".join(f"?{name}" for name in sorted(unit_filter()[1]))
        options = ["-D", "-f", "-qq", "-o", str(self.trace), "-e", f"inject={refused}:error=EPERM"]
        return [require("strace"), *options, *super().command()]


def unit_filter() -> tuple[set[str], set[str]]:
    """Read the unit's filter as systemd does: what a line allows, and what one with "~" takes away from that."""
    allowed, taken_away = set[str](), set[str]()
    for line in re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE):
        groups = set[str]().union(*(members(name) for name in line.lstrip("~").split()))
        (taken_away if line.startswith("~") else allowed).update(groups)
    return allowed, taken_away


@cache
def members(name: str) -> frozenset[str]:
    """Give the system calls of a group such as @system-service, as this machine's systemd defines it."""
    if not name.startswith("@"):
        return frozenset([name])
    command = [require("systemd-analyze"), "syscall-filter", name]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    names = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return frozenset[str]().union(*map(members, names))
