"""The daemon, a destination that is real storescp and real Orthanc (STOW-RS) at once, and what goes which way."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from ledger import stow
from peers import Daemon, Orthanc, StoreScp, free_port, wait_until
from pydicom import dcmread
from pydicom.uid import UID

from router.cli.samples import ct_series, wheel_instances

pytestmark = pytest.mark.interop

DELIVER_S = 90.0
JOB = "1.2.3.4.5.6"


def destination(order: Sequence[str], *, port: int, url: str, more: str = "") -> str:
    return (
        f'[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'
        f"deliver = {json.dumps(list(order))}\n{more}"
        f'[destinations.archive.stow_rs]\nurl = "{url}"\n'
    )


def rule() -> str:
    return '[[rule]]\nname = "Everything"\nsend = ["archive"]\n'


def counts(daemon: Daemon) -> dict[str, int]:
    (row,) = json.loads(daemon.cli("status", "--json").stdout)["destinations"]
    return {name: row[name] for name in ("remaining", "completed", "warning", "failed")}


def uid_of(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"], force=True).SOPInstanceUID)


def held_by(scp: StoreScp) -> set[str]:
    return {uid_of(path) for path in scp.files()}


def send_request(daemon: Daemon, target: str) -> None:
    """Ask by SEND-RS for all CT studies, and wait for the end of it."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=120)
    path = f"/dicom-web/studies/send-requests/{JOB}?ModalitiesInStudy=CT&destination={quote(target, safe='')}"
    connection.request("POST", path, headers={"Accept": "application/dicom+json", "Prefer": "wait=30"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, (answer.status, body)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_req_136_what_a_c_store_scp_does_not_take_goes_to_the_same_destination_by_stow(tmp_path: Path) -> None:
    """REQ-136, REQ-138: storescp takes what is not compressed only, Orthanc the rest; one set of counters."""
    files = {uid_of(path): path for path in wheel_instances(tmp_path / "wheel")}
    compressed = {uid for uid, path in files.items() if UID(dcmread(path).file_meta.TransferSyntaxUID).is_encapsulated}
    assert 0 < len(compressed) < len(files)
    with Orthanc(tmp_path / "orthanc") as orthanc, StoreScp(tmp_path / "scp", accept="+x=") as scp:
        config = destination(["c-store", "stow-rs"], port=scp.port, url=orthanc.dicomweb_url)
        with Daemon(tmp_path / "sendrs", config, rule()) as daemon:
            assert stow(daemon.http_port, "/dicom-web/studies", [p.read_bytes() for p in files.values()]) == set(files)
            wait_until(lambda: counts(daemon)["remaining"] == 0, DELIVER_S, "delivery in both ways")
            by_stow, by_c_store = set(orthanc.instances()), held_by(scp)
            assert not by_stow & by_c_store
            assert compressed <= by_stow
            assert by_stow | by_c_store == set(files), daemon.cli("parked").stdout
            sums = counts(daemon)
            assert sums["completed"] + sums["warning"] == len(files)
            lines = json.loads(daemon.cli("jobs", "--json").stdout)
            assert sum(line["failed"] for line in lines) == 0


@pytest.mark.parametrize("order", [["c-store", "stow-rs"], ["stow-rs", "c-store"]])
def test_req_125_one_way_that_is_down_is_replaced_by_the_other(tmp_path: Path, order: list[str]) -> None:
    """REQ-125, REQ-129, REQ-138; the request names the destination by the URL of its second way."""
    files = list(ct_series(tmp_path / "ct", 12, rows=64, columns=64))
    uids = {uid_of(path) for path in files}
    nobody = free_port()
    with Orthanc(tmp_path / "orthanc") as orthanc, StoreScp(tmp_path / "scp") as scp:
        if order[0] == "c-store":
            port, url = nobody, orthanc.dicomweb_url
        else:
            port, url = scp.port, f"http://127.0.0.1:{nobody}/dicom-web"
        with Daemon(tmp_path / "sendrs", destination(order, port=port, url=url)) as daemon:
            assert stow(daemon.http_port, "/dicom-web/studies", [path.read_bytes() for path in files]) == uids
            send_request(daemon, url)
            assert counts(daemon) == {"remaining": 0, "completed": 12, "warning": 0, "failed": 0}
            assert (set(orthanc.instances()) if order[0] == "c-store" else held_by(scp)) == uids
            (line,) = json.loads(daemon.cli("jobs", "--json").stdout)
            detail = json.loads(daemon.cli("jobs", line["transaction_uid"], "--json").stdout)
            reasons = {one["attempts"][-1]["reason"] for one in detail["sub_operations"]}
            assert all(reason.startswith(f"{order[0]}: ") and f"; {order[1]}: " in reason for reason in reasons)
            assert {len(one["attempts"]) for one in detail["sub_operations"]} == {1}
