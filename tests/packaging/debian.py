"""A Debian 12 in a folder: made by debootstrap, copied for each test, entered without leaving mounts behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from installed import run
from peers import require

RELEASE = "bookworm"
BASE_PACKAGES = "python3.11,adduser,init-system-helpers,libstdc++6"
"""All that the package depends on: it is installed without a network."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> /var/log/systemctl
case "$*" in *is-enabled*) echo enabled ;; esac
"""
"""Stands for systemd, which cannot run in a folder: writes down what it was asked for."""


class Debian:
    """A root folder. `run` runs a command in it without a network; `enter` gives the words for it, with the host's."""

    def __init__(self, root: Path):
        self.root = root

    def enter(self, command: Sequence[str | Path], *, user: str = "root", network: bool = True) -> list[str]:
        """Give a command of the host that runs `command` inside, with /proc and /dev/shm for as long as it runs."""
        inside = 'mount --rbind /proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot "$@"'
        spaces = ["unshare", "--mount", *([] if network else ["--net"])]
        chroot = [f"--userspec={user}:{user}", str(self.root), *map(str, command)]
        return [*spaces, "sh", "-c", inside, str(self.root), *chroot]

    def run(
        self,
        *command: str | Path,
        user: str = "root",
        network: bool = False,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
        return run(self.enter(command, user=user, network=network), check=check, env={**clean, **(env or {})})

    def install(self, package: Path, *options: str) -> str:
        """Install or upgrade to a .deb, with dpkg alone; gives what it said."""
        shutil.copyfile(package, self.root / "root" / package.name)
        return self.run("dpkg", "--force-unsafe-io", *options, "--install", f"/root/{package.name}").stdout

    def owner_and_mode(self, path: str) -> str:
        return self.run("stat", "--format=%U:%G %a", path).stdout.strip()

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.root / path.lstrip("/"))

    def pretend_systemd(self) -> None:
        """Let the maintainer scripts believe that systemd runs."""
        (self.root / "run/systemd/system").mkdir(parents=True)
        fake = self.root / "usr/local/bin/systemctl"
        fake.write_text(SYSTEMCTL)
        fake.chmod(0o755)

    def asked_of_systemd(self) -> list[str]:
        """Give what was done to our service, and forget it."""
        log = self.root / "var/log/systemctl"
        asked = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        verbs = ("start", "stop", "restart")
        return [word for words in asked if "sendrs.service" in words for word in words if word in verbs]


def debootstrap(root: Path) -> Debian:
    """Make a small Debian 12, from where apt on this machine has its packages."""
    program = require("debootstrap")
    variant = ["--variant=minbase", f"--include={BASE_PACKAGES}"]
    mirror = _mirror()
    run([program, *variant, RELEASE, root, *mirror], timeout_s=420)
    return Debian(root)


def _mirror() -> list[str]:
    """Give the address from which this machine's apt has Debian 12; none leaves it to debootstrap."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        origin, release, component, address = line.split("|")
        if (origin, release, component) == ("Debian", RELEASE, "main"):
            return [address]
    return []


def need_root() -> None:
    """Skip without root, and where even root may not make mounts; under CI=true only the first is a reason."""
    if os.geteuid() != 0:
        pytest.skip("a Debian in a folder is made, entered and installed into by root only: sudo make test")
    probe = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        reason = f"this machine's root may not make mounts and networks of its own: {probe.stderr.strip()}"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)


def build_package(out: Path) -> Path:
    """Build the package as `make deb` does, with nobody said to answer for it."""
    nobody = {name: value for name, value in os.environ.items() if name not in ("DEBEMAIL", "DEBFULLNAME")}
    script = Path(__file__).resolve().parents[2] / "packaging/deb/build.py"
    require("strip")
    said = run([sys.executable, script, "--out", out], env=nobody).stdout
    return Path(said.splitlines()[-1])


def make_older(package: Path) -> Path:
    """Make of a package, beside it, that of an earlier release: another version, and another default configuration."""
    out = package.parent
    tree = out / "older"
    run(["dpkg-deb", "--raw-extract", package, tree])
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join("Version: 0.0.9-1\n" if line.startswith("Version:") else line for line in lines))
    config = tree / "etc/sendrs/router.toml"
    config.write_text(f"# The configuration of 0.0.9.\n{config.read_text()}")
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, out / "sendrs_0.0.9-1_amd64.deb"])
    shutil.rmtree(tree)
    return out / "sendrs_0.0.9-1_amd64.deb"
