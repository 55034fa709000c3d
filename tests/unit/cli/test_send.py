"""`sendrs send`: what a person types, sees, and gets as exit code; against a server that answers as told."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

import router.cli.send as command
from router.cli import run
from router.cli.exits import ExitCode
from router.cli.send import exit_code, read_matches
from router.delivery.send_rs import SendRsClient
from router.dicom.uids import Uid
from router.dicomweb.query_string import SearchParameters, read_search
from router.dicomweb.send_client import End, How
from router.dicomweb.send_response import SendResult, module

TO = "https://pacs.example/dicom-web"
DONE = SendResult(0, None, 5, 0, 0)
WARNED = SendResult(0xB000, None, 4, 0, 1)
HALF = SendResult(0xFF00, 3, 2, 0, 0)
MIXED = SendResult(0xB000, None, 3, 2, 0, (Uid("1.2.3"), Uid("1.2.4")))
FAILED = SendResult(0xA702, None, 0, 2, 0, (Uid("1.2.3"), Uid("1.2.4")))
NOTHING = SendResult(0, None, 0, 0, 0)


class Server:
    """A web server on loopback that gives `replies`, one a request: a module, a status, or None to hang up."""

    def __init__(self, *replies: SendResult | int | None):
        self.replies = list(replies)
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @property
    def query(self) -> SearchParameters:
        """What the first request asked for."""
        return read_search(self.asked[0][1].partition("?")[2].encode())

    @property
    def resource(self) -> str:
        found = re.fullmatch(r"/dicom-web/(.+)/send-requests/[0-9.]+", self.asked[0][1].partition("?")[0])
        assert found
        return found[1]

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.command, handler.path))
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        what = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if what is None:
            handler.close_connection = True
            return
        if isinstance(what, SendResult):
            status, kind, body = 202 if what.is_pending else 200, "application/dicom+json", json.dumps([module(what)])
        else:
            status, kind, body = what, "application/problem+json", '{"detail": "Because of the weather."}'
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())


@contextmanager
def serving(*replies: SendResult | int | None) -> Iterator[Server]:
    server = Server(*replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server.reply(self)

        def do_GET(self) -> None:
            server.reply(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/dicom-web"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield server
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_wait(_: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(command, "SendRsClient", partial(SendRsClient, wait=no_wait))


def test_req_049_answered_and_delivered_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(HALF, HALF, DONE) as server:
        code = run(["send", server.url, "--to", TO, "--match", "PatientID=123", "--uid", "2.25.7"])
    said = capsys.readouterr()
    assert code == ExitCode.OK
    assert said.err == ""
    assert said.out.splitlines() == [
        "Request    2.25.7",
        f"Server     {server.url}",
        "Sends      studies?PatientID=123",
        f"To         {TO}",
        "Answered   the server took it, 3 instances to send; that is not a delivery yet",
        "Answered   HTTP 200, Status 0000H",
        "Delivered  all: 5 instances delivered",
    ]
    assert [method for method, _ in server.asked] == ["POST", "GET", "GET"]


def test_req_067_some_that_failed_are_named_and_make_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(MIXED) as server:
        assert run(["send", server.url, "--to", TO]) == ExitCode.FOUND_PROBLEMS
    assert capsys.readouterr().out.splitlines()[-6:] == [
        "Answered   HTTP 200, Status B000H",
        "Delivered  NOT all: 3 instances delivered, 2 failed",
        "",
        "Failed SOP instances:",
        "1.2.3",
        "1.2.4",
    ]


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        ([DONE], 0, "Delivered  all: 5 instances delivered"),
        ([WARNED], 0, "Delivered  all: 5 instances delivered (1 with a warning)"),
        ([FAILED], 1, "Delivered  NOT all: 0 instances delivered, 2 failed"),
        ([NOTHING], 1, "Delivered  nothing: nothing matched"),
        (
            [403],
            69,
            "sendrs: HTTP 403: this destination or this caller is not allowed; it says: Because of the weather.",
        ),
        ([404], 69, "nothing was sent"),
        ([301], 69, "redirects are not followed"),
        ([413], 69, "more instances match than it takes in one request"),
        ([503], 69, "sendrs: HTTP 503: it cannot handle the request now; it says: Because of the weather."),
        ([None], 75, "the server may have taken it; the same command with --uid 2.25.7 looks again"),
        ([409, 404], 69, "choose another --uid, or leave it out"),
        ([409, DONE], 0, "Note       this Transaction UID was in use already: this is what became of that request"),
        ([None, DONE], 0, "Delivered  all: 5 instances delivered"),
        ([HALF, 404], 75, "the server took the request and no longer knows it: ask again, with a new UID"),
        ([HALF, 410], 75, "no longer knows it"),
        ([HALF, 401], 75, "last seen: 2 instances delivered, 3 left"),
        ([HALF, None], 75, "sending goes on at the server; the same command with --uid 2.25.7 looks again"),
    ],
)
def test_req_157_the_exit_code_and_the_words_say_how_it_ended(
    replies: list[SendResult | int | None], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(*replies) as server:
        assert run(["send", server.url, "--to", TO, "--uid", "2.25.7"]) == code
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_req_157_a_uid_that_is_another_s_is_replaced_and_the_new_one_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(409, 404, HALF, DONE) as server:
        assert run(["send", server.url, "--to", TO]) == ExitCode.OK
    uids = re.findall(r"^Request    (2\.25\.[0-9]+)", capsys.readouterr().out, re.MULTILINE)
    assert len(set(uids)) == 2
    assert uids[1] in server.asked[2][1]


def test_no_follow_ends_when_the_server_took_it(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(HALF) as server:
        assert run(["send", server.url, "--to", TO, "--no-follow", "--uid", "2.25.7"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Delivered  not known yet: the same command with --uid 2.25.7 looks again"
    )
    assert len(server.asked) == 1


def test_json_has_all_facts_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(HALF, MIXED) as server:
        assert run(["send", server.url, "--to", TO, "--uid", "2.25.7", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "transaction_uid": "2.25.7",
        "server": server.url,
        "resource": "studies",
        "destination": TO,
        "ended": "answered",
        "taken": True,
        "delivered": False,
        "joined": False,
        "words": "HTTP 200, Status B000H",
        "http_status": 200,
        "status": "B000H",
        "remaining": 0,
        "completed": 3,
        "warning": 0,
        "failed": 2,
        "failed_uids": ["1.2.3", "1.2.4"],
    }


@pytest.mark.parametrize(
    ("arguments", "resource", "match"),
    [
        ([], "studies", {}),
        (["--resource", "series", "-m", "Modality=CT"], "series", {"Modality": "CT"}),
        (["--resource", "instances", "-m", "SOPInstanceUID=1.2,1.3"], "instances", {"SOPInstanceUID": ("1.2", "1.3")}),
        (["--study", "1.2"], "studies", {"StudyInstanceUID": "1.2"}),
        (["--study", "1.2", "--resource", "series"], "studies/1.2/series", {}),
        (["--study", "1.2", "--resource", "instances"], "studies/1.2/instances", {}),
        (["--study", "1.2", "--series", "1.3"], "studies/1.2/series", {"SeriesInstanceUID": "1.3"}),
        (
            ["--study", "1.2", "--series", "1.3", "--resource", "instances", "-m", "InstanceNumber=1"],
            "studies/1.2/series/1.3/instances",
            {"InstanceNumber": "1"},
        ),
        (["--npi", "color-palettes", "-m", "ContentLabel=HOT"], "color-palettes", {"ContentLabel": "HOT"}),
    ],
)
def test_req_079_req_080_options_choose_the_resource(
    arguments: list[str], resource: str, match: dict[str, str | tuple[str, ...]]
) -> None:
    with serving(DONE) as server:
        assert run(["send", server.url, "--to", TO, *arguments]) == ExitCode.OK
    assert server.resource == resource
    assert {one.name: one.value for one in server.query.match} == match
    assert server.query.destination == (TO,)


def test_req_031_every_search_option_reaches_the_server(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    options = ["--limit", "5", "--offset", "2", "--fuzzymatching", "--emptyvaluematching", "--multiplevaluematching"]
    options += ["-m", "ModalitiesInStudy=CT", "-m", "ModalitiesInStudy=PT", "--wait", "3", "--token-file", str(token)]
    with serving(DONE) as server:
        assert run(["send", server.url + "/", "--to", TO, *options]) == ExitCode.OK
    query = server.query
    assert (query.limit, query.offset, query.fuzzy, query.empty_value, query.multiple_value) == (5, 2, True, True, True)
    assert query.match[0].value == ("CT", "PT")
    assert (server.headers[0]["prefer"], server.headers[0]["authorization"]) == ("wait=3", "Bearer secret")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--match", "PatientId=1"], "did you mean PatientID?"),
        (["--match", "PatientID"], "write PatientID=VALUE"),
        (["--match", "limit=3"], "use --limit"),
        (["--match", "includefield=all"], "neither a keyword nor a tag"),
        (["--match", "PatientID=1", "--match", "PatientID=2"], "PatientID is given twice"),
        (["--resource", "serie"], "did you mean series?"),
        (["--npi", "colour-palettes"], "did you mean color-palettes?"),
        (["--npi", "color-palettes", "--study", "1.2"], "--npi stands alone"),
        (["--series", "1.2"], "together with its study only"),
        (["--study", "1.2.x"], "is not the UID of a study"),
        (["--uid", "1.02"], "'1.02' is not a UID"),
        (["--timeout", "soon"], "is not a number with a unit"),
        (["--token-file", "missing"], "missing does not exist"),
        (["--limit", "-1"], "--limit"),
    ],
)
def test_what_is_mistyped_is_told_with_what_was_meant(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["send", "http://127.0.0.1:1/dicom-web", "--to", TO, *arguments]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.endswith("(see: sendrs send --help)\n")
    assert said.out == ""


@pytest.mark.parametrize(("url", "to"), [("vna/dicom-web", TO), ("http://vna", "pacs"), ("ftp://vna", TO), ("", TO)])
def test_req_018_what_is_no_absolute_url_is_refused(url: str, to: str) -> None:
    assert run(["send", url, "--to", to]) == ExitCode.USAGE


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "http://127.0.0.1:1/dicom-web", "--to", TO]) == ExitCode.UNAVAILABLE
    said = capsys.readouterr()
    assert "Connect call failed" in said.err or "refused" in said.err.lower()
    assert "nothing was sent" in said.err


def test_an_interruption_says_how_to_look_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "SendRsClient", partial(SendRsClient, wait=interrupted))
    with serving(HALF) as server:
        assert run(["send", server.url, "--to", TO, "--uid", "2.25.7"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "sendrs: what the server took goes on there; --uid 2.25.7 looks again\n"


def test_tags_and_sequences_are_attributes_too() -> None:
    assert read_matches(["(0010,0020)=1", "00080060=CT", "RequestAttributesSequence.00400009=x=y"]) == (
        ("PatientID", ("1",)),
        ("00080060", ("CT",)),
        ("RequestAttributesSequence.00400009", ("x=y",)),
    )


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("taken", [True, False, None])
def test_only_what_was_delivered_is_exit_code_0(how: How, taken: bool | None) -> None:
    assert exit_code(End(how, Uid("1.2"), "", taken=taken)) is not ExitCode.OK
    assert exit_code(End(How.UNFINISHED, Uid("1.2"), ""), followed=False) is ExitCode.OK
