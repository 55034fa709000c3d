"""A send request from its POST to its end, as the user agent sees it: the state machine of REQ-157."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dicom.uids import Uid
from router.dicomweb.send_answer import Kind, is_delivered, read_answer
from router.dicomweb.send_client import (
    MAX_UIDS,
    MOVES,
    RETRY_AFTER_CAP_S,
    Ask,
    End,
    How,
    Pace,
    Phase,
    SendTransaction,
    Step,
)
from router.dicomweb.send_question import SendQuestion
from router.dicomweb.send_response import SendResult, module

JSON = "application/dicom+json"
QUESTION = SendQuestion(resource="studies", destination="https://pacs.example/dicom-web", wait_s=5)
UID = Uid("2.25.1")
PACE = Pace(poll_first_s=1, poll_cap_s=8, trouble_first_s=2, trouble_cap_s=16, troubles_before=3, troubles_after=5)
DONE = SendResult(0, None, 5, 0, 0)
HALF = SendResult(0xFF00, 3, 2, 0, 0)


def body_of(result: SendResult) -> bytes:
    return json.dumps([module(result)]).encode()


def begun(**more: Any) -> SendTransaction:
    transaction = SendTransaction(QUESTION, UID, pace=PACE, **more)
    first = transaction.begin()
    assert (first.method, first.after_s) == ("POST", 0)
    return transaction


def shown(step: Step) -> tuple[object, ...]:
    """(method, seconds until then) or (how it ended, taken)."""
    return (step.method, step.after_s) if isinstance(step, Ask) else (step.how, step.taken)


def say(transaction: SendTransaction, what: object, retry_after_s: float | None = None) -> Step:
    """Answer a status, a module (200 or 202, as it says), or None: no answer."""
    match what:
        case None:
            return transaction.lost("the connection was closed")
        case SendResult():
            status = 202 if what.is_pending else 200
            return transaction.answered(status, JSON, body_of(what), retry_after_s=retry_after_s)
        case int(status):
            return transaction.answered(status, "text/plain", b"because", retry_after_s=retry_after_s)
    raise AssertionError(what)


FINISH, REFUSED, FORGOTTEN = (How.ANSWERED, True), (How.REFUSED, False), (How.FORGOTTEN, True)


@pytest.mark.parametrize(
    ("said", "next_step"),
    [
        ([DONE], FINISH),
        ([HALF], ("GET", 1)),
        ([HALF, HALF, HALF, HALF, HALF, HALF], ("GET", 8)),
        ([HALF, HALF, DONE], FINISH),
        ([200], ("GET", 1)),  # a success that says nothing is asked about
        ([202], ("GET", 1)),
        ([200, DONE], FINISH),
        ([200, 200], ("GET", 2)),
        *(([status], REFUSED) for status in (301, 308, 400, 401, 403, 404, 405, 406, 410, 413, 414, 415, 501)),
        *(([status], ("POST", 2)) for status in (408, 425, 429, 503)),
        *(([status], ("POST", 2)) for status in (500, 502, 504)),
        ([503, 503, DONE], FINISH),
        ([503, 503, 503], ("POST", 8)),
        ([503, 503, 503, 503], (How.NO_ANSWER, False)),
        ([500, 500, 500, 500], (How.NO_ANSWER, None)),
        ([503, 400], REFUSED),
        # O-50: a POST without an answer is looked for before anything else
        ([None], ("GET", 2)),
        ([None, DONE], FINISH),
        ([None, HALF], ("GET", 1)),
        ([None, 404], ("POST", 2)),
        ([None, 404, HALF], ("GET", 1)),
        ([None, 404, 409], ("GET", 0)),
        ([None, 404, 409, DONE], FINISH),
        ([None, None], ("GET", 2)),
        ([None, None, None, None, None], (How.NO_ANSWER, None)),
        ([None, 404, None, 404, None, 404, None, 404], (How.NO_ANSWER, False)),
        ([None, 410], (How.FORGOTTEN, None)),
        ([None, 403], (How.NO_ANSWER, None)),
        # O-50: 409 for one's own UID
        ([409], ("GET", 0)),
        ([409, HALF], ("GET", 1)),
        ([409, HALF, DONE], FINISH),
        ([409, DONE], FINISH),
        ([409, 503], ("GET", 2)),
        ([409, None], ("GET", 2)),
        ([409, 404], REFUSED),
        ([409, 410], REFUSED),
        ([409, 403], (How.NO_ANSWER, False)),
        ([500, 409, DONE], FINISH),
        # Check Send Result
        *(([HALF, status], FORGOTTEN) for status in (404, 410)),
        *(([HALF, status], ("GET", 2)) for status in (500, 502, 503, 504, 429)),
        ([HALF, None], ("GET", 2)),
        ([HALF, None, 503, HALF, None], ("GET", 2)),  # what went well in between makes patient again
        ([HALF, *[503] * 6], (How.UNFINISHED, True)),
        ([HALF, *[200] * 6], (How.UNFINISHED, True)),
        *(([HALF, status], (How.UNFINISHED, True)) for status in (301, 400, 401, 403, 405, 406, 409, 501)),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
)
def test_req_157_what_follows_from_each_answer(said: list[object], next_step: tuple[object, ...]) -> None:
    transaction = begun()
    step: Step = transaction.begin()
    for what in said:
        assert isinstance(step, Ask), "it ended early"
        step = say(transaction, what)
    assert shown(step) == next_step


def test_req_157_every_kind_of_answer_has_a_move_in_every_phase() -> None:
    assert {phase: set(moves) for phase, moves in MOVES.items()} == {phase: set(Kind) for phase in Phase}


def test_req_016_req_056_it_asks_with_the_same_uid_on_the_same_resource() -> None:
    transaction = begun()
    post, get = transaction.begin(), say(transaction, HALF)
    assert isinstance(get, Ask)
    assert post.target.startswith("/studies/send-requests/2.25.1?destination=")
    assert get.target == "/studies/send-requests/2.25.1"
    assert (post.headers.get("Prefer"), get.headers) == ("wait=5", {"Accept": JSON})


def test_o50_a_repeated_post_has_the_same_transaction_uid() -> None:
    transaction = begun()
    say(transaction, None)
    again = say(transaction, 404)
    assert isinstance(again, Ask)
    assert (again.method, again.target) == ("POST", transaction.begin().target)


def test_req_157_a_409_for_another_s_uid_is_retried_with_another_uid() -> None:
    numbers = count(2)
    transaction = begun(another_uid=lambda: Uid(f"2.25.{next(numbers)}"))
    say(transaction, 409)
    again = say(transaction, 404)
    assert isinstance(again, Ask)
    assert (again.method, "/2.25.2?" in again.target) == ("POST", True)
    end = say(transaction, DONE)
    assert isinstance(end, End)
    assert (end.transaction_uid, end.joined) == ("2.25.2", False)


def test_new_uids_come_to_an_end() -> None:
    numbers = count(2)
    transaction = begun(another_uid=lambda: Uid(f"2.25.{next(numbers)}"))
    for _ in range(MAX_UIDS - 1):
        say(transaction, 409)
        assert isinstance(say(transaction, 404), Ask)
    say(transaction, 409)
    end = say(transaction, 410)
    assert isinstance(end, End)
    assert (end.how, end.status) == (How.REFUSED, 409)


@pytest.mark.parametrize(
    ("said", "joined", "found"),
    [
        ([409, DONE], True, True),
        ([409, HALF, DONE], True, False),
        ([None, 404, 409, DONE], True, True),  # the 404 said that ours had not arrived
        ([500, 409, DONE], False, False),  # it may be ours
        ([None, DONE], False, False),
        ([DONE], False, False),
    ],
)
def test_the_outcome_of_an_earlier_request_with_this_uid_is_told_apart(
    said: list[object], joined: bool, found: bool
) -> None:
    transaction = begun()
    for what in said:
        step = say(transaction, what)
    assert isinstance(step, End)
    assert (step.joined, step.found) == (joined, found)


@pytest.mark.parametrize(
    ("retry_after_s", "wait_s"),
    [(300, 300), (0, 1), (-5, 1), (1e12, RETRY_AFTER_CAP_S), (2.5, 2.5)],
)
def test_req_052_retry_after_is_honoured_and_bounded(retry_after_s: float, wait_s: float) -> None:
    assert shown(say(begun(), HALF, retry_after_s)) == ("GET", wait_s)
    assert shown(say(begun(), 503, retry_after_s)) == ("POST", wait_s)
    following = begun()
    say(following, HALF)
    assert shown(say(following, 503, retry_after_s)) == ("GET", wait_s)


def test_o02_retry_after_on_a_200_means_nothing() -> None:
    assert shown(say(begun(), DONE, 300)) == FINISH


def test_nothing_asked_is_not_doubted() -> None:
    assert shown(begun().lost("connection refused", sent=False)) == ("POST", 2)


@pytest.mark.parametrize(
    ("result", "delivered"),
    [
        (SendResult(0, None, 5, 0, 0), True),
        (SendResult(0xB000, None, 4, 0, 1), True),  # a warning is a stored instance
        (SendResult(0xB000, None, 4, 1, 0, (Uid("1.2"),)), False),
        (SendResult(0xA702, None, 0, 5, 0), False),
        (SendResult(0xA702, None, 0, 0, 0), False),
        (SendResult(0xC001, None, 5, 0, 0), False),
        (SendResult(0xFE00, None, 5, 0, 0), False),
    ],
)
def test_req_049_req_067_a_200_is_not_a_delivery(result: SendResult, delivered: bool) -> None:
    end = say(begun(), result)
    assert isinstance(end, End)
    assert (end.how, end.status) == (How.ANSWERED, 200)
    assert end.result is not None
    assert is_delivered(end.result) is delivered
    assert not is_delivered(SendResult(0, 2, 3, 0, 0))  # final, but something remains


@pytest.mark.parametrize(
    ("status", "result", "kind"),
    [
        (200, HALF, Kind.PENDING),  # the module knows better
        (202, DONE, Kind.PENDING),  # not before it says so with 200
        (202, HALF, Kind.PENDING),
        (201, DONE, Kind.FINAL),
        (200, DONE, Kind.FINAL),
    ],
)
def test_o32_status_and_module_that_contradict_each_other(status: int, result: SendResult, kind: Kind) -> None:
    assert read_answer(status, JSON, body_of(result)).kind is kind


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"[{},{}]", b"<html>", b"\xff\xfe", b"[" * 100_000, b"7"])
def test_o34_a_garbage_module_is_no_success(body: bytes) -> None:
    assert read_answer(200, JSON, body).kind is Kind.UNREADABLE
    assert read_answer(202, JSON, body).kind is Kind.PENDING


def test_o16_one_object_and_xml_are_read_as_well() -> None:
    assert read_answer(200, JSON, json.dumps(module(DONE)).encode()).result == DONE
    xml = (
        b'<NativeDicomModel xml:space="preserve">'
        b'<DicomAttribute tag="00000900" vr="US"><Value number="1">0</Value></DicomAttribute>'
        b'<DicomAttribute tag="00001021" vr="US"><Value number="1">5</Value></DicomAttribute></NativeDicomModel>'
    )
    assert read_answer(200, "application/dicom+xml", xml).result == DONE


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        (
            "text/plain",
            b"no\n such\x1b[31m place",
            "HTTP 403: this destination or this caller is not allowed; it says: no such[31m place",
        ),
        (
            "application/problem+json",
            b'{"detail":"The destination is not registered here.","next":"ask"}',
            "not registered here.; next: ask",
        ),
        ("application/json", b'{"message":"x"}', "it says: x"),
        ("application/json", b'{"detail":7}', "is not allowed"),
        ("application/json", b"[[[", "is not allowed"),
        ("text/html", b"<html>", "is not allowed"),
        ("nonsense", b"abc", "is not allowed"),
    ],
)
def test_the_servers_words_are_repeated_bounded_and_printable(content_type: str, body: bytes, words: str) -> None:
    said = read_answer(403, content_type, body).words
    assert words in said
    assert said.isprintable()
    assert len(read_answer(403, "text/plain", b"x" * 10_000_000).words) < 400


answers = st.one_of(
    st.none(),
    st.sampled_from([DONE, HALF, 200, 202, 204, 404, 409, 410, 503, 500, 429]),
    st.integers(100, 999),
)


@given(st.lists(st.tuples(answers, st.none() | st.floats(-1e9, 1e18))), st.booleans())
def test_it_goes_on_or_ends_whatever_is_answered(said: list[tuple[object, float | None]], renews: bool) -> None:
    """Any answers: no exception, no wait beyond an hour, no body, and never two UIDs without a 409."""
    numbers = count(2)
    transaction = begun(another_uid=(lambda: Uid(f"2.25.{next(numbers)}")) if renews else None)
    step: Step = transaction.begin()
    for what, retry_after_s in said:
        if isinstance(step, End):
            assert (step.how is How.ANSWERED) <= (step.result is not None)
            break
        assert 0 <= step.after_s <= RETRY_AFTER_CAP_S
        assert transaction.uid in step.target
        step = say(transaction, what, retry_after_s)
    if not any(what == 409 for what, _ in said):
        assert transaction.uid == UID


@given(
    st.integers(100, 999),
    st.sampled_from([JSON, "application/dicom+xml", "multipart/related; boundary=b", "text/plain", "", "a/b; ;;"]),
    st.binary(max_size=200) | st.sampled_from([b"--b\r\n\r\n[]\r\n--b--", b'[{"00000900":{"Value":[[]]}}]', b"<a/>"]),
)
def test_any_bytes_are_an_answer_of_some_kind(status: int, content_type: str, body: bytes) -> None:
    answer = read_answer(status, content_type, body)
    assert (answer.kind is Kind.FINAL) <= (answer.result is not None)
    assert answer.words.isprintable()
    assert len(answer.words) < 400
