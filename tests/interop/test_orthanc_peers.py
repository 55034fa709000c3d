"""The daemon as a process beside real Orthanc: C-STORE both ways, STOW-RS both ways."""

from __future__ import annotations

import json
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from ledger import stow
from peers import Daemon, Orthanc, free_port, run_dcmtk, wait_until
from pydicom import Dataset, dcmread

from router.cli.samples import ct_series, wheel_instances

pytestmark = pytest.mark.interop

DELIVER_S = 90.0
DATA_SET_TRAILING_PADDING = 0xFFFCFFFC


def post(url: str, body: object) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def remaining(daemon: Daemon) -> int:
    return sum(row["remaining"] for row in json.loads(daemon.cli("status", "--json").stdout)["destinations"])


def by_uid(paths: list[Path]) -> dict[str, Path]:
    return {str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path for path in paths}


def values_of(dataset: Dataset) -> list[tuple[int, object]]:
    """Orthanc writes data sets anew (VR of pixel data, padding): compare what they say."""
    return [
        (int(element.tag), element.value)
        for element in dataset.iterall()
        if element.tag != DATA_SET_TRAILING_PADDING and element.tag.element != 0
    ]


def rule_to(name: str) -> str:
    return f'[[rule]]\nname = "Everything"\nsend = ["{name}"]\n'


@pytest.mark.parametrize("kind", ["dimse", "stow-rs"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_orthanc_receives_every_family_of_files(tmp_path: Path, kind: str) -> None:
    files = by_uid(wheel_instances(tmp_path / "wheel"))
    with Orthanc(tmp_path / "orthanc") as orthanc:
        target = (
            f'ae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n'
            if kind == "dimse"
            else f'url = "{orthanc.dicomweb_url}"\n'
        )
        config = f'[destinations.orthanc]\nkind = "{kind}"\n{target}'
        with Daemon(tmp_path / "sendrs", config, rule_to("orthanc")) as daemon:
            stored = stow(daemon.http_port, "/dicom-web/studies", (path.read_bytes() for path in files.values()))
            assert stored == set(files)
            wait_until(lambda: remaining(daemon) == 0, DELIVER_S, "delivery to Orthanc")
            there = orthanc.instances()
            parked = {
                row["sop_instance_uid"]: row["reason"] for row in json.loads(daemon.cli("parked", "--json").stdout)
            }
            assert set(files) == set(there) | set(parked), parked
            assert len(parked) <= 2, parked
            for uid, key in there.items():
                before, after = dcmread(files[uid]), dcmread(BytesIO(orthanc.file(key)))
                if kind == "stow-rs" and str(before.file_meta.TransferSyntaxUID) in (
                    "1.2.840.10008.1.2",
                    "1.2.840.10008.1.2.2",
                ):
                    continue
                assert values_of(before) == values_of(after), files[uid].name


def test_orthanc_sends_by_c_store_and_by_stow_into_the_router(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 10, rows=128, columns=128))
    dicom_port, http_port = free_port(), free_port()
    settings = {
        "DicomModalities": {"sendrs": ["SENDRS", "127.0.0.1", dicom_port]},
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "Servers": {"sendrs": [f"http://127.0.0.1:{http_port}/dicom-web/"]},
        },
    }
    with Orthanc(tmp_path / "orthanc", settings=settings) as orthanc:
        config = f'[dicom]\nlisten = "127.0.0.1:{dicom_port}"\n[http]\nlisten = "127.0.0.1:{http_port}"\n'
        with Daemon(tmp_path / "sendrs", config) as daemon:
            run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(orthanc.dicom_port), *files])
            wait_until(lambda: len(orthanc.instances()) == 10, DELIVER_S, "Orthanc to have the series")
            keys = list(orthanc.instances().values())
            post(f"{orthanc.url}/modalities/sendrs/store", keys[:5])
            post(f"{orthanc.dicomweb_url}/servers/sendrs/stow", {"Resources": keys[5:]})
            listed = json.loads(daemon.cli("unrouted", "--json").stdout)
            assert {row["sop_instance_uid"] for row in listed} == set(by_uid(files))
            daemon.cli("verify")


def test_dicomweb_client_stores_instances_and_reads_the_answer(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 4, rows=64, columns=64))
    with Daemon(tmp_path / "sendrs") as daemon:
        client = DICOMwebClient(daemon.url)
        answer = client.store_instances([dcmread(path) for path in files])
        stored = {str(item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence}
        assert stored == set(by_uid(files))
        assert "FailedSOPSequence" not in answer
        daemon.cli("verify")
