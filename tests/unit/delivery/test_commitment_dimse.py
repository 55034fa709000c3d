"""Storage commitment as SCU and as reporting SCP, against pynetdicom on a loopback port (PS3.4 §J.3)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from router.commitment.language import Reference, Ruling
from router.config.model import DimseDestination, StoreReach, StowDestination
from router.delivery import commitment_dimse
from router.delivery.commitment_dimse import DimseAsker
from router.delivery.commitment_report import ReportCourier
from router.dicom.uids import AETitle, Uid
from router.errors import Misconfigured, Refused, Transient
from router.journal.commitment_reports import Report
from router.net.nodes import DimseNode

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
UID = Uid("1.2.826.1")
REFERENCES = [Reference(CT, Uid("1.2.9.1")), Reference(CT, Uid("1.2.9.2"))]
REPORT = Report(1, UID, AETitle("PEER"), AETitle("PROXY"), 0.0, 0)

pytestmark = pytest.mark.anyio


@contextmanager
def peer(
    handlers: list[Any], *, sop_class: Any = StorageCommitmentPushModel, scp: bool = True, scu: bool = False
) -> Iterator[int]:
    """PEER on a port of 127.0.0.1; `scp` and `scu` are the roles that it lets who calls it have."""
    ae = AE(ae_title="PEER")
    ae.add_supported_context(sop_class, scu_role=scu, scp_role=scp)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def asker(port: int) -> DimseAsker:
    return DimseAsker(
        DimseNode(ae_title=AETitle("PEER"), host="127.0.0.1", port=port, calling_aet=AETitle("SENDRS"), answer_s=10.0)
    )


def on_action(take: Callable[[Any], int]) -> Any:
    return evt.EVT_N_ACTION, lambda event: (take(event), None)


def information(*committed: str, failed: str = "", uid: str = UID) -> Dataset:
    data_set = Dataset()
    data_set.TransactionUID = uid
    for name, instances in (("ReferencedSOPSequence", committed), ("FailedSOPSequence", (failed,) if failed else ())):
        items = []
        for one in instances:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, one
            if name == "FailedSOPSequence":
                item.FailureReason = 0x0213
            items.append(item)
        setattr(data_set, name, items)
    return data_set


async def test_what_is_asked_is_what_arrives_and_the_answer_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment_dimse, "LISTEN_S", 0.1)
    asked: list[Any] = []
    with peer([on_action(lambda event: asked.append((event.request, event.action_information)) or 0)]) as port:
        assert await asker(port).ask(UID, REFERENCES) is None
    ((request, said),) = asked
    assert (request.ActionTypeID, request.RequestedSOPInstanceUID) == (1, StorageCommitmentPushModelInstance)
    assert said.TransactionUID == UID
    assert [one.ReferencedSOPInstanceUID for one in said.ReferencedSOPSequence] == ["1.2.9.1", "1.2.9.2"]


async def test_a_report_on_the_same_association_is_the_answer() -> None:
    statuses: list[int] = []

    def take(event: Any) -> int:
        def report() -> None:
            for uid in ("1.2.3", UID):
                answer, _ = event.assoc.send_n_event_report(
                    information("1.2.9.1", failed="1.2.9.2", uid=uid),
                    2,
                    StorageCommitmentPushModel,
                    StorageCommitmentPushModelInstance,
                )
                statuses.append(answer.Status)

        threading.Timer(0.2, report).start()
        return 0

    with peer([on_action(take)]) as port:
        rulings = await asker(port).ask(UID, REFERENCES)
    assert rulings == (Ruling(REFERENCES[0]), Ruling(REFERENCES[1], 0x0213))
    assert statuses[0] == 0x0110, "a report about something else"


@pytest.mark.parametrize(
    ("status", "error"), [(0x0213, Transient), (0x0110, Transient), (0x0112, Misconfigured), (0x0122, Misconfigured)]
)
async def test_a_peer_that_does_not_take_the_request(status: int, error: type[Exception]) -> None:
    with peer([on_action(lambda _: status)]) as port, pytest.raises(error, match=f"{status:04X}H"):
        await asker(port).ask(UID, REFERENCES)


async def test_a_peer_that_has_the_request_already_will_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment_dimse, "LISTEN_S", 0.1)
    with peer([on_action(lambda _: 0x0131)]) as port:
        assert await asker(port).ask(UID, REFERENCES) is None


async def test_a_peer_that_goes_after_it_has_taken_the_request_has_taken_it() -> None:
    def take(event: Any) -> int:
        threading.Timer(0.1, event.assoc.abort).start()
        return 0

    with peer([on_action(take)]) as port:
        assert await asker(port).ask(UID, REFERENCES) is None


async def test_a_peer_that_does_not_know_the_sop_class_or_is_not_there_cannot_be_asked() -> None:
    with peer([], sop_class=Verification) as port, pytest.raises(Misconfigured, match="does not commit"):
        await asker(port).ask(UID, REFERENCES)
    with pytest.raises(Transient):
        await asker(port).ask(UID, REFERENCES)


# --- N-EVENT-REPORT on an association of ours ----------------------------------------------------------------------


def destination(port: int) -> dict[str, Any]:
    return {"peer": DimseDestination(name="peer", ae_title="PEER", host="127.0.0.1", port=port, calling_aet="OTHER")}


RULINGS = [Ruling(REFERENCES[0]), Ruling(REFERENCES[1], 0x0112)]


async def test_a_requester_is_told_by_its_scp_under_the_title_that_it_asked() -> None:
    told: list[Any] = []

    def take(event: Any) -> tuple[int, None]:
        told.append((event.assoc.requestor.ae_title, event.event_type, event.event_information))
        return 0, None

    with peer([(evt.EVT_N_EVENT_REPORT, take)]) as port:
        await ReportCourier(lambda: destination(port))(REPORT, RULINGS)
    ((caller, event_type, said),) = told
    assert (caller, event_type, said.TransactionUID, said.RetrieveAETitle) == ("PROXY", 2, UID, "PROXY")
    assert said.FailedSOPSequence[0].FailureReason == 0x0112


@pytest.mark.parametrize(("status", "error"), [(0x0110, Transient), (0x0213, Transient), (0x0112, Refused)])
async def test_a_requester_that_does_not_take_it_is_asked_again_or_not(status: int, error: type[Exception]) -> None:
    with peer([(evt.EVT_N_EVENT_REPORT, lambda _: (status, None))]) as port, pytest.raises(error):
        await ReportCourier(lambda: destination(port))(REPORT, RULINGS)


async def test_a_requester_that_cannot_be_told() -> None:
    with pytest.raises(Misconfigured, match="no destination that DIMSE reaches has the AE title PEER"):
        await ReportCourier(dict)(REPORT, RULINGS)
    web = {"peer": StowDestination(name="peer", url="https://peer.test")}
    with pytest.raises(Misconfigured, match="PEER"):
        await ReportCourier(lambda: web)(REPORT, RULINGS)
    with peer([], sop_class=Verification) as port, pytest.raises(Misconfigured, match="does not take reports"):
        await ReportCourier(lambda: destination(port))(REPORT, RULINGS)


async def test_a_requester_that_is_known_as_a_web_server_with_a_c_store_scp_is_told_there() -> None:
    with peer([(evt.EVT_N_EVENT_REPORT, lambda _: (0, None))]) as port:
        reach = StoreReach(host="127.0.0.1", port=port)
        web = {"peer": StowDestination(name="peer", url="https://peer.test", c_store=reach)}
        await ReportCourier(lambda: web)(REPORT, RULINGS)
