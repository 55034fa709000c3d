"""SEND-RS over HTTP: what a client is told for what it asks (Sup 248 §10.X, §10.Y; B85 to B90)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from filled_journal import NOON, ended, put
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from web_harness import Answer, ask

from router.config.model import Config, Destination, DimseDestination, HttpConfig, StowDestination
from router.dicom.uids import Uid
from router.dicomweb.send_response import read_module
from router.errors import StorageError
from router.journal import claims, sub_operations
from router.journal.journal import Journal
from router.journal.requests import close_all, inspect_request
from router.search import Index, Level, MatchSet, Plan, TooMany
from router.search import Scope as SearchScope
from router.sending.requests import Progress, SendRequests
from router.web import send_answer
from router.web.app import _http_error
from router.web.capabilities import with_capabilities
from router.web.rendering import MODULE_OFFERS
from router.web.send import collection_routes, send_routes

UID = "1.1.99999.20250901"
DESTINATION = "destination=https%3A%2F%2Fanother.server/stow"
JSON = (("accept", "application/dicom+json"), ("host", "www.hospital-stmarco"))
ALL = (
    "studies",
    "studies/1.2/series",
    "studies/1.2/instances",
    "series",
    "studies/1.2/series/1.3/instances",
    "instances",
)
DESTINATIONS: dict[str, Destination] = {
    "cloud": StowDestination(name="cloud", url="https://another.server/stow"),
    "archive": DimseDestination(name="archive", ae_title="ARCHIVE", host="10.1.2.3"),
}

pytestmark = pytest.mark.anyio


@dataclass
class FakeIndex:
    """Finds what it is told; remembers what it was asked."""

    ids: Sequence[int] = (1, 2, 3, 4, 5)
    remaining: int = 0
    error: Exception | None = None
    asked: list[tuple[Plan, int | None, int, int]] = field(default_factory=list)

    async def match_set(self, plan: Plan, *, limit: int | None, offset: int, most: int) -> MatchSet:
        self.asked.append((plan, limit, offset, most))
        if self.error is not None:
            raise self.error
        return MatchSet(instance_ids=self.ids, entities=len(self.ids), remaining=self.remaining)


class Origin:
    """The origin server on a real journal that holds five instances."""

    def __init__(self, journal: Journal, config: Config):
        self.journal, self.index, self.woken = journal, FakeIndex(), list[str]()
        self.destinations: Mapping[str, Destination] = DESTINATIONS
        self.is_woken = anyio.Event()
        self.requests = SendRequests(journal, self.wake, lambda: config)
        base = config.http.base_path
        index = cast(Index, self.index)
        routes = send_routes(base, index, self.requests, lambda: self.destinations, config)
        everything = [*collection_routes(base), *with_capabilities(base, routes)]
        self.app = Starlette(routes=everything, exception_handlers={HTTPException: _http_error})

    def wake(self, names: Iterable[str]) -> None:
        self.woken += names
        self.is_woken.set()

    async def post(self, resource: str = "studies", query: str = f"{DESTINATION}&PatientID=1", **more: Any) -> Answer:
        return await self.ask(resource, query, method="POST", **more)

    async def get(self, resource: str = "studies", query: str = "", **more: Any) -> Answer:
        return await self.ask(resource, query, **more)

    async def ask(
        self, resource: str, query: str, *, uid: str = UID, address: str = "10.0.0.5", headers: Any = JSON, **more: Any
    ) -> Answer:
        target = f"/radiology/{resource}/send-requests/{uid}" + (f"?{query}" if query else "")
        return await ask(self.app, target, headers=headers, address=address, **more)

    async def carry(self, *states: str, destination: str = "cloud") -> None:
        """Do what a lane does: as many instances as there are states, in their order."""
        batch = await self.journal.write(
            lambda conn: claims.claim(conn, destination, now=NOON * 2, max_instances=len(states), max_bytes=2**40)
        )
        done = [ended(one, state, ended_at=NOON) for one, state in zip(batch, states, strict=True)]
        await self.journal.write(lambda conn: sub_operations.finish(conn, done))


@asynccontextmanager
async def an_origin(folder: Path, **http: Any) -> AsyncIterator[Origin]:
    config = Config(file=folder / "router.toml", http=HttpConfig(base_path="/radiology", **http))
    async with Journal.open(folder) as journal:
        await journal.write(lambda conn: [put(conn, n, destinations=()) for n in range(1, 6)])
        yield Origin(journal, config)


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    async with an_origin(tmp_path) as opened:
        yield opened


def module_of(answer: Answer) -> dict[str, Any]:
    [module] = answer.json
    return {tag: element.get("Value") for tag, element in module.items()}


def is_problem(answer: Answer, status: int) -> bool:
    return answer.status == status and answer.headers["content-type"] == "application/problem+json"


# --- Send ----------------------------------------------------------------------------------------------------------


async def test_req_016_104_the_worked_example_of_annex_b(origin: Origin) -> None:
    """REQ-008, REQ-009, REQ-016, REQ-056, REQ-104: Annex B.X1, step by step."""
    sent = await origin.post("studies", f"{DESTINATION}&PatientID=11235813")
    assert (sent.status, sent.headers["content-type"]) == (202, "application/dicom+json")
    assert int(sent.headers["retry-after"]) > 0
    assert sent.json == [
        {
            "00000900": {"vr": "US", "Value": [65280]},
            "00001020": {"vr": "US", "Value": [5]},
            "00001021": {"vr": "US", "Value": [0]},
            "00001022": {"vr": "US", "Value": [0]},
            "00001023": {"vr": "US", "Value": [0]},
        }
    ]
    assert origin.woken == ["cloud"]
    await origin.carry(*["completed"] * 5)
    checked = await origin.get("studies")
    assert (checked.status, checked.headers["content-type"]) == (200, "application/dicom+json")
    assert "retry-after" not in checked.headers  # O-02
    assert checked.json == [
        {
            "00000900": {"vr": "US", "Value": [0]},
            "00001021": {"vr": "US", "Value": [5]},
            "00001022": {"vr": "US", "Value": [0]},
            "00001023": {"vr": "US", "Value": [0]},
        }
    ]


@pytest.mark.parametrize(
    ("resource", "level", "scope"),
    list(
        zip(
            ALL,
            [Level.STUDY, Level.SERIES, Level.INSTANCE, Level.SERIES, Level.INSTANCE, Level.INSTANCE],
            [
                *(SearchScope(), SearchScope(study=Uid("1.2")), SearchScope(study=Uid("1.2"))),
                *(SearchScope(), SearchScope(study=Uid("1.2"), series=Uid("1.3")), SearchScope()),
            ],
            strict=True,
        )
    ),
)
async def test_req_019_020_010_each_of_the_six_resources_can_be_sent_and_checked(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, resource: str, level: Level, scope: SearchScope
) -> None:
    """REQ-001, REQ-005, REQ-010, REQ-019, REQ-020, REQ-023 to REQ-028, REQ-057: POST and GET, level and scope."""
    planned: list[tuple[Level, SearchScope, bool]] = []

    def note(level: Level, scope: SearchScope, asked: Any, *, options: Any, strict: bool) -> None:
        planned.append((level, scope, strict))

    monkeypatch.setattr("router.web.search.plan", note)
    assert (await origin.post(resource)).status == 202
    assert planned == [(level, scope, True)]
    assert (await origin.get(resource)).status == 202
    for other in ALL:
        if other != resource:
            assert is_problem(await origin.get(other), 404)


@pytest.mark.parametrize(
    "resource",
    [
        *("studies/1.2", "studies/1.2/series/1.3", "studies/1.2/series/1.3/instances/1.4"),
        *("studies/1.2/series/1.3/instances/1.4/frames/1", "patients"),
    ],
)
async def test_req_001_003_there_are_no_other_resources(origin: Origin, resource: str) -> None:
    """REQ-001, REQ-003, O-12: not frames, and not one study, series or instance by its path."""
    assert is_problem(await origin.post(resource), 404)
    assert is_problem(await origin.get(resource), 404)


@pytest.mark.parametrize("resource", ALL)
async def test_o12_the_send_requests_of_a_resource_are_not_listed(origin: Origin, resource: str) -> None:
    assert is_problem(await ask(origin.app, f"/radiology/{resource}/send-requests", headers=JSON), 404)


@pytest.mark.parametrize(
    "query",
    [
        "PatientID=1",
        "destination=&PatientID=1",
        "destination&PatientID=1",
        f"{DESTINATION}&{DESTINATION}&PatientID=1",
        f"{DESTINATION},https%3A%2F%2Fanother.server/stow&PatientID=1",
        "destination=another.server/stow&PatientID=1",
        "destination=cloud&PatientID=1",
        "destination=ARCHIVE&PatientID=1",
        "destination=https%3A%2F%2Fanother.server/%zz&PatientID=1",
        "destination=https%253A%252F%252Fanother.server/stow&PatientID=1",
        "destination=ftp%3A%2F%2Fanother.server/stow&PatientID=1",
        "destination=https%3A%2F%2Fanother.server/stow%3Fa%3D1&PatientID=1",
        "destination=https%3A%2F%2Fanother.server/stow%23a&PatientID=1",
        "destination=https%3A%2F%2Fuser%40another.server/stow&PatientID=1",
    ],
)
async def test_req_017_018_046_b73_b74_b76_b77_b83_what_is_no_destination_is_refused(
    origin: Origin, query: str
) -> None:
    """REQ-017, REQ-018, REQ-046."""
    answer = await origin.post(query=query)
    assert is_problem(answer, 400)
    assert origin.index.asked == []


async def test_req_018_a_url_is_decoded_once(origin: Origin) -> None:
    """REQ-018: what is encoded in the URL survives one decoding, and is part of the URL."""
    answer = await origin.post(query="destination=https%3A%2F%2Fa%3Fb%26PatientID%3D2&PatientID=1")
    assert is_problem(answer, 400)
    assert "query or a fragment" in answer.json["detail"]


@pytest.mark.parametrize(
    "url",
    ["https%3A%2F%2Fevil.example/stow", "http%3A%2F%2Fanother.server/stow", "https%3A%2F%2Fanother.server/stow/x"],
)
async def test_b75_b76_b82_what_is_not_registered_is_forbidden(origin: Origin, url: str) -> None:
    answer = await origin.post(query=f"destination={url}&PatientID=1")
    assert is_problem(answer, 403)
    assert "another.server" not in answer.text
    assert origin.index.asked == []


async def test_b90_this_router_is_no_destination(origin: Origin) -> None:
    for url in ("http://127.0.0.1:8080/radiology", "https://www.hospital-stmarco/radiology"):
        answer = await origin.post(query=f"destination={url}&PatientID=1")
        assert is_problem(answer, 403)
        assert "loop" in answer.json["detail"]


async def test_req_041_an_ae_title_is_asked_for_by_its_alias(origin: Origin) -> None:
    """REQ-041, O-07."""
    assert (await origin.post(query="destination=dicom://10.1.2.3/ARCHIVE&PatientID=1")).status == 202
    assert origin.woken == ["archive"]


async def test_the_place_of_destination_in_the_query_does_not_matter(origin: Origin) -> None:
    """O-10."""
    assert (await origin.post(query=f"PatientID=1&{DESTINATION}")).status == 202


async def test_a_destination_that_came_with_a_reload_is_known(origin: Origin) -> None:
    query = "destination=https://new.example&PatientID=1"
    assert is_problem(await origin.post(query=query), 403)
    origin.destinations = {"new": StowDestination(name="new", url="https://new.example")}
    assert (await origin.post(query=query)).status == 202
    assert is_problem(await origin.post(uid="1.2.3"), 403), "and one that went is not"


@pytest.mark.parametrize("accept", [None, "application/dicom", "image/png", "text/html"])
async def test_req_036_059_b86_without_a_media_type_that_we_have_it_is_406(origin: Origin, accept: str | None) -> None:
    """REQ-036, REQ-059, O-14."""
    headers = [("host", "h"), *([("accept", accept)] if accept else [])]
    assert is_problem(await origin.post(headers=headers), 406)
    assert is_problem(await origin.get(headers=headers), 406)
    assert origin.index.asked == []


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "application/dicom+json;q=0.1"])
async def test_o14_wild_cards_mean_json(origin: Origin, accept: str) -> None:
    answer = await origin.post(headers=[("accept", accept)])
    assert (answer.status, answer.headers["content-type"]) == (202, "application/dicom+json")


@pytest.mark.parametrize("accept", ["application/dicom+xml", 'multipart/related; type="application/dicom+xml"'])
async def test_req_051_053_xml_is_answered_in_one_part_or_in_parts(origin: Origin, accept: str) -> None:
    """REQ-043, REQ-051, REQ-053, REQ-059: another Accept in the check than in the send works."""
    await origin.post()
    answer = await origin.get(headers=[("accept", accept)])
    assert answer.headers["content-type"].startswith(accept.partition(";")[0])
    assert int(answer.headers["content-length"]) == len(answer.body)
    module = read_module(answer.headers["content-type"], answer.body)
    assert (module.status, module.remaining) == (0xFF00, 5)


async def test_req_037_b86_a_request_with_a_body_is_refused(origin: Origin) -> None:
    """REQ-037: empty is fine, also when it says so."""
    assert is_problem(await origin.post(headers=[*JSON, ("content-length", "2")], body=b"{}"), 400)
    assert is_problem(await origin.post(headers=[*JSON, ("transfer-encoding", "chunked")], body=b"{}"), 400)
    assert (await origin.post(headers=[*JSON, ("content-length", "0")])).status == 202


@pytest.mark.parametrize("query", ["", "limit=5", "PatientID=", "PatientID", "PatientName=*", "fuzzymatching=true"])
@pytest.mark.parametrize("resource", ["studies", "series", "instances"])
async def test_o21_b85_without_a_key_the_whole_archive_is_not_sent(
    tmp_path: Path, origin: Origin, resource: str, query: str
) -> None:
    answer = await origin.post(resource, f"{DESTINATION}&{query}" if query else DESTINATION)
    assert is_problem(answer, 400)
    assert origin.index.asked == []


async def test_o21_a_resource_of_one_study_needs_no_key_and_others_when_it_is_allowed(
    tmp_path: Path, origin: Origin
) -> None:
    assert (await origin.post("studies/1.2/instances", DESTINATION)).status == 202
    async with an_origin(tmp_path / "other", allow_unfiltered_send=True) as other:
        assert (await other.post("studies", DESTINATION)).status == 202


@pytest.mark.parametrize("name", ["PatinetID", "patientid", "00100099", "PatientID.Nothing", "Modality=CT&PATIENTID"])
async def test_req_032_o30_b85_a_key_that_is_no_attribute_is_never_ignored(origin: Origin, name: str) -> None:
    """REQ-032, O-30: ignoring it would widen what is shipped."""
    answer = await origin.post("series", f"{DESTINATION}&{name}=1")
    assert is_problem(answer, 400)
    assert "ignored" in answer.json["next"]


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        ("studies", "SOPClassUID=1.2"),
        ("studies", "Modality=CT"),
        ("series", "InstanceNumber=1"),
        ("studies/1.2/series", "StudyDate=20260101"),
        ("studies/1.2/series/1.3/instances", "Modality=CT"),
    ],
)
async def test_req_032_b85_a_key_of_another_level_is_never_ignored(origin: Origin, resource: str, key: str) -> None:
    """REQ-032, O-30: also beside one that belongs there."""
    answer = await origin.post(resource, f"{DESTINATION}&PatientID=1&{key}")
    assert is_problem(answer, 400)
    assert key.partition("=")[0] in answer.json["detail"]


@pytest.mark.parametrize("key", ["StudyDate=2026-13-01", "StudyInstanceUID=1.2.*", "SeriesNumber=one"])
async def test_req_046_a_value_that_cannot_be_is_400(origin: Origin, key: str) -> None:
    """REQ-046."""
    assert is_problem(await origin.post("series", f"{DESTINATION}&{key}"), 400)


async def test_o30_unknown_lower_case_names_are_ignored(origin: Origin) -> None:
    assert (await origin.post(query=f"{DESTINATION}&PatientID=1&vendorflag=1")).status == 202


@pytest.mark.parametrize("include", ["all", "PatientName", "Nonsense", "%20,,", ""])
async def test_req_030_includefield_is_ignored_whatever_it_says(origin: Origin, include: str) -> None:
    """REQ-030, O-06."""
    answer = await origin.post(query=f"{DESTINATION}&PatientID=1&includefield={include}")
    assert answer.status == 202
    assert answer.warnings == []


async def test_req_029_limit_and_offset_reach_the_search_and_what_is_left_is_said(origin: Origin) -> None:
    """REQ-029, O-22."""
    origin.index.remaining = 7
    answer = await origin.post(query=f"{DESTINATION}&PatientID=1&limit=2&offset=3")
    assert origin.index.asked[0][1:] == (2, 3, 65_535)
    assert answer.warnings == [
        "299 http://www.hospital-stmarco/radiology: There are 7 additional results that can be requested."
    ]


async def test_o31_fuzzy_matching_is_literal_and_says_so(origin: Origin) -> None:
    answer = await origin.post(query=f"{DESTINATION}&PatientName=Doe&fuzzymatching=true")
    assert answer.status == 202
    assert "fuzzymatching parameter is not supported" in answer.warnings[0]


async def test_o20_b85_nothing_that_matches_is_a_success_with_zeros_and_a_warning(origin: Origin) -> None:
    origin.index.ids = ()
    answer = await origin.post()
    assert answer.status == 200
    assert module_of(answer) == {"00000900": [0], "00001021": [0], "00001022": [0], "00001023": [0]}
    assert "no matching instances" in answer.warnings[0]
    assert (await origin.get()).json == answer.json
    assert is_problem(await origin.post(), 409)


async def test_o19_b85_more_than_the_counters_can_say_is_413(origin: Origin) -> None:
    origin.index.error = TooMany(65_536)
    answer = await origin.post()
    assert is_problem(answer, 413)
    assert "65,536" in answer.json["detail"]
    assert "65,535" in answer.json["allowed"]


@pytest.mark.parametrize("resource", ["studies/1.02.x/series", "studies/./series", f"studies/1.{'2' * 63}/instances"])
async def test_b87_what_is_no_uid_in_the_path_is_400(origin: Origin, resource: str) -> None:
    assert is_problem(await origin.post(resource), 400)


@pytest.mark.parametrize("uid", ["1", "1.02", "x", "1..2", "3.1", "1.2.", "1." + "2" * 63, "%20"])
async def test_b87_what_is_no_transaction_uid_is_400(origin: Origin, uid: str) -> None:
    assert is_problem(await origin.post(uid=uid), 400)
    assert is_problem(await origin.get(uid=uid), 400)


async def test_req_047_b87_a_uid_is_used_once_on_any_resource_by_anybody(origin: Origin) -> None:
    """REQ-047, O-25: running, and finished."""
    await origin.post()
    assert is_problem(await origin.post(), 409)
    assert is_problem(await origin.post("instances", address="10.0.0.6"), 409)
    await origin.carry(*["completed"] * 5)
    assert is_problem(await origin.post(), 409)


async def test_req_047_b87_of_two_at_the_same_instant_one_wins(origin: Origin) -> None:
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await origin.post()).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert sorted(statuses) == [202] + [409] * 7
    detail = await origin.journal.read(lambda conn: inspect_request(conn, Uid(UID)))
    assert detail is not None
    assert detail.summary.remaining == 5


async def test_req_048_066_a_journal_that_cannot_be_used_is_503(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-048, REQ-066: with Retry-After."""

    async def broken(*_: object) -> None:
        raise StorageError("disk is gone")

    await origin.post()
    monkeypatch.setattr(origin.journal, "write", broken)
    monkeypatch.setattr(origin.journal, "read", broken)
    for answer in (await origin.post(uid="1.2.3"), await origin.get()):
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"].isdigit()
        assert "disk is gone" not in answer.text


async def test_req_014_044_105_a_short_job_is_answered_at_once_when_the_client_waits(origin: Origin) -> None:
    """REQ-014, REQ-044, REQ-068, REQ-105: 200 and the same as a later check; RFC 7240."""
    answers: list[Answer] = []

    async def send() -> None:
        answers.append(await origin.post(headers=[*JSON, ("prefer", "wait=20")]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        with anyio.fail_after(10):
            await origin.is_woken.wait()
        await origin.carry("completed", "completed", "failed", "completed", "completed")
    [answer] = answers
    assert (answer.status, answer.headers["preference-applied"]) == (200, "wait=20")
    assert module_of(answer)["00000900"] == [0xB000]
    checked = await origin.get()
    assert (checked.status, checked.body) == (answer.status, answer.body)
    assert checked.headers == {name: text for name, text in answer.headers.items() if name != "preference-applied"}


@pytest.mark.parametrize(("prefer", "applied"), [("wait=0", "wait=0"), ("wait=900", "wait=0"), ("wait=x", None)])
async def test_a_wait_is_capped_and_nonsense_is_ignored(tmp_path: Path, prefer: str, applied: str | None) -> None:
    async with an_origin(tmp_path, max_sync_s=0.01) as origin:
        answer = await origin.post(headers=[*JSON, ("prefer", prefer)])
    assert (answer.status, answer.headers.get("preference-applied")) == (202, applied)


# --- Check Send Result ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["completed"] * 5, 0x0000),
        (["completed"] * 4 + ["failed"], 0xB000),
        (["completed"] * 4 + ["warning"], 0xB000),
        (["warning"] * 5, 0xB000),
        (["warning"] * 4 + ["failed"], 0xB000),
        (["failed"] * 5, 0xA702),
    ],
)
async def test_req_044_049_062_097_102_the_end_is_200_whatever_became_of_the_instances(
    origin: Origin, states: list[str], status: int
) -> None:
    """REQ-044, REQ-062, REQ-097, REQ-102: the truth table of PS3.4 C.4.2.3.1; repeated it is identical."""
    await origin.post()
    await origin.carry(*states)
    answer = await origin.get()
    module = module_of(answer)
    assert (answer.status, module["00000900"]) == (200, [status])
    assert "00001020" not in module
    counters = [module[tag][0] for tag in ("00001021", "00001022", "00001023")]
    assert counters == [states.count(state) for state in ("completed", "failed", "warning")]
    failed = [f"1.2.9.{n}" for n, state in enumerate(states, start=1) if state == "failed"]
    assert module.get("00080058", []) == failed
    assert (await origin.get()).body == answer.body


async def test_req_063_098_while_anything_remains_it_is_202_and_pending(origin: Origin) -> None:
    """REQ-045, REQ-052, REQ-054, REQ-063, REQ-098, O-32, O-33: also when some have failed."""
    await origin.post()
    await origin.carry("failed", "completed")
    answer = await origin.get()
    assert answer.status == 202
    assert answer.headers["retry-after"].isdigit()
    assert module_of(answer) == {
        "00000900": [0xFF00],
        "00001020": [3],
        "00001021": [1],
        "00001022": [1],
        "00001023": [0],
    }


async def test_req_058_060_query_and_body_of_a_check_are_ignored(origin: Origin) -> None:
    """REQ-058, REQ-060."""
    await origin.post()
    answer = await origin.get(query="destination=x&limit=-1&%zz", body=b"{}", headers=[*JSON, ("content-length", "2")])
    assert answer.status == 202


async def test_req_064_b88_what_nobody_asked_for_is_404(origin: Origin) -> None:
    """REQ-055, REQ-064: a failure carries a status report."""
    assert is_problem(await origin.get(), 404)


async def test_o28_b88_who_did_not_ask_is_told_404_and_this_machine_sees_all(origin: Origin) -> None:
    await origin.post()
    assert is_problem(await origin.get(address="10.0.0.6"), 404)
    for address in ("10.0.0.5", "::ffff:10.0.0.5", "127.0.0.1", "::1"):
        assert (await origin.get(address=address)).status == 202


async def test_req_065_b88_a_result_whose_time_is_over_is_410(tmp_path: Path) -> None:
    """REQ-065."""
    async with an_origin(tmp_path, result_ttl_s=0.01) as origin:
        origin.index.ids = ()
        await origin.post()
        await anyio.sleep(0.02)
        assert is_problem(await origin.get(), 410)
        assert is_problem(await origin.post(), 409), "remembered"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
async def test_req_013_b88_a_send_request_cannot_be_cancelled(origin: Origin, method: str) -> None:
    """REQ-013, REQ-050, O-05: 405 is not among the statuses of §10.X.3.1."""
    await origin.post()
    answer = await origin.ask("studies", "", method=method)
    assert is_problem(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert (await origin.get()).status == 202


async def test_o49_head_is_get_without_its_body(origin: Origin) -> None:
    await origin.post()
    got, head = await origin.get(), await origin.ask("studies", "", method="HEAD")
    assert (head.status, head.body, head.headers) == (202, b"", got.headers)


async def test_b89_who_polls_without_end_is_told_so_and_costs_no_look_into_the_journal(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = origin.journal.read

    async def counted(query: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(query)

    await origin.post()
    monkeypatch.setattr(origin.journal, "read", counted)
    answers = [await origin.get() for _ in range(1_000)]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) > 900
    assert refused[0].headers["retry-after"] == "1"
    assert reads < 50
    assert (await origin.get(address="127.0.0.1")).status == 202, "each caller for itself"


async def test_a_job_of_a_rule_is_shown_to_this_machine(origin: Origin) -> None:
    await origin.journal.write(lambda conn: put(conn, 6, destinations=["cloud"]))
    answer = await origin.get("instances", uid="2.25.1.5", address="127.0.0.1")
    assert (answer.status, module_of(answer)["00001020"]) == (202, [1])
    assert is_problem(await origin.get("instances", uid="2.25.1.5"), 404)


async def test_a_job_of_a_rule_is_pending_while_more_may_come_to_it(origin: Origin) -> None:
    await origin.journal.write(lambda conn: put(conn, 6, destinations=["cloud"]))
    await origin.carry("completed")
    answer = await origin.get("instances", uid="2.25.1.5", address="127.0.0.1")
    module = module_of(answer)
    assert (answer.status, module["00000900"], module["00001020"], module["00001021"]) == (202, [0xFF00], [0], [1])
    await origin.journal.write(lambda conn: close_all(conn, now=NOON))
    await anyio.sleep(0.6)  # a pending answer is kept for half a second
    assert (await origin.get("instances", uid="2.25.1.5", address="127.0.0.1")).status == 410, "NOON was long ago"


async def test_o19_a_counter_of_a_rule_that_is_too_large_is_cut_and_the_whole_told() -> None:
    progress = Progress(0, 70_000, 0, 0, (), finished=True, created_at=NOON)
    request = Request({"type": "http", "headers": [], "query_string": b""})
    answer = await send_answer.answer(request, progress, MODULE_OFFERS[0], now=NOON)
    assert json.loads(answer.body)[0]["00001021"]["Value"] == [65_535]
    assert "completed 70000" in answer.headers["warning"]


async def test_what_was_asked_for_and_by_whom_is_kept_for_people(origin: Origin) -> None:
    await origin.post("series", f"{DESTINATION}&Modality=CT")
    detail = await origin.journal.read(lambda conn: inspect_request(conn, Uid(UID)))
    assert detail is not None
    job = detail.summary
    assert (job.origin, job.resource, job.source) == ("send-rs", "series", "SEND-RS at 10.0.0.5")
    assert job.query == f"{DESTINATION}&Modality=CT"


async def test_req_006_096_capabilities_list_both_transactions_of_every_resource(origin: Origin) -> None:
    """REQ-004, REQ-006, REQ-096, O-13."""
    answer = await ask(origin.app, "/radiology/", method="OPTIONS", headers=[("accept", "application/json")])
    text = json.dumps(answer.json)
    for of in ("Studies", "StudysSeries", "StudysInstances", "Series", "StudysSeriesInstances", "Instances"):
        assert f'"send{of}"' in text
        assert f'"checkSend{of}"' in text
