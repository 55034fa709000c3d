"""The daemon sends to real Orthanc and asks it to commit to what it took; kill -9 in between loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ledger import stow
from peers import Daemon, Orthanc, StoreScp, free_port, wait_until

from router.cli.samples import ct_series

pytestmark = pytest.mark.interop

CONFIRM_S = 90.0
RULE = '[[rule]]\nname = "Everything"\nsend = ["orthanc"]\n'


def counts(daemon: Daemon) -> dict[str, int]:
    rows = json.loads(daemon.cli("status", "--json").stdout)["destinations"]
    names = ("remaining", "confirming", "completed", "failed")
    return {name: sum(row[name] for row in rows) for name in names}


def config_of(dicom_port: int, port: int, more: str = "") -> str:
    return (
        f'[dicom]\nlisten = "127.0.0.1:{dicom_port}"\n'
        f'[destinations.orthanc]\nkind = "dimse"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {port}\n'
        f'confirm = "commitment"\n{more}'
    )


def test_what_orthanc_took_is_delivered_when_it_has_committed_to_it_also_after_kill_9(tmp_path: Path) -> None:
    """Orthanc reports on an association of its own, to the AE title and port by which it knows us."""
    files = [path.read_bytes() for path in ct_series(tmp_path / "ct", 6, rows=64, columns=64)]
    dicom_port = free_port()
    settings = {"DicomModalities": {"sendrs": ["SENDRS", "127.0.0.1", dicom_port]}}
    with (
        Orthanc(tmp_path / "orthanc", settings=settings) as orthanc,
        Daemon(tmp_path / "sendrs", config_of(dicom_port, orthanc.dicom_port), RULE) as daemon,
    ):
        stow(daemon.http_port, "/dicom-web/studies", files)
        wait_until(lambda: counts(daemon)["confirming"] + counts(daemon)["completed"] == 6, CONFIRM_S, "answers")
        daemon.kill9()
        daemon.start()
        wait_until(lambda: counts(daemon)["completed"] == 6, CONFIRM_S, "commitment")
        assert len(orthanc.instances()) == 6
        assert counts(daemon) == {"remaining": 0, "confirming": 0, "completed": 6, "failed": 0}
        jobs = json.loads(daemon.cli("jobs", "--json").stdout)
        for job in jobs:
            detail = json.loads(daemon.cli("jobs", job["transaction_uid"], "--json").stdout)
            assert {len(line["attempts"]) for line in detail["sub_operations"]} == {1}


def test_what_a_destination_took_that_never_commits_is_parked_in_time_with_a_reason(tmp_path: Path) -> None:
    """A C-STORE SCP that cannot be asked for commitment: nothing counts as delivered, and a person is told why."""
    files = [path.read_bytes() for path in ct_series(tmp_path / "ct", 2, rows=64, columns=64)]
    with StoreScp(tmp_path / "scp") as scp:
        config = config_of(free_port(), scp.port, 'confirm_s = "8s"\n')
        with Daemon(tmp_path / "sendrs", config, RULE) as daemon:
            stow(daemon.http_port, "/dicom-web/studies", files)
            wait_until(lambda: counts(daemon)["confirming"] == 2, CONFIRM_S, "answers")
            assert len(scp.files()) == 2
            assert "2 instances waiting for commitment" in daemon.cli("status").stdout
            wait_until(lambda: counts(daemon)["failed"] == 2, CONFIRM_S, "the end of the wait")
            (reason,) = {row["reason"] for row in json.loads(daemon.cli("parked", "--json").stdout)}
            assert reason.startswith("the destination did not commit to it within 8 s; last: it does not commit")
