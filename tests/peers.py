"""Real peers and the real daemon, as processes of their own: found, started on free ports, waited for, stopped.

Use it as `from peers import Daemon, StoreScp, Orthanc, run_dcmtk, require`. Nothing here outlives its `with` block.
A peer that is not installed skips the test with the line that installs it; under CI=true it fails the test.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

START_S = 30.0
"""Longest wait for a process to listen: Orthanc on a loaded CI machine took eleven seconds."""
STOP_S = 60.0
"""Longest wait for a process to end by itself; the daemon promises 45 s (D15)."""

PORTS = range(12_000, 32_000)
"""Below those that Linux gives to outgoing connections (32,768 on)."""
WORKERS = 4
"""More than that share ports."""

PACKAGES = {
    "Orthanc": "orthanc orthanc-dicomweb",
    **{name: name for name in ("strace", "curl", "jq", "debootstrap", "lintian", "sqlite3")},
    "dpkg-shlibdeps": "dpkg-dev",
    "systemd-analyze": "systemd",
    "strip": "binutils",
}
"""The Debian package of a program; dcmtk for all others."""

_OURS = str(Path(sys.prefix) / "bin")
_PROGRAMS = ":".join(
    [*(place for place in os.environ.get("PATH", "").split(":") if place != _OURS), "/usr/sbin", "/sbin"]
)
"""Where peers are looked for. Not in our own environment: pynetdicom puts a storescp and an echoscu there."""

ORTHANC_PLUGIN_FOLDERS = (
    Path("/usr/share/orthanc/plugins"),
    Path("/usr/lib/orthanc"),
    Path("/usr/lib/orthanc/plugins"),
)


def require(program: str) -> str:
    """Give the path of `program`, or skip the calling test saying how to install it (fail it under CI=true)."""
    path = shutil.which(program, path=_PROGRAMS)
    if path is None:
        _missing(f"{program} is not on this machine: sudo apt-get install {PACKAGES.get(program, 'dcmtk')}")
    return path


def _missing(reason: str) -> Any:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _own_ports() -> Iterator[int]:
    """Walk the ports of this worker of the test run (pytest-xdist), round and round, from one of them."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    count = (PORTS.stop - PORTS.start) // WORKERS
    own = PORTS[worker * count : (worker + 1) * count]
    start = os.getpid() % count
    return itertools.cycle((*own[start:], *own[:start]))


_ports = _own_ports()


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that nothing uses now. No other worker is given it, and the kernel gives it to no
    outgoing connection before the caller listens there.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll `condition` until it holds; fails the test with `what` otherwise."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s:.0f} s in vain for: {what}")
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    """Say whether a process of this machine listens on TCP `port`, without connecting to it."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(wanted):
                return True
    return False


def run_dcmtk(
    command: Sequence[str | Path], *, check: bool = True, nodelay: bool = True, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a dcmtk tool to its end, e.g. `run_dcmtk(["storescu", "127.0.0.1", str(port), file])`.

    `nodelay` switches Nagle's algorithm off on its side (a stock tool waits 40 ms for each small write). With `check` a
    return code other than 0 fails the test with what the tool said.
    """
    program = require(str(command[0]))
    environment = {**os.environ, **({"TCP_NODELAY": "1"} if nodelay else {})}
    done = subprocess.run(
        [program, *map(str, command[1:])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done


class Process:
    """A child that listens on `ports`: start (again), wait until it listens, stop, kill. Output goes to one file."""

    def __init__(self, name: str, folder: Path, ports: Sequence[int]):
        self.name, self.folder, self.ports = name, folder, tuple(ports)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self, *, wait: bool = True) -> Self:
        """Start it (again); returns when it listens on all its ports, fails the test when it does not."""
        assert self._child is None or self._child.poll() is not None, f"{self.name} is running"
        with self.log_file.open("ab") as output:
            self._child = subprocess.Popen(
                self.command(), stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=dict(self.environment())
            )
        if wait:
            wait_until(self._ready_or_dead, START_S, f"{self.name} to listen on {self.ports}\n{self.log()[-4000:]}")
        return self

    def _ready_or_dead(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            pytest.fail(f"{self.name} ended with {self._child.returncode} while starting:\n{self.log()[-4000:]}")
        return all(is_listening(port) for port in self.ports)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def log(self) -> str:
        """All that it wrote to stdout and stderr so far, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def send_signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait until it ended by itself; returns its exit code (minus the signal's number when killed)."""
        assert self._child is not None
        return self._child.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM; returns the exit code. One that does not end within a minute is killed and fails the test."""
        if self.is_running():
            self.send_signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill9()
            return pytest.fail(f"{self.name} did not stop within {STOP_S:.0f} s:\n{self.log()[-4000:]}")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if not self.is_running():
            return
        self.send_signal(signal.SIGTERM)
        try:
            self.wait(10.0)
        except subprocess.TimeoutExpired:
            self.kill9()


class StoreScp(Process):
    """dcmtk's storescp, keeping data sets bit for bit as received. `options` go on its command line.

    `accept` is its option for transfer syntaxes: "+xa" takes all, "+x=" uncompressed ones only.
    """

    def __init__(self, folder: Path, port: int | None = None, *options: str, accept: str = "+xa", nodelay: bool = True):
        self.port = port or free_port()
        self.options, self.accept, self.nodelay = options, accept, nodelay
        super().__init__("storescp", folder, [self.port])
        self.received = folder / "received"
        self.received.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [require("storescp"), "-pm", self.accept, "+B", *self.options, "-od", str(self.received), str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TCP_NODELAY": "1"} if self.nodelay else os.environ

    def files(self) -> list[Path]:
        """What it received so far, by name. The last may still be being written until its sender has the answer."""
        return sorted(path for path in self.received.iterdir() if path.is_file())


class DcmQrScp(Process):
    """dcmtk's dcmqrscp: an archive with C-STORE, C-FIND, C-MOVE and C-GET, empty at first; `storescu` fills it.

    `moves_to` are its move destinations on 127.0.0.1, AE title to port. `options` go on its command line.
    """

    def __init__(self, folder: Path, moves_to: Mapping[str, int], *options: str):
        self.port = free_port()
        self.ae_title = "DCMQRSCP"
        self.moves_to, self.options = dict(moves_to), options
        super().__init__("dcmqrscp", folder, [self.port])
        self.archive = folder / "archive"
        self.archive.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        program = require("dcmqrscp")
        hosts = "".join(
            f"peer{at} = ({title}, localhost, {port})\n" for at, (title, port) in enumerate(self.moves_to.items())
        )
        file = self.folder / "dcmqrscp.cfg"
        file.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.ae_title} {self.archive} RW (200, 1024mb) ANY\nAETable END\n"
        )
        return [program, *self.options, "-c", str(file)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TCP_NODELAY": "1"}


class Orthanc(Process):
    """Orthanc with its DICOMweb plugin and a configuration of its own on 127.0.0.1, without passwords.

    `lua` is the text of a script; `plugins` are more plugin files; `settings` are merged into its JSON configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lua: str = "",
        plugins: Sequence[Path] = (),
        settings: Mapping[str, Any] | None = None,
        nodelay: bool = False,
    ):
        self.dicom_port, self.http_port = free_port(), free_port()
        self.ae_title = "ORTHANC"
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self.lua, self.plugins, self.settings = lua, tuple(plugins), dict(settings or {})
        self.nodelay = nodelay
        super().__init__("orthanc", folder, [self.dicom_port, self.http_port])

    def command(self) -> list[str]:
        program = require("Orthanc")
        scripts = []
        if self.lua:
            script = self.folder / "script.lua"
            script.write_text(self.lua)
            scripts.append(str(script))
        configuration = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "ConcurrentJobs": 2,
            "LuaScripts": scripts,
            "Plugins": [str(_dicomweb_plugin()), *map(str, self.plugins)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.settings,
        }
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(configuration, indent=2))
        return [program, str(file)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TCP_NODELAY": "1"} if self.nodelay else os.environ

    def get(self, path: str) -> Any:
        """GET a JSON resource of its own REST API, e.g. `/instances`."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def instances(self) -> dict[str, str]:
        """Its instances: SOP Instance UID to Orthanc's own id."""
        return {row["MainDicomTags"]["SOPInstanceUID"]: row["ID"] for row in self.get("/instances?expand")}

    def file(self, orthanc_id: str) -> bytes:
        """The PS3.10 file of one instance, as Orthanc kept it."""
        with urllib.request.urlopen(f"{self.url}/instances/{orthanc_id}/file", timeout=120) as response:
            return bytes(response.read())


def _dicomweb_plugin() -> Path:
    for folder in ORTHANC_PLUGIN_FOLDERS:
        for path in sorted(folder.glob("libOrthancDicomWeb.so*")):
            return path
    return Path(_missing("Orthanc has no DICOMweb plugin here: sudo apt-get install orthanc-dicomweb"))


class Daemon(Process):
    """`sendrs serve` as a process of its own, on free ports of 127.0.0.1, with its state in `folder`/state.

    `config_text` needs to hold only what matters to the test: listen addresses, state, rules folder and short retry
    times are added where it does not set them. `start()` after `kill9()` is a restart on the same state and ports.
    """

    def __init__(
        self, folder: Path, config_text: str = "", rules_text: str = "", *, env: Mapping[str, str] | None = None
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "router.toml"
        self.rules_folder = folder / "rules"
        self.state_folder = folder / "state"
        self.rules_folder.mkdir(exist_ok=True)
        (self.rules_folder / "10-test.toml").write_text(rules_text)
        text = with_defaults(
            config_text,
            {
                "dicom": {"listen": f'"127.0.0.1:{free_port()}"'},
                "http": {"listen": f'"127.0.0.1:{free_port()}"'},
                "state": {
                    "path": json.dumps(str(self.state_folder)),
                    "unsafe_filesystem": "true",
                    "min_free_bytes": "0",
                },
                "rules": {"path": '"rules"', "quiet_period_s": "0.5"},
                "sending": {"backoff_first_s": "0.2", "backoff_cap_s": "1", "probe_s": "0.5"},
            },
        )
        self.config_file.write_text(text)
        settings = tomllib.loads(text)
        self.dicom_port = int(settings["dicom"]["listen"].rpartition(":")[2])
        self.http_port = int(settings["http"]["listen"].rpartition(":")[2])
        self.ae_title = settings["dicom"].get("ae_title", "SENDRS")
        self.url = f"http://127.0.0.1:{self.http_port}{settings['http'].get('base_path', '/dicom-web')}"
        self._env = dict(env or {})
        super().__init__("sendrs", folder, [self.dicom_port, self.http_port])

    def command(self) -> list[str]:
        return [sys.executable, "-m", "router.cli", "serve", "--config", str(self.config_file)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self._env}

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another `sendrs` command on this daemon's configuration, e.g. `daemon.cli("jobs", "--json")`."""
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", *arguments, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"sendrs {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done


def with_defaults(text: str, defaults: Mapping[str, Mapping[str, str]]) -> str:
    """Add to the TOML `text` each `key = value` of `defaults` (by table) that it does not set itself."""
    for table, keys in defaults.items():
        present = tomllib.loads(text).get(table, {})
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items() if key not in present)
        header = re.search(rf"^[ \t]*\[{re.escape(table)}\][^\n]*\n?", text, re.MULTILINE)
        if header:
            text = f"{text[: header.end()].rstrip()}\n{lines}{text[header.end() :]}"
        elif lines:
            text = f"{text.rstrip()}\n\n[{table}]\n{lines}"
    return text.lstrip()
