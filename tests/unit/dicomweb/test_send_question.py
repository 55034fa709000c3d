"""The request lines of a SEND-RS user agent."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from router.dicom.uids import Uid
from router.dicomweb.query_string import read_search
from router.dicomweb.send_question import (
    CHECK_HEADERS,
    NPI_NAMES,
    BadQuestion,
    SendQuestion,
    check_destination,
    check_target,
    npi_resource,
    send_headers,
    send_target,
    studies_resource,
)

UID = Uid("1.1.99999.20250901")
EXAMPLE = "/studies/send-requests/1.1.99999.20250901?destination=https%3A%2F%2Fanother.server/stow&PatientID=11235813"
"""The request line of Annex B.X1, below its Base URI."""


def test_req_016_req_017_the_request_of_the_example_means_what_the_drafts_means() -> None:
    question = SendQuestion(
        resource="studies", destination="https://another.server/stow", match=(("PatientID", ("11235813",)),)
    )
    ours, theirs = urlsplit(send_target(question, UID)), urlsplit(EXAMPLE)
    assert ours.path == theirs.path
    assert parse_qsl(ours.query) == parse_qsl(theirs.query)
    assert read_search(ours.query.encode()) == read_search(theirs.query.encode())


def test_req_018_req_079_a_destination_survives_one_decoding_whatever_stands_in_it() -> None:
    """REQ-018: `?`, `&`, `=`, `#`, `,`, `+` and `%` of the URL are data of the parameter."""
    url = "https://pacs.example:8443/a%20b?tenant=1&x=a,b+c#top"
    target = send_target(SendQuestion(resource="series", destination=url, match=(("Modality", ("CT",)),)), UID)
    read = read_search(urlsplit(target).query.encode())
    assert read.destination == (url,)
    assert [(one.name, one.value) for one in read.match] == [("Modality", "CT")]
    assert target.startswith(f"/series/send-requests/{UID}?destination=https%3A%2F%2F")


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (("A,B",), "A,B"),
        (("+0100",), "+0100"),
        (("Müller^Jürgen*",), "Müller^Jürgen*"),
        (("a&limit=0",), "a&limit=0"),
        (("100%",), "100%"),
    ],
)
def test_req_031_values_reach_the_server_as_they_were_written(values: tuple[str, ...], read: str) -> None:
    question = SendQuestion(resource="studies", destination="https://x", match=(("PatientName", values),))
    target = send_target(question, UID)
    assert target.isascii()
    assert read_search(urlsplit(target).query.encode()).match[0].value == read


def test_req_031_req_083_all_that_can_be_asked_with_and_never_includefield() -> None:
    question = SendQuestion(
        resource="instances",
        destination="https://x",
        match=(("SOPInstanceUID", ("1.2", "1.3")), ("00080060", ("CT",))),
        limit=10,
        offset=20,
        fuzzy=True,
        empty_value=True,
        multiple_value=True,
    )
    target = send_target(question, UID)
    read = read_search(urlsplit(target).query.encode())
    assert [one.value for one in read.match] == [("1.2", "1.3"), "CT"]
    assert (read.limit, read.offset, read.fuzzy, read.empty_value, read.multiple_value) == (10, 20, True, True, True)
    assert "includefield" not in target
    assert "limit" not in send_target(SendQuestion(resource="instances", destination="https://x"), UID)


def test_req_056_req_058_req_092_a_check_is_a_path_without_a_query() -> None:
    question = SendQuestion(resource="color-palettes", destination="https://x", limit=1)
    assert check_target(question, UID) == f"/color-palettes/send-requests/{UID}"


def test_req_036_req_059_accept_is_the_same_in_both_and_prefer_only_in_the_send() -> None:
    question = SendQuestion(resource="studies", destination="https://x", wait_s=20)
    assert send_headers(question) == {"Accept": "application/dicom+json", "Prefer": "wait=20"}
    assert CHECK_HEADERS == {"Accept": "application/dicom+json"}


def test_the_six_resources_of_studies() -> None:
    assert [
        studies_resource("studies"),
        studies_resource("series"),
        studies_resource("instances"),
        studies_resource("series", study="1.2"),
        studies_resource("instances", study="1.2"),
        studies_resource("instances", study="1.2", series="1.3"),
    ] == [
        "studies",
        "series",
        "instances",
        "studies/1.2/series",
        "studies/1.2/instances",
        "studies/1.2/series/1.3/instances",
    ]


def test_req_080_every_category_of_non_patient_instances_is_a_resource() -> None:
    assert [npi_resource(name) for name in NPI_NAMES] == list(NPI_NAMES)
    assert len(NPI_NAMES) == 6


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: studies_resource("study"), "'study' is not a resource; did you mean studies?"),
        (lambda: studies_resource("color-palette"), "did you mean color-palettes?"),
        (lambda: studies_resource("nonsense"), "there are studies, series, instances"),
        (lambda: studies_resource("series", study="1.02"), "'1.02' is not the UID of a study"),
        (lambda: studies_resource("instances", series="1.2"), "together with its study only"),
        (lambda: studies_resource("studies", study="1.2"), "no studies below a study"),
        (lambda: studies_resource("series", study="1.2", series="1.3"), "no series below a series"),
        (lambda: npi_resource("hanging-protocol"), "did you mean hanging-protocols?"),
        (lambda: check_destination("pacs.example/dicom-web"), "not an absolute URL"),
        (lambda: check_destination("/stow"), "not an absolute URL"),
        (lambda: check_destination("https://a b/"), "not an absolute URL"),
        (lambda: check_destination("https://[::1"), "not an absolute URL"),
        (lambda: check_destination(""), "not an absolute URL"),
    ],
)
def test_what_cannot_be_asked_is_said_with_what_may_have_been_meant(ask: object, words: str) -> None:
    assert callable(ask)
    with pytest.raises(BadQuestion) as refused:
        ask()
    assert words in str(refused.value)
