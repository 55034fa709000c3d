"""QIDO-RS over a real journal and store: what is found is what was received (PS3.18 §10.6, dicom-facts B.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydicom.dataset import Dataset
from starlette.applications import Starlette
from web_harness import Answer, ask

from router.config.model import Config, StateConfig
from router.dicom.attributes import attribute_path
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header
from router.dicom.uids import Uid
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.rules.decision import Decision
from router.search import Index
from router.store.files import Store
from router.web.capabilities import with_capabilities
from router.web.search import search_routes

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
BASE = "http://pacs:8080/dicom-web"

Search = Callable[..., Any]


class NoRules:
    """Keeps everything, sends nothing."""

    wanted: frozenset[tuple[int, ...]] = frozenset()

    def decide(self, source: Source, header: Header) -> Decision:
        return Decision(())


def image(n: int) -> Dataset:
    """Image n of 8: two in a series, two series in a study; studies 1.2.1 (CT and MR) and 1.2.2 (two of CT)."""
    study, series = 1 + n // 4, n // 2
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 192"
    one.SOPClassUID = MR if series == 1 else CT
    one.SOPInstanceUID = f"1.4.{n}"
    one.StudyDate, one.StudyTime = ("20240131", "2230") if study == 1 else ("20240201", "0115")
    one.AccessionNumber = f"A{study}"
    one.Modality = "MR" if series == 1 else "CT"
    one.ReferringPhysicianName = f"Ref^{study}"
    one.StudyDescription = "Kopf, nativ" if study == 1 else "Thorax"
    one.SeriesDescription = f"Series {series}"
    one.PatientName = "Müller^Ä" if study == 1 else "Doe+Roe^Jane"
    one.PatientID = f"P{study}"
    one.PatientBirthDate, one.PatientSex = "19700101", "F"
    one.PatientSize = 1.5 + study / 10
    one.StudyInstanceUID, one.SeriesInstanceUID = f"1.2.{study}", f"1.3.{series}"
    one.StudyID, one.SeriesNumber, one.InstanceNumber = f"S{study}", series, n
    one.PerformedProcedureStepStartDate, one.PerformedProcedureStepStartTime = one.StudyDate, f"1{series}0000"
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = f"SPS{series}", f"RP{study}"
    one.RequestAttributesSequence = [request]
    one.Rows, one.Columns, one.BitsAllocated = 16, 8, 8
    return one


async def put(ingest: Ingest, one: Dataset) -> None:
    buffer = BytesIO()
    one.save_as(buffer, implicit_vr=False, little_endian=True)
    visit = ingest.open_visit(Source("STOW-RS", "127.0.0.1"))
    try:
        reception = visit.receive(Declared(Uid(one.SOPClassUID), Uid(one.SOPInstanceUID), Uid(EXPLICIT)))
        await reception.write(buffer.getvalue())
        await reception.accept()
    finally:
        await visit.close()


@asynccontextmanager
async def archive(state: Path) -> AsyncIterator[Search]:
    config = Config(file=state / "router.toml", state=StateConfig(path=state, min_free_bytes=0))
    async with Journal.open(state) as journal, Store.open(state) as store:
        ingest = Ingest(store, journal, NoRules, config, lambda _: None)
        for n in range(8):
            await put(ingest, image(n))
        routes = with_capabilities("/dicom-web", search_routes("/dicom-web", Index(journal, store)))
        app = Starlette(routes=routes)

        async def search(target: str, **more: Any) -> Answer:
            return await ask(app, "/dicom-web" + target, **more)

        yield search


def uids(answer: Answer, keyword: str) -> list[str]:
    assert answer.status == 200, answer.text
    tag = f"{attribute_path(keyword)[0]:08X}"
    return [one[tag]["Value"][0] for one in answer.json]


S1, S2 = ["1.2.1"], ["1.2.2"]
STUDY_KEYS: list[tuple[str, str, list[str]]] = [
    ("StudyDate", "20240131", S1),
    ("StudyDate", "20240101-20240131", S1),
    ("StudyDate", "20240201-", S2),
    ("StudyTime", "223000", S1),
    ("AccessionNumber", "A1", S1),
    ("AccessionNumber", "A?", S1 + S2),
    ("ModalitiesInStudy", "MR", S1),
    ("ReferringPhysicianName", "ref^2", S2),
    ("PatientName", "M%C3%9CLLER*", S1),
    ("PatientName", "Doe+Roe*", S2),
    ("PatientName", "Doe%20Roe*", []),
    ("PatientID", "P1", S1),
    ("PatientID", "p1", []),
    ("StudyInstanceUID", "1.2.2", S2),
    ("StudyInstanceUID", "1.2.2,1.2.1", S1 + S2),
    ("StudyID", "S2", S2),
    ("StudyDescription", "Kopf%2C%20nativ", S1),
    ("PatientID", "", S1 + S2),
]
SERIES_KEYS: list[tuple[str, str, list[str]]] = [
    ("Modality", "MR", ["1.3.1"]),
    ("SeriesInstanceUID", "1.3.1,1.3.3", ["1.3.1", "1.3.3"]),
    ("SeriesNumber", "2", ["1.3.2"]),
    ("PerformedProcedureStepStartDate", "20240201", ["1.3.2", "1.3.3"]),
    ("PerformedProcedureStepStartTime", "11-12", ["1.3.1", "1.3.2"]),
    ("RequestAttributesSequence.ScheduledProcedureStepID", "SPS3", ["1.3.3"]),
    ("RequestAttributesSequence.RequestedProcedureID", "RP1", ["1.3.0", "1.3.1"]),
]
INSTANCE_KEYS: list[tuple[str, str, list[str]]] = [
    ("SOPClassUID", MR, ["1.4.2", "1.4.3"]),
    ("SOPInstanceUID", "1.4.7", ["1.4.7"]),
    ("InstanceNumber", "5", ["1.4.5"]),
]


@pytest.fixture(scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Search]:
    async with archive(tmp_path_factory.mktemp("state")) as search:
        yield search


def both_forms(keyword: str) -> list[str]:
    return [keyword, ".".join(f"{tag:08X}" for tag in attribute_path(keyword))]


async def matched(found: Search, resource: str, unique: str, key: str, value: str, expected: list[str]) -> None:
    for name in both_forms(key):
        answer = await found(f"{resource}?{name}={value}")
        if expected:
            assert (sorted(uids(answer, unique)), answer.warnings) == (expected, [])
        else:
            assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize(("key", "value", "expected"), STUDY_KEYS)
async def test_req_034_study_keys(found: Search, key: str, value: str, expected: list[str]) -> None:
    await matched(found, "/studies", "StudyInstanceUID", key, value, expected)
    series = [f"1.3.{n}" for n in range(4) if f"1.2.{1 + n // 2}" in expected]
    await matched(found, "/series", "SeriesInstanceUID", key, value, series)
    instances = [f"1.4.{n}" for n in range(8) if f"1.2.{1 + n // 4}" in expected]
    await matched(found, "/instances", "SOPInstanceUID", key, value, instances)


@pytest.mark.parametrize(("key", "value", "expected"), SERIES_KEYS)
async def test_req_034_series_keys(found: Search, key: str, value: str, expected: list[str]) -> None:
    await matched(found, "/series", "SeriesInstanceUID", key, value, expected)
    in_first = [uid for uid in expected if uid in ("1.3.0", "1.3.1")]
    await matched(found, "/studies/1.2.1/series", "SeriesInstanceUID", key, value, in_first)
    instances = [f"1.4.{n}" for n in range(4) if f"1.3.{n // 2}" in expected]
    await matched(found, "/studies/1.2.1/instances", "SOPInstanceUID", key, value, instances)


@pytest.mark.parametrize(("key", "value", "expected"), INSTANCE_KEYS)
async def test_req_034_instance_keys(found: Search, key: str, value: str, expected: list[str]) -> None:
    await matched(found, "/instances", "SOPInstanceUID", key, value, expected)
    for n in range(4):
        inside = [uid for uid in expected if int(uid[-1]) // 2 == n]
        path = f"/studies/1.2.{1 + n // 2}/series/1.3.{n}/instances"
        await matched(found, path, "SOPInstanceUID", key, value, inside)


async def test_req_033_a_unique_key_is_one_uid_or_several_and_never_wild(found: Search) -> None:
    assert len(uids(await found("/studies?StudyInstanceUID="), "StudyInstanceUID")) == 2
    answer = await found("/studies?StudyInstanceUID=1.2.*")
    assert (answer.status, "StudyInstanceUID" in answer.json["detail"]) == (400, True)


async def test_req_032_attributes_of_the_patient_are_matched_on_every_resource(found: Search) -> None:
    for resource, unique, count in (
        ("/studies/1.2.1/series", "SeriesInstanceUID", 2),
        ("/studies/1.2.1/instances", "SOPInstanceUID", 4),
        ("/studies/1.2.1/series/1.3.0/instances", "SOPInstanceUID", 2),
    ):
        assert len(uids(await found(f"{resource}?PatientID=P1"), unique)) == count
        assert (await found(f"{resource}?PatientID=P2")).status == 204


async def test_a_series_in_another_study_holds_nothing(found: Search) -> None:
    assert (await found("/studies/1.2.2/series/1.3.0/instances")).status == 204
    assert (await found("/studies/1.2.9/series")).status == 204


async def test_a_date_and_a_time_are_one_interval(found: Search) -> None:
    # 20240131 22:00 to 20240201 23:00 holds 01:15 of the second day; times alone would not
    answer = await found("/studies?StudyDate=20240131-20240201&StudyTime=2200-2300")
    assert sorted(uids(answer, "StudyInstanceUID")) == ["1.2.1", "1.2.2"]
    answer = await found("/studies?StudyDate=20240130-20240201&StudyTime=0000-0100")
    assert uids(answer, "StudyInstanceUID") == ["1.2.1"]


async def test_several_modalities_must_all_be_there(found: Search) -> None:
    for query in ("CT,MR", "CT%5CMR"):
        answer = await found(f"/studies?ModalitiesInStudy={query}&multiplevaluematching=true")
        assert uids(answer, "StudyInstanceUID") == ["1.2.1"]


@pytest.mark.parametrize(
    ("target", "required"),
    [
        (
            "/studies",
            "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName RetrieveURL "
            "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID NumberOfStudyRelatedSeries "
            "NumberOfStudyRelatedInstances",
        ),
        (
            "/studies/1.2.1/series",
            "Modality SeriesDescription RetrieveURL StudyInstanceUID SeriesInstanceUID "
            "SeriesNumber NumberOfSeriesRelatedInstances PerformedProcedureStepStartDate RequestAttributesSequence",
        ),
        (
            "/instances",
            "SOPClassUID SOPInstanceUID RetrieveURL InstanceNumber Rows Columns BitsAllocated Modality "
            "PatientID StudyInstanceUID SeriesInstanceUID",
        ),
    ],
)
async def test_req_033_what_a_result_has(found: Search, target: str, required: str) -> None:
    answer = await found(target)
    assert answer.headers["content-type"] == "application/dicom+json"
    for one in answer.json:
        assert list(one) == sorted(one)
        assert not [key for key in required.split() if f"{attribute_path(key)[0]:08X}" not in one]


async def test_names_and_counts_of_a_study(found: Search) -> None:
    [one] = (await found("/studies?PatientID=P1")).json
    assert one["00100010"]["Value"] == [{"Alphabetic": "Müller^Ä"}]
    assert sorted(one["00080061"]["Value"]) == ["CT", "MR"]
    assert (one["00201206"]["Value"], one["00201208"]["Value"]) == ([2], [4])
    assert one["00081190"] == {"vr": "UR", "Value": [f"{BASE}/studies/1.2.1"]}


async def test_pages_are_in_one_order_without_gaps(found: Search) -> None:
    whole = uids(await found("/instances"), "SOPInstanceUID")
    paged = []
    for offset in range(0, 8, 3):
        answer = await found(f"/instances?limit=3&offset={offset}")
        paged += uids(answer, "SOPInstanceUID")
        rest = 8 - offset - 3
        more = [f"299 {BASE}: There are {rest} additional results that can be requested"] if rest > 0 else []
        assert answer.warnings == more
    assert paged == whole
    assert len(set(whole)) == 8
    assert (await found("/instances?limit=3&offset=8")).status == 204
    assert (await found("/instances?offset=99999999999999999999999")).status == 204


async def test_limit_nothing_tells_how_many_there_are(found: Search) -> None:
    answer = await found("/instances?limit=0")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.warnings == [f"299 {BASE}: There are 8 additional results that can be requested"]


async def test_an_attribute_that_only_the_file_has_can_be_included(found: Search) -> None:
    for field in ("PatientSize", "00101020", "all"):
        [one] = (await found(f"/studies?PatientID=P1&includefield={field}")).json
        assert one["00101020"] == {"vr": "DS", "Value": [1.6]}
    [without] = (await found("/studies?PatientID=P1")).json
    assert "00101020" not in without


async def test_results_in_xml(found: Search) -> None:
    wanted = quote('multipart/related;type="application/dicom+xml"', safe="")
    answer = await found(f"/studies?accept={wanted}")
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"')
    assert answer.body.count(b"<NativeDicomModel") == 2
    assert "<FamilyName>Müller</FamilyName>".encode() in answer.body


async def test_req_032_keys_of_other_levels_are_ignored_with_a_warning(found: Search) -> None:
    answer = await found("/studies/1.2.1/series?StudyDate=19990101&SOPInstanceUID=1.4.7")
    assert len(answer.json) == 2
    assert "StudyDate, SOPInstanceUID" in answer.warnings[0]
