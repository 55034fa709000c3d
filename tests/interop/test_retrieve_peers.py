"""C-MOVE and C-GET of the daemon by real movescu, getscu and Orthanc; and what its destinations see of it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from ledger import data_set_of, stow
from peers import Daemon, Orthanc, StoreScp, free_port, require, run_dcmtk, wait_until
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from test_docs_examples import FILE, blocks, examples, is_as_written, run

pytestmark = pytest.mark.interop

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
WAIT_S = 60.0
PAGE = Path(__file__).parents[2] / "docs" / "query-retrieve.md"

LEVELS = [
    ("-P", {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, "1234"),
    ("-P", {"QueryRetrieveLevel": "STUDY", "PatientID": "P1", "StudyInstanceUID": "1.2.7.1"}, "123"),
    (
        "-P",
        {
            "QueryRetrieveLevel": "SERIES",
            "PatientID": "P1",
            "StudyInstanceUID": "1.2.7.1",
            "SeriesInstanceUID": "1.2.8.1",
        },
        "12",
    ),
    (
        "-P",
        {
            "QueryRetrieveLevel": "IMAGE",
            "PatientID": "P1",
            "StudyInstanceUID": "1.2.7.1",
            "SeriesInstanceUID": "1.2.8.1",
            "SOPInstanceUID": "1.2.9.2",
        },
        "2",
    ),
    ("-S", {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.7.1\\1.2.7.3"}, "1235"),
    ("-S", {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.7.1", "SeriesInstanceUID": "1.2.8.2"}, "3"),
    (
        "-S",
        {
            "QueryRetrieveLevel": "IMAGE",
            "StudyInstanceUID": "1.2.7.1",
            "SeriesInstanceUID": "1.2.8.1",
            "SOPInstanceUID": "1.2.9.1\\1.2.9.2",
        },
        "12",
    ),
]
"""Model, keys, and the last figures of the SOP Instance UIDs that they mean."""
STUDY = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.7.1"}


def instance(number: int, patient: str, study: int, series: int, sop_class: str = CT, pixels: int = 64) -> Dataset:
    """Make 1.2.9.<number>; odd ones are Implicit VR Little Endian."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, f"1.2.9.{number}"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = f"1.2.7.{study}", f"1.2.8.{series}"
    data_set.PatientID, data_set.PatientName, data_set.Modality = patient, "Fibonacci^Leonardo", "CT"
    data_set.InstanceNumber, data_set.StudyDate, data_set.StudyID = number, "20250901", f"S{study}"
    data_set.Rows = data_set.Columns = pixels
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.HighBit, data_set.PixelRepresentation, data_set.SamplesPerPixel = 7, 0, 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.PixelData = bytes(number % 256 for _ in range(pixels * pixels))
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if number % 2 else ExplicitVRLittleEndian
    return data_set


ARCHIVE = [
    instance(1, "P1", 1, 1),
    instance(2, "P1", 1, 1),
    instance(3, "P1", 1, 2),
    instance(4, "P1", 2, 3),
    instance(5, "P2", 3, 4),
]


def fill(daemon: Daemon, folder: Path, data_sets: Sequence[Dataset] = ARCHIVE) -> dict[str, bytes]:
    """Store instances; gives their files by UID."""
    files = {}
    folder.mkdir(exist_ok=True)
    for data_set in data_sets:
        path = folder / f"{data_set.SOPInstanceUID}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        files[str(data_set.SOPInstanceUID)] = path.read_bytes()
    assert stow(daemon.http_port, "/dicom-web/studies", files.values()) == set(files)
    return files


def destination(name: str, port: int) -> str:
    return f'[destinations.{name}]\nkind = "dimse"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = {port}\n'


def keys_of(keys: Mapping[str, str]) -> list[str]:
    return [word for name, value in keys.items() for word in ("-k", f"{name}={value}")]


@dataclass
class Answer:
    """A final response as dcmtk shows it: counters are texts."""

    status: int
    text: str

    def __getattr__(self, name: str) -> str:
        """`remaining`, `completed`, `failed`, `warning`."""
        found = re.findall(rf"{name.capitalize()} Suboperations *: (\w+)", self.text)
        return str(found[-1])

    @property
    def pending(self) -> int:
        return len(re.findall(r"DIMSE Status *: 0xff00", self.text))


def answer_of(text: str) -> Answer:
    statuses = re.findall(r"DIMSE Status *: 0x([0-9a-f]{4})", text)
    assert statuses, text[-3000:]
    return Answer(int(statuses[-1], 16), text)


def move(daemon: Daemon, model: str, keys: Mapping[str, str], *options: str, to: str = "VIEWER") -> Answer:
    command = ["movescu", "-d", model, "-aet", "TESTER", "-aec", "SENDRS", "-aem", to, *options, *keys_of(keys)]
    return answer_of(run_dcmtk([*command, "127.0.0.1", str(daemon.dicom_port)], check=False).stdout)


def get(daemon: Daemon, model: str, keys: Mapping[str, str], into: Path, *options: str) -> Answer:
    into.mkdir()
    command = ["getscu", "-d", model, "-aec", "SENDRS", "-od", str(into), *options, *keys_of(keys)]
    return answer_of(run_dcmtk([*command, "127.0.0.1", str(daemon.dicom_port)], check=False).stdout)


def uids(figures: str) -> set[str]:
    return {f"1.2.9.{figure}" for figure in figures}


def by_uid(paths: Sequence[Path]) -> dict[str, bytes]:
    return {str(dcmread(path, force=True).SOPInstanceUID): path.read_bytes() for path in paths}


def test_movescu_at_each_level_of_both_models(tmp_path: Path) -> None:
    """REQ-108, REQ-116: the data sets arrive bit for bit, each once, by an association to the destination."""
    with (
        StoreScp(tmp_path / "viewer") as viewer,
        Daemon(tmp_path / "sendrs", destination("viewer", viewer.port)) as ours,
    ):
        files = fill(ours, tmp_path / "files")
        for model, keys, figures in LEVELS:
            for path in viewer.files():
                path.unlink()
            answer = move(ours, model, keys)
            assert (answer.status, answer.completed, answer.failed, answer.warning) == (0, str(len(figures)), "0", "0")
            assert answer.remaining == "none", "REQ-114"
            arrived = by_uid(viewer.files())
            assert set(arrived) == uids(figures), (model, keys)
            for uid, content in arrived.items():
                assert data_set_of(content) == data_set_of(files[uid])
        jobs = json.loads(ours.cli("jobs", "--json").stdout)
        assert {job["origin"] for job in jobs} == {"c-move"}
        assert "TESTER" in jobs[0]["source"]


def test_req_110_movescu_to_an_unknown_destination_and_with_bad_keys(tmp_path: Path) -> None:
    """REQ-110, REQ-111."""
    with Daemon(tmp_path / "sendrs", destination("viewer", free_port())) as ours:
        fill(ours, tmp_path / "files")
        unknown = move(ours, "-S", STUDY, to="NOBODY")
        assert (unknown.status, unknown.completed) == (0xA801, "none")
        for bad in (
            {"StudyInstanceUID": "1.2.7.1"},
            {"QueryRetrieveLevel": "STUDY"},
            {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2.8.1"},
            {**STUDY, "PatientName": "Fib*"},
        ):
            assert move(ours, "-S", bad).status == 0xA900
        assert move(ours, "-S", {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.404"}).status == 0


def test_getscu_at_each_level_of_both_models(tmp_path: Path) -> None:
    """C-GET: stored in the syntax that getscu takes; converted from Implicit VR, which changes no value."""
    with Daemon(tmp_path / "sendrs") as ours:
        files = fill(ours, tmp_path / "files")
        for number, (model, keys, figures) in enumerate(LEVELS):
            answer = get(ours, model, keys, tmp_path / f"got{number}", "+B")
            assert (answer.status, answer.completed, answer.failed) == (0, str(len(figures)), "0")
            arrived = by_uid(sorted((tmp_path / f"got{number}").iterdir()))
            assert set(arrived) == uids(figures), (model, keys)
            for uid, content in arrived.items():
                if int(uid[-1]) % 2 == 0:
                    assert data_set_of(content) == data_set_of(files[uid])
                else:
                    assert dcmread(tmp_path / "files" / f"{uid}.dcm") == dcmread_bytes(content)
        assert get(ours, "-S", {"QueryRetrieveLevel": "STUDY"}, tmp_path / "bad").status == 0xA900


def dcmread_bytes(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def get_by_pynetdicom(
    daemon: Daemon, syntaxes: Sequence[str], on_store: Callable[[Any, Any], int], study: str = "1.2.7.1"
) -> Dataset:
    """C-GET a study with pynetdicom; `on_store` has the association and the event. Gives the final response."""
    ae = AE("TESTER")
    ae.add_requested_context(STUDY_ROOT_GET)
    ae.add_requested_context(CT, list(syntaxes))
    association = ae.associate(
        "127.0.0.1",
        daemon.dicom_port,
        ae_title="SENDRS",
        ext_neg=[build_role(CT, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: on_store(association, event))],
    )
    assert association.is_established
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", study
    responses = [status for status, _ in association.send_c_get(keys, STUDY_ROOT_GET)]
    association.release()
    return responses[-1]


def test_a_requestor_that_takes_implicit_only_gets_what_is_stored_so(tmp_path: Path) -> None:
    with Daemon(tmp_path / "sendrs") as ours:
        files = fill(ours, tmp_path / "files")
        got: dict[str, bytes] = {}

        def store(association: Any, event: Any) -> int:
            got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
            return 0

        last = get_by_pynetdicom(ours, [ImplicitVRLittleEndian], store)
        counters = (last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations)
        assert (last.Status, counters) == (0xB000, (2, 1))
        assert got == {uid: data_set_of(files[uid]) for uid in ("1.2.9.1", "1.2.9.3")}


@dataclass
class Seen:
    """What a destination saw of each C-STORE."""

    uid: str
    priority: int
    originator: str
    message_id: int
    calling_aet: str


@dataclass
class Destination:
    """pynetdicom as Storage SCP: notes what it sees, answers as it is told, slowly if `pause_s`."""

    port: int = field(default_factory=free_port)
    seen: list[Seen] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    pause_s: float = 0.0

    def store(self, event: Any) -> int:
        request = event.request
        uid = str(request.AffectedSOPInstanceUID)
        self.seen.append(
            Seen(
                uid,
                request.Priority,
                str(request.MoveOriginatorApplicationEntityTitle or "").strip(),
                request.MoveOriginatorMessageID or 0,
                event.assoc.requestor.ae_title.strip(),
            )
        )
        time.sleep(self.pause_s)
        return self.statuses.get(uid, 0)

    @contextmanager
    def listening(self, *sop_classes: str) -> Iterator[Destination]:
        ae = AE("VIEWER")
        for sop_class in sop_classes or (CT, MR):
            ae.add_supported_context(sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)])
        try:
            yield self
        finally:
            server.shutdown()


def test_req_109_the_destination_sees_who_invoked_the_move(tmp_path: Path) -> None:
    """REQ-109: Move Originator is movescu, not we; the association is ours (REQ-108)."""
    with Destination().listening() as viewer, Daemon(tmp_path / "sendrs", destination("viewer", viewer.port)) as ours:
        fill(ours, tmp_path / "files")
        assert move(ours, "-S", STUDY).status == 0
        assert {(one.originator, one.calling_aet) for one in viewer.seen} == {("TESTER", "SENDRS")}
        assert {one.message_id for one in viewer.seen} == {1}, "movescu's first message"
        assert len({one.uid for one in viewer.seen}) == 3


def test_req_117_a_destination_that_refuses_a_class_fails_that_instance_only(tmp_path: Path) -> None:
    """REQ-117, REQ-112, REQ-119: and a warning is no failure."""
    viewer = Destination(statuses={"1.2.9.2": 0xB000})
    with viewer.listening(CT), Daemon(tmp_path / "sendrs", destination("viewer", viewer.port)) as ours:
        fill(ours, tmp_path / "files", [*ARCHIVE, instance(6, "P1", 1, 1, MR)])
        answer = move(ours, "-S", STUDY)
        assert (answer.status, answer.completed, answer.failed, answer.warning) == (0xB000, "2", "1", "1")
        assert "Data Set                      : present" in answer.text
        assert sorted(one.uid for one in viewer.seen) == ["1.2.9.1", "1.2.9.2", "1.2.9.3"], "no warning is repeated"
        only_that = {
            **STUDY,
            "QueryRetrieveLevel": "IMAGE",
            "SeriesInstanceUID": "1.2.8.1",
            "SOPInstanceUID": "1.2.9.6",
        }
        assert move(ours, "-S", only_that).status == 0xA702


def test_req_120_movescu_cancels(tmp_path: Path) -> None:
    """REQ-120, REQ-118: Pending as configured, then FE00 with what was not begun."""
    viewer = Destination(pause_s=0.2)
    config = f"[dicom]\nmove_pending_s = 0.1\n{destination('viewer', viewer.port)}associations = 1\n"
    with viewer.listening(), Daemon(tmp_path / "sendrs", config) as ours:
        fill(ours, tmp_path / "files", [instance(number, "P1", 1, 1) for number in range(1, 61)])
        answer = move(ours, "-S", STUDY, "--cancel", "3")
        assert answer.status == 0xFE00, answer.text[-2000:]
        assert answer.pending >= 3
        done, left = int(answer.completed), int(answer.remaining)
        assert (done + left, int(answer.failed)) == (60, 0)
        assert left > 30
        wait_until(lambda: len(viewer.seen) == done, WAIT_S, "the destination to have what was reported")
        time.sleep(1.0)
        assert len(viewer.seen) == done, "nothing is sent after the answer"


def test_a_get_is_cancelled(tmp_path: Path) -> None:
    """getscu has no such option: pynetdicom."""
    with Daemon(tmp_path / "sendrs") as ours:
        fill(ours, tmp_path / "files", [instance(number, "P1", 1, 1) for number in range(1, 61)])
        got: list[str] = []

        def store(association: Any, event: Any) -> int:
            got.append(str(event.request.AffectedSOPInstanceUID))
            if len(got) == 5:
                association.send_c_cancel(1, None, STUDY_ROOT_GET)
            return 0

        last = get_by_pynetdicom(ours, [ExplicitVRLittleEndian], store)
        assert last.Status == 0xFE00
        assert last.NumberOfCompletedSuboperations == len(got) < 60
        assert last.NumberOfRemainingSuboperations == 60 - len(got)


def asked_to_move(ours: Daemon) -> Association:
    """Ask that the study goes to VIEWER and read the first response; the association stays."""
    ae = AE("TESTER")
    ae.add_requested_context(STUDY_ROOT_MOVE)
    association = ae.associate("127.0.0.1", ours.dicom_port, ae_title="SENDRS")
    assert association.is_established
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.7.1"
    next(association.send_c_move(keys, "VIEWER", STUDY_ROOT_MOVE))
    return association


def test_req_122_the_send_goes_on_when_movescu_goes(tmp_path: Path) -> None:
    """REQ-122."""
    viewer = Destination(pause_s=0.05)
    config = f"[dicom]\nmove_pending_s = 0.1\n{destination('viewer', viewer.port)}associations = 1\n"
    with viewer.listening(), Daemon(tmp_path / "sendrs", config) as ours:
        fill(ours, tmp_path / "files", [instance(number, "P1", 1, 1) for number in range(1, 31)])
        asked_to_move(ours).abort()
        wait_until(lambda: len(viewer.seen) == 30, WAIT_S, "the rest to arrive")
        assert "association of a C-MOVE lost" in ours.log()
        wait_until(
            lambda: (
                [(job["remaining"], job["completed"]) for job in json.loads(ours.cli("jobs", "--json").stdout)]
                == [(0, 30)]
            ),
            WAIT_S,
            "the job to end",
        )


def test_a_move_to_a_destination_that_is_down_fails_in_time(tmp_path: Path) -> None:
    config = f"{destination('viewer', free_port())}[sending]\nmove_retry_s = 2\n"
    with Daemon(tmp_path / "sendrs", config) as ours:
        fill(ours, tmp_path / "files")
        answer = move(ours, "-S", STUDY)
        assert (answer.status, answer.completed, answer.failed) == (0xA702, "0", "3")


def orthanc_post(orthanc: Orthanc, path: str, body: object) -> Any:
    request = urllib.request.Request(
        orthanc.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_orthanc_queries_and_retrieves_from_us(tmp_path: Path) -> None:
    port = free_port()
    settings = {"DicomModalities": {"us": ["SENDRS", "127.0.0.1", port]}}
    with Orthanc(tmp_path / "orthanc", settings=settings) as orthanc:
        config = f'[dicom]\nlisten = "127.0.0.1:{port}"\n{destination("orthanc", orthanc.dicom_port)}'
        with Daemon(tmp_path / "sendrs", config) as ours:
            fill(ours, tmp_path / "files")
            for level, query, figures in (
                ("Series", {"StudyInstanceUID": "1.2.7.1", "SeriesInstanceUID": "1.2.8.2"}, "3"),
                ("Study", {"PatientID": "P1"}, "1234"),
                ("Patient", {"PatientID": "P2"}, "12345"),
            ):
                found = orthanc_post(orthanc, "/modalities/us/query", {"Level": level, "Query": query})
                orthanc_post(orthanc, f"{found['Path']}/retrieve", {"TargetAet": orthanc.ae_title, "Synchronous": True})
                assert set(orthanc.instances()) == uids(figures), ours.log()[-3000:]


def test_a_move_outlasts_the_idle_time_of_its_association(tmp_path: Path) -> None:
    """REQ-118: without Pending responses nothing moves on it, and yet it is not idle."""
    viewer = Destination(pause_s=0.3)
    config = f"[dicom]\nmove_pending_s = 0\nidle_s = 1\n{destination('viewer', viewer.port)}associations = 1\n"
    with viewer.listening(), Daemon(tmp_path / "sendrs", config) as ours:
        fill(ours, tmp_path / "files", [instance(number, "P1", 1, 1) for number in range(1, 11)])
        answer = move(ours, "-S", STUDY)
        assert (answer.status, answer.completed, answer.pending) == (0, "10", 0)


def test_a_move_goes_on_after_a_kill(tmp_path: Path) -> None:
    """REQ-122: the association is lost with the process; what was asked for is in the journal."""
    viewer = Destination(pause_s=0.1)
    config = f"[dicom]\nmove_pending_s = 0.1\n{destination('viewer', viewer.port)}associations = 1\n"
    with viewer.listening(), Daemon(tmp_path / "sendrs", config) as ours:
        fill(ours, tmp_path / "files", [instance(number, "P1", 1, 1) for number in range(1, 31)])
        asked_to_move(ours)
        ours.kill9()
        ours.start()
        wait_until(lambda: len({one.uid for one in viewer.seen}) == 30, WAIT_S, "the rest to arrive")
        assert {one.originator for one in viewer.seen} == {"TESTER"}


def test_the_examples_of_the_page_print_what_it_says(tmp_path: Path) -> None:
    """docs/query-retrieve.md, from Retrieve on."""
    page = PAGE.read_text().partition("\n## Retrieve")[2]
    [settings] = [block.text for block in blocks(page) if block.language == "toml"]
    asked = examples(page)
    with StoreScp(tmp_path / "viewer") as viewer:
        there = settings.replace('"10.1.2.3"', '"127.0.0.1"').replace("= 104", f"= {viewer.port}")
        assert there != settings
        with Daemon(tmp_path / "sendrs", there) as ours:
            assert stow(ours.http_port, "/dicom-web/studies", [FILE.read_bytes()])
            programs = Path(require("getscu")).parent  # pynetdicom puts one of its own beside our interpreter
            environment = {
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}:{Path(sys.executable).parent}",
                "HOST": "127.0.0.1",
                "PORT": str(ours.dicom_port),
                "CONFIG": str(ours.config_file),
                "COLUMNS": "250",
            }
            code, printed = run([example.commands for example in asked], tmp_path, environment)
    for example, text in zip(asked, printed, strict=False):
        assert is_as_written(example.printed, text), f"the page says\n{example.printed}--- printed\n{text}"
    assert (code, len(printed)) == (0, len(asked))


def held_by(daemon: Daemon) -> set[str]:
    request = urllib.request.Request(f"{daemon.url}/instances", headers={"Accept": "application/dicom+json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {item["00080018"]["Value"][0] for item in json.load(answer)}


def test_req_125_a_move_to_a_destination_that_is_reached_by_stow(tmp_path: Path) -> None:
    """REQ-125, REQ-127, REQ-128: movescu knows an AE title and sees nothing of HTTP."""
    with Daemon(tmp_path / "cloud") as cloud:
        config = f'[destinations.cloud]\nkind = "stow-rs"\nurl = "{cloud.url}"\n'
        with Daemon(tmp_path / "sendrs", config) as ours:
            fill(ours, tmp_path / "files")
            answer = move(ours, "-S", STUDY, to="CLOUD")
            assert (answer.status, answer.completed, answer.remaining) == (0, "3", "none")
            assert held_by(cloud) == uids("123")


def test_req_136_a_move_goes_the_other_way_when_one_is_down(tmp_path: Path) -> None:
    """REQ-136, REQ-138: one set of counters, whichever way each instance went."""
    with StoreScp(tmp_path / "viewer") as viewer:
        ways = 'deliver = ["stow-rs", "c-store"]\n'
        stow_rs = f'[destinations.viewer.stow_rs]\nurl = "http://127.0.0.1:{free_port()}/dicom-web"\n'
        config = f"{destination('viewer', viewer.port)}{ways}{stow_rs}"
        with Daemon(tmp_path / "sendrs", config) as ours:
            fill(ours, tmp_path / "files")
            answer = move(ours, "-S", STUDY)
            assert (answer.status, answer.completed, answer.failed) == (0, "3", "0")
            assert set(by_uid(viewer.files())) == uids("123")
