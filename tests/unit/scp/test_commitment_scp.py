"""Storage commitment at the DIMSE front: what is answered to N-ACTION and N-EVENT-REPORT, and on which association the
report goes (PS3.4 §J.3).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import anyio
import pytest

from router.commitment.language import Reference, Ruling
from router.commitment.reporting import Reporting
from router.commitment.requests import Commitments, CommitmentState, UidInUse
from router.dicom.commitment_information import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    action_information,
    event_information,
    read_event_information,
)
from router.dicom.uids import AETitle, Uid
from router.dimse.commands import N_ACTION_RQ, N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP
from router.dimse.events import Command, NegotiatedContext, Roles
from router.errors import PeerError, RouterError, StorageError
from router.journal.commitment_reports import Report
from router.scp.commitment import CommitmentScp
from router.scp.service import Exchange, Invocation

IMPLICIT = Uid("1.2.840.10008.1.2")
UID = Uid("1.2.826.1")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
REFERENCES = [Reference(CT, Uid("1.2.9.1")), Reference(CT, Uid("1.2.9.2"))]
RULINGS = [Ruling(REFERENCES[0]), Ruling(REFERENCES[1], 0x0112)]

pytestmark = pytest.mark.anyio


class Core:
    """`Commitments` and `Reporting` for the front: keeps what it is told, decides when `finished`."""

    def __init__(self, *, finished: bool = True, known: bool = True) -> None:
        self.finished, self.known = finished, known
        self.fail: Exception | None = None
        self.submitted: list[dict[str, Any]] = []
        self.reports: list[tuple[str, Uid, Sequence[Ruling]]] = []
        self.brought: list[Exception | None] = []

    async def submit(self, **request: Any) -> None:
        if self.fail is not None:
            raise self.fail
        self.submitted.append(request)

    async def wait(self, transaction_uid: Uid, seconds: float) -> CommitmentState:
        if not self.finished:
            await anyio.sleep(seconds)
        return CommitmentState(self.finished, RULINGS, 1)

    async def reported(self, peer_aet: str, transaction_uid: Uid, rulings: Sequence[Ruling]) -> bool:
        if self.fail is not None:
            raise self.fail
        self.reports.append((peer_aet, transaction_uid, rulings))
        return self.known

    def held(self, transaction_uid: Uid) -> Any:
        return nullcontext()

    async def bring_by(self, transaction_uid: Uid, bring: Any) -> bool:
        try:
            await bring(Report(1, transaction_uid, AETitle("MODALITY"), AETitle("SENDRS"), 0.0, 0), RULINGS)
        except RouterError as error:
            self.brought.append(error)
            return False
        self.brought.append(None)
        return True


class Association:
    """An `Exchange`: the peer answers `status` to what we ask it."""

    def __init__(self, status: int = 0) -> None:
        self.cancelled = anyio.Event()
        self.contexts: dict[int, NegotiatedContext] = {}
        self.roles: dict[Uid, Roles] = {}
        self.responses: list[Command] = []
        self.requests: list[tuple[int, Command, bytes]] = []
        self._status = status

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        assert not data_set
        self.responses.append(response)

    async def invoke(self, context_id: int, request: Command, content: bytes | AsyncIterable[bytes] = b"") -> Command:
        assert isinstance(content, bytes)
        if self.cancelled.is_set():
            raise PeerError("gone")
        self.requests.append((context_id, request, content))
        return Command(N_EVENT_REPORT_RSP, message_id_responded_to=1, status=self._status)


async def perform(core: Core, association: Association, data: bytes, proxy: str = "", **command: Any) -> None:
    values = {
        "field": N_ACTION_RQ,
        "message_id": 7,
        "requested_sop_class_uid": PUSH_MODEL,
        "requested_sop_instance_uid": PUSH_MODEL_INSTANCE,
        "action_type_id": 1,
        **command,
    }
    service = CommitmentScp(cast(Commitments, core), cast(Reporting, core), proxy=proxy)
    invocation = Invocation(
        context=NegotiatedContext(3, PUSH_MODEL, IMPLICIT, 0),
        command=Command(**values),
        data_set=data,
        calling_aet=AETitle("MODALITY"),
        called_aet=AETitle("SENDRS"),
        peer_address="10.0.0.5",
    )
    await service.perform(invocation, cast(Exchange, association))


async def report(core: Core, association: Association, data: bytes, **command: Any) -> None:
    values = {
        "field": N_EVENT_REPORT_RQ,
        "affected_sop_class_uid": PUSH_MODEL,
        "affected_sop_instance_uid": PUSH_MODEL_INSTANCE,
        "requested_sop_instance_uid": Uid(""),
        "action_type_id": None,
        "event_type_id": 2,
    }
    await perform(core, association, data, **{**values, **command})


ACTION = action_information(UID, REFERENCES, IMPLICIT)
EVENT = event_information(UID, RULINGS, AETitle("PACS"), IMPLICIT)[1]


async def test_a_request_is_journalled_answered_and_reported_on_its_association() -> None:
    core, association = Core(), Association()
    await perform(core, association, ACTION)
    (request,) = core.submitted
    assert (request["transaction_uid"], request["requester"], request["called_aet"]) == (UID, "MODALITY", "SENDRS")
    assert (request["origin"], list(request["references"]), request["proxy"]) == ("dimse", REFERENCES, "")
    (answer,) = association.responses
    assert (answer.status, answer.affected_sop_instance_uid, answer.action_type_id) == (0, PUSH_MODEL_INSTANCE, 1)
    ((context_id, event, content),) = association.requests
    assert (context_id, event.event_type_id, event.affected_sop_instance_uid) == (3, 2, PUSH_MODEL_INSTANCE)
    assert read_event_information(content, IMPLICIT) == (UID, tuple(RULINGS))
    assert core.brought == [None]


async def test_the_proxy_of_the_called_ae_title_goes_with_the_request() -> None:
    core = Core()
    await perform(core, Association(), ACTION, proxy="web")
    assert core.submitted[0]["proxy"] == "web"


async def test_a_requester_that_goes_ends_the_wait_and_is_reported_to_another_time() -> None:
    core, association = Core(finished=False), Association()
    async with anyio.create_task_group() as group:
        group.start_soon(perform, core, association, ACTION)
        await anyio.lowlevel.checkpoint()
        association.cancelled.set()
    assert association.responses[0].status == 0
    assert core.brought == []


@pytest.mark.parametrize("status", [0x0110, 0x0112])
async def test_a_requester_that_does_not_take_the_report_is_noted(status: int) -> None:
    core = Core()
    await perform(core, Association(status), ACTION)
    assert core.brought[0] is not None


@pytest.mark.parametrize(
    ("data", "command", "status"),
    [
        (ACTION, {"action_type_id": 2}, 0x0123),
        (ACTION, {"action_type_id": None}, 0x0123),
        (ACTION, {"requested_sop_instance_uid": Uid("1.2.3")}, 0x0112),
        (ACTION, {"requested_sop_instance_uid": Uid("")}, 0x0112),
        (b"", {}, 0x0115),
        (ACTION[:-3], {}, 0x0110),
        (action_information(UID, [], IMPLICIT), {}, 0x0115),
        (action_information(UID, REFERENCES * 2, IMPLICIT), {}, 0x0115),
    ],
)
async def test_what_is_no_request_is_refused_and_not_journalled(
    data: bytes, command: dict[str, Any], status: int
) -> None:
    core, association = Core(), Association()
    await perform(core, association, data, **command)
    assert [answer.status for answer in association.responses] == [status]
    assert (core.submitted, association.requests) == ([], [])


@pytest.mark.parametrize(("error", "status"), [(UidInUse(), 0x0131), (StorageError("disk"), 0x0110)])
async def test_what_cannot_be_taken_is_refused(error: Exception, status: int) -> None:
    core, association = Core(), Association()
    core.fail = error
    await perform(core, association, ACTION)
    assert [answer.status for answer in association.responses] == [status]
    assert core.brought == []


async def test_a_report_to_us_is_taken() -> None:
    core, association = Core(), Association()
    await report(core, association, EVENT)
    assert core.reports == [("MODALITY", UID, tuple(RULINGS))]
    (answer,) = association.responses
    assert (answer.status, answer.event_type_id, answer.affected_sop_class_uid) == (0, 2, PUSH_MODEL)


@pytest.mark.parametrize(
    ("core", "data", "command", "status"),
    [
        (Core(known=False), EVENT, {}, 0x0112),
        (Core(), EVENT, {"event_type_id": 3}, 0x0113),
        (Core(), EVENT, {"affected_sop_instance_uid": Uid("1.2")}, 0x0112),
        (Core(), b"", {}, 0x0115),
    ],
)
async def test_a_report_that_is_none_or_of_nothing_we_asked_is_refused(
    core: Core, data: bytes, command: dict[str, Any], status: int
) -> None:
    association = Association()
    await report(core, association, data, **command)
    assert [answer.status for answer in association.responses] == [status]


async def test_a_report_that_cannot_be_journalled_is_not_acknowledged() -> None:
    core, association = Core(), Association()
    core.fail = StorageError("disk")
    await report(core, association, EVENT)
    assert [answer.status for answer in association.responses] == [0x0110]


def test_both_roles_are_granted_and_nothing_is_extended() -> None:
    service = CommitmentScp(cast(Commitments, Core()), cast(Reporting, Core()))
    assert service.roles(PUSH_MODEL, Roles(scu=False, scp=True)) == Roles(scu=False, scp=True)
    assert service.grant(PUSH_MODEL, b"\1") == b""
