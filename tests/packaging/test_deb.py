"""The Debian package in a clean Debian 12: installed with no network, run as its user, upgraded with a queue, purged.

As root only. It builds the package and makes the Debian once, in about a minute and a half; each test has a copy.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from debian import PATH, Debian, build_package, debootstrap, make_older, need_root
from installed import DELIVER_S, NOBODY, TO_ARCHIVE, archive_at, assert_arrived, run, send
from peers import Process, StoreScp, free_port, require, wait_until, with_defaults

from router.cli import COMMANDS
from router.cli.samples import ct_series

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

CONFIG_FILE = "etc/sendrs/router.toml"
ASKED_WHILE_IT_RUNS = (["jobs"], ["unrouted"], ["parked"], ["commitments"], ["peers"], ["echo", "archive"], ["check"])
RULE_FILE = "etc/sendrs/rules/10-archive.toml"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    need_root()
    return build_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def older(package: Path) -> Path:
    """The package of an earlier release: another version, and another default configuration."""
    return make_older(package)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A clean Debian 12."""
    need_root()
    root = tmp_path_factory.mktemp("debian") / "root"
    try:
        yield debootstrap(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def debian(clean: Debian, tmp_path: Path) -> Iterator[Debian]:
    """A copy of a clean Debian 12, for one test."""
    root = tmp_path / "root"
    run(["cp", "--archive", "--reflink=auto", clean.root, root])
    yield Debian(root)
    shutil.rmtree(root)


class Service(Process):
    """The unit's command line in `debian`, as the unit's user, on ports of the host, with what systemd gives it."""

    def __init__(self, debian: Debian, folder: Path):
        unit = unit_of(debian)
        self.debian, self.user = debian, unit["User"]
        masked = f'umask {unit["UMask"]}; exec "$@"'
        self.start_line = ["sh", "-c", masked, "sh", *shlex.split(unit["ExecStart"])]
        self.lines = set[str]()
        settings = tomllib.loads((debian.root / CONFIG_FILE).read_text())
        self.dicom_port = int(settings["dicom"]["listen"].rpartition(":")[2])
        super().__init__("service", folder, [self.dicom_port])
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind("\0" + f"sendrs-test-{os.getpid()}-{folder.name}")

    def command(self) -> list[str]:
        return self.debian.enter(self.start_line, user=self.user)

    def environment(self) -> Mapping[str, str]:
        name = "@" + self.told.getsockname()[1:].decode()
        return {"PATH": PATH, "LANG": "C.UTF-8", "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"}

    def has_told(self, line: str) -> bool:
        """Say whether the service manager has been told this by now."""
        self.told.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.lines.update(self.told.recv(4096).decode().splitlines())
        return line in self.lines

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.told.close()


def unit_of(debian: Debian) -> dict[str, str]:
    lines = (debian.root / "lib/systemd/system/sendrs.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def configure(debian: Debian, archive_port: int) -> None:
    """Do what an administrator does: a destination, a rule, and here ports of the host that are free."""
    file = debian.root / CONFIG_FILE
    text = file.read_text().replace("127.0.0.1:11112", f"127.0.0.1:{free_port()}")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}")
    lenient = {"unsafe_filesystem": "true", "min_free_bytes": "0"}  # a container's /tmp may be anything
    quick = {"state": lenient, "sending": {"backoff_first_s": "0.2", "backoff_cap_s": "1", "probe_s": "0.5"}}
    file.write_text(with_defaults(text, quick) + "\n" + archive_at(archive_port))
    (debian.root / RULE_FILE).write_text(TO_ARCHIVE)


def waiting(debian: Debian) -> int:
    """Ask the installed command how much waits for the archive."""
    status = json.loads(debian.run("sendrs", "status", "--json", "--config", f"/{CONFIG_FILE}", user="sendrs").stdout)
    return int(next(row["remaining"] for row in status["destinations"] if row["name"] == "archive"))


def test_lintian_finds_nothing_that_is_not_explained(package: Path) -> None:
    lintian = require("lintian")
    said = run([lintian, "--allow-root", "--fail-on", "error,warning", package], check=False)
    assert [line for line in said.stdout.splitlines() if line.startswith(("E:", "W:"))] == []


def test_it_depends_on_what_its_libraries_are_linked_against(package: Path, tmp_path: Path) -> None:
    shlibdeps = require("dpkg-shlibdeps")
    run(["dpkg-deb", "--extract", package, tmp_path / "tree"])
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/control").write_text("Source: sendrs\nPackage: sendrs\nArchitecture: any\n")
    libraries = sorted((tmp_path / "tree").rglob("*.so*"))
    found = subprocess.run(
        [shlibdeps, "-O", *libraries], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    needed = {name.split()[0] for name in found.stdout.decode().strip().partition("=")[2].split(",")}
    declared = {name.split()[0] for name in run(["dpkg-deb", "--field", package, "Depends"]).stdout.split(",")}
    assert needed <= declared
    assert needed == {"libc6", "libgcc-s1", "libstdc++6"}


def test_nothing_in_it_tells_where_it_was_built(package: Path, tmp_path: Path) -> None:
    run(["dpkg-deb", "--raw-extract", package, tmp_path / "tree"])
    here = str(Path(__file__).resolve().parents[2]).encode()
    for path in (tmp_path / "tree").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert here not in content, path
            assert b"/sendrs-deb-" not in content, path


def test_the_installed_router_forwards_what_dcmsend_sends(package: Path, debian: Debian, tmp_path: Path) -> None:
    debian.install(package)
    assert debian.owner_and_mode("/etc/sendrs/router.toml") == "root:sendrs 640"
    assert debian.owner_and_mode("/etc/sendrs/rules/README.md") == "root:root 644"
    assert debian.owner_and_mode("/var/lib/sendrs") == "sendrs:sendrs 750"
    assert debian.owner_and_mode("/usr/lib/sendrs") == "root:root 755"
    assert list((debian.root / "usr/lib/sendrs/router").glob("__pycache__/*.pyc")), "nothing was compiled"
    assert debian.run("dpkg", "--verify", "sendrs", check=False).stdout == "", "a file is not as it was shipped"

    slices = list(ct_series(tmp_path / "slices", 10, rows=96, columns=74))
    with StoreScp(tmp_path / "archive") as archive:
        configure(debian, archive.port)
        with Service(debian, tmp_path / "service") as service:
            wait_until(lambda: service.has_told("READY=1"), DELIVER_S, "word to systemd that it is ready")
            wait_until(lambda: service.has_told("WATCHDOG=1"), DELIVER_S, "word to systemd that it is alive")
            send(slices, service.dicom_port)
            wait_until(lambda: len(archive.files()) >= len(slices), DELIVER_S, f"{len(slices)} files")
            wait_until(lambda: waiting(debian) == 0, DELIVER_S, "an empty queue")
            for command in ASKED_WHILE_IT_RUNS:
                asked = debian.run("sendrs", *command, "--config", f"/{CONFIG_FILE}", user="sendrs", network=True)
                assert "Traceback" not in asked.stdout
            assert service.stop() == 0
        assert_arrived(slices, archive)
    debian.run("sendrs", "verify", "--config", f"/{CONFIG_FILE}", user="sendrs")
    assert (debian.root / "var/lib/sendrs/journal.db").stat().st_mode & 0o007 == 0, "the journal is for everybody"


def test_every_command_runs_in_the_installed_package(package: Path, debian: Debian) -> None:
    debian.install(package)
    assert debian.run("sendrs", "version").stdout.startswith("sendrs 0")
    helps = debian.run("sh", "-c", 'for name; do sendrs "$name" --help; done', "sh", *COMMANDS).stdout
    assert re.findall(r"^Usage: sendrs ([a-z]+)", helps, re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        assert debian.exists(f"/usr/share/man/man1/sendrs-{name}.1.gz"), f"no manual page of {name}"
    for shell in ("bash", "zsh", "fish"):
        assert "sendrs" in debian.run("sendrs", "completion", shell).stdout
    demo = debian.enter(["sendrs", "demo"], user=str(NOBODY))
    assert "Verified" in run(demo, env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}).stdout


def test_an_upgrade_keeps_the_queue_and_the_configuration(
    package: Path, older: Path, debian: Debian, tmp_path: Path
) -> None:
    """The destination is down before the upgrade and up after it: everything arrives. The old router runs meanwhile."""
    debian.pretend_systemd()
    debian.install(older)
    assert debian.asked_of_systemd() == ["start"]
    slices = list(ct_series(tmp_path / "slices", 10, rows=96, columns=74))
    archive = StoreScp(tmp_path / "archive")
    configure(debian, archive.port)
    with Service(debian, tmp_path / "older") as service:
        send(slices, service.dicom_port)
        assert waiting(debian) == len(slices)
        debian.install(package, "--force-confold")
        assert debian.asked_of_systemd() == ["restart"]
        assert service.stop() == 0
    assert debian.run("dpkg-query", "--show", "--showformat=${Version}", "sendrs").stdout != "0.0.9-1"
    assert debian.owner_and_mode("/etc/sendrs/router.toml") == "root:sendrs 640"
    assert "archive" in (debian.root / CONFIG_FILE).read_text(), "the administrator's configuration is gone"
    with archive, Service(debian, tmp_path / "newer") as service:
        wait_until(lambda: len(archive.files()) >= len(slices), DELIVER_S, f"{len(slices)} files\n{service.log()}")
        wait_until(lambda: waiting(debian) == 0, DELIVER_S, "an empty queue")
        assert service.stop() == 0
        assert_arrived(slices, archive)


def test_an_upgrade_brings_the_new_default_configuration_to_who_changed_nothing(
    package: Path, older: Path, debian: Debian
) -> None:
    debian.install(older)
    (debian.root / "usr/lib/sendrs/router/__pycache__/gone.cpython-311.pyc").write_bytes(b"of a module that is no more")
    debian.install(package)
    assert "0.0.9" not in (debian.root / CONFIG_FILE).read_text()
    assert debian.owner_and_mode("/etc/sendrs/router.toml") == "root:sendrs 640"
    assert not debian.exists("/usr/lib/sendrs/router/__pycache__/gone.cpython-311.pyc")


def test_removing_stops_it_and_purging_leaves_nothing_but_images(package: Path, debian: Debian) -> None:
    debian.pretend_systemd()
    before = files_of(debian)
    debian.install(package)
    debian.asked_of_systemd()
    (debian.root / "var/lib/sendrs/journal.db").write_bytes(b"of images that wait")

    debian.run("dpkg", "--remove", "sendrs")
    assert debian.asked_of_systemd() == ["stop"]
    assert not debian.exists("/usr/lib/sendrs"), "compiled files were left behind"
    assert debian.exists("/etc/sendrs/router.toml")

    said = debian.run("dpkg", "--purge", "sendrs").stdout
    assert "/var/lib/sendrs is kept" in said
    assert files_of(debian) - before == {"/var/lib/sendrs", "/var/lib/sendrs/journal.db"}

    debian.install(package)
    debian.run("dpkg", "--purge", "sendrs", env={"SENDRS_PURGE_STATE": "yes"})
    assert files_of(debian) - before == set()


def files_of(debian: Debian) -> set[str]:
    """Give every path but those of dpkg's and systemd's own notes."""
    root = str(debian.root)
    places = [debian.root / name for name in ("etc", "usr", "lib", "opt", "srv", "var")]
    paths = {str(path).removeprefix(root) for place in places for path in place.rglob("*")}
    notes = ("/var/lib/dpkg", "/var/log", "/var/cache", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
    return {path for path in paths if not path.startswith(notes)}


def test_the_service_may_have_port_104(package: Path, debian: Debian) -> None:
    """With the capability that low-port.conf gives, and that one only; without it the router says what is missing."""
    debian.install(package)
    drop_in = (debian.root / "usr/share/doc/sendrs/examples/low-port.conf").read_text()
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in drop_in
    config = debian.root / CONFIG_FILE
    config.write_text(config.read_text().replace("127.0.0.1:11112", "127.0.0.1:104"))

    refused = debian.run("sendrs", "serve", "--config", f"/{CONFIG_FILE}", user="sendrs", check=False)
    assert refused.returncode == 78
    assert "104" in refused.stdout
    assert "ok" in debian.run("sh", "-c", ON_PORT_104).stdout


LOOPBACK_UP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))"
"""A network namespace has its loopback interface, but switched off: SIOCSIFFLAGS, IFF_UP."""
ON_PORT_104 = f"""
set -e
python3.11 -c "{LOOPBACK_UP}"
only=-all,+net_bind_service
setpriv --reuid=sendrs --regid=sendrs --clear-groups --no-new-privs \\
    --bounding-set=$only --inh-caps=$only --ambient-caps=$only \\
    sendrs serve --config /{CONFIG_FILE} &
router=$!
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    if sendrs echo SENDRS@127.0.0.1:104; then kill $router; wait $router; echo ok; exit; fi
    sleep 1
done
kill $router
exit 1
"""
