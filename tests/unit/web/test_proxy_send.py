"""SEND-RS below the base path of a proxy: what is there, what is refused, what is journalled (Sup 248 B.X3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from web_harness import Answer, ask

from router.config.model import Config, Destination, DimseDestination, HttpConfig
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet, element
from router.errors import DeliveryError, Misconfigured, Transient
from router.journal import proxied
from router.journal.journal import Journal
from router.journal.proxied import Batch
from router.sending.proxied import ProxiedRequests
from router.sending.requests import SendRequests
from router.web.app import _http_error
from router.web.proxy_send import GRANTED_S, Upstream, proxy_routes
from router.web.urls import BASE_PATH, PUBLIC_URL

pytestmark = pytest.mark.anyio

UID = "1.1.99999"
TO = "destination=dicom%3A%2F%2F10.1.2.3%3A104%2FARCHIVE"
JSON = (("accept", "application/dicom+json"), ("host", "proxy"))
MANDATORY = ("studies", "studies/1.2/series", "studies/1.2/series/1.3/instances")
OPTIONAL = ("studies/1.2/instances", "series", "instances")
DESTINATIONS: Mapping[str, Destination] = {
    "archive": DimseDestination(name="archive", ae_title="ARCHIVE", host="10.1.2.3"),
}
ANSWER = {"0020000D": "1.2", "0020000E": "1.3", "00080018": "1.4", "00100020": "1", "00100010": "Doe"}


@dataclass
class FakeArchive:
    """Has one instance, which matches everything."""

    granted_relational: bool = False
    granted_date_time: bool = False
    cut_short: bool = False
    error: DeliveryError | None = None
    asked: list[str] = field(default_factory=list)
    opened: int = 0
    many: int = 1

    async def open(self) -> None:
        self.opened += 1
        if self.error is not None:
            raise self.error

    async def find(
        self, level: str, keys: JsonDataSet, *, relational: bool = False, limit: int | None = None
    ) -> AsyncGenerator[JsonDataSet, None]:
        self.asked.append(level)
        given = JsonAttributes(keys)
        for number in range(self.many if level == "image" else 1):
            row = {**ANSWER, "00080018": f"1.4.{number}"}
            for name in row:
                row[name] = next(iter(given.texts((int(name, 16),))), row[name])
            yield {name: element(int(name, 16), [value]) for name, value in row.items()}


class Front:
    def __init__(self, journal: Journal, archive: FakeArchive, config: Config):
        self.journal, self.archive, self.woken, self.time = journal, archive, list[str](), 0.0

        @asynccontextmanager
        async def open_archive() -> AsyncIterator[FakeArchive]:
            yield archive

        upstream = Upstream("pacs", open_archive, clock=lambda: self.time)
        requests = SendRequests(journal, lambda names: None, lambda: config)
        proxied_requests = ProxiedRequests(journal, self.woken.append, lambda: config)
        routes = proxy_routes("/pacs", upstream, requests, proxied_requests, lambda: DESTINATIONS, config)
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    async def post(self, resource: str, query: str = f"{TO}&PatientID=1", uid: str = UID, **more: Any) -> Answer:
        target = f"/pacs/{resource}/send-requests/{uid}?{query}"
        return await ask(self.app, target, method="POST", headers=JSON, **more)

    async def get(self, resource: str, uid: str = UID) -> Answer:
        return await ask(self.app, f"/pacs/{resource}/send-requests/{uid}", headers=JSON)

    async def options(self) -> str:
        return (await ask(self.app, "/pacs", method="OPTIONS", headers=(("accept", "application/json"),))).text

    async def batch(self) -> Batch | None:
        claim = partial(proxied.claim, proxy="pacs", now=9e9, most=100, most_characters=65_000)
        return await self.journal.write(claim)


@asynccontextmanager
async def a_front(folder: Path, archive: FakeArchive | None = None, **http: Any) -> AsyncIterator[Front]:
    config = Config(file=folder / "router.toml", http=HttpConfig(**http))
    async with Journal.open(folder) as journal:
        yield Front(journal, archive or FakeArchive(), config)


@pytest.mark.parametrize("resource", MANDATORY)
async def test_req_021_a_request_is_journalled_before_it_is_answered(tmp_path: Path, resource: str) -> None:
    async with a_front(tmp_path) as front:
        answer = await front.post(resource)
        assert answer.status == 202, answer.text
        [module] = answer.json
        assert (module["00000900"]["Value"], module["00001020"]["Value"]) == ([0xFF00], [1])
        assert front.woken == ["pacs"]
        batch = await front.batch()
        assert batch is not None
        assert (batch.move_destination, batch.study, batch.series) == ("ARCHIVE", "1.2", "1.3")
        assert [one.sop_instance_uid for one in batch.instances] == ["1.4.0"]
        assert (await front.get(resource)).json == answer.json


@pytest.mark.parametrize("resource", OPTIONAL)
async def test_req_021_o58_what_was_not_granted_is_not_there(tmp_path: Path, resource: str) -> None:
    """And not told of; when it is granted both change."""
    async with a_front(tmp_path) as front:
        assert (await front.post(resource)).status == 404
        assert front.archive.asked == []
        assert '"sendInstances"' not in await front.options()
        assert front.archive.opened == 1, "it is remembered"
        front.archive.granted_relational, front.time = True, GRANTED_S
        assert (await front.post(resource)).status == 202
        told = await front.options()
        assert all(f'"{name}"' in told for name in ("sendStudies", "sendSeries", "sendInstances"))


async def test_what_was_taken_can_be_asked_for_when_the_archive_has_changed(tmp_path: Path) -> None:
    async with a_front(tmp_path, FakeArchive(granted_relational=True)) as front:
        assert (await front.post("instances")).status == 202
        front.archive.granted_relational, front.time = False, GRANTED_S
        assert (await front.post("instances", uid="1.2.3")).status == 404
        assert (await front.get("instances")).status == 202


@pytest.mark.parametrize(
    ("error", "wait"),
    [(Transient("connection refused"), "30"), (Transient("busy", 7.0), "7"), (Misconfigured("AE title unknown"), "30")],
)
async def test_req_048_an_archive_that_cannot_be_asked_is_503(tmp_path: Path, error: DeliveryError, wait: str) -> None:
    async with a_front(tmp_path, FakeArchive(error=error)) as front:
        answer = await front.post("studies")
        assert (answer.status, answer.headers["retry-after"]) == (503, wait)
        assert error.problem in answer.json["detail"]
        assert (await front.post("instances")).status == 503
        assert '"sendStudies"' in await front.options(), "Capabilities are told all the same"
        assert '"sendInstances"' not in await front.options()


async def test_one_space_of_transaction_uids_but_each_resource_its_own(tmp_path: Path) -> None:
    async with a_front(tmp_path) as front:
        await front.post("studies")
        assert (await front.post("studies/1.2/series")).status == 409
        assert (await front.get("studies/1.2/series")).status == 404
        assert (await front.get("studies")).status == 202


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (TO, 400),
        (f"{TO}&Rows=5", 400),
        (f"{TO}&NoSuchThing=5", 400),
        ("PatientID=1", 400),
        ("destination=https%3A%2F%2Fnowhere&PatientID=1", 403),
        (f"{TO}&Modality=CT", 400),
    ],
)
async def test_what_is_wrong_is_refused_before_the_archive_is_asked(tmp_path: Path, query: str, status: int) -> None:
    async with a_front(tmp_path) as front:
        assert (await front.post("studies", query)).status == status
        assert front.archive.asked == []
        assert await front.batch() is None


async def test_too_many_instances_are_refused(tmp_path: Path) -> None:
    async with a_front(tmp_path, FakeArchive(many=4), max_send_instances=3) as front:
        assert (await front.post("studies")).status == 413
        assert await front.batch() is None


async def test_a_key_that_the_archive_ignores_is_refused(tmp_path: Path) -> None:
    """O-30: its answer lacks the attribute, so it was not matched."""
    async with a_front(tmp_path) as front:
        answer = await front.post("studies", f"{TO}&AccessionNumber=1")
        assert answer.status == 400
        assert "AccessionNumber" in answer.json["detail"]


def set_public(front: Front, url: str) -> None:
    set_state: Callable[[str, str], None] = partial(setattr, front.app.state)
    set_state(PUBLIC_URL, url)
    set_state(BASE_PATH, "/dicom-web")


async def test_behind_a_reverse_proxy_its_base_uri_stands_beside_ours(tmp_path: Path) -> None:
    async with a_front(tmp_path) as front:
        set_public(front, "https://public.example/dicom-web")
        assert "https://public.example/pacs" in await front.options()
