"""Storage commitment with the daemon as a process: real Orthanc asks us and is asked by us; a scripted requester is
reported to on the association of its request, on a new one, after it was away, after we were away (PS3.4 Annex J).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from peers import Daemon, Orthanc, StoreScp, free_port, run_dcmtk, wait_until
from pydicom import Dataset, dcmread
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from router.cli.samples import ct_series

pytestmark = pytest.mark.interop

WAIT_S = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Told:
    """One N-EVENT-REPORT as it came in: how, and what it said of each instance (None: committed)."""

    transaction_uid: str
    event_type: int
    retrieve_aet: str
    reasons: dict[str, int | None]
    same_association: bool
    calling_aet: str


@dataclass
class Modality:
    """A requester of storage commitment, MODALITY on `port`; it listens while `listening`. While it is `busy` it takes
    no report on any association.
    """

    port: int = field(default_factory=free_port)
    busy: bool = False
    told: list[Told] = field(default_factory=list)

    def _take(self, event: evt.Event) -> tuple[int, None]:
        if self.busy:
            return 0x0110, None
        information = event.event_information
        reasons: dict[str, int | None] = {}
        for item in information.get("ReferencedSOPSequence", []):
            reasons[str(item.ReferencedSOPInstanceUID)] = None
        for item in information.get("FailedSOPSequence", []):
            assert str(item.ReferencedSOPInstanceUID) not in reasons
            reasons[str(item.ReferencedSOPInstanceUID)] = int(item.FailureReason)
        assert event.request.AffectedSOPInstanceUID == StorageCommitmentPushModelInstance
        self.told.append(
            Told(
                transaction_uid=str(information.TransactionUID),
                event_type=event.event_type,
                retrieve_aet=str(information.get("RetrieveAETitle", "")),
                reasons=reasons,
                same_association=event.assoc.is_requestor,
                calling_aet=str(event.assoc.requestor.ae_title),
            )
        )
        return 0x0000, None

    @contextmanager
    def listening(self) -> Iterator[None]:
        server_ae = AE(ae_title="MODALITY")
        server_ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        server = server_ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        try:
            yield
        finally:
            server.shutdown()

    @contextmanager
    def associated(self, daemon: Daemon, called: str = "SENDRS") -> Iterator[Association]:
        ae = AE(ae_title="MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        association = ae.associate(
            "127.0.0.1", daemon.dicom_port, ae_title=called, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        assert association.is_established
        try:
            yield association
        finally:
            association.release()
            ae.shutdown()

    def ask(
        self, daemon: Daemon, references: Sequence[tuple[str, str]], *, uid: str = "", stay_s: float = 0.0
    ) -> tuple[int, str]:
        """Ask for commitment to (class, instance); stay on the association until told, `stay_s` at most."""
        before = len(self.told)
        with self.associated(daemon) as association:
            status, transaction_uid = request(association, references, uid=uid)
            if stay_s:
                wait_until(lambda: len(self.told) > before, stay_s, "a report on the same association")
        return status, transaction_uid


def request(
    association: Association, references: Sequence[tuple[str, str]], *, uid: str = "", action: int = 1
) -> tuple[int, str]:
    data_set = Dataset()
    data_set.TransactionUID = uid or generate_uid()
    data_set.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        data_set.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(
        data_set, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status), str(data_set.TransactionUID)


def uids_of(files: Sequence[Path]) -> list[str]:
    return [str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files]


def config_for(modality: Modality, more: str = "") -> str:
    return (
        f'{more}\n[destinations.modality]\nkind = "dimse"\nae_title = "MODALITY"\n'
        f'host = "127.0.0.1"\nport = {modality.port}\n'
    )


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    return list(json.loads(daemon.cli("commitments", "--json").stdout))


def send(daemon: Daemon, files: Sequence[Path]) -> None:
    run_dcmtk(["dcmsend", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), *files])


def post(url: str, body: object) -> Any:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def test_a_requester_that_stays_is_told_on_its_own_association(tmp_path: Path) -> None:
    files, modality = list(ct_series(tmp_path / "ct", 5, rows=32, columns=32)), Modality()
    with Daemon(tmp_path / "sendrs", config_for(modality)) as daemon:
        send(daemon, files)
        status, uid = modality.ask(daemon, [(CT, one) for one in uids_of(files)], stay_s=WAIT_S)
        (told,) = modality.told
        assert (status, told.transaction_uid, told.event_type, told.same_association) == (0, uid, 1, True)
        assert told.reasons == dict.fromkeys(uids_of(files))
        assert told.retrieve_aet == "SENDRS"
        wait_until(lambda: listed(daemon)[0]["reported_at"] is not None, WAIT_S, "the report to be noted")
        assert "reported" in daemon.cli("commitments").stdout


def test_a_requester_that_goes_is_told_on_an_association_of_ours_with_each_failure_reason(tmp_path: Path) -> None:
    files, modality = list(ct_series(tmp_path / "ct", 3, rows=32, columns=32)), Modality()
    good, damaged, other = uids_of(files)
    with Daemon(tmp_path / "sendrs", config_for(modality)) as daemon, modality.listening():
        send(daemon, files)
        for path in (tmp_path / "sendrs" / "state" / "store").rglob("*.dcm"):
            content = bytearray(path.read_bytes())
            if damaged.encode() in content:
                content[-1] ^= 1
                path.chmod(0o600)
                path.write_bytes(content)
        unknown = str(UID(generate_uid()))
        _, uid = modality.ask(daemon, [(CT, good), (CT, damaged), (MR, other), (CT, unknown)])
        wait_until(lambda: bool(modality.told), WAIT_S, "the report")
        (told,) = modality.told
        assert told.reasons == {good: None, damaged: 0x0110, other: 0x0119, unknown: 0x0112}
        assert (told.transaction_uid, told.event_type, told.calling_aet) == (uid, 2, "SENDRS")


def test_a_requester_that_is_away_and_a_router_that_is_killed_meet_in_the_end(tmp_path: Path) -> None:
    files, modality = list(ct_series(tmp_path / "ct", 2, rows=32, columns=32)), Modality(busy=True)
    with Daemon(tmp_path / "sendrs", config_for(modality)) as daemon:
        send(daemon, files)
        status, uid = modality.ask(daemon, [(CT, one) for one in uids_of(files)])
        assert status == 0
        wait_until(lambda: bool(listed(daemon)[0]["problem"]), WAIT_S, "a try to report")
        assert "to report" in daemon.cli("commitments", "--open").stdout
        daemon.kill9()
        modality.busy = False
        with modality.listening():
            daemon.start()
            wait_until(lambda: bool(modality.told), WAIT_S, "the report after both are back")
        assert [(told.transaction_uid, told.reasons) for told in modality.told] == [
            (uid, dict.fromkeys(uids_of(files)))
        ]


def test_a_router_that_is_killed_between_request_and_decision_decides_after_its_start(tmp_path: Path) -> None:
    files, modality = list(ct_series(tmp_path / "ct", 2, rows=32, columns=32)), Modality()
    archive = StoreScp(tmp_path / "archive")
    config = config_for(
        modality,
        f'[commitment]\nmeans = "delivered"\n[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\n'
        f'host = "127.0.0.1"\nport = {archive.port}\n',
    )
    rules = '[[rule]]\nname = "Everything"\nsend = ["archive"]\n'
    with Daemon(tmp_path / "sendrs", config, rules) as daemon, modality.listening():
        send(daemon, files)
        _, uid = modality.ask(daemon, [(CT, one) for one in uids_of(files)])
        assert (listed(daemon)[0]["open"], listed(daemon)[0]["ready_at"]) == (2, None)
        daemon.kill9()
        daemon.start()
        assert not modality.told
        with archive:
            wait_until(lambda: bool(modality.told), WAIT_S, "the report when all is delivered")
        (told,) = modality.told
        assert (told.transaction_uid, told.reasons) == (uid, dict.fromkeys(uids_of(files)))
        assert len(archive.files()) == 2


def test_what_is_no_request_is_refused_and_a_uid_is_used_once(tmp_path: Path) -> None:
    modality = Modality()
    with Daemon(tmp_path / "sendrs", config_for(modality)) as daemon, modality.associated(daemon) as association:
        uid = str(generate_uid())
        assert request(association, [(CT, "1.2.3")], action=2)[0] == 0x0123
        assert request(association, [])[0] == 0x0115
        assert request(association, [(CT, "1.2.3"), (CT, "1.2.3")])[0] == 0x0115
        assert request(association, [(CT, "1.2.3")], uid=uid)[0] == 0
        assert request(association, [(CT, "1.2.3")], uid=uid)[0] == 0x0131
        wait_until(lambda: bool(modality.told), WAIT_S, "the report of the one that was taken")
        assert [(told.transaction_uid, told.reasons) for told in modality.told] == [(uid, {"1.2.3": 0x0112})]


def test_a_report_about_nothing_that_was_asked_is_refused(tmp_path: Path) -> None:
    modality = Modality()
    with Daemon(tmp_path / "sendrs", config_for(modality)) as daemon:
        ae = AE(ae_title="PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        roles = SCP_SCU_RoleSelectionNegotiation()
        roles.sop_class_uid, roles.scu_role, roles.scp_role = StorageCommitmentPushModel, False, True
        association = ae.associate("127.0.0.1", daemon.dicom_port, ae_title="SENDRS", ext_neg=[roles])
        assert association.is_established
        assert association.accepted_contexts[0].as_scp
        information = Dataset()
        information.TransactionUID = generate_uid()
        information.ReferencedSOPSequence = [Dataset()]
        status, _ = association.send_n_event_report(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        assert status.Status == 0x0112


def test_orthanc_asks_us_and_gets_its_report(tmp_path: Path) -> None:
    files, dicom_port = list(ct_series(tmp_path / "ct", 3, rows=32, columns=32)), free_port()
    settings = {
        "DicomModalities": {
            "sendrs": {"AET": "SENDRS", "Host": "127.0.0.1", "Port": dicom_port, "AllowStorageCommitment": True}
        }
    }
    with Orthanc(tmp_path / "orthanc", settings=settings) as orthanc:
        config = (
            f'[dicom]\nlisten = "127.0.0.1:{dicom_port}"\n[destinations.orthanc]\nkind = "dimse"\n'
            f'ae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n'
        )
        with Daemon(tmp_path / "sendrs", config) as daemon:
            send(daemon, files[:2])
            good = [{"SOPClassUID": CT, "SOPInstanceUID": uid} for uid in uids_of(files[:2])]
            assert orthanc_result(orthanc, good)["Status"] == "Success"
            more = [*good, {"SOPClassUID": CT, "SOPInstanceUID": uids_of(files)[2]}]
            result = orthanc_result(orthanc, more)
            assert result["Status"] == "Failure"
            assert [(one["SOPInstanceUID"], one["FailureReason"]) for one in result["Failures"]] == [
                (uids_of(files)[2], 0x0112)
            ]
            assert {one["SOPInstanceUID"] for one in result["Success"]} == set(uids_of(files[:2]))


def orthanc_result(orthanc: Orthanc, instances: Sequence[dict[str, str]]) -> Any:
    """Have Orthanc ask us, and give what it knows once our report is there."""
    asked = post(f"{orthanc.url}/modalities/sendrs/storage-commitment", {"DicomInstances": instances})
    wait_until(lambda: orthanc.get(asked["Path"])["Status"] != "Pending", WAIT_S, "our report to Orthanc")
    return orthanc.get(asked["Path"])


@pytest.mark.parametrize("means", ["delivered", "committed"])
def test_orthanc_commits_to_what_we_sent_it(tmp_path: Path, means: str) -> None:
    """Asked by confirm = "commitment" after sending, or because a request to us means "committed"."""
    files, dicom_port, modality = list(ct_series(tmp_path / "ct", 3, rows=32, columns=32)), free_port(), Modality()
    settings = {"DicomModalities": {"sendrs": ["SENDRS", "127.0.0.1", dicom_port]}}
    confirm = 'confirm = "commitment"' if means == "delivered" else ""
    with Orthanc(tmp_path / "orthanc", settings=settings) as orthanc:
        config = config_for(
            modality,
            f'[dicom]\nlisten = "127.0.0.1:{dicom_port}"\n[commitment]\nmeans = "{means}"\n[destinations.orthanc]\n'
            f'kind = "dimse"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n{confirm}\n',
        )
        rules = '[[rule]]\nname = "Everything"\nsend = ["orthanc"]\n'
        with Daemon(tmp_path / "sendrs", config, rules) as daemon, modality.listening():
            send(daemon, files)
            modality.ask(daemon, [(CT, one) for one in uids_of(files)])
            wait_until(lambda: bool(modality.told), WAIT_S, "Orthanc to commit, and our report")
            assert modality.told[0].reasons == dict.fromkeys(uids_of(files))
            assert set(orthanc.instances()) == set(uids_of(files))
