"""SIGKILL at random under load: what was acknowledged reaches every destination of its rule unchanged (F1, F5, D3)."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from ledger import Instances, Ledger, Sender, by_c_store, by_stow, data_set_of
from peers import Daemon, Orthanc, StoreScp, wait_until
from pydicom import dcmread

KILLS = int(os.environ.get("SENDRS_KILLS", "25"))
DRAIN_S = 240.0

RULES = """
[[rule]]
name = "Everything to both"
send = ["archive", "cloud"]
"""


@pytest.mark.crash
@pytest.mark.interop
@pytest.mark.timeout(900)
def test_whatever_was_acknowledged_before_a_kill_is_delivered_everywhere_byte_identical(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    instances, ledger = Instances(tmp_path / "template", seed), Ledger()
    with StoreScp(tmp_path / "archive") as archive, Orthanc(tmp_path / "orthanc") as orthanc:
        daemon = Daemon(
            tmp_path / "sendrs",
            f"""
            [destinations.archive]
            kind = "dimse"
            ae_title = "ARCHIVE"
            host = "127.0.0.1"
            port = {archive.port}
            [destinations.cloud]
            kind = "stow-rs"
            url = "{orthanc.dicomweb_url}"
            """,
            RULES,
        )
        with daemon:
            senders = [Sender(ledger, instances, by_c_store(daemon.dicom_port)) for _ in range(2)]
            senders.append(Sender(ledger, instances, by_stow(daemon.http_port, "/dicom-web/studies")))
            for sender in senders:
                sender.start()
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 1.2))
                daemon.kill9()
                daemon.start()
            time.sleep(0.5)
            for sender in senders:
                sender.stop()
            assert len(ledger.acknowledged) > 5 * KILLS, f"too little load: {len(ledger.acknowledged)} acknowledged"
            print(f"{ledger.sent} sent, {len(ledger.acknowledged)} acknowledged, {len(ledger.refused)} refused")

            in_archive = dict[str, Path]()

            def archived() -> bool:
                for path in archive.files():
                    if path.name not in in_archive:
                        in_archive[path.name] = path
                return len(in_archive) >= len(ledger.acknowledged) and _drained(daemon)

            wait_until(archived, DRAIN_S, "both destinations to have everything")
            at_archive = [(dcmread(path, stop_before_pixels=True).SOPInstanceUID, path) for path in archive.files()]
            at_cloud = orthanc.instances()
            assert not ledger.missing((uid, data_set_of(path.read_bytes())) for uid, path in at_archive)
            assert not ledger.missing((uid, data_set_of(orthanc.file(key))) for uid, key in at_cloud.items())
            daemon.cli("verify")
            assert daemon.stop() == 0


def _drained(daemon: Daemon) -> bool:
    status = json.loads(daemon.cli("status", "--json").stdout)
    return all(row["remaining"] == 0 for row in status["destinations"])
