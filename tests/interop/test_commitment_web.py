"""Storage commitment over the web against the real daemon, by curl, and through both proxies with two daemons
(PS3.18 chapter 13; PS3.17 B.30).
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from peers import Daemon, Orthanc, free_port, require, run_dcmtk, wait_until
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pynetdicom import AE, evt

from router.dicom.commitment import Reference, Ruling
from router.dicom.json_model import encode_object, in_order
from router.dicom.uids import Uid, new_uid
from router.dicomweb.commitment_module import read_response, request_module
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.one_data_set import read_one

pytestmark = pytest.mark.interop

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = [TEST_FILES / name for name in ("CT_small.dcm", "MR_small.dcm")]
JSON, XML = "application/dicom+json", "application/dicom+xml"
PUSH_MODEL, PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
WAIT_S = 30.0
NOWHERE = Reference(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("2.25.404"), Uid("2.25.1"), Uid("2.25.2"))
NO_SUCH_OBJECT_INSTANCE = 0x0112


def reference(file: Path, *, by_study: bool) -> Reference:
    data_set = dcmread(file, stop_before_pixels=True)
    study, series = (data_set.StudyInstanceUID, data_set.SeriesInstanceUID) if by_study else ("", "")
    return Reference(*(Uid(str(uid)) for uid in (data_set.SOPClassUID, data_set.SOPInstanceUID, study, series)))


def references(*, by_study: bool) -> list[Reference]:
    """Those that are stored, and one that is nowhere."""
    last = NOWHERE if by_study else Reference(NOWHERE.sop_class_uid, NOWHERE.sop_instance_uid)
    return [*(reference(file, by_study=by_study) for file in FILES), last]


def expected(asked: Sequence[Reference]) -> tuple[Ruling, ...]:
    return (*map(Ruling, asked[:-1]), Ruling(asked[-1], NO_SUCH_OBJECT_INSTANCE))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def rulings(self, asked: Sequence[Reference]) -> tuple[Ruling, ...] | None:
        return read_response(read_one(self.headers["content-type"], self.body), asked)


def curl(*arguments: str, body: bytes = b"") -> Answer:
    done = subprocess.run(
        [require("curl"), "-sS", "-i", "--max-time", "60", *arguments], input=body, capture_output=True, check=True
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, content)


def post(url: str, uid: str, asked: Sequence[Reference], kind: str = JSON, *more: str) -> Answer:
    module = in_order(request_module(asked))
    body = encode_object(module) if kind == JSON else encode_xml(module)
    headers = ["-H", f"Content-Type: {kind}", "-H", f"Accept: {kind}", *more]
    return curl(*headers, "--data-binary", "@-", f"{url}/commitment-requests/{uid}", body=body)


def get(url: str, uid: str, kind: str = JSON) -> Answer:
    return curl("-H", f"Accept: {kind}", f"{url}/commitment-requests/{uid}")


def until_200(url: str, uid: str, kind: str = JSON) -> Answer:
    """Poll as Retry-After says; each answer before is 202 without a payload."""
    answers: list[Answer] = []

    def is_finished() -> bool:
        answers.append(get(url, uid, kind))
        return answers[-1].status == 200

    wait_until(polite(is_finished), WAIT_S, f"the result of {uid}")
    for answer in answers[:-1]:
        assert answer.status == 202
        assert answer.body == b""
        assert int(answer.headers["retry-after"]) > 0
    return answers[-1]


def polite(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Look ten times a second at the most: a caller who polls faster is told so (429)."""
    pauses = iter(range(10**6))

    def slower() -> bool:
        return next(pauses) % 20 == 0 and condition()

    return slower


def store(port: int, called: str = "SENDRS") -> None:
    run_dcmtk(["storescu", "-aec", called, "127.0.0.1", str(port), *FILES])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("sendrs")) as running:
        store(running.dicom_port)
        yield running


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize("by_study", [False, True])
def test_a_request_by_curl_is_answered_in_its_form_and_its_media_type(
    daemon: Daemon, kind: str, by_study: bool
) -> None:
    asked, uid = references(by_study=by_study), new_uid()
    answer = post(daemon.url, uid, asked, kind)
    if answer.status == 202:
        assert answer.body == b""
        assert int(answer.headers["retry-after"]) > 0
        answer = until_200(daemon.url, uid, kind)
    assert answer.status == 200
    assert answer.headers["content-type"] == kind
    assert answer.rulings(asked) == expected(asked)
    module = read_one(answer.headers["content-type"], answer.body)
    assert set(module) == ({"00081110", "0008119B"} if by_study else {"00081198", "00081199"})
    if kind == JSON:
        assert isinstance(json.loads(answer.body), dict)


def test_prefer_wait_brings_the_result_at_once(daemon: Daemon) -> None:
    asked = references(by_study=False)
    answer = post(daemon.url, new_uid(), asked, JSON, "-H", "Prefer: wait=20")
    assert answer.status == 200
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.rulings(asked) == expected(asked)


def test_o25_a_uid_is_used_once_and_what_is_unknown_is_404(daemon: Daemon) -> None:
    asked, uid = references(by_study=True), new_uid()
    assert get(daemon.url, uid).status == 404
    assert post(daemon.url, uid, asked).status in (200, 202)
    for again in (asked, references(by_study=False)[:1]):
        answer = post(daemon.url, uid, again)
        assert answer.status == 409
        assert answer.headers["content-type"] == "application/problem+json"
    assert until_200(daemon.url, uid).rulings(asked) == expected(asked)
    assert get(daemon.url, "1.02").status == 400


def test_a_result_is_given_up_in_the_end_and_its_uid_remembered_for_a_while(tmp_path: Path) -> None:
    with Daemon(tmp_path, '[commitment]\nresult_ttl_s = "1s"\ntombstone_ttl_s = "1h"\n') as daemon:
        uid, asked = new_uid(), [Reference(NOWHERE.sop_class_uid, NOWHERE.sop_instance_uid)]
        assert post(daemon.url, uid, asked).status in (200, 202)
        wait_until(polite(lambda: get(daemon.url, uid).status == 410), WAIT_S, "the result to be given up")
        assert post(daemon.url, uid, asked).status == 409


def test_a_request_outlives_a_crash(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, '[commitment]\nmeans = "delivered"\n')
    with daemon:
        store(daemon.dicom_port)
        asked, uid = references(by_study=True), new_uid()
        assert post(daemon.url, uid, asked).status in (200, 202)
        daemon.kill9()
        daemon.start()
        assert until_200(daemon.url, uid).rulings(asked) == expected(asked)


class Requester:
    """A DIMSE requester that keeps its association open for the report, and listens for it on its own port too."""

    def __init__(self) -> None:
        self.port = free_port()
        self.reports: list[tuple[int, Dataset]] = []
        self._ae = AE(ae_title="REQUESTER")
        self._ae.add_requested_context(PUSH_MODEL)
        self._ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        self._handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._report)]

    def _report(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        return 0x0000, None

    def ask(
        self,
        port: int,
        called: str,
        uid: str,
        asked: Sequence[Reference],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask, and wait for the report."""
        information = Dataset()
        information.TransactionUID = uid
        information.ReferencedSOPSequence = [_item(one) for one in asked]
        association = self._ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=self._handlers)
        assert association.is_established
        try:
            status, _ = association.send_n_action(information, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
            assert status.Status == 0x0000
            meanwhile()
            wait_until(lambda: bool(self.reports), WAIT_S, "the N-EVENT-REPORT")
        finally:
            association.release()


def _item(one: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    return item


def test_a_dimse_requester_gets_its_report_from_a_dicomweb_server(daemon: Daemon, tmp_path: Path) -> None:
    requester, uid, asked = Requester(), new_uid(), references(by_study=False)
    with Daemon(tmp_path, web_proxy(daemon.url)) as front:
        requester.ask(front.dicom_port, "FAR", uid, asked)
    [(event_type, report)] = requester.reports
    assert event_type == 2
    assert report.TransactionUID == uid
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [
        one.sop_instance_uid for one in asked[:-1]
    ]
    [failed] = report.FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == NOWHERE.sop_instance_uid
    assert failed.FailureReason == NO_SUCH_OBJECT_INSTANCE


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize("by_study", [False, True])
def test_a_web_requester_gets_its_result_from_a_dimse_scp_in_its_own_form(
    daemon: Daemon, tmp_path: Path, by_study: bool, kind: str
) -> None:
    with Daemon(tmp_path, dimse_proxy(daemon.ae_title, daemon.dicom_port)) as front:
        url, uid, asked = front.url.replace("/dicom-web", "/pacs"), new_uid(), references(by_study=by_study)
        answer = post(url, uid, asked, kind)
        assert answer.status == 202
        assert answer.body == b""
        assert post(url, uid, asked, kind).status == 409
        answer = until_200(url, uid, kind)
        assert answer.headers["content-type"] == kind
        assert answer.rulings(asked) == expected(asked)
        module = read_one(answer.headers["content-type"], answer.body)
        assert set(module) == ({"00081110", "0008119B"} if by_study else {"00081198", "00081199"})
        capabilities = curl("-X", "OPTIONS", "-H", "Accept: application/json", f"{url}/")
        assert capabilities.status == 200
        assert b"requestStorageCommitment" in capabilities.body


def test_a_web_requester_gets_its_result_from_orthanc(tmp_path: Path) -> None:
    front_port = free_port()
    modalities = {"sendrs": ["SENDRS", "127.0.0.1", front_port]}
    with Orthanc(tmp_path / "orthanc", settings={"DicomModalities": modalities}) as orthanc:
        store(orthanc.dicom_port, orthanc.ae_title)
        settings = f'[dicom]\nlisten = "127.0.0.1:{front_port}"\n' + dimse_proxy(orthanc.ae_title, orthanc.dicom_port)
        with Daemon(tmp_path / "sendrs", settings) as front:
            url, uid, asked = front.url.replace("/dicom-web", "/pacs"), new_uid(), references(by_study=True)
            assert post(url, uid, asked).status == 202
            rulings = until_200(url, uid).rulings(asked)
    assert rulings is not None
    assert [one.failure_reason for one in rulings[:-1]] == [None] * len(FILES)
    assert rulings[-1].failure_reason is not None


def test_a_dicomweb_server_that_is_away_is_asked_when_it_is_back(tmp_path: Path) -> None:
    server, requester, uid = Daemon(tmp_path / "server"), Requester(), new_uid()
    asked = [Reference(NOWHERE.sop_class_uid, NOWHERE.sop_instance_uid)]
    with Daemon(tmp_path / "front", web_proxy(server.url)) as front:

        def come_back() -> None:
            wait_until(lambda: "commitment not asked" in front.log(), WAIT_S, "the first attempt")
            server.start()

        with server_in_the_end(server):
            requester.ask(front.dicom_port, "FAR", uid, asked, meanwhile=come_back)
    [(event_type, report)] = requester.reports
    assert event_type == 2
    assert report.TransactionUID == uid


def test_a_web_request_outlives_the_crash_of_the_proxy_and_the_absence_of_the_dimse_scp(tmp_path: Path) -> None:
    scp = Daemon(tmp_path / "scp")
    asked, uid = [NOWHERE], new_uid()
    with Daemon(tmp_path / "front", dimse_proxy(scp.ae_title, scp.dicom_port)) as front:
        url = front.url.replace("/dicom-web", "/pacs")
        assert post(url, uid, asked).status == 202
        wait_until(lambda: "commitment not asked" in front.log(), WAIT_S, "the first attempt")
        front.kill9()
        with scp:
            front.start()
            assert until_200(url, uid).rulings(asked) == (Ruling(NOWHERE, NO_SUCH_OBJECT_INSTANCE),)


def test_what_was_sent_by_stow_rs_is_delivered_when_the_server_has_committed_to_it(tmp_path: Path) -> None:
    rules = '[[rule]]\nname = "all"\nsend = ["far"]\n'
    with Daemon(tmp_path / "server") as server:
        settings = f'[destinations.far]\nkind = "stow-rs"\nurl = "{server.url}"\nconfirm = "commitment"\n'
        with Daemon(tmp_path / "front", settings, rules) as front:
            store(front.dicom_port)
            finished = "SELECT count(*) FROM sub_operation WHERE state = 'completed'"
            wait_until(lambda: _count(front, finished) == len(FILES), WAIT_S, "both to be delivered")
        assert _count(server, "SELECT count(*) FROM commitment_item WHERE ruled = 1 AND failure_reason IS NULL") == 2


def dimse_proxy(ae_title: str, port: int) -> str:
    return f"""
[proxies.pacs]
base_path = "/pacs"
[proxies.pacs.upstream]
kind = "dimse"
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
"""


def web_proxy(url: str) -> str:
    return f"""
[proxies.far]
ae_title = "FAR"
[proxies.far.upstream]
kind = "dicomweb"
url = "{url}"
"""


@contextmanager
def server_in_the_end(server: Daemon) -> Iterator[None]:
    """Stop a server that was started inside."""
    try:
        yield
    finally:
        if server.is_running():
            server.stop()


def _count(daemon: Daemon, query: str) -> int:
    """Read the journal of a daemon, which may be running."""
    file = daemon.state_folder / "journal.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
        return int(journal.execute(query).fetchone()[0])
