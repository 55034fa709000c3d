"""`sendrs echo`, `store`, `find` and `move` against real archives: Orthanc, dcmtk's dcmqrscp, and our own daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from peers import Daemon, DcmQrScp, Orthanc, StoreScp, run_dcmtk, wait_until
from pydicom import dcmread

from router.cli import run
from router.cli.samples import ct_series

pytestmark = pytest.mark.interop

SLICES = 3
NAMES = ("ALLISON^ANN", "ALLISON^BEN", "BOWEN^CAROL")
NO_CONFIG = "/nonexistent/router.toml"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def sendrs(*arguments: object, config: Path | str = NO_CONFIG) -> Done:
    """Run a command; in this process but for `store`, which sets up the log of its process."""
    texts = [*map(str, arguments), "--config", str(config)]
    if arguments[0] == "store":
        command = [sys.executable, "-m", "router.cli", *texts]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return Done(done.returncode, done.stdout, done.stderr)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        code = run(texts)
    return Done(int(code), out.getvalue(), error.getvalue())


def asked(*arguments: object, code: int = 0, config: Path | str = NO_CONFIG) -> Any:
    done = sendrs(*arguments, "--json", config=config)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def value(data_set: dict[str, Any], tag: str) -> Any:
    return data_set[tag]["Value"][0]


class Archive:
    """A peer with three studies of three patients, each of one series."""

    def __init__(self, node: str, folder: Path):
        self.node, self.folder = node, folder
        self.files: dict[str, list[Path]] = {}
        for name in NAMES:
            paths = list(ct_series(folder / name, SLICES, rows=16, columns=16, patient_id=name[-3:]))
            for path in paths:
                dataset = dcmread(path)
                dataset.PatientName = name
                dataset.save_as(path)
            self.files[name] = paths

    def uids(self, name: str) -> tuple[str, str, list[str]]:
        read = [dcmread(path, stop_before_pixels=True) for path in self.files[name]]
        return str(read[0].StudyInstanceUID), str(read[0].SeriesInstanceUID), [str(one.SOPInstanceUID) for one in read]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreScp]:
    with StoreScp(tmp_path_factory.mktemp("receiver")) as scp:
        yield scp


@pytest.fixture(scope="module", params=["orthanc", "dcmqrscp", "sendrs"])
def archive(
    request: pytest.FixtureRequest, receiver: StoreScp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp(request.param)
    peer: Orthanc | DcmQrScp | Daemon
    match request.param:
        case "orthanc":
            receivers = {"third": ["THIRD", "127.0.0.1", receiver.port]}
            peer = Orthanc(folder, settings={"DicomModalities": receivers, "DicomAlwaysAllowMove": True})
        case "dcmqrscp":
            peer = DcmQrScp(folder, {"THIRD": receiver.port})
        case _:
            third = f'kind = "dimse"\nae_title = "THIRD"\nhost = "127.0.0.1"\nport = {receiver.port}\n'
            peer = Daemon(folder, f"[destinations.third]\n{third}")
    with peer:
        port = peer.port if isinstance(peer, DcmQrScp) else peer.dicom_port
        filled = Archive(f"{peer.ae_title}@127.0.0.1:{port}", folder / "sent")
        stored = asked("store", filled.node, filled.folder)
        assert (stored["files"], stored["stored"], stored["failed"]) == (9, 9, [])
        yield filled


def received(scp: StoreScp) -> set[str]:
    """The SOP instances that came since the last call."""
    files = scp.files()
    uids = {str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files}
    for path in files:
        path.unlink()
    return uids


def test_echo_says_that_the_archive_is_there(archive: Archive) -> None:
    done = sendrs("echo", archive.node)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{archive.node} answered: associated in ")


def test_find_by_a_name_with_a_wildcard_gives_the_studies(archive: Archive) -> None:
    found = asked("find", archive.node, "-k", "PatientName=ALL*")
    assert {value(one, "00100010")["Alphabetic"] for one in found} == set(NAMES[:2])
    assert {value(one, "0020000D") for one in found} == {archive.uids(name)[0] for name in NAMES[:2]}


def test_find_goes_down_level_by_level(archive: Archive) -> None:
    study, series, images = archive.uids(NAMES[0])
    patients = asked("find", archive.node, "--level", "patient", "-k", f"PatientID={NAMES[0][-3:]}")
    assert [value(one, "00100010")["Alphabetic"] for one in patients] == [NAMES[0]]
    found = asked("find", archive.node, "-l", "series", "-k", f"StudyInstanceUID={study}", "-k", "Modality=CT")
    assert [value(one, "0020000E") for one in found] == [series]
    within = ("-k", f"StudyInstanceUID={study}", "-k", f"SeriesInstanceUID={series}")
    found = asked("find", archive.node, "-l", "image", *within)
    assert sorted(value(one, "00080018") for one in found) == sorted(images)
    found = asked("find", archive.node, "-l", "image", *within, "-k", f"SOPInstanceUID={images[0]},{images[2]}")
    assert sorted(value(one, "00080018") for one in found) == sorted([images[0], images[2]])


def test_find_shows_people_a_table_and_says_when_there_is_nothing(archive: Archive) -> None:
    done = sendrs("find", archive.node, "-k", "PatientName=BOWEN*", "-r", "StudyID")
    assert done.returncode == 0
    heading, row, uid, more, *_, count = done.stdout.splitlines()
    assert heading.split()[:3] == ["PATIENT", "ID", "DATE"]
    assert row.split()[:3] == ["BOWEN^CAROL", "ROL", "2026-01-05"]
    assert (uid.strip(), more.strip()) == (archive.uids("BOWEN^CAROL")[0], "StudyID: 1")
    assert count == f"1 study at {archive.node}"
    nothing = sendrs("find", archive.node, "-k", "PatientName=ZZZ")
    assert nothing.returncode == 1
    assert nothing.stdout == f"Nothing found: {archive.node} has no study that matches.\n"


def test_a_limit_is_kept_and_told(archive: Archive) -> None:
    done = sendrs("find", archive.node, "--limit", 2)
    assert "2 studies at" in done.stdout
    assert "There are more; --limit shows more of them." in done.stdout


@pytest.mark.parametrize("level", ["patient", "study", "series", "image"])
def test_req_124_move_to_a_third_party_at_every_level(archive: Archive, receiver: StoreScp, level: str) -> None:
    study, series, images = archive.uids(NAMES[1])
    keys = {
        "patient": [f"PatientID={NAMES[1][-3:]}"],
        "study": [f"StudyInstanceUID={study}"],
        "series": [f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}"],
        "image": [
            f"StudyInstanceUID={study}",
            f"SeriesInstanceUID={series}",
            f"SOPInstanceUID={images[0]},{images[1]}",
        ],
    }[level]
    received(receiver)
    end = asked("move", archive.node, "--to", "THIRD", "-l", level, *(part for key in keys for part in ("-k", key)))
    assert (end["status"], end["failed"], end["moved"]) == ("0000H", 0, True)
    assert end["completed"] == len(images[:2] if level == "image" else images)
    assert received(receiver) == set(images[:2] if level == "image" else images)


def test_req_124_a_destination_that_the_archive_does_not_know_is_said_with_what_to_do(archive: Archive) -> None:
    done = sendrs("move", archive.node, "--to", "NOWHERE", "-k", f"StudyInstanceUID={archive.uids(NAMES[0])[0]}")
    assert done.returncode == 69
    assert done.stdout == ""
    if archive.node.startswith("ORTHANC"):
        assert 'does it know the AE title "NOWHERE"' in done.stderr
    else:
        assert f"{archive.node}: A801H move destination unknown" in done.stderr
        assert 'register "NOWHERE" there' in done.stderr


def test_a_calling_title_that_is_not_registered_is_told_how_to_be(tmp_path: Path) -> None:
    peer = '[peers.known]\nae_title = "KNOWN"\naddress = "127.0.0.1"\n'
    with Daemon(tmp_path, peer) as daemon:
        node = f"SENDRS@127.0.0.1:{daemon.dicom_port}"
        refused = sendrs("echo", node, "--aet", "STRANGER")
        assert refused.returncode == 69
        assert "calling AE title not recognised" in refused.stderr
        assert 'register the AE title "STRANGER"' in refused.stderr
        assert sendrs("echo", node, "--aet", "KNOWN").returncode == 0


# --- the tutorial's two scenarios, with Orthanc as the PACS and our own daemon as the caller


def test_tutorial_find_a_patient_by_name_and_move_the_studies_to_the_caller_and_to_a_third_party(
    tmp_path: Path, receiver: StoreScp
) -> None:
    """c-move-tutorial.txt: C-FIND with PatientName ALLISON*, then C-MOVE of what matched (REQ-124)."""
    daemon = Daemon(tmp_path / "sendrs", '[dicom]\nae_title = "CALLER"\n')
    modalities = {
        "caller": ["CALLER", "127.0.0.1", daemon.dicom_port],
        "third": ["THIRD", "127.0.0.1", receiver.port],
    }
    with daemon, Orthanc(tmp_path / "orthanc", settings={"DicomModalities": modalities}) as orthanc:
        pacs = Archive(f"ORTHANC@127.0.0.1:{orthanc.dicom_port}", tmp_path / "sent")
        with daemon.config_file.open("a") as file:
            file.write(
                f'\n[destinations.pacs]\nkind = "dimse"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
                f"port = {orthanc.dicom_port}\n"
            )
        assert asked("store", "pacs", pacs.folder, config=daemon.config_file)["stored"] == len(NAMES) * SLICES
        found = asked("find", "pacs", "-k", "PatientName=ALLISON*", config=daemon.config_file)
        studies = [value(one, "0020000D") for one in found]
        assert sorted(studies) == sorted(pacs.uids(name)[0] for name in NAMES[:2])
        wanted = {uid for name in NAMES[:2] for uid in pacs.uids(name)[2]}
        received(receiver)
        for to in ("CALLER", "THIRD"):
            for study in studies:
                moved = asked("move", "pacs", "--to", to, "-k", f"StudyInstanceUID={study}", config=daemon.config_file)
                assert (moved["moved"], moved["completed"]) == (True, SLICES)
        assert received(receiver) == wanted
        here = {row["00080018"]["Value"][0] for row in qido(f"{daemon.url}/instances")}
        assert here == wanted


def qido(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Accept": "application/dicom+json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


# --- Ctrl-C


def test_req_124_ctrl_c_asks_the_archive_to_stop_and_shows_what_was_moved(tmp_path: Path) -> None:
    """A real dcmqrscp that sends to a receiver which takes its time; it is told C-CANCEL and answers Cancel (FE00)."""
    slow = StoreScp(tmp_path / "slow", None, "--sleep-after", "1")
    archive = DcmQrScp(tmp_path / "archive", {"SLOW": slow.port}, "-v")
    with slow, archive:
        node = f"{archive.ae_title}@127.0.0.1:{archive.port}"
        files = list(ct_series(tmp_path / "ct", 30, rows=16, columns=16))
        run_dcmtk(["storescu", "-aec", archive.ae_title, "+sd", "127.0.0.1", str(archive.port), tmp_path / "ct"])
        study = dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
        command = [sys.executable, "-m", "router.cli", "move", node, "--to", "SLOW", "--json"]
        with subprocess.Popen(
            [*command, "-k", f"StudyInstanceUID={study}", "--config", NO_CONFIG],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            try:
                wait_until(lambda: len(slow.files()) > 0, 30.0, "a first instance to be moved")
                child.send_signal(signal.SIGINT)
                out, error = child.communicate(timeout=60.0)
            finally:
                child.kill()
    assert child.returncode == 130, out + error
    assert "asked it to stop" in error
    end = json.loads(out)
    assert end["status"] == "FE00H"
    assert 0 < end["completed"] < len(files)
