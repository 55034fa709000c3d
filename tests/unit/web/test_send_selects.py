"""What a send request sends is what a search for instances finds: the same keys, the same set (REQ-033, REQ-034)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from filled_journal import CT, EXPLICIT, NOON
from starlette.applications import Starlette
from web_harness import ask

from router.config.model import Config, StowDestination
from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.records import Acceptance, InstanceRow, SeriesRow, StudyRow
from router.journal.requests import inspect_request
from router.search import Index
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.capabilities import with_capabilities
from router.web.search import search_routes
from router.web.send import send_routes

MR = Uid("1.2.840.10008.5.1.4.1.1.4")
STUDIES = (
    StudyRow(
        Uid("1.1"), "P1", patient_name="Doe^Jane", study_date="20260101", study_time="080000", accession_number="A1",
        referring_physician_name="House^Gregory", study_id="S1",
    ),
    StudyRow(
        Uid("1.2"), "P2", patient_name="Doe^John", study_date="20260102", study_time="235900", accession_number="A2",
        referring_physician_name="Wilson^James", study_id="S2",
    ),
    StudyRow(
        Uid("1.3"), "P3", patient_name="Müller^Änne", study_date="20260110", study_time="120000",
        accession_number="B3", referring_physician_name="Grey^Meredith", study_id="S3",
    ),
)  # fmt: skip
SERIES = ("CT", "MR")
"""Each study has a series of each modality with three instances."""
KEYS = (
    *("StudyDate=20260101", "StudyDate=20260102-", "StudyDate=20260101-20260102&StudyTime=0900-"),
    *("StudyTime=0800-1200", "AccessionNumber=A*", "AccessionNumber=a1", "ModalitiesInStudy=MR"),
    *("ReferringPhysicianName=house*", "PatientName=DOE^*", "PatientName=m%C3%BCller*", "PatientID=P1"),
    *("StudyInstanceUID=1.1,1.3", "StudyID=S2", "PatientID=P%3F", "PatientID=nobody"),
    *("Modality=CT&PatientID=P1", "SeriesInstanceUID=1.2.1", "SeriesNumber=2&StudyID=S1"),
    *("PerformedProcedureStepStartDate=20260102&PatientID=P*", "PerformedProcedureStepStartTime=0100-0900"),
    *("RequestAttributesSequence.ScheduledProcedureStepID=SPS2", "00400275.RequestedProcedureID=RP1&Modality=*"),
    *(f"SOPClassUID={MR}&PatientID=P2", "SOPInstanceUID=1.1.1.1,1.2.2.3,2.9", "InstanceNumber=2&PatientID=P3"),
    *("0020000d=1.1", "00080060=CT", "PatientID=P2&limit=3&offset=1", "SOPClassUID=1.2.3"),
)


def fill(conn: WritingConnection) -> None:
    for number, study in enumerate(STUDIES, start=1):
        for part, modality in enumerate(SERIES, start=1):
            series = SeriesRow(
                Uid(f"1.{number}.{part}"), modality, str(part),
                performed_procedure_step_start_date=study.study_date,
                performed_procedure_step_start_time=f"0{number}0000",
                request_attributes=f'[["SPS{part}", "RP{number}"]]',
            )  # fmt: skip
            for n in (1, 2, 3):
                uid = Uid(f"1.{number}.{part}.{n}")
                instance = InstanceRow(
                    declared=Declared(CT if modality == "CT" else MR, uid, EXPLICIT),
                    source=Source("C-STORE", "10.0.0.1"),
                    file=f"000001/{uid}.dcm",
                    data_set_offset=500,
                    data_set_bytes=1000,
                    data_set_sha256=uid.encode().ljust(32, b"\0"),
                    received_at=NOON,
                    instance_number=str(n),
                )
                accept(conn, Acceptance(study, series, instance))


@asynccontextmanager
async def origin(folder: Path) -> AsyncIterator[tuple[Starlette, Journal]]:
    config = Config(file=folder / "router.toml")
    base = config.http.base_path
    destinations = {"cloud": StowDestination(name="cloud", url="https://pacs.example")}
    async with Journal.open(folder) as journal, Store.open(folder) as store:
        await journal.write(fill)
        index, requests = Index(journal, store), SendRequests(journal, lambda _: None, lambda: config)
        routes = [*send_routes(base, index, requests, lambda: destinations, config), *search_routes(base, index)]
        yield Starlette(routes=with_capabilities(base, routes)), journal


@pytest.mark.anyio
async def test_req_029_033_034_038_send_selects_what_search_finds(tmp_path: Path) -> None:
    """REQ-029, REQ-032, REQ-033, REQ-034, REQ-038: every required key of Table 10.6.1-5, in every kind of matching."""
    sets: dict[str, set[str]] = {}
    async with origin(tmp_path) as (app, journal):
        for number, query in enumerate(KEYS, start=1):
            found = await ask(app, f"/dicom-web/instances?{query}")
            expected = [item["00080018"]["Value"][0] for item in found.json] if found.status == 200 else []
            uid = Uid(f"1.2.{number}")
            path = f"/dicom-web/instances/send-requests/{uid}?destination=https://pacs.example&{query}"
            sent = await ask(app, path, method="POST")
            assert sent.status == (202 if expected else 200), (query, sent.body)
            detail = await journal.read(partial(inspect_request, transaction_uid=uid))
            assert detail is not None
            assert [line.sop_instance_uid for line in detail.sub_operations] == expected, query
            sets[query] = set(expected)
    assert len({frozenset(chosen) for chosen in sets.values()}) > 15, "the keys tell instances apart"
    assert sets["PatientID=nobody"] == set()
    assert len(sets["PatientID=P2&limit=3&offset=1"]) == 3


@pytest.mark.anyio
async def test_o22_limit_and_offset_count_what_the_resource_is_made_of(tmp_path: Path) -> None:
    """REQ-029: one study of three is six instances; the rest is told by a Warning."""
    async with origin(tmp_path) as (app, journal):
        path = "/dicom-web/studies/send-requests/1.2.3?destination=https://pacs.example&PatientID=P*&limit=1&offset=1"
        sent = await ask(app, path, method="POST")
        detail = await journal.read(lambda conn: inspect_request(conn, Uid("1.2.3")))
    assert sent.json[0]["00001020"] == {"vr": "US", "Value": [6]}
    assert "There are 1 additional results" in sent.warnings[0]
    assert detail is not None
    assert {line.sop_instance_uid.rpartition(".")[0] for line in detail.sub_operations} == {"1.2.1", "1.2.2"}


@pytest.mark.anyio
async def test_req_034_studies_of_unknown_patients_are_found_but_never_sent(tmp_path: Path) -> None:
    """REQ-034 but for one thing (as O-30): PS3.4 §C.2.2.1.2 has a Required key match what is stored empty."""

    def add_unknown(conn: WritingConnection) -> None:
        instance = InstanceRow(
            Declared(CT, Uid("1.9.1.1"), EXPLICIT), Source("C-STORE", ""), "000001/9.dcm", 500, 1000, bytes(32), NOON
        )
        accept(conn, Acceptance(StudyRow(Uid("1.9")), SeriesRow(Uid("1.9.1"), "CT"), instance))

    async with origin(tmp_path) as (app, journal):
        await journal.write(add_unknown)
        found = await ask(app, "/dicom-web/instances?PatientID=P1")
        path = "/dicom-web/instances/send-requests/1.2.3?destination=https://pacs.example&PatientID=P1"
        await ask(app, path, method="POST")
        detail = await journal.read(lambda conn: inspect_request(conn, Uid("1.2.3")))
    assert detail is not None
    uids = {item["00080018"]["Value"][0] for item in found.json}
    assert uids - {line.sop_instance_uid for line in detail.sub_operations} == {"1.9.1.1"}
