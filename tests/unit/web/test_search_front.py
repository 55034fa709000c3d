"""QIDO-RS: what a search is told, over an index that notes what it is asked (PS3.18 §10.6, dicom-facts A.3 and B.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from web_harness import Answer, ask

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.uids import Uid
from router.errors import StorageError
from router.search import Found, Index, Plan, QueryTooLong, Result
from router.web.capabilities import with_capabilities
from router.web.search import MAX_RESULTS, MAX_WHOLE_RESULTS, search_routes

BASE = "http://pacs:8080/dicom-web"
STUDY = Result({"0020000D": {"vr": "UI", "Value": ["1.2"]}}, Uid("1.2"), None, None)
SERIES = Result({"0020000E": {"vr": "UI", "Value": ["1.3"]}}, Uid("1.2"), Uid("1.3"), None)
INSTANCE = Result({"00080018": {"vr": "UI", "Value": ["1.4"]}}, Uid("1.2"), Uid("1.3"), Uid("1.4"))


@dataclass
class FakeIndex:
    """Finds what it is given and notes the question."""

    results: Sequence[Result] = (STUDY,)
    remaining: int = 0
    error: Exception | None = None
    plan: Plan | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    async def find(
        self,
        plan: Plan,
        *,
        include: Sequence[AttributePath] = (),
        include_all: bool = False,
        limit: int,
        offset: int = 0,
    ) -> Found:
        self.plan = plan
        self.asked = {"include": include, "include_all": include_all, "limit": limit, "offset": offset}
        if self.error is not None:
            raise self.error
        return Found(tuple(self.results[:limit]), self.remaining)


async def search(index: FakeIndex, target: str, **more: Any) -> Answer:
    app = Starlette(routes=with_capabilities("/dicom-web", search_routes("/dicom-web", cast("Index", index))))
    return await ask(app, "/dicom-web" + target, **more)


@pytest.mark.parametrize(
    ("target", "result", "url"),
    [
        ("/studies", STUDY, "/studies/1.2"),
        ("/studies/1.2/series", SERIES, "/studies/1.2/series/1.3"),
        ("/series", SERIES, "/studies/1.2/series/1.3"),
        ("/studies/1.2/instances", INSTANCE, "/studies/1.2/series/1.3/instances/1.4"),
        ("/studies/1.2/series/1.3/instances", INSTANCE, "/studies/1.2/series/1.3/instances/1.4"),
        ("/instances", INSTANCE, "/studies/1.2/series/1.3/instances/1.4"),
    ],
)
async def test_six_resources_are_searched_and_tell_where_to_retrieve(target: str, result: Result, url: str) -> None:
    answer = await search(FakeIndex([result]), target)
    assert (answer.status, answer.headers["content-type"], answer.warnings) == (200, "application/dicom+json", [])
    [found] = answer.json
    assert found == {"00081190": {"vr": "UR", "Value": [BASE + url]}, **result.data_set}
    assert list(found) == sorted(found)


async def test_the_retrieve_url_is_empty_when_the_host_cannot_be_told() -> None:
    answer = await search(FakeIndex(), "/studies", headers=[("accept", "*/*"), ("host", "a b/")])
    assert answer.json[0]["00081190"] == {"vr": "UR"}


async def test_b86_without_accept_it_is_406_and_nothing_is_searched() -> None:
    index = FakeIndex()
    answer = await search(index, "/studies", headers=[("host", "pacs")])
    assert (answer.status, index.plan) == (406, None)


async def test_results_in_xml() -> None:
    answer = await search(FakeIndex(), "/studies?accept=multipart/related;type=%22application/dicom%2Bxml%22")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"; boundary=')
    assert answer.body.count(b"<NativeDicomModel") == 1


async def test_nothing_found_is_204_and_empty() -> None:
    answer = await search(FakeIndex([]), "/studies?PatientID=nobody")
    assert (answer.status, answer.body, "content-type" in answer.headers) == (204, b"", False)


@pytest.mark.parametrize(
    ("query", "limit", "offset"),
    [
        ("", MAX_RESULTS, 0),
        ("?limit=10&offset=20", 10, 20),
        ("?limit=999999999", MAX_RESULTS, 0),
        ("?limit=0", 0, 0),
        ("?includefield=all", MAX_WHOLE_RESULTS, 0),
        ("?offset=99999999999999999999", MAX_RESULTS, 2**53),
    ],
)
async def test_req_029_a_page_has_a_bound(query: str, limit: int, offset: int) -> None:
    index = FakeIndex()
    answer = await search(index, "/studies" + query)
    assert (index.asked["limit"], index.asked["offset"]) == (limit, offset)
    assert answer.status == (204 if limit == 0 else 200)


async def test_what_remains_is_told_in_the_words_of_the_standard() -> None:
    answer = await search(FakeIndex(remaining=17), "/studies?limit=1")
    assert answer.warnings == [f"299 {BASE}: There are 17 additional results that can be requested"]
    assert (await search(FakeIndex(remaining=17), "/studies?limit=0")).status == 204


async def test_o31_fuzzy_matching_is_not_done_and_that_is_told_also_with_204() -> None:
    for index, status in ((FakeIndex(), 200), (FakeIndex([]), 204)):
        answer = await search(index, "/studies?fuzzymatching=true")
        assert (answer.status, answer.warnings) == (
            status,
            [f"299 {BASE}: The fuzzymatching parameter is not supported. Only literal matching has been performed."],
        )
    assert (await search(FakeIndex(), "/studies?fuzzymatching=false")).warnings == []


async def test_empty_and_multiple_value_matching_are_supported_and_need_no_warning() -> None:
    answer = await search(
        FakeIndex(), '/studies?emptyvaluematching=true&multiplevaluematching=true&StudyID=""&ModalitiesInStudy=CT,PT'
    )
    assert (answer.status, answer.warnings) == (200, [])


async def test_what_cannot_be_matched_is_ignored_with_a_warning() -> None:
    answer = await search(FakeIndex(), "/studies?PatientIdd=1&SOPClassUID=1.2&foo=1&PatientWeight=80")
    assert answer.status == 200
    [told] = answer.warnings
    assert told.startswith(f"299 {BASE}: The following parameters cannot be matched here and were ignored: ")
    assert all(name in told for name in ("PatientIdd", "SOPClassUID", "PatientWeight"))
    assert "foo" not in told


async def test_req_035_attributes_of_repository_queries_are_ignored_with_a_warning() -> None:
    index = FakeIndex()
    answer = await search(index, "/studies?PriorRecordKey=x&MaximumNumberOfRecords=5")
    assert (answer.status, index.asked["limit"], index.asked["offset"]) == (200, MAX_RESULTS, 0)
    assert "PriorRecordKey, MaximumNumberOfRecords" in answer.warnings[0]


async def test_includefield_reaches_the_index() -> None:
    index = FakeIndex()
    await search(index, "/studies?includefield=StudyDescription,PatientSize")
    assert index.asked["include"] == (attribute_path("StudyDescription"), attribute_path("PatientSize"))
    await search(index, "/studies?includefield=all")
    assert index.asked["include_all"] is True


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/studies?StudyDate=yesterday", "StudyDate"),
        ("/studies?StudyInstanceUID=1.*", "StudyInstanceUID"),
        ("/studies?limit=-1", "limit"),
        ("/studies?StudyDate=20240101&", "empty parameter"),
        ("/studies?PatientID=1&00100020=1", "the same attribute"),
        ("/studies?ModalitiesInStudy=CT,MR", "2 values"),
        ("/studies?includefield=Nonsense", "Nonsense"),
        ("/studies/abc/series", "study in the path"),
        ("/studies/1.2/series/1.x/instances", "series in the path"),
    ],
)
async def test_what_cannot_be_searched_is_400_and_says_which(target: str, says: str) -> None:
    index = FakeIndex()
    answer = await search(index, target)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert says in answer.json["detail"]
    assert index.plan is None


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (QueryTooLong("a query took longer than 2 s"), 413, "takes too long"),
        (StorageError("disk I/O error in /var/lib/sendrs"), 503, "cannot be used at the moment"),
    ],
)
async def test_a_search_that_the_journal_does_not_bear(error: Exception, status: int, says: str) -> None:
    answer = await search(FakeIndex(error=error), "/instances?PatientName=*a*")
    assert answer.status == status
    assert says in answer.json["detail"]
    assert answer.json["next"]
    assert "/var/lib" not in answer.text


async def test_posting_a_search_is_405() -> None:
    answer = await search(FakeIndex(), "/series", method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_head_of_a_search_has_its_warnings_and_no_body() -> None:
    answer = await search(FakeIndex(remaining=3), "/studies", method="HEAD")
    assert (answer.status, answer.body, len(answer.warnings)) == (200, b"", 1)
