"""The Non-Patient Instance service over HTTP, on a real journal and store: what is stored, found, retrieved, sent."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import npi_samples
import pydicom
import pytest
from npi_samples import SOP_CLASSES, VARIANTS, sample, uid_of
from pydicom.data import get_testdata_file
from starlette.types import ASGIApp
from web_harness import Answer, ask

from router.config.model import Config, Destination, HttpConfig, StateConfig, StowDestination
from router.dicom.attributes import AttributePath
from router.dicom.envelope import Source
from router.dicom.header import Header
from router.dicom.non_patient import CATEGORIES, Category
from router.dicom.uids import Uid
from router.dicomweb.multipart_writer import closing, part_opening
from router.errors import StorageError
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.rules.decision import Decision
from router.search import Index
from router.search.non_patient import NonPatientIndex
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.app import DEFAULT_LIMITS, make_app
from router.web.npi import npi_collection_routes, npi_routes
from router.web.send import send_routes

BASE = "/dicom-web"
HOST = ("host", "pacs:8080")
JSON = (("accept", "application/dicom+json"), HOST)
HANGING = Uid("1.2.840.10008.5.1.4.38.1")
PALETTE = Uid("1.2.840.10008.5.1.4.39.1")
ELSEWHERE = "https%3A%2F%2Fanother.server/stow"
TRANSACTION = "1.2.3.4"
XML_PARTS = 'multipart/related; type="application/dicom+xml"'

pytestmark = pytest.mark.anyio


class NoRules:
    wanted: frozenset[AttributePath] = frozenset()

    def decide(self, source: Source, header: Header) -> Decision:
        return Decision()


@dataclass
class StandingClock:
    """Stands still until a test moves it."""

    time: float = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    async def wait(self, event: anyio.Event, timeout_s: float) -> bool:
        raise AssertionError("nobody waits here")


@dataclass
class Server:
    """The service, and what wakes the lanes of it."""

    app: ASGIApp
    journal: Journal
    clock: StandingClock
    woken: list[str] = field(default_factory=list)

    async def get(self, target: str, accept: str = "application/dicom+json") -> Answer:
        headers = (("accept", accept), HOST) if accept else (HOST,)
        return await ask(self.app, f"{BASE}/{target}", headers=headers)

    async def post(self, target: str, content_type: str = "", body: bytes = b"", accept: str = "*/*") -> Answer:
        headers = [("content-type", content_type)] if content_type else []
        headers += [("accept", accept), HOST, ("content-length", str(len(body)))]
        return await ask(self.app, f"{BASE}/{target}", method="POST", headers=headers, body=body)

    async def store(self, target: str, *files: bytes, **how: Any) -> Answer:
        """Store in parts."""
        opening = part_opening("xyz", {"Content-Type": "application/dicom"})
        body = b"".join(opening + file for file in files) + closing("xyz")
        return await self.post(target, 'multipart/related; type="application/dicom"; boundary=xyz', body, **how)

    async def send(self, npi_name: str, uid: str = TRANSACTION, *, query: str = "", **how: Any) -> Answer:
        return await self.post(
            f"{npi_name}/send-requests/{uid}?destination={ELSEWHERE}{query}",
            accept=how.pop("accept", "application/dicom+json"),
            **how,
        )


@asynccontextmanager
async def serving(state: Path, **http: Any) -> AsyncIterator[Server]:
    config = Config(
        file=state / "router.toml",
        http=HttpConfig(**http),
        state=StateConfig(path=state, min_free_bytes=0),
        destinations={"elsewhere": StowDestination(name="elsewhere", url="https://another.server/stow")},
    )
    destinations: dict[str, Destination] = config.destinations
    async with Journal.open(state) as journal, Store.open(state) as store:
        woken: list[str] = []
        ingest = Ingest(store, journal, NoRules, config, woken.extend)
        clock = StandingClock()
        requests = SendRequests(journal, woken.extend, lambda: config, clock=clock)
        index = NonPatientIndex(journal, store)
        services = [
            *send_routes(BASE, Index(journal, store), requests, lambda: destinations, config),
            *npi_routes(config, ingest, DEFAULT_LIMITS, store.spool, index, store, requests, lambda: destinations),
        ]
        app = make_app(
            config.http, ingest, open_spool=store.spool, services=services, hidden=npi_collection_routes(BASE)
        )
        yield Server(app, journal, clock, woken)


def ct_small() -> tuple[bytes, str]:
    """A patient's instance and its UID."""
    file = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    return file, str(pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID)


def module_of(answer: Answer) -> dict[str, Any]:
    """The Store Instances Response Module as {stored: uids, failed: {uid: reason}}."""
    data_set = json.loads(answer.body)
    stored = [item["00081155"]["Value"][0] for item in data_set.get("00081199", {}).get("Value", [])]
    failed = {
        item["00081155"]["Value"][0]: item["00081197"]["Value"][0]
        for item in data_set.get("00081198", {}).get("Value", [])
    }
    return {"stored": stored, "failed": failed}


def result_of(answer: Answer) -> dict[str, int]:
    """Counters of the Send Request Response Module by their names."""
    [module] = json.loads(answer.body)
    names = {"00000900": "status", "00001020": "remaining", "00001021": "completed", "00001022": "failed"}
    return {name: module[tag]["Value"][0] for tag, name in names.items() if tag in module}


async def uids_found(server: Server, target: str) -> list[str]:
    answer = await server.get(target)
    assert answer.status in (200, 204)
    return [one["00080018"]["Value"][0] for one in json.loads(answer.body)] if answer.status == 200 else []


@pytest.mark.parametrize(("category", "sop_class"), SOP_CLASSES)
async def test_req_070_072_each_category_is_stored_searched_and_retrieved(
    tmp_path: Path, category: Category, sop_class: Uid
) -> None:
    async with serving(tmp_path) as server:
        answer = await server.store(category.name, *(sample(sop_class, variant) for variant in VARIANTS))
        assert answer.status == 200
        assert module_of(answer) == {"stored": [uid_of(sop_class, variant) for variant in VARIANTS], "failed": {}}
        answer = await server.get(f"{category.name}?SOPInstanceUID={uid_of(sop_class, 1)}")
        [found] = json.loads(answer.body)
        url = f"http://pacs:8080/dicom-web/{category.name}/{uid_of(sop_class, 1)}"
        assert found["00081190"]["Value"] == [url]
        for variant in VARIANTS:
            answer = await server.get(f"{category.name}/{uid_of(sop_class, variant)}", "application/dicom")
            assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "application/dicom")
            got = pydicom.dcmread(io.BytesIO(answer.body))
            assert got.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2"  # never Implicit VR on the web
            assert got == pydicom.dcmread(io.BytesIO(sample(sop_class, variant)))


@pytest.mark.parametrize("path", ["hanging-protocols", f"hanging-protocols/{uid_of(HANGING, 0)}"])
async def test_store_takes_a_single_part_of_dicom(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as server:
        answer = await server.post(path, "application/dicom", sample(HANGING, 0))
        assert (answer.status, module_of(answer)["stored"]) == (200, [uid_of(HANGING, 0)])
        assert await uids_found(server, "hanging-protocols") == [uid_of(HANGING, 0)]


async def test_store_takes_metadata_in_json_alone_and_in_parts(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        one, other = (
            json.dumps([npi_samples.data_set(PALETTE, variant).to_json_dict()]).encode() for variant in VARIANTS[:2]
        )
        answer = await server.post("color-palettes", "application/dicom+json", one)
        assert (answer.status, module_of(answer)["stored"]) == (200, [uid_of(PALETTE, 0)])
        body = part_opening("xyz", {"Content-Type": "application/dicom+json"}) + other + closing("xyz")
        answer = await server.post(
            "color-palettes", 'multipart/related; type="application/dicom+json"; boundary=xyz', body
        )
        assert (answer.status, module_of(answer)["stored"]) == (200, [uid_of(PALETTE, 1)])
        assert await uids_found(server, "color-palettes?ContentLabel=BETA") == [uid_of(PALETTE, 1)]


async def test_store_refuses_patients_and_other_categories_but_200_when_one_is_stored(tmp_path: Path) -> None:
    ct, ct_uid = ct_small()
    async with serving(tmp_path) as server:
        answer = await server.store("hanging-protocols", ct, sample(PALETTE, 0), sample(HANGING, 0))
        assert answer.status == 200  # Table 12.5.3-1: at least one
        assert module_of(answer) == {
            "stored": [uid_of(HANGING, 0)],
            "failed": {ct_uid: 0x0122, uid_of(PALETTE, 0): 0x0122},
        }
        answer = await server.store("hanging-protocols", ct)
        assert (answer.status, module_of(answer)["failed"]) == (409, {ct_uid: 0x0122})
        assert await uids_found(server, "color-palettes") == []


async def test_store_at_a_uid_takes_this_instance_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        answer = await server.store(f"hanging-protocols/{uid_of(HANGING, 1)}", sample(HANGING, 0))
        assert (answer.status, module_of(answer)["failed"]) == (409, {uid_of(HANGING, 0): 0xA900})
        answer = await server.store("hanging-protocols/1.2.x", sample(HANGING, 0))
        assert answer.status == 400


async def test_a_lie_in_the_file_meta_is_found_out(tmp_path: Path) -> None:
    lying = pydicom.dcmread(io.BytesIO(ct_small()[0]))
    lying.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(HANGING)
    written = io.BytesIO()
    lying.save_as(written)
    async with serving(tmp_path) as server:
        answer = await server.store("hanging-protocols", written.getvalue())
        assert (answer.status, module_of(answer)["failed"]) == (409, {lying.SOPInstanceUID: 0xA900})


async def test_studies_refuse_a_non_patient_instance_and_say_where_it_goes(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        answer = await server.store("studies", sample(HANGING, 0))
        assert (answer.status, module_of(answer)["failed"]) == (409, {uid_of(HANGING, 0): 0x0122})
        assert "POST it to /hanging-protocols" in answer.headers["warning"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/zip", b"PK", 415),
        ("", b"x", 415),
        ("application/dicom", b"", 409),
        ("application/dicom", b"no file at all, nothing of the kind" * 10, 409),
        ("application/dicom+json", b"[{", 400),
    ],
)
async def test_store_refuses_what_is_none(tmp_path: Path, content_type: str, body: bytes, status: int) -> None:
    async with serving(tmp_path) as server:
        answer = await server.post("hanging-protocols", content_type, body)
        assert answer.status == status
        if status == 415:
            assert answer.headers["accept-post"].startswith("application/dicom, application/dicom+json, multipart/")


async def test_search_pages_and_warns_as_a_search_of_studies_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", *(sample(HANGING, variant) for variant in VARIANTS))
        everything = await uids_found(server, "hanging-protocols")  # in the order in which they became durable
        answer = await server.get("hanging-protocols?limit=1&offset=1&PatientID=x&fuzzymatching=true")
        [found] = json.loads(answer.body)
        assert found["00080018"]["Value"] == everything[1:2]
        texts = "\n".join(answer.warnings)
        assert "There are 1 additional results" in texts
        assert "ignored: PatientID" in texts
        assert "fuzzymatching parameter is not supported" in texts
        nothing = await server.get("hanging-protocols?HangingProtocolName=none")
        assert (nothing.status, nothing.body) == (204, b"")
        assert (await server.get("hanging-protocols?NumberOfScreens=two")).status == 400
        assert (await server.get("hanging-protocols", "")).status == 406
        xml = await server.get("hanging-protocols", XML_PARTS)
        assert xml.body.count(b"<NativeDicomModel") == 3


async def test_search_answers_included_attributes_from_the_file(tmp_path: Path) -> None:
    made = npi_samples.data_set(HANGING, 0)
    made.Manufacturer, made.DisplaySetsSequence = "Acme", []
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", npi_samples.file_of(made))
        plain = json.loads((await server.get("hanging-protocols")).body)[0]
        asked = json.loads((await server.get("hanging-protocols?includefield=Manufacturer")).body)[0]
        everything = json.loads((await server.get("hanging-protocols?includefield=all")).body)[0]
    assert "00080070" not in plain
    assert asked["00080070"] == everything["00080070"] == {"vr": "LO", "Value": ["Acme"]}
    assert "00720200" in everything


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/dicom+json"),
        (XML_PARTS, XML_PARTS),
        ("application/dicom", "application/dicom"),
        ("application/dicom;q=0.9, application/dicom+json;q=0.5", "application/dicom"),
        ("application/dicom;q=0.5, application/dicom+json;q=0.9", "application/dicom+json"),
    ],
)
async def test_retrieve_in_the_media_types_of_the_service(tmp_path: Path, accept: str, content_type: str) -> None:
    async with serving(tmp_path) as server:
        await server.store("color-palettes", sample(PALETTE, 1))
        answer = await server.get(f"color-palettes/{uid_of(PALETTE, 1)}", accept)
        assert (answer.status, answer.headers["content-type"][: len(content_type)]) == (200, content_type)


async def test_retrieve_of_what_is_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("color-palettes", sample(PALETTE, 1))
        assert (await server.get("color-palettes/1.2.3")).status == 404
        assert (await server.get(f"hanging-protocols/{uid_of(PALETTE, 1)}")).status == 404
        assert (await server.get("color-palettes/1.2.x")).status == 400
        assert (await server.get(f"color-palettes/{uid_of(PALETTE, 1)}", "")).status == 406
        assert (await server.get(f"color-palettes/{uid_of(PALETTE, 1)}", "image/png")).status == 406


async def test_bulk_data_of_the_metadata_can_be_fetched(tmp_path: Path) -> None:
    made = npi_samples.data_set(PALETTE, 0)
    made.add_new(0x00281201, "OW", bytes(range(256)) * 8)
    async with serving(tmp_path) as server:
        await server.store("color-palettes", npi_samples.file_of(made))
        [data_set] = json.loads((await server.get(f"color-palettes/{made.SOPInstanceUID}")).body)
        uri = data_set["00281201"]["BulkDataURI"]
        assert uri == f"http://pacs:8080/dicom-web/color-palettes/{made.SOPInstanceUID}/bulkdata/00281201"
        answer = await server.get(uri.removeprefix("http://pacs:8080/dicom-web/"), "application/octet-stream")
        assert (answer.status, answer.body) == (200, bytes(range(256)) * 8)


@pytest.mark.parametrize("npi_name", CATEGORIES)
async def test_req_069_073_075_080_092_send_and_check_of_each_category(tmp_path: Path, npi_name: str) -> None:
    sop_class = next(iter(CATEGORIES[npi_name].tables))
    async with serving(tmp_path) as server:
        await server.store(npi_name, *(sample(sop_class, variant) for variant in VARIANTS))
        sent = await server.send(npi_name, query=f"&SOPInstanceUID={uid_of(sop_class, 0)},{uid_of(sop_class, 2)}")
        assert (sent.status, result_of(sent)) == (202, {"status": 0xFF00, "remaining": 2, "completed": 0, "failed": 0})
        assert server.woken == ["elsewhere"]
        checked = await server.get(f"{npi_name}/send-requests/{TRANSACTION}")
        assert (checked.status, result_of(checked)) == (202, result_of(sent))
        rows = await server.journal.read(
            lambda conn: conn.execute("SELECT resource, destination FROM send_request").fetchall()
        )
        assert rows == [(npi_name, "elsewhere")]


async def test_req_090_095_headers_and_payload_of_a_check_are_those_of_the_send(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        sent = await server.send("hanging-protocols")
        assert sent.headers["content-type"] == "application/dicom+json"
        assert sent.headers["content-length"] == str(len(sent.body))
        assert int(sent.headers["retry-after"]) > 0
        checked = await server.get(f"hanging-protocols/send-requests/{TRANSACTION}")
        assert (checked.headers, checked.body) == (sent.headers, sent.body)


async def test_req_079_the_destination_is_one_absolute_url(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        target = f"hanging-protocols/send-requests/{TRANSACTION}"
        for query in (
            "",
            "?destination=",
            "?destination=ELSEWHERE",
            f"?destination={ELSEWHERE}&destination={ELSEWHERE}",
        ):
            assert (await server.post(target + query)).status == 400


async def test_req_077_089_091_what_ends_at_once_is_answered_with_200_and_the_module(tmp_path: Path) -> None:
    """Nothing matches: a success, with a warning (O-20)."""
    async with serving(tmp_path) as server:
        answer = await server.send("hanging-protocols")
        assert (answer.status, result_of(answer)) == (200, {"status": 0, "completed": 0, "failed": 0})
        assert any("no matching instances" in text.lower() for text in answer.warnings)
        again = await server.send("hanging-protocols")
        assert (again.status, again.json["title"]) == (409, "Conflict")  # REQ-091: a Status Report


async def test_req_094_a_result_that_is_no_longer_kept_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, result_ttl_s=3600.0) as server:
        target = f"hanging-protocols/send-requests/{TRANSACTION}"
        assert (await server.get(target)).status == 404
        assert (await server.send("hanging-protocols")).status == 200
        assert (await server.get(target)).status == 200
        server.clock.time += 3601
        assert (await server.get(target)).status == 410


async def test_req_089_094_while_the_journal_cannot_be_read_it_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(query: object) -> None:
        raise StorageError("disk on fire")

    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        for way in ("read", "search"):
            monkeypatch.setattr(server.journal, way, failing)
        for answer in (
            await server.send("hanging-protocols"),
            await server.get("hanging-protocols/send-requests/1.2"),
            await server.get("hanging-protocols"),
        ):
            assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
            assert "fire" not in answer.text


async def test_req_071_the_path_form_works_and_the_query_form_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        for target in (f"hanging-protocols/send-requests?{TRANSACTION}", "hanging-protocols/send-requests"):
            assert (await server.post(f"{target}")).status == 404
            assert (await server.get(target)).status == 404
        assert (await server.send("hanging-protocols")).status == 202
        assert (await server.send("overlays")).status == 404


async def test_req_089_094_a_request_is_known_by_its_own_resource_and_its_uid_is_in_use_in_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        assert (await server.send("hanging-protocols")).status == 202
        assert (await server.get(f"color-palettes/send-requests/{TRANSACTION}")).status == 404
        assert (await server.get("hanging-protocols/send-requests/1.2.3.5")).status == 404
        again = await server.send("color-palettes")  # one space of UIDs (O-25)
        assert again.status == 409


async def test_req_087_a_send_takes_what_the_same_search_finds(tmp_path: Path) -> None:
    queries = [
        "",
        "&HangingProtocolName=%3F*+beta",
        "&NumberOfScreens=300",
        "&limit=1&offset=1",
        "&HangingProtocolLevel=x",
    ]
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", *(sample(HANGING, variant) for variant in VARIANTS))
        for number, query in enumerate(queries):
            found = await uids_found(server, f"hanging-protocols?limit=9{query}".replace("limit=9&limit", "limit"))
            uid = f"1.2.3.{number}"
            assert (await server.send("hanging-protocols", uid, query=query)).status in (200, 202)
            rows = await server.journal.read(
                lambda conn, uid=uid: conn.execute(  # type: ignore[misc]
                    "SELECT s.sop_instance_uid FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id"
                    " WHERE q.transaction_uid = ? ORDER BY s.id",
                    (uid,),
                ).fetchall()
            )
            assert [row[0] for row in rows] == found


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("&HangingProtocolDescription=x", 400, "cannot be matched"),
        ("&PatientID=x", 400, "no matching key of hanging-protocols"),
        ("&PatientIDs=x", 400, "is not an attribute"),
        ("&NumberOfScreens=two", 400, "is not a number"),
        ("&includefield=%20nonsense%20", 202, ""),
        ("&whatever=x", 202, ""),
        ("&limit=x", 400, "whole number"),
    ],
)
async def test_req_083_084_the_query_of_a_send(tmp_path: Path, query: str, status: int, says: str) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        answer = await server.send("hanging-protocols", query=query)
        assert answer.status == status
        assert says in answer.text


async def test_req_085_086_a_send_needs_accept_and_has_no_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        target = f"hanging-protocols/send-requests/{TRANSACTION}"
        no_accept = await ask(server.app, f"{BASE}/{target}?destination={ELSEWHERE}", method="POST", headers=(HOST,))
        assert no_accept.status == 406
        assert (await server.get(target, "")).status == 406
        assert (await server.send("hanging-protocols", body=b"{}", content_type="application/json")).status == 400
        assert (await server.send("hanging-protocols")).status == 202


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("application/dicom", 406, "application/problem+json"),  # O-15: cannot hold group 0000
        ("*/*", 202, "application/dicom+json"),
        ("application/dicom, application/dicom+json;q=0.1", 202, "application/dicom+json"),
        (XML_PARTS, 202, XML_PARTS),
        ("application/dicom+xml", 202, "application/dicom+xml"),
    ],
)
async def test_req_082_085_o_15_media_types_of_send_and_check(
    tmp_path: Path, accept: str, status: int, content_type: str
) -> None:
    async with serving(tmp_path) as server:
        await server.store("hanging-protocols", sample(HANGING, 0))
        answers = [
            await server.send("hanging-protocols", accept=accept),
            await server.get(f"hanging-protocols/send-requests/{TRANSACTION}", accept),
        ]
        for answer in answers if status == 202 else answers[:1]:
            assert (answer.status, answer.headers["content-type"][: len(content_type)]) == (status, content_type)
        by_parameter = await server.send(
            "hanging-protocols", "1.2.3.9", query="&accept=application/dicom%2Bxml", accept="*/*"
        )
        assert by_parameter.headers["content-type"] == "application/dicom+xml"


async def test_more_than_may_be_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, max_send_instances=2) as server:
        await server.store("hanging-protocols", *(sample(HANGING, variant) for variant in VARIANTS))
        assert (await server.send("hanging-protocols")).status == 413
        assert (await server.send("hanging-protocols", query="&limit=2")).status == 202


async def test_an_unlisted_destination_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        target = f"hanging-protocols/send-requests/{TRANSACTION}?destination="
        for url, status in (
            ("https://evil.example/stow", 403),
            ("https://another.server/stow/hanging-protocols", 200),  # O-08
            ("https://another.server/stow/studies/x", 403),
        ):
            answer = await server.post(target + quote(url, safe=""), accept="application/dicom+json")
            assert answer.status == status


async def test_req_074_081_096_the_capabilities_tell_of_every_category(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        answer = await ask(
            server.app, f"{BASE}/", method="OPTIONS", headers=(("accept", "application/vnd.sun.wadl+xml"), HOST)
        )
    ids = re.findall(r'<method id="([^"]+)"', answer.text)
    for category in CATEGORIES.values():
        of = category.title.replace(" ", "")
        assert {f"store{of}", f"searchFor{of}", f"retrieve{of}", f"send{of}", f"checkSend{of}"} <= set(ids)
        assert f'<resource path="{category.name}"' in answer.text
    assert len(ids) == len(set(ids))
    assert 'name="HangingProtocolDefinitionSequence.Modality"' in answer.text


async def test_req_076_nothing_can_be_cancelled_and_other_methods_that_there_are_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for target, allow in (
            ("hanging-protocols", "GET, HEAD, POST"),
            ("hanging-protocols/1.2.3", "GET, HEAD, POST"),
            (f"hanging-protocols/send-requests/{TRANSACTION}", "GET, HEAD, POST"),
        ):
            answer = await ask(server.app, f"{BASE}/{target}", method="DELETE", headers=JSON)
            assert (answer.status, answer.headers["allow"]) == (405, allow)
