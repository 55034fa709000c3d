"""SEND-RS against the real daemon, with real destinations: another daemon for STOW-RS, dcmtk for C-STORE (Sup 248)."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peers import Daemon, StoreScp, free_port, wait_until
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"
JOB = "1.1.99999.20250901"
JSON = {"Accept": "application/dicom+json", "Host": "www.hospital-stmarco"}
EXAMPLE = "destination=https%3A%2F%2Fanother.server/stow&PatientID=11235813"
"""The query of Annex B.X1; the URL is an alias of the destination."""
PENDING = """[ { "00000900": { "vr": "US", "Value": [ 65280 ] }
  , "00001020": { "vr": "US", "Value": [ 5 ] }
  , "00001021": { "vr": "US", "Value": [ 0 ] }
  , "00001022": { "vr": "US", "Value": [ 0 ] }
  , "00001023": { "vr": "US", "Value": [ 0 ] }
} ]"""
COMPLETED = """[ { "00000900": { "vr": "US", "Value": [ 0 ] }
  , "00001021": { "vr": "US", "Value": [ 5 ] }
  , "00001022": { "vr": "US", "Value": [ 0 ] }
  , "00001023": { "vr": "US", "Value": [ 0 ] }
} ]"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def module(self) -> dict[str, list[Any]]:
        [module] = json.loads(self.body)
        return {tag: element["Value"] for tag, element in module.items()}

    @property
    def counters(self) -> tuple[int, int, int]:
        completed, failed, warning = (self.module[tag][0] for tag in ("00001021", "00001022", "00001023"))
        return completed, warning, failed


def ask(
    daemon: Daemon, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
    connection.request(method, path, body=body, headers=JSON if headers is None else headers)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


def send(daemon: Daemon, resource: str, query: str, uid: str = JOB, wait: int = 0) -> Answer:
    headers = {**JSON, "Prefer": f"wait={wait}"} if wait else JSON
    return ask(daemon, "POST", f"/radiology/{resource}/send-requests/{uid}?{query}", headers)


def check(daemon: Daemon, resource: str, uid: str = JOB) -> Answer:
    return ask(daemon, "GET", f"/radiology/{resource}/send-requests/{uid}")


def wait_for_the_end(daemon: Daemon, resource: str, uid: str = JOB) -> Answer:
    def ended() -> bool:
        time.sleep(0.2)
        return check(daemon, resource, uid).status == 200

    wait_until(ended, 30.0, f"the end of the send request\n{daemon.log()[-3000:]}")
    return check(daemon, resource, uid)


def instance(
    number: int,
    study: int,
    series: int,
    *,
    patient: str = "11235813",
    sop_class: str = CT,
    modality: str = "CT",
    syntax: UID = ExplicitVRLittleEndian,
) -> Dataset:
    """Make 1.2.9.<number> in series 1.2.8.<series> of study 1.2.7.<study>."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, f"1.2.9.{number}"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = f"1.2.7.{study}", f"1.2.8.{series}"
    data_set.PatientID, data_set.PatientName, data_set.Modality = patient, "Fibonacci^Leonardo", modality
    data_set.InstanceNumber, data_set.StudyDate = number, "20250901"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = syntax
    return data_set


def store(daemon: Daemon, folder: Path, *data_sets: Dataset) -> None:
    """Store by STOW-RS."""
    parts = []
    for data_set in data_sets:
        file = folder / f"{data_set.SOPInstanceUID}.dcm"
        data_set.save_as(file, enforce_file_format=True)
        parts.append(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n")
    content_type = 'multipart/related; type="application/dicom"; boundary=x'
    answer = ask(
        daemon, "POST", "/radiology/studies", {**JSON, "Content-Type": content_type}, b"".join(parts) + b"--x--\r\n"
    )
    assert answer.status == 200, answer.body


def example() -> list[Dataset]:
    """The three studies of the patient of Annex B.X1, and one of somebody else."""
    return [
        instance(1, 1, 1, sop_class=X_RAY, modality="DX"),
        instance(2, 1, 1, sop_class=X_RAY, modality="DX"),
        instance(3, 2, 2, sop_class=ENHANCED_CT),
        instance(4, 2, 3, sop_class=ENHANCED_CT),
        instance(5, 3, 4, sop_class=ULTRASOUND, modality="US"),
        instance(6, 4, 5, patient="somebody else"),
    ]


def held_by(daemon: Daemon) -> set[int]:
    """Which instances a daemon holds."""
    listed = json.loads(daemon.cli("unrouted", "--json").stdout)
    return {int(row["sop_instance_uid"].rpartition(".")[2]) for row in listed}


def numbers(scp: StoreScp) -> set[int]:
    return {int(path.name.rpartition(".")[2]) for path in scp.files()}


def origin(folder: Path, destinations: str, *, http: str = "", sending: str = "", rules: str = "") -> Daemon:
    web = '[http]\nbase_path = "/radiology"\nnames = ["www.hospital-stmarco", "h"]\n'
    return Daemon(folder / "origin", f"{web}{http}\n[sending]\n{sending}\n{destinations}\n", rules)


def archive_at(port: int, name: str = "archive") -> str:
    return (
        f'[destinations.{name}]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'
        'aliases = ["https://archive.example/dicom-web"]\n'
    )


def cloud_at(url: str) -> str:
    return f'[destinations.cloud]\nkind = "stow-rs"\nurl = "{url}"\naliases = ["https://another.server/stow"]\n'


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Daemon]:
    """Another server, not yet started."""
    daemon = Daemon(tmp_path / "another", '[dicom]\nae_title = "ANOTHER"\n')
    try:
        yield daemon
    finally:
        if daemon.is_running():
            daemon.stop()


def test_req_104_the_worked_example_of_annex_b_and_it_survives_kill_9(tmp_path: Path, another: Daemon) -> None:
    """REQ-011, REQ-012, REQ-015, REQ-023, REQ-040, REQ-104, REQ-106, O-29: three studies, five instances, by STOW-RS as
    their destination wants it; 202 and then 200.
    """
    with origin(tmp_path, cloud_at(another.url)) as daemon:
        store(daemon, tmp_path, *example())
        sent = send(daemon, "studies", EXAMPLE)
        assert (sent.status, json.loads(sent.body)) == (202, json.loads(PENDING))
        assert sent.headers["Content-Type"] == "application/dicom+json"
        assert int(sent.headers["Content-Length"]) == len(sent.body)
        assert int(sent.headers["Retry-After"]) > 0
        daemon.kill9()
        daemon.start()
        checked = check(daemon, "studies")
        assert (checked.status, json.loads(checked.body)) == (202, json.loads(PENDING))
        assert send(daemon, "studies", EXAMPLE).status == 409
        another.start()
        ended = wait_for_the_end(daemon, "studies")
        assert (ended.status, json.loads(ended.body)) == (200, json.loads(COMPLETED))
        assert "Retry-After" not in ended.headers
        assert held_by(another) == {1, 2, 3, 4, 5}
        assert another.log().count("stow request answered") < 5, "REQ-106: instances travel together"
        daemon.kill9()
        daemon.start()
        assert check(daemon, "studies").body == ended.body
        [job] = json.loads(daemon.cli("jobs", "--json").stdout)
        assert (job["origin"], job["resource"], job["destination"]) == ("send-rs", "studies", "cloud")


@pytest.mark.parametrize(
    ("resource", "query", "expected"),
    [
        ("studies", "StudyInstanceUID=1.2.7.2", {3, 4}),
        ("studies", "StudyInstanceUID=1.2.7.1,1.2.7.3", {1, 2, 5}),
        ("studies/1.2.7.2/series", "SeriesInstanceUID=1.2.8.3", {4}),
        ("studies/1.2.7.2/series", "", {3, 4}),
        ("studies/1.2.7.1/instances", "InstanceNumber=2", {2}),
        ("series", "Modality=CT&PatientID=11235813", {3, 4}),
        ("studies/1.2.7.1/series/1.2.8.1/instances", "InstanceNumber=1", {1}),
        ("studies/1.2.7.2/series/1.2.8.1/instances", "", set()),
        ("instances", "SOPInstanceUID=1.2.9.6,1.2.9.1", {1, 6}),
    ],
)
def test_req_023_to_028_each_resource_sends_what_matches_and_nothing_else(
    tmp_path: Path, resource: str, query: str, expected: set[int]
) -> None:
    """REQ-015, REQ-023, REQ-024, REQ-025, REQ-026, REQ-027, REQ-028, REQ-039, REQ-040, REQ-041: by C-STORE, as their
    destination wants it, over an alias.
    """
    with StoreScp(tmp_path / "scp") as scp, origin(tmp_path, archive_at(scp.port)) as daemon:
        store(daemon, tmp_path, *example())
        url = f"dicom://127.0.0.1:{scp.port}/ARCHIVE"
        answer = send(daemon, resource, f"destination={url}" + (f"&{query}" if query else ""), wait=20)
        assert (answer.status, answer.module["00000900"]) == (200, [0])
        assert answer.counters == (len(expected), 0, 0)
        assert numbers(scp) == expected
        assert check(daemon, resource).body == answer.body, "REQ-105"


def test_req_044_what_the_destination_does_not_take_has_failed_and_is_named(tmp_path: Path) -> None:
    """REQ-044, REQ-097, REQ-102: a mixed result, and one in which all failed."""
    files = [*example()[:5], instance(7, 3, 4, syntax=JPEGBaseline8Bit)]
    with StoreScp(tmp_path / "scp", None, accept="+x=") as scp, origin(tmp_path, archive_at(scp.port)) as daemon:
        store(daemon, tmp_path, *files)
        query = "destination=https://archive.example/dicom-web"
        mixed = send(daemon, "studies", f"{query}&PatientID=11235813", wait=20)
        assert (mixed.status, mixed.module["00000900"], mixed.counters) == (200, [0xB000], (5, 0, 1))
        assert mixed.module["00080058"] == ["1.2.9.7"]
        failed = send(daemon, "instances", f"{query}&SOPInstanceUID=1.2.9.7", uid="1.2.3", wait=20)
        assert (failed.status, failed.module["00000900"], failed.counters) == (200, [0xA702], (0, 0, 1))
        assert failed.module["00080058"] == ["1.2.9.7"]
        assert json.loads(daemon.cli("parked", "--json").stdout) == []


def test_o03_a_destination_that_is_never_there_fails_the_request_when_its_time_is_up(tmp_path: Path) -> None:
    with origin(tmp_path, archive_at(free_port()), sending="request_lifetime_s = 1.5") as daemon:
        store(daemon, tmp_path, *example())
        query = "destination=https://archive.example/dicom-web&PatientID=11235813"
        answer = send(daemon, "studies", query, wait=20)
        assert (answer.status, answer.module["00000900"], answer.counters) == (200, [0xA702], (0, 0, 5))
        assert sorted(answer.module["00080058"]) == [f"1.2.9.{n}" for n in range(1, 6)]


def test_o26_a_result_is_gone_after_its_time_and_unknown_after_another(tmp_path: Path) -> None:
    """REQ-064, REQ-065: 410, then 404; forgotten at the next start at the latest."""
    ttl = "result_ttl_s = 1\ntombstone_ttl_s = 1"
    with StoreScp(tmp_path / "scp") as scp, origin(tmp_path, archive_at(scp.port), http=ttl) as daemon:
        store(daemon, tmp_path, *example())
        query = "destination=https://archive.example/dicom-web&PatientID=11235813"
        assert send(daemon, "studies", query, wait=20).status == 200
        wait_until(lambda: check(daemon, "studies").status == 410, 10.0, "the result to be gone")
        assert send(daemon, "studies", query).status == 409
        time.sleep(1.5)
        daemon.stop()
        daemon.start()
        wait_until(lambda: check(daemon, "studies").status == 404, 10.0, "the request to be forgotten")
        assert send(daemon, "studies", query, wait=20).status == 200


def test_a_job_of_a_rule_is_shown_like_one_that_was_asked_for(tmp_path: Path) -> None:
    rules = (
        '[[rule]]\nname = "each"\nsend = ["archive"]\nmatch.Modality = "CT"\n\n'
        '[[rule]]\nname = "whole"\nwhen = "study"\nsend = ["archive"]\nmatch.Modality = "US"\n'
    )
    with StoreScp(tmp_path / "scp") as scp, origin(tmp_path, archive_at(scp.port), rules=rules) as daemon:
        store(daemon, tmp_path, *example())

        def jobs() -> list[dict[str, Any]]:
            listed: list[dict[str, Any]] = json.loads(daemon.cli("jobs", "--json").stdout)
            return listed

        wait_until(lambda: len(jobs()) == 2, 20.0, "both rules to fire")
        by_rule = {job["rule"]: job for job in jobs()}
        for rule, resource, count in (("each", "instances", 3), ("whole", "studies", 1)):
            assert by_rule[rule]["resource"] == resource
            uid = by_rule[rule]["transaction_uid"]
            assert wait_for_the_end(daemon, resource, uid).counters == (count, 0, 0)
            assert check(daemon, "series", uid).status == 404


def test_req_042_the_credentials_of_the_destination_are_used_and_not_the_clients(tmp_path: Path) -> None:
    """REQ-042: the configured bearer token; a token of the client is never passed on (O-11)."""
    seen: list[str | None] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    token = tmp_path / "token"
    token.write_text("ours\n")
    token.chmod(0o600)
    destination = cloud_at(f"http://127.0.0.1:{server.server_port}/stow") + f'bearer_token_file = "{token}"\n'
    try:
        with origin(tmp_path, destination) as daemon:
            store(daemon, tmp_path, *example())
            path = f"/radiology/studies/send-requests/{JOB}?{EXAMPLE}"
            answer = ask(daemon, "POST", path, {**JSON, "Authorization": "Bearer theirs"})
            assert answer.status == 202
            wait_until(lambda: bool(seen), 20.0, "a request at the destination")
    finally:
        server.shutdown()
        server.server_close()
    assert set(seen) == {"Bearer ours"}


def test_b86_b87_b88_b90_what_a_client_gets_wrong_is_told_by_the_real_server(tmp_path: Path) -> None:
    """REQ-013, REQ-037, O-12, O-49: through a real HTTP server, with a head and a body as they come."""
    with origin(tmp_path, archive_at(free_port())) as daemon:
        store(daemon, tmp_path, *example())
        path = f"/radiology/studies/send-requests/{JOB}"
        query = "destination=https://archive.example/dicom-web&PatientID=11235813"
        assert ask(daemon, "POST", f"{path}?{query}", body=b"{}").status == 400
        chunked = {**JSON, "Transfer-Encoding": "chunked"}
        assert ask(daemon, "POST", f"{path}?{query}", chunked, b"2\r\n{}\r\n0\r\n\r\n").status == 400
        assert ask(daemon, "POST", f"{path}?{query}", {"Host": "h"}).status == 406
        assert ask(daemon, "GET", path).status == 404, "nothing of these was taken"
        ours = f"destination=http://127.0.0.1:{daemon.http_port}/radiology&PatientID=1"
        assert ask(daemon, "POST", f"{path}?{ours}").status == 403
        assert ask(daemon, "POST", f"{path}?{query}").status == 202
        head = ask(daemon, "HEAD", path)
        assert (head.status, head.body) == (202, b"")
        deleted = ask(daemon, "DELETE", path)
        assert (deleted.status, deleted.headers["Allow"]) == (405, "GET, HEAD, POST")
        assert ask(daemon, "GET", "/radiology/studies/send-requests").status == 404
        assert ask(daemon, "GET", path).status == 202
