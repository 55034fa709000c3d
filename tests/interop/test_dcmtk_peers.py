"""The daemon as a process between real dcmtk tools: what a PACS administrator would try first."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ledger import data_set_of
from peers import Daemon, StoreScp, free_port, run_dcmtk, wait_until
from pydicom import dcmread

from router.cli.samples import ct_series, minimal, wheel_instances
from router.dicom.sop_classes import STORAGE_SOP_CLASSES

pytestmark = pytest.mark.interop

TO_ARCHIVE = """
[[rule]]
name = "Everything to the archive"
send = ["archive"]
"""
DELIVER_S = 60.0


def archive_at(port: int, **more: object) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return f'[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n{lines}'


def by_uid(paths: list[Path]) -> dict[str, Path]:
    return {str(dcmread(path, specific_tags=["SOPInstanceUID"], force=True).SOPInstanceUID): path for path in paths}


def assert_same_data_sets(sent: list[Path], received: list[Path]) -> None:
    there = by_uid(received)
    for uid, path in by_uid(sent).items():
        assert uid in there, f"{path.name} did not arrive"
        assert data_set_of(path.read_bytes()) == data_set_of(there[uid].read_bytes()), f"{path.name} changed on the way"


def status_of(daemon: Daemon) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(daemon.cli("status", "--json").stdout)["destinations"]}


def drained(daemon: Daemon, name: str = "archive") -> bool:
    return bool(status_of(daemon)[name]["remaining"] == 0)


def test_echoscu_hears_that_the_router_is_there(tmp_path: Path) -> None:
    with Daemon(tmp_path / "sendrs") as daemon:
        run_dcmtk(["echoscu", "-aec", daemon.ae_title, "127.0.0.1", str(daemon.dicom_port)])


@pytest.mark.parametrize("stock", [True, False], ids=["nagle", "nodelay"])
def test_what_dcmsend_sends_arrives_as_if_it_had_sent_it_there_itself(tmp_path: Path, stock: bool) -> None:
    """dcmsend writes some data sets anew (padding, deflated ones), so the file on its disk is not what it sends."""
    files = wheel_instances(tmp_path / "wheel")
    with (
        StoreScp(tmp_path / "directly") as directly,
        StoreScp(tmp_path / "archive", nodelay=not stock) as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE) as daemon,
    ):
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "-v", "127.0.0.1", str(daemon.dicom_port), *files], nodelay=not stock)
        count = len(by_uid(files))
        wait_until(lambda: len(archive.files()) >= count and drained(daemon), DELIVER_S, f"{count} files")
        run_dcmtk(["dcmsend", "127.0.0.1", str(directly.port), *files])
        assert_same_data_sets(directly.files(), archive.files())
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("sender_pdu", "router_pdu", "archive_pdu"),
    [("4096", 4096, "4096"), ("131072", 16_384, "28672"), ("4108", 5000, "131072")],
)
def test_odd_pdu_sizes_on_either_side_change_nothing(
    tmp_path: Path, sender_pdu: str, router_pdu: int, archive_pdu: str
) -> None:
    files = list(ct_series(tmp_path / "ct", 3, rows=512, columns=511))
    with (
        StoreScp(tmp_path / "archive", None, "-pdu", archive_pdu) as archive,
        Daemon(
            tmp_path / "sendrs",
            f"[dicom]\nmax_pdu_bytes = {router_pdu}\n{archive_at(archive.port, max_pdu_bytes=router_pdu)}",
            TO_ARCHIVE,
        ) as daemon,
    ):
        run_dcmtk(["storescu", "-aec", "SENDRS", "-pdu", sender_pdu, "127.0.0.1", str(daemon.dicom_port), *files])
        wait_until(lambda: len(archive.files()) == 3 and drained(daemon), DELIVER_S, "three slices")
        assert_same_data_sets(files, archive.files())


def test_one_instance_of_every_storage_sop_class_passes_in_bounded_associations(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    files = [minimal(tmp_path / "all" / f"{uid}.dcm", uid) for uid in sorted(STORAGE_SOP_CLASSES)]
    assert len(files) > 128
    with (
        StoreScp(tmp_path / "directly") as directly,
        StoreScp(tmp_path / "archive") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE) as daemon,
    ):
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])
        wait_until(lambda: drained(daemon), DELIVER_S, "all SOP classes")
        assert status_of(daemon)["archive"]["completed"] + status_of(daemon)["archive"]["failed"] == len(files)
        run_dcmtk(["dcmsend", "--no-halt", "127.0.0.1", str(directly.port), *files], check=False)
        assert len(directly.files()) > 190  # a few are unknown even to a storescp in promiscuous mode
        assert_same_data_sets(directly.files(), archive.files())
        parked = json.loads(daemon.cli("parked", "--json").stdout)
        assert len(parked) == len(files) - len(directly.files())
        assert all("SOP class not supported" in row["reason"] for row in parked)


def test_a_dead_destination_gets_everything_when_it_comes_back(tmp_path: Path) -> None:
    files, port = list(ct_series(tmp_path / "ct", 20, rows=64, columns=64)), free_port()
    with Daemon(tmp_path / "sendrs", archive_at(port), TO_ARCHIVE) as daemon:
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])
        wait_until(lambda: status_of(daemon)["archive"]["state"] == "waiting", DELIVER_S, "the lane to wait")
        assert status_of(daemon)["archive"]["remaining"] == 20
        with StoreScp(tmp_path / "archive", port) as archive:
            wait_until(lambda: len(archive.files()) == 20 and drained(daemon), DELIVER_S, "the backlog")
            assert_same_data_sets(files, archive.files())
        assert status_of(daemon)["archive"]["completed"] == 20


def test_a_transfer_syntax_that_the_archive_refuses_is_parked_with_that_reason_and_the_rest_goes(
    tmp_path: Path,
) -> None:
    compressed = [path for path in wheel_instances(tmp_path / "wheel") if path.name == "MR_small_jp2klossless.dcm"]
    plain = list(ct_series(tmp_path / "ct", 5, rows=64, columns=64))
    with (
        StoreScp(tmp_path / "archive", None, accept="+x=") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE) as daemon,
    ):
        archive.options = ()
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *compressed, *plain])
        wait_until(lambda: drained(daemon) and len(archive.files()) == 5, DELIVER_S, "five slices")
        (parked,) = json.loads(daemon.cli("parked", "--json").stdout)
        assert "1.2.840.10008.1.2.4.90" in parked["reason"] or "JPEG 2000" in parked["reason"]


def test_a_wrong_ae_title_stops_the_lane_and_says_so(tmp_path: Path) -> None:
    files, port = list(ct_series(tmp_path / "ct", 2, rows=64, columns=64)), free_port()
    with (
        Daemon(tmp_path / "other", f'[dicom]\nlisten = "127.0.0.1:{port}"\nae_title = "OTHER"\n') as other,
        Daemon(tmp_path / "sendrs", archive_at(other.dicom_port), TO_ARCHIVE) as daemon,
    ):
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])
        wait_until(lambda: status_of(daemon)["archive"]["state"] == "misconfigured", DELIVER_S, "the lane to stop")
        row = status_of(daemon)["archive"]
        assert row["remaining"] == 2
        assert row["failed"] == 0
        assert "called AE title" in row["reason"]


def test_what_matches_no_rule_is_kept_and_listed(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 2, rows=64, columns=64))
    rule = '[[rule]]\nname = "MR only"\nmatch = { Modality = "MR" }\nsend = ["archive"]\n'
    with Daemon(tmp_path / "sendrs", archive_at(free_port()), rule) as daemon:
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])
        listed = json.loads(daemon.cli("unrouted", "--json").stdout)
        assert {row["sop_instance_uid"] for row in listed} == set(by_uid(files))


def test_one_association_makes_one_job_that_closes_with_it(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 7, rows=64, columns=64))
    with (
        StoreScp(tmp_path / "archive") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE) as daemon,
    ):
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])
        wait_until(lambda: drained(daemon), DELIVER_S, "delivery")
        (job,) = json.loads(daemon.cli("jobs", "--json").stdout)
        assert job["completed"] == 7
        assert job["rule"] == "Everything to the archive"
        assert job["closed_at"] is not None


def test_a_study_rule_sends_the_whole_study_once_it_is_quiet(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 6, rows=64, columns=64))
    rule = '[[rule]]\nname = "Quiet studies"\nwhen = "study"\nmatch = { Modality = "CT" }\nsend = ["archive"]\n'
    with (
        StoreScp(tmp_path / "archive") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), rule) as daemon,
    ):
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files[:3]])
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files[3:]])
        wait_until(lambda: len(archive.files()) == 6 and drained(daemon), DELIVER_S, "the study")
        assert_same_data_sets(files, archive.files())
        assert json.loads(daemon.cli("unrouted", "--json").stdout) == []


def test_sighup_takes_new_rules_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 3, rows=64, columns=64))
    nothing = '[[rule]]\nname = "Nothing"\nmatch = { Modality = "XX" }\nsend = ["archive"]\n'
    with (
        StoreScp(tmp_path / "archive") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), nothing) as daemon,
    ):
        rules = daemon.rules_folder / "10-test.toml"
        rules.write_text(TO_ARCHIVE.replace('archive"]', 'archve"]'))
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "archve" in daemon.log(), 10, "the complaint about the bad rule")
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), files[0]])
        rules.write_text(TO_ARCHIVE)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in daemon.log(), 10, "the reload")
        run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files[1:]])
        wait_until(lambda: len(archive.files()) == 2 and drained(daemon), DELIVER_S, "what came after the reload")
        assert len(json.loads(daemon.cli("unrouted", "--json").stdout)) == 1


def test_sigterm_lets_the_instance_in_hand_finish_and_ends_with_0(tmp_path: Path) -> None:
    files = list(ct_series(tmp_path / "ct", 300, rows=256, columns=256))
    with (
        StoreScp(tmp_path / "archive") as archive,
        Daemon(tmp_path / "sendrs", archive_at(archive.port), TO_ARCHIVE) as daemon,
    ):
        sender = subprocess.Popen(
            ["dcmsend", "-aec", "SENDRS", "-v", "127.0.0.1", str(daemon.dicom_port), *map(str, files)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: len(archive.files()) > 5, DELIVER_S, "the flow")
        assert daemon.stop() == 0
        said, _ = sender.communicate(timeout=60)
        acknowledged = said.count("0x0000") or said.count("(Success)")
        daemon.start()
        wait_until(lambda: drained(daemon), DELIVER_S, "the rest")
        assert len(archive.files()) >= acknowledged
        daemon.cli("verify")
        assert daemon.stop() == 0


def test_a_second_daemon_on_the_same_state_refuses_and_names_the_first(tmp_path: Path) -> None:
    with Daemon(tmp_path / "sendrs") as daemon:
        Daemon(tmp_path / "sendrs")  # writes another configuration for the same state: other ports
        second = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 75
        assert str(daemon.pid) in second.stderr
