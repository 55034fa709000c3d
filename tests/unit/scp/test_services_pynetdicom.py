"""Services of the DIMSE front as pynetdicom sees them: cancelled, with sub-operations, roles, extended negotiation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio.to_thread
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from scp_harness import CT, EXPLICIT, FakeDoor, Served, serving
from service_harness import C_STORE, FIND, GET, finder, getter, offering

from router.dicom.uids import Uid
from router.dimse.events import Command, Roles
from router.scp.service import Exchange, Invocation

PENDING, CANCELLED = 0xFF00, 0xFE00
INSTANCE = "1.2.826.0.1.3680043.8.498.1"


def written(data_set: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def keys() -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.PatientID = "STUDY", ""
    return identifier


def caller() -> AE:
    ae = AE("CT1")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    return ae


async def test_pynetdicom_queries_and_cancels() -> None:
    hit = Dataset()
    hit.PatientID = "1"

    async def endless(invocation: Invocation, exchange: Exchange) -> None:
        while not exchange.cancelled.is_set():
            await exchange.respond(Command(0, status=PENDING), written(hit))
        await exchange.respond(Command(0, status=CANCELLED))

    def query() -> tuple[list[int], set[str]]:
        ae = caller()
        ae.add_requested_context(FIND, EXPLICIT)
        association = ae.associate("127.0.0.1", served.port, ae_title="SENDRS")
        statuses, found = [], set()
        for status, identifier in association.send_c_find(keys(), FIND, msg_id=5):
            statuses.append(status.Status)
            if identifier is not None:
                found.add(identifier.PatientID)
            if len(statuses) == 3:
                association.send_c_cancel(5, query_model=FIND)
        association.release()
        return statuses, found

    async with serving(FakeDoor(), services=offering(finder(endless))) as served:
        statuses, found = await anyio.to_thread.run_sync(query)
    assert (set(statuses[:-1]), statuses[-1], found) == ({PENDING}, CANCELLED, {"1"})


async def test_pynetdicom_gets_instances_on_its_own_association() -> None:
    instance = Dataset()
    instance.SOPClassUID, instance.SOPInstanceUID, instance.PatientID = CT, INSTANCE, "9" * 40
    content = written(instance)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 16):
            yield content[at : at + 16]

    async def get(invocation: Invocation, exchange: Exchange) -> None:
        assert exchange.roles[Uid(CT)] == Roles(scu=False, scp=True)
        assert invocation.granted == b"\x01"
        context = next(one for one in exchange.contexts.values() if one.abstract_syntax == CT)
        store = Command(
            C_STORE,
            affected_sop_class_uid=Uid(CT),
            affected_sop_instance_uid=Uid(INSTANCE),
            priority=0,
        )
        for completed in (1, 2):
            assert (await exchange.invoke(context.context_id, store, pieces())).status == 0
            counters = {"remaining": 2 - completed, "completed": completed, "failed": 0, "warning": 0}
            await exchange.respond(Command(0, status=PENDING, **counters))
        await exchange.respond(Command(0, status=0, completed=2, failed=0, warning=0))

    received: list[str] = []

    def store(event: evt.Event) -> int:
        received.append(event.dataset.PatientID)
        return 0

    def retrieve(served: Served) -> tuple[list[int], bytes]:
        ae = caller()
        ae.add_requested_context(GET, EXPLICIT)
        ae.add_requested_context(CT, EXPLICIT)
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid, extended.service_class_application_information = GET, b"\x01"
        association = ae.associate(
            "127.0.0.1",
            served.port,
            ae_title="SENDRS",
            ext_neg=[build_role(CT, scp_role=True), extended],
            evt_handlers=[(evt.EVT_C_STORE, store)],
        )
        granted = association.acceptor.sop_class_extended[GET]
        statuses = [status.Status for status, _ in association.send_c_get(keys(), GET)]
        association.release()
        return statuses, granted

    service = getter(get)
    async with serving(FakeDoor(), services=offering(service)) as served:
        statuses, granted = await anyio.to_thread.run_sync(retrieve, served)
    assert (statuses, granted) == ([PENDING, PENDING, 0], b"\x01")
    assert received == ["9" * 40] * 2
