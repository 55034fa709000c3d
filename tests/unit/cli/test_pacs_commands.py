"""`sendrs echo`, `store`, `find` and `move`: what a person types, sees, and gets as exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer
from scripted_peer import Hangup, Message, Reply, ScriptedPeer, response

from router.cli import console, run
from router.cli.exits import ExitCode
from router.cli.keys import add_returned, read_keys
from router.cli.nodes import find_node
from router.cli.samples import ct_series
from router.dicom.identifier import read_identifier, write_identifier
from router.dicom.json_model import JsonDataSet, element
from router.dicom.query_retrieve import STUDY_ROOT
from router.dimse.commands import C_FIND_RQ, C_MOVE_RQ
from router.dimse.events import Command

NO_CONFIG = ("--config", "/nonexistent/router.toml")
REQUEST = "RequestAttributesSequence"
UID = "1.2.826.0.1.3680043.8.498.12406831542731051035295345080039845114"
STUDY: JsonDataSet = {
    "00080020": element(0x00080020, ["20260105"]),
    "00080061": element(0x00080061, ["CT", "SR"]),
    "00081030": element(0x00081030, ["CHEST AND ABDOMEN WITH CONTRAST, LATE PHASE, FOLLOW UP"]),
    "00100010": element(0x00100010, ["Sample^Patient^^^"]),
    "00100020": element(0x00100020, ["SAMPLE-1"]),
    "0020000D": element(0x0020000D, [UID]),
    "00201208": element(0x00201208, [1234]),
}


@contextmanager
def listening(answer: Callable[[Message], Iterable[Reply]], **more: Any) -> Iterator[ScriptedPeer]:
    """A peer in a thread of its own: a command runs its own event loop."""
    peer = ScriptedPeer(answer, **more)
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with peer.listening():
            ready.set()
            await anyio.to_thread.run_sync(done.wait)

    thread = threading.Thread(target=anyio.run, args=(serve,))
    thread.start()
    try:
        assert ready.wait(10)
        yield peer
    finally:
        done.set()
        thread.join()


def node(peer: ScriptedPeer) -> str:
    return f"PACS@127.0.0.1:{peer.port}"


def with_studies(*studies: JsonDataSet, status: int = 0xFF00) -> Callable[[Message], Iterable[Reply]]:
    def answer(message: Message) -> Iterable[Reply]:
        if message.command.field == C_FIND_RQ:
            for study in studies:
                yield response(message, status, write_identifier(study, message.context.transfer_syntax))
        yield response(message, 0)

    return answer


def moved(status: int, **fields: Any) -> Callable[[Message], Iterable[Reply]]:
    return lambda message: [response(message, status, **fields)]


# --- keys


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["PatientName=ALL*"], {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "ALL*"}]}}),
        (["(0010,0020)=7"], {"00100020": {"vr": "LO", "Value": ["7"]}}),
        (["00080020=20260101-20260131"], {"00080020": {"vr": "DA", "Value": ["20260101-20260131"]}}),
        (["StudyTime=1000-"], {"00080030": {"vr": "TM", "Value": ["1000-"]}}),
        (
            ["StudyInstanceUID=1.2,1.3", "StudyInstanceUID=1.4"],
            {"0020000D": {"vr": "UI", "Value": ["1.2", "1.3", "1.4"]}},
        ),
        (["PatientID"], {"00100020": {"vr": "LO"}}),
        (["PatientID=*"], {"00100020": {"vr": "LO"}}),
        (
            [f"{REQUEST}.ScheduledProcedureStepID=A", f"{REQUEST}.RequestedProcedureID=B"],
            {
                "00400275": {
                    "vr": "SQ",
                    "Value": [{"00400009": {"vr": "SH", "Value": ["A"]}, "00401001": {"vr": "SH", "Value": ["B"]}}],
                }
            },
        ),
        (["RequestAttributesSequence"], {"00400275": {"vr": "SQ"}}),
    ],
)
def test_keys_are_read_by_keyword_tag_and_sequence(texts: list[str], wanted: JsonDataSet) -> None:
    assert read_keys(texts) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PatientNam=A", "did you mean PatientName?"),
        ("StudyDate=2026-01-01", "cannot be matched: '2026' is not a date"),
        ("StudyInstanceUID=hello", "StudyInstanceUID has a value that cannot be matched"),
        ("QueryRetrieveLevel=STUDY", "--level"),
        ("PatientName.PatientID=1", "PatientName is not a sequence"),
    ],
)
def test_a_bad_key_is_told_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words.replace("?", r"\?")):
        read_keys([text])


def test_a_key_that_is_given_twice_is_not_guessed_at() -> None:
    with pytest.raises(typer.BadParameter, match="PatientID is given twice"):
        read_keys(["PatientID=1", "PatientID=2"])


def test_what_is_asked_back_does_not_take_a_key_away() -> None:
    keys = read_keys(["PatientName=A", "RequestAttributesSequence.RequestedProcedureID=B"])
    names = ["PatientName,StudyID", f"{REQUEST}.RequestedProcedureID", f"{REQUEST}.ScheduledProcedureStepID"]
    assert len(add_returned(keys, names)) == 4
    assert keys["00100010"]["Value"] == [{"Alphabetic": "A"}]
    assert keys["00200010"] == {"vr": "SH"}
    assert keys["00400275"]["Value"] == [{"00401001": {"vr": "SH", "Value": ["B"]}, "00400009": {"vr": "SH"}}]


# --- nodes


CONFIG = """
[dicom]
ae_title = "HERE"
[destinations.pacs]
kind = "dimse"
ae_title = "PACS1"
host = "10.1.2.3"
port = 104
answer_s = "2m"
calling_aet = "US2"
[destinations.cloud]
kind = "stow-rs"
url = "http://127.0.0.1/dicom-web"
[proxies.vna]
base_path = "/vna"
upstream = { kind = "dimse", ae_title = "VNA", host = "10.1.2.4", port = 11112 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "router.toml"
    file.write_text(CONFIG)
    return file


def test_a_node_is_found_by_its_name_and_takes_what_is_configured(config: Path) -> None:
    found = find_node("pacs", config, aet="", timeout="").dimse
    assert (found.ae_title, found.host, found.port, found.calling_aet, found.answer_s) == (
        "PACS1",
        "10.1.2.3",
        104,
        "US2",
        120.0,
    )
    changed = find_node("pacs", config, aet="OTHER", timeout="5").dimse
    assert (changed.calling_aet, changed.answer_s) == ("OTHER", 5.0)
    upstream = find_node("vna", config, aet="", timeout="")
    assert (str(upstream), upstream.dimse.calling_aet) == ("vna (VNA@10.1.2.4:11112)", "HERE")


@pytest.mark.parametrize(
    ("text", "host"), [("X@pacs.example:104", "pacs.example"), ("X@[::1]:104", "::1"), ("X@10.1.2.3:104", "10.1.2.3")]
)
def test_a_node_is_found_by_its_address(config: Path, text: str, host: str) -> None:
    found = find_node(text, config, aet="", timeout="")
    assert (found.dimse.host, found.dimse.port, found.dimse.calling_aet, str(found)) == (host, 104, "HERE", text)
    assert find_node(text, Path("/nonexistent"), aet="", timeout="").dimse.calling_aet == "SENDRS"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pcs", "did you mean pacs"),
        ("cloud", "spoken to over the web"),
        ("X@host", "no host and port"),
        ("X@host:0", "port 0 does not exist"),
        ("X@ho st:104", "neither a host name nor an IP address"),
        ("X@::1:104", "no host and port"),
        ("@host:104", "the AE title is empty"),
        ("SEVENTEENLETTERSX@host:104", "17 characters"),
    ],
)
def test_a_node_that_cannot_be_is_told_with_what_is_allowed(config: Path, text: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        find_node(text, config, aet="", timeout="")


# --- echo


def test_echo_to_nobody_says_why_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(moved(0)) as peer:
        gone = node(peer)
    assert run(["echo", gone, *NO_CONFIG]) == ExitCode.UNAVAILABLE
    assert "Connection refused" in (error := capsys.readouterr().err)
    assert "is it running" in error


def test_echo_says_that_the_calling_title_must_be_registered(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(moved(0), rejection=(1, 1, 3)) as peer:
        assert run(["echo", node(peer), "--aet", "WHO", *NO_CONFIG]) == ExitCode.UNAVAILABLE
    assert 'register the AE title "WHO"' in capsys.readouterr().err


def test_echo_to_a_peer_without_verification_says_that_it_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(moved(0), accepts=lambda uid: False) as peer:
        assert run(["echo", node(peer), *NO_CONFIG]) == ExitCode.OK
        assert "but not Verification" in capsys.readouterr().out
        assert run(["echo", node(peer), "--json", *NO_CONFIG]) == ExitCode.OK
    facts = json.loads(capsys.readouterr().out)
    assert (facts["there"], facts["answered"]) == (True, False)


# --- find


def test_find_shows_a_table_that_fits_a_terminal_and_never_cuts_a_uid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(console.Console):
        def __init__(self, **more: Any):
            super().__init__(force_terminal=True, color_system=None, width=80, **more)

    monkeypatch.setattr(console, "Console", Terminal)
    with listening(with_studies(STUDY, STUDY)) as peer:
        assert run(["find", node(peer), "-k", "PatientName=S*", *NO_CONFIG]) == ExitCode.OK
    heading, row, uid, *_ = lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert heading.split() == ["PATIENT", "ID", "DATE", "MOD", "IMAGES", "DESCRIPTION"]
    assert row.startswith("Sample^Patient  SAMPLE-1  2026-01-05  CT, SR")
    assert " 1,234 " in row
    assert row.rstrip().endswith("…")
    assert uid.strip() == UID


def test_find_prints_the_answers_as_dicom_json(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(with_studies(STUDY)) as peer:
        assert run(["find", node(peer), "--json", *NO_CONFIG]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out) == [STUDY]
    (message,) = peer.messages
    query = read_identifier(message.data, message.context.transfer_syntax)
    assert query["00080052"]["Value"] == ["STUDY"]
    assert {"00100010", "00100020", "00080020", "00080061", "00201208", "00081030", "0020000D"} < set(query)


def test_find_says_that_nothing_matched(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(with_studies()) as peer:
        assert run(["find", node(peer), *NO_CONFIG]) == ExitCode.FOUND_PROBLEMS
        assert capsys.readouterr().out == f"Nothing found: {node(peer)} has no study that matches.\n"
        assert run(["find", node(peer), "--json", *NO_CONFIG]) == ExitCode.FOUND_PROBLEMS
        assert json.loads(capsys.readouterr().out) == []


def test_find_says_that_a_key_was_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(with_studies(STUDY, status=0xFF01)) as peer:
        assert run(["find", node(peer), *NO_CONFIG]) == ExitCode.OK
    assert "ignored it: this may be more than was asked for" in capsys.readouterr().out


def test_find_says_what_the_peer_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(moved(0xA900, error_comment="no level", offending_elements=(0x00080052,))) as peer:
        assert run(["find", node(peer), *NO_CONFIG]) == ExitCode.UNAVAILABLE
    assert "A900H identifier does not match the SOP class: no level (0008,0052)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--level", "planet"], "'planet' is no level; allowed: study, series, image"),
        (["--level", "series"], "StudyInstanceUID must have one value"),
        (["--level", "series"], "--relational asks all the same"),
        (["--model", "tree"], "allowed: patient, study"),
        (["--return", "Foo"], "neither a keyword nor a tag"),
        (["-k", "PatientNames=A"], "did you mean"),
    ],
)
def test_find_tells_what_was_mistyped(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["find", "X@127.0.0.1:9", *arguments, *NO_CONFIG]) == ExitCode.USAGE
    assert words in capsys.readouterr().err


def test_a_relational_search_that_was_not_granted_is_done_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for granted, warns in ((b"", True), (b"\1", False)):
        with listening(with_studies(STUDY), extended=lambda _, g=granted: {STUDY_ROOT.find: g} if g else {}) as peer:
            arguments = ["find", node(peer), "-l", "series", "--relational", "-k", "PatientID=1", *NO_CONFIG]
            assert run(arguments) == ExitCode.OK
        assert ("did not agree to relational queries" in capsys.readouterr().err) is warns


# --- move


@pytest.mark.parametrize(
    ("status", "counters", "code", "words"),
    [
        (0x0000, (3, 0, 0), ExitCode.OK, "Moved to STORE: all: 3 instances\n"),
        (0xB000, (2, 0, 1), ExitCode.OK, "Moved to STORE: all: 3 instances (1 with a warning)\n"),
        (0xB000, (2, 1, 0), ExitCode.FOUND_PROBLEMS, "Moved to STORE: NOT all: 2 instances, 1 failed\n"),
        (0xA702, (0, 3, 0), ExitCode.FOUND_PROBLEMS, "Moved to STORE: NOT all: 0 instances, 3 failed\n"),
        (0x0000, (0, 0, 0), ExitCode.FOUND_PROBLEMS, "Moved to STORE: nothing: nothing matched\n"),
        (0x0000, None, ExitCode.OK, "Moved to STORE: all: it did not say how many\n"),
        (0xFE00, (1, 0, 0), ExitCode.INTERRUPTED, "Moved to STORE: stopped: 1 instance\n"),
    ],
)
def test_req_124_move_says_what_became_of_it(
    status: int, counters: tuple[int, int, int] | None, code: ExitCode, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = dict(zip(("completed", "failed", "warning"), counters or (), strict=False))
    with listening(moved(status, **fields)) as peer:
        assert run(["move", node(peer), "--to", "STORE", "-k", "StudyInstanceUID=1.2", *NO_CONFIG]) == code
        assert capsys.readouterr().out == words
    assert peer.commands[0].field == C_MOVE_RQ
    assert peer.commands[0].move_destination == "STORE"


def test_req_124_an_unknown_destination_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(moved(0xA801)) as peer:
        code = run(["move", node(peer), "--to", "NOWHERE", "-k", "StudyInstanceUID=1.2", *NO_CONFIG])
    assert code == ExitCode.UNAVAILABLE
    assert 'A801H move destination unknown\n    register "NOWHERE" there' in capsys.readouterr().err


def test_req_124_what_failed_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    def partly(message: Message) -> Iterable[Reply]:
        failed = {"00080058": element(0x00080058, ["1.2.3", "1.2.4"])}
        data = write_identifier(failed, message.context.transfer_syntax)
        return [response(message, 0xB000, data, completed=1, failed=2, warning=0, error_comment="disk full")]

    with listening(partly) as peer:
        arguments = ["move", node(peer), "--to", "STORE", "-k", "StudyInstanceUID=1.2", *NO_CONFIG]
        assert run(arguments) == ExitCode.FOUND_PROBLEMS
        assert capsys.readouterr().out.splitlines()[1:] == [
            "It says: disk full",
            "",
            "Failed SOP instances:",
            "1.2.3",
            "1.2.4",
        ]
        run([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["failed_uids"] == ["1.2.3", "1.2.4"]


def test_move_does_not_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["move", "X@127.0.0.1:9", "--to", "A", "-k", "PatientName=A*", *NO_CONFIG]) == ExitCode.USAGE
    assert "find first, then move what was found" in capsys.readouterr().err
    assert run(["move", "X@127.0.0.1:9", "--to", "A" * 17, "-k", "StudyInstanceUID=1.2", *NO_CONFIG]) == ExitCode.USAGE
    assert "'--to': the AE title" in capsys.readouterr().err


def _hang_up(message: Message) -> Iterable[Reply]:
    raise Hangup


@pytest.mark.parametrize("command", [["find"], ["move", "--to", "A", "-k", "StudyInstanceUID=1.2"], ["echo"]])
def test_a_lost_association_is_one_line_and_advice(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with listening(_hang_up) as peer:
        assert run([command[0], node(peer), *command[1:], *NO_CONFIG]) == ExitCode.UNAVAILABLE
    line, *advice = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sendrs: {node(peer)}: ")
    assert "association aborted by the peer" in line
    assert '"SENDRS" is not registered' in advice[0]


# --- store


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    list(ct_series(folder, 3, rows=8, columns=8))
    (folder / "notes.txt").write_text("no DICOM here")
    return folder


def _stored(message: Message, status: int = 0) -> Reply:
    rq: Command = message.command
    return response(message, status, affected_sop_instance_uid=rq.affected_sop_instance_uid)


def test_store_sends_what_is_dicom_in_a_folder_and_says_what_was_left_out(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(lambda message: [_stored(message)]) as peer:
        assert run(["store", node(peer), str(files), *NO_CONFIG]) == ExitCode.OK
    assert capsys.readouterr().out == (
        f"Stored at {node(peer)}: all: 3 instances\nLeft out: 1 file that is not DICOM, or a DICOMDIR\n"
    )
    sent = {message.data for message in peer.messages}
    assert all(any(path.read_bytes().endswith(data) for data in sent) for path in files.glob("*.dcm"))


def test_store_goes_on_after_a_file_that_is_not_taken_and_its_exit_code_tells(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def second_fails(message: Message) -> Iterable[Reply]:
        return [_stored(message, 0xC000 if len(peer.messages) == 2 else 0xB000)]

    with listening(second_fails) as peer:
        arguments = ["store", node(peer), str(files), str(files / "notes.txt"), *NO_CONFIG]
        assert run(arguments) == ExitCode.FOUND_PROBLEMS
    out = capsys.readouterr().out
    assert f"Stored at {node(peer)}: NOT all: 2 instances (2 with a warning), 2 failed\n" in out
    assert "    " + str(sorted(files.glob("*.dcm"))[1]) in out
    assert 'it is no PS3.10 file: "DICM" is missing' in out


def test_store_says_what_was_not_tried_when_the_peer_goes_away(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def once(message: Message) -> Iterable[Reply]:
        if len(peer.messages) > 1:
            raise Hangup
        return [_stored(message)]

    with listening(once) as peer:
        assert run(["store", node(peer), str(files), "--json", *NO_CONFIG]) == ExitCode.UNAVAILABLE
    facts = json.loads(capsys.readouterr().out)
    assert (facts["files"], facts["stored"], facts["left_out"]) == (4, 1, 1)
    assert facts["not_tried"] + len(facts["failed"]) == 2


def test_store_of_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["store", "X@127.0.0.1:9", str(tmp_path / "none"), *NO_CONFIG]) == ExitCode.USAGE
    assert "does not exist" in capsys.readouterr().err
    assert run(["store", "X@127.0.0.1:9", str(tmp_path), *NO_CONFIG]) == ExitCode.FOUND_PROBLEMS
    assert "nothing: no DICOM file is there" in capsys.readouterr().out
