"""Both proxies against real peers: SEND-RS in front of a PACS that has DIMSE (Orthanc, dcmqrscp), and C-MOVE in front
of a SEND-RS server (another daemon). What is sent goes to dcmtk's storescp (Sup 248 B.X3, PS3.4 §C.4.2.3.1.2).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from peers import Daemon, DcmQrScp, Orthanc, Process, StoreScp, free_port, require, run_dcmtk, wait_until
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
JOB = "1.1.99999.20250901"
Pacs = Orthanc | DcmQrScp | Daemon
SLOW = ("--sleep-after", "1")
"""A storescp that needs a second for each instance."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def counters(self) -> tuple[int, int, int]:
        """Completed, warning, failed."""
        [module] = json.loads(self.body)
        completed, warning, failed = (module[tag]["Value"][0] for tag in ("00001021", "00001023", "00001022"))
        return completed, warning, failed

    @property
    def failed_uids(self) -> list[str]:
        [module] = json.loads(self.body)
        return list(module.get("00080058", {}).get("Value", []))

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


def ask(daemon: Daemon, method: str, path: str, accept: str = "application/dicom+json") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
    connection.request(method, path, headers={"Accept": accept})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


def instance(
    number: int, *, study: int, series: int, name: str = "Fibonacci^Leonardo", time_: str = "120000"
) -> Dataset:
    """Make 1.2.9.<number> in series 1.2.8.<series> of study 1.2.7.<study>."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = CT, f"1.2.9.{number}"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = f"1.2.7.{study}", f"1.2.8.{series}"
    data_set.PatientID, data_set.PatientName = name.partition("^")[0], name
    data_set.PatientBirthDate, data_set.PatientSex = "", "O"
    data_set.Modality, data_set.StudyID, data_set.AccessionNumber = "CT", f"S{study}", f"A{study}"
    data_set.InstanceNumber, data_set.SeriesNumber = number, series
    data_set.StudyDate, data_set.StudyTime = f"202509{study:02}", time_
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def example() -> list[Dataset]:
    """Two studies of one patient with three series, and one of somebody else."""
    return [
        instance(1, study=1, series=1),
        instance(2, study=1, series=1),
        instance(3, study=2, series=2),
        instance(4, study=2, series=3),
        instance(5, study=2, series=3),
        instance(6, study=3, series=4, name="Nobody^Else"),
    ]


def write(folder: Path, data_sets: Sequence[Dataset]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = []
    for data_set in data_sets:
        files.append(folder / f"{data_set.SOPInstanceUID}.dcm")
        data_set.save_as(files[-1], enforce_file_format=True)
    return files


def store(folder: Path, title: str, port: int, data_sets: Sequence[Dataset]) -> None:
    run_dcmtk(["storescu", "-aec", title, "127.0.0.1", port, *write(folder, data_sets)], nodelay=True)


def numbers(scp: StoreScp) -> list[int]:
    return sorted(int(path.name.rpartition(".")[2]) for path in scp.files())


# --- web → proxy → PACS → storescp ------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A daemon whose proxy stands before a PACS, and a storescp that the PACS knows as STORE."""

    daemon: Daemon
    pacs: Pacs
    scp: StoreScp

    @property
    def destination(self) -> str:
        return f"destination={quote(f'dicom://127.0.0.1:{self.scp.port}/STORE', safe='')}"

    def post(self, resource: str, query: str, uid: str = JOB, destination: str = "") -> Answer:
        to = destination or self.destination
        return ask(self.daemon, "POST", f"/pacs/{resource}/send-requests/{uid}?{to}&{query}")

    def get(self, resource: str, uid: str = JOB) -> Answer:
        return ask(self.daemon, "GET", f"/pacs/{resource}/send-requests/{uid}")

    def end(self, resource: str, uid: str = JOB) -> Answer:
        def ended() -> bool:
            time.sleep(0.2)
            return self.get(resource, uid).status == 200

        wait_until(ended, 60.0, f"the end of the send request\n{self.daemon.log()[-3000:]}")
        return self.get(resource, uid)

    def send(self, resource: str, query: str, uid: str) -> Answer:
        """Ask for it, and give the end."""
        answer = self.post(resource, query, uid)
        assert answer.status in (200, 202), (answer.body, self.daemon.log()[-3000:])
        return self.end(resource, uid)


def pacs_of(kind: str, folder: Path, scp_port: int) -> Pacs:
    if kind == "dcmqrscp":
        return DcmQrScp(folder / "pacs", {"STORE": scp_port})
    if kind == "sendrs":
        store = f'[destinations.store]\nkind = "dimse"\nae_title = "STORE"\nhost = "127.0.0.1"\nport = {scp_port}\n'
        return Daemon(folder / "pacs", store)
    settings = {
        "DicomModalities": {"store": ["STORE", "127.0.0.1", scp_port]},
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowFind": True,
    }
    return Orthanc(folder / "pacs", settings=settings, nodelay=True)


def kill_with_children(peer: Process) -> None:
    """dcmqrscp has a process of its own for each association."""
    children = Path(f"/proc/{peer.pid}/task/{peer.pid}/children").read_text().split()
    peer.kill9()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def dicom_port(pacs: Pacs) -> int:
    return pacs.port if isinstance(pacs, DcmQrScp) else pacs.dicom_port


@contextmanager
def a_scene(
    kind: str, folder: Path, *, more: str = "", upstream: str = "", options: Sequence[str] = ()
) -> Iterator[Scene]:
    with StoreScp(folder / "scp", None, *options) as scp, pacs_of(kind, folder, scp.port) as pacs:
        store(folder / "files", pacs.ae_title, dicom_port(pacs), example())
        config = (
            f'[proxies.archive]\nbase_path = "/pacs"\n\n[proxies.archive.upstream]\nkind = "dimse"\n'
            f'ae_title = "{pacs.ae_title}"\nhost = "127.0.0.1"\nport = {dicom_port(pacs)}\n{upstream}\n'
            f'[destinations.reading-room]\nkind = "dimse"\nae_title = "STORE"\nhost = "127.0.0.1"\nport = {scp.port}\n'
            f"{more}"
        )
        with Daemon(folder / "daemon", config) as daemon:
            yield Scene(daemon, pacs, scp)


@pytest.fixture(params=["orthanc", "dcmqrscp", "sendrs"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with a_scene(request.param, tmp_path) as made:
        yield made


def test_req_107_021_022_a_pacs_sends_what_is_asked_for_over_the_web(scene: Scene) -> None:
    """REQ-021, REQ-022, REQ-107; O-22, O-23, O-56: each mandatory resource, hierarchically; limit and offset."""
    first = scene.post("studies", "PatientName=Fib*", uid="1.1.1")
    assert first.status == 202, first.body
    assert 1 <= int(first.headers["Retry-After"]) <= 300
    assert scene.end("studies", "1.1.1").counters == (5, 0, 0)
    assert numbers(scene.scp) == [1, 2, 3, 4, 5]
    assert scene.send("studies/1.2.7.2/series", "SeriesNumber=3", "1.1.2").counters == (2, 0, 0)
    assert scene.send("studies/1.2.7.2/series/1.2.8.3/instances", "InstanceNumber=4", "1.1.3").counters == (1, 0, 0)
    assert scene.send("studies/1.2.7.2/series", "PatientID=Nobody", "1.1.4").counters == (0, 0, 0)
    assert scene.send("studies", "StudyDate=20250902-20250903&StudyTime=110000-130000", "1.1.5").counters == (4, 0, 0)
    paged = scene.post("studies", "PatientID=*&PatientName=Fib*&limit=1&offset=1", uid="1.1.6")
    assert scene.end("studies", "1.1.6").counters == (3, 0, 0)
    assert "additional results" not in (paged.headers["Warning"] or "")
    assert "additional results" in scene.post("studies", "PatientName=Fib*&limit=1", uid="1.1.7").headers["Warning"]


def test_req_022_o58_resources_across_levels_are_there_when_the_pacs_granted_them(scene: Scene) -> None:
    """REQ-021, REQ-022, O-58: what is advertised is there, and what is not is 404."""
    told = ask(scene.daemon, "OPTIONS", "/pacs", accept="application/json").body.decode()
    assert "/pacs" in told
    assert "sendStudies" in told
    answers = {
        "sendSeries": scene.post("series", "SeriesInstanceUID=1.2.8.3", uid="1.1.1"),
        "sendInstances": scene.post("instances", "SOPInstanceUID=1.2.9.3", uid="1.1.2"),
        "sendStudysInstances": scene.post("studies/1.2.7.2/instances", "PatientID=Fibonacci", uid="1.1.3"),
    }
    offered = {name: f'"{name}"' in told for name in answers}
    assert {name: answer.status in (200, 202) for name, answer in answers.items()} == offered, told[:500]
    assert all(offered.values()) or not isinstance(scene.pacs, Daemon), "sendrs grants them"
    if all(offered.values()):
        counters = [scene.end("series", "1.1.1"), scene.end("instances", "1.1.2")]
        assert [answer.counters for answer in counters] == [(2, 0, 0), (1, 0, 0)]
        assert scene.end("studies/1.2.7.2/instances", "1.1.3").counters == (3, 0, 0)
    else:
        assert {answer.status for answer in answers.values()} == {404}


def test_a_proxy_refuses_what_the_origin_server_refuses(scene: Scene) -> None:
    """400, 403, 404, 405, 406, 409; nothing is sent. Transaction UIDs are one space (O-25, O-27)."""
    unknown = quote("dicom://127.0.0.1:11/STORE", safe="")
    assert scene.post("studies", "PatientID=1", destination=f"destination={unknown}").status == 403
    assert scene.post("studies", "").status == 400
    assert scene.post("studies", "Rows=512").status == 400
    assert scene.post("studies", "NoSuchThing=1").status == 400
    assert scene.get("studies").status == 404
    assert ask(scene.daemon, "DELETE", f"/pacs/studies/send-requests/{JOB}").status == 405
    path = f"/pacs/studies/send-requests/{JOB}?{scene.destination}&PatientID=1"
    assert ask(scene.daemon, "POST", path, accept="image/png").status == 406
    assert scene.send("studies", "PatientID=nobody-at-all", JOB).counters == (0, 0, 0)
    assert scene.post("studies", "PatientID=1").status == 409
    ours = ask(scene.daemon, "POST", f"/dicom-web/studies/send-requests/{JOB}?{scene.destination}&PatientID=1")
    assert ours.status == 409
    assert ask(scene.daemon, "GET", f"/dicom-web/studies/send-requests/{JOB}").status == 404, "another resource"
    assert numbers(scene.scp) == []


def test_a_pacs_that_cannot_be_reached_is_said_to_be_so(scene: Scene) -> None:
    """503 with words and Retry-After; the next request finds it again."""
    scene.pacs.stop()
    answer = scene.post("studies", "PatientName=Fib*")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "archive behind this proxy" in answer.detail
    scene.pacs.start()
    assert scene.send("studies", "PatientName=Fib*", JOB).counters == (5, 0, 0)


@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_an_ae_title_that_the_pacs_does_not_know_fails_with_its_words(kind: str, tmp_path: Path) -> None:
    """O-56: the registered destination must be one of the PACS too."""
    more = (
        f'[destinations.elsewhere]\nkind = "dimse"\nae_title = "ELSEWHERE"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    with a_scene(kind, tmp_path, more=more) as scene:
        port = more.rpartition("= ")[2].strip()
        to = f"destination={quote(f'dicom://127.0.0.1:{port}/ELSEWHERE', safe='')}"
        assert scene.post("studies", "PatientName=Fib*", destination=to).status == 202
        end = scene.end("studies")
        assert end.counters == (0, 0, 5)
        assert sorted(end.failed_uids) == [f"1.2.9.{n}" for n in range(1, 6)]
        [job] = json.loads(scene.daemon.cli("jobs", "--json").stdout)
        assert (job["origin"], job["resource"], job["failed"]) == ("proxy", "/pacs/studies", 5)
        detail = json.loads(scene.daemon.cli("jobs", JOB, "--json").stdout)
        assert {line["state"] for line in detail["sub_operations"]} == {"failed"}
        assert all(line["reason"] for line in detail["sub_operations"])
        assert "archive" in scene.daemon.cli("status").stdout


@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_req_107_a_restart_of_ours_in_mid_move_loses_nothing(kind: str, tmp_path: Path) -> None:
    """What was not settled is asked for again."""
    with a_scene(kind, tmp_path, upstream="batch_instances = 1", options=SLOW) as scene:
        assert scene.post("studies", "PatientName=Fib*").status == 202
        wait_until(lambda: len(scene.scp.files()) >= 2, 30.0, f"the second instance\n{scene.daemon.log()[-2000:]}")
        scene.daemon.kill9()
        scene.daemon.start()
        assert scene.end("studies").counters == (5, 0, 0)
        assert numbers(scene.scp) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_req_107_a_restart_of_the_pacs_in_mid_move_is_waited_out(kind: str, tmp_path: Path) -> None:
    """The operator sees meanwhile what it waits for."""
    with a_scene(kind, tmp_path, options=SLOW) as scene:
        assert scene.post("studies", "PatientName=Fib*").status == 202
        wait_until(lambda: len(scene.scp.files()) >= 1, 30.0, f"the first instance\n{scene.daemon.log()[-2000:]}")
        kill_with_children(scene.pacs)

        def problem() -> str:
            [job] = json.loads(scene.daemon.cli("jobs", "--json").stdout)
            return str(job["problem"])

        wait_until(lambda: problem() != "", 30.0, f"the problem to be shown\n{scene.daemon.log()[-2000:]}")
        assert scene.get("studies").status == 202
        scene.pacs.start()
        assert scene.end("studies").counters == (5, 0, 0)
        assert numbers(scene.scp) == [1, 2, 3, 4, 5]
        assert problem() == ""


# --- movescu → proxy → SEND-RS server → storescp ----------------------------------------------------------------------


@dataclass
class Relay:
    """A daemon that is a proxy by the AE title FAR for another that has the instances, and a storescp called STORE."""

    near: Daemon
    far: Daemon
    scp: StoreScp

    def command(
        self, level: str, keys: Sequence[str], *options: str, to: str = "STORE", model: str = "-S"
    ) -> list[str]:
        chosen = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
        return [
            *("movescu", "-d", model, "-aet", "ME", "-aec", "FAR", "-aem", to, *options, *chosen),
            *("127.0.0.1", str(self.near.dicom_port)),
        ]

    def move(self, level: str, *keys: str, **how: Any) -> str:
        """Give what movescu says."""
        return run_dcmtk(self.command(level, keys, **how), check=False).stdout

    def start(self, level: str, *keys: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        program, *rest = self.command(level, keys, *options)
        return subprocess.Popen(
            [require(program), *rest], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )


@contextmanager
def a_relay(folder: Path, *options: str, count: int = 0) -> Iterator[Relay]:
    with StoreScp(folder / "scp", None, *options) as scp:
        to_store = f'[destinations.store]\nkind = "dimse"\nae_title = "STORE"\nhost = "127.0.0.1"\nport = {scp.port}\n'
        one_at_a_time = "associations = 1\n"
        more = f'[destinations.other]\nkind = "dimse"\nae_title = "OTHER"\nhost = "127.0.0.1"\nport = {free_port()}\n'
        with Daemon(folder / "far", f'[http]\nbase_path = "/far"\n{to_store}{one_at_a_time}') as far:
            store(folder / "files", far.ae_title, far.dicom_port, example() if not count else a_series(count))
            proxy = f'ae_title = "FAR"\n\n[proxies.remote.upstream]\nkind = "dicomweb"\nurl = "{far.url}"\n'
            with Daemon(folder / "near", f"[proxies.remote]\n{proxy}\n{to_store}{more}") as near:
                yield Relay(near, far, scp)


def a_series(count: int) -> list[Dataset]:
    return [instance(number, study=1, series=1) for number in range(1, count + 1)]


def responses(output: str) -> list[dict[str, str]]:
    """Read the C-MOVE responses of `movescu -d`."""
    found = []
    for text in re.split(r"Message Type +: C-MOVE RSP", output)[1:]:
        fields = {}
        for name, value in re.findall(r"D: ([A-Za-z ]+?) +: ([^\n]*)", text.partition("DIMSE Status")[0]):
            fields[name] = value.strip()
        status = re.search(r"DIMSE Status +: 0x([0-9a-f]{4})", text)
        fields["status"] = status.group(1) if status else ""
        found.append(fields)
    return found


def counted(response: dict[str, str]) -> tuple[str, str, str]:
    return response["Completed Suboperations"], response["Warning Suboperations"], response["Failed Suboperations"]


def test_req_142_145_146_a_c_move_becomes_a_send_request(tmp_path: Path) -> None:
    """REQ-142, REQ-145, REQ-146: at each level of both models; counters and status are those of the server."""
    with a_relay(tmp_path) as relay:
        cases = [
            (("STUDY", "StudyInstanceUID=1.2.7.2"), {}, "3"),
            (("SERIES", "StudyInstanceUID=1.2.7.2", "SeriesInstanceUID=1.2.8.3"), {}, "2"),
            (
                ("IMAGE", "StudyInstanceUID=1.2.7.2", "SeriesInstanceUID=1.2.8.3", "SOPInstanceUID=1.2.9.4\\1.2.9.5"),
                {},
                "2",
            ),
            (("PATIENT", "PatientID=Fibonacci"), {"model": "-P"}, "5"),
            (("STUDY", "StudyInstanceUID=1.2.7.99"), {}, "0"),
        ]
        for keys, how, completed in cases:
            output = relay.move(*keys, **how)
            last = responses(output)[-1]
            assert last["status"] == "0000", (keys, output[-3000:], relay.near.log()[-2000:])
            assert counted(last) == (completed, "0", "0"), keys
            assert last["Remaining Suboperations"] == "none", "REQ-114"
        assert numbers(relay.scp) == [1, 2, 3, 4, 5]
        jobs = json.loads(relay.far.cli("jobs", "--json").stdout)
        assert {job["origin"] for job in jobs} == {"send-rs"}
        assert json.loads(relay.near.cli("jobs", "--json").stdout) == [], "no sub-operation of ours (REQ-146)"


def test_req_142_pending_responses_are_the_modules_of_the_server(tmp_path: Path) -> None:
    """REQ-142, REQ-146: each 202 is a Pending response, whose counters add up to what matched."""
    with a_relay(tmp_path, *SLOW, count=4) as relay:
        told = responses(relay.move("STUDY", "StudyInstanceUID=1.2.7.1"))
        assert [one["status"] for one in told][-1] == "0000"
        pending = told[:-1]
        assert pending
        assert {one["status"] for one in pending} == {"ff00"}
        assert {sum(map(int, counted(one))) + int(one["Remaining Suboperations"]) for one in pending} == {4}


def test_what_cannot_be_passed_on_is_refused(tmp_path: Path) -> None:
    """An unknown Move Destination, one that the server does not know, and bad identifiers; C-FIND is not offered."""
    with a_relay(tmp_path) as relay:
        assert responses(relay.move("STUDY", "StudyInstanceUID=1.2.7.2", to="NOBODY"))[-1]["status"] == "a801"
        unknown_there = relay.move("STUDY", "StudyInstanceUID=1.2.7.2", to="OTHER")
        assert responses(unknown_there)[-1]["status"] == "a801", unknown_there[-2000:]
        assert responses(relay.move("STUDY", "StudyInstanceUID="))[-1]["status"] == "a900"
        assert responses(relay.move("SERIES", "SeriesInstanceUID=1.2.8.3"))[-1]["status"] == "a900"
        find = ["findscu", "-S", "-aec", "FAR", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID="]
        assert run_dcmtk([*find, "127.0.0.1", relay.near.dicom_port], check=False).returncode != 0
        relay.far.stop()
        unreachable = responses(relay.move("STUDY", "StudyInstanceUID=1.2.7.2"))[-1]
        assert unreachable["status"] == "a702"
        assert numbers(relay.scp) == []


def test_o05_a_cancel_is_answered_and_the_server_goes_on(tmp_path: Path) -> None:
    """O-05: FE00 with the counters of one last GET; Send has no cancel."""
    with a_relay(tmp_path, *SLOW, count=6) as relay:
        command = relay.command("STUDY", ["StudyInstanceUID=1.2.7.1"], "--cancel", "1")
        told = responses(run_dcmtk(command, check=False).stdout)
        assert told[-1]["status"] == "fe00"
        assert sum(map(int, counted(told[-1]))) + int(told[-1]["Remaining Suboperations"]) == 6
        wait_until(lambda: len(relay.scp.files()) == 6, 30.0, "the rest, which the server goes on sending")


def test_a_server_that_restarts_in_mid_move_is_waited_for(tmp_path: Path) -> None:
    """REQ-107: its journal remembers the request, so nothing is asked twice."""
    with a_relay(tmp_path, *SLOW, count=4) as relay:
        moving = relay.start("STUDY", "StudyInstanceUID=1.2.7.1")
        wait_until(lambda: len(relay.scp.files()) >= 1, 30.0, "the first instance")
        relay.far.kill9()
        relay.far.start()
        output, _ = moving.communicate(timeout=120)
        last = responses(output)[-1]
        assert last["status"] == "0000", (output[-2000:], relay.near.log()[-3000:])
        assert counted(last) == ("4", "0", "0")
        assert len(json.loads(relay.far.cli("jobs", "--json").stdout)) == 1


def test_a_scu_that_vanishes_ends_our_asking(tmp_path: Path) -> None:
    """REQ-122: the send goes on; it is logged."""
    with a_relay(tmp_path, *SLOW, count=4) as relay:
        moving = relay.start("STUDY", "StudyInstanceUID=1.2.7.1")
        wait_until(lambda: len(relay.scp.files()) >= 1, 30.0, "the first instance")
        moving.kill()
        moving.communicate(timeout=30)
        wait_until(lambda: "association of a C-MOVE lost" in relay.near.log(), 30.0, "the loss to be logged")
        wait_until(lambda: len(relay.scp.files()) == 4, 30.0, "the rest")
