"""`sendrs send` and the courier for kind = "send-rs" against a real daemon that sends to a real storescp."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ledger import data_set_of, stow
from peers import Daemon, StoreScp, free_port, wait_until
from pydicom import dcmread

from router.cli.samples import ct_series, wheel_instances

pytestmark = pytest.mark.interop

PACS = "https://pacs.example/dicom-web"
"""What the daemon calls its C-STORE destination in send requests: an alias, never connected to (O-07)."""
DELIVER_S = 60.0


def pacs_at(port: int) -> str:
    return (
        f'[destinations.pacs]\nkind = "dimse"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        f'aliases = ["{PACS}"]\n'
    )


def send(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router.cli", "send", url, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def fill(daemon: Daemon, folder: Path, patients: Mapping[str, int]) -> dict[str, list[Path]]:
    """Give the daemon a study with so many CT slices of each patient."""
    files = {
        patient: list(ct_series(folder / patient, count, rows=16, columns=16, patient_id=patient))
        for patient, count in patients.items()
    }
    for paths in files.values():
        assert len(stow(daemon.http_port, "/dicom-web/studies", [path.read_bytes() for path in paths])) == len(paths)
    return files


def data_sets(paths: list[Path]) -> set[bytes]:
    return {data_set_of(path.read_bytes()) for path in paths}


@pytest.mark.parametrize("what", ["patient", "study", "series", "instances"])
def test_req_007_req_011_exactly_what_was_asked_for_arrives(tmp_path: Path, what: str) -> None:
    """REQ-012: where it is sent to is whoever the destination URL means, the asker's own archive as well."""
    with StoreScp(tmp_path / "scp") as scp, Daemon(tmp_path / "sendrs", pacs_at(scp.port)) as daemon:
        files = fill(daemon, tmp_path, {"ONE": 4, "TWO": 3})
        first = dcmread(files["TWO"][0], stop_before_pixels=True)
        study, series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        arguments, wanted = {
            "patient": (["--match", "PatientID=TWO"], files["TWO"]),
            "study": (["--study", study], files["TWO"]),
            "series": (["--study", study, "--series", series], files["TWO"]),
            "instances": (
                ["--study", study, "--resource", "instances", "--match", "InstanceNumber=1"],
                files["TWO"][:1],
            ),
        }[what]
        done = send(daemon.url, "--to", PACS, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        count = f"{len(wanted)} instance{'s' if len(wanted) > 1 else ''}"
        assert f"Delivered  all: {count} delivered\n" in done.stdout
        wait_until(lambda: len(scp.files()) == len(wanted), DELIVER_S, "the instances")
        assert data_sets(scp.files()) == data_sets(wanted)


def test_req_067_what_could_not_be_delivered_is_named(tmp_path: Path) -> None:
    (jpeg,) = (path for path in wheel_instances(tmp_path / "wheel") if path.name == "MR_small_jp2klossless.dcm")
    picky = StoreScp(tmp_path / "scp", accept="+x=")
    with picky, Daemon(tmp_path / "sendrs", pacs_at(picky.port)) as daemon:
        stow(daemon.http_port, "/dicom-web/studies", [jpeg.read_bytes()])
        header = dcmread(jpeg, stop_before_pixels=True)
        done = send(daemon.url, "--to", PACS, "--study", str(header.StudyInstanceUID), "--json")
        said: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode, said["ended"], said["delivered"], said["status"]) == (1, "answered", False, "A702H")
        assert said["failed_uids"] == [str(header.SOPInstanceUID)]


def test_req_157_what_is_refused_is_said_in_the_servers_words(tmp_path: Path) -> None:
    with StoreScp(tmp_path / "scp") as scp, Daemon(tmp_path / "sendrs", pacs_at(scp.port)) as daemon:
        fill(daemon, tmp_path, {"ONE": 1})
        unknown = send(daemon.url, "--to", "https://elsewhere.example/dicom-web", "--match", "PatientID=ONE")
        unfiltered = send(daemon.url, "--to", PACS)
        nothing = send(daemon.url, "--to", PACS, "--match", "PatientID=NOBODY")
        misplaced = send(daemon.url, "--to", PACS, "--match", "InstanceNumber=1")
        wrong = send(f"http://127.0.0.1:{daemon.http_port}/wrong", "--to", PACS, "--match", "PatientID=ONE")
        answers = [unknown, unfiltered, nothing, misplaced, wrong]
        assert [done.returncode for done in answers] == [69, 69, 1, 69, 69]
        assert "HTTP 403" in unknown.stderr
        assert "HTTP 400" in unfiltered.stderr
        assert "nothing matched" in nothing.stdout
        assert ("HTTP 400" in misplaced.stderr, "InstanceNumber" in misplaced.stderr) == (True, True)
        assert "HTTP 404" in wrong.stderr
        assert scp.files() == []


def test_o50_the_same_uid_looks_again_and_sends_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(tmp_path / "sendrs", pacs_at(port)) as daemon:
        files = fill(daemon, tmp_path, {"ONE": 3})
        asked = send(daemon.url, "--to", PACS, "--match", "PatientID=ONE", "--no-follow", "--json")
        said = json.loads(asked.stdout)
        assert (asked.returncode, said["ended"], said["remaining"]) == (0, "unfinished", 3)
        daemon.kill9()
        daemon.start()
        with StoreScp(tmp_path / "scp", port) as scp:
            done = send(daemon.url, "--to", PACS, "--match", "PatientID=ONE", "--uid", said["transaction_uid"])
            assert (done.returncode, done.stderr) == (0, "")
            assert "this Transaction UID was in use already" in done.stdout
            assert "Delivered  all: 3 instances delivered" in done.stdout
            assert data_sets(scp.files()) == data_sets(files["ONE"])


def test_a_router_has_another_one_send_what_that_holds(tmp_path: Path) -> None:
    with StoreScp(tmp_path / "scp") as scp, Daemon(tmp_path / "archive", pacs_at(scp.port)) as archive:
        files = fill(archive, tmp_path, {"ONE": 5})
        far = f'[destinations.far]\nkind = "send-rs"\nurl = "{archive.url}"\ntarget = "{PACS}"\n'
        rule = '[[rule]]\nname = "To the far end"\nsend = ["far"]\n'
        with Daemon(tmp_path / "router", far, rule) as router:
            contents = [path.read_bytes() for path in files["ONE"]]
            stow(router.http_port, "/dicom-web/studies", contents)
            wait_until(lambda: len(scp.files()) == 5, DELIVER_S, "the instances")
            wait_until(lambda: _delivered(router) == 5, DELIVER_S, "the outcome")
        assert data_sets(scp.files()) == data_sets(files["ONE"])


def _delivered(router: Daemon) -> int:
    return sum(job["completed"] for job in json.loads(router.cli("jobs", "--json").stdout))
