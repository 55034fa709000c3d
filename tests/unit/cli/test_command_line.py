"""What a person sees of the command line: help, usage errors, configuration errors, and the lists of a real journal."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest

from router.cli import COMMANDS, run
from router.cli.exits import ExitCode, explain_failure
from router.cli.jobs import show_status_code
from router.config.model import Config, StowDestination
from router.errors import ConfigError, ConfigErrors, StorageError
from router.journal.connection import FILE_NAME, open_for_writing
from router.journal.lock import StateInUse, StateLock

CT = "1.2.840.10008.5.1.4.1.1.2"
UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
JOB = "2.25.254984132454984132454984132498413249"
NOW = 1_700_000_000.0

CONFIG = """\
[dicom]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[state]
path = "state"
unsafe_filesystem = true
min_free_bytes = 0
[destinations.archive]
kind = "dimse"
ae_title = "ARCHIVE"
host = "10.1.2.3"
[destinations.cloud]
kind = "stow-rs"
url = "https://pacs.example/dicom-web"
"""

RULES = """\
[[rule]]
name = "CT to the archive"
match = { Modality = "CT" }
send = ["archive"]
[[rule]]
name = "MR to the cloud"
match = { Modality = "MR" }
send = ["cloud"]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, rules and an empty state; the current folder."""
    (tmp_path / "router.toml").write_text(CONFIG)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "10.toml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TZ", "UTC")
    return tmp_path


@pytest.fixture
def used(site: Path) -> Path:
    """The same after a day's work: one job, a delivered instance, a parked one, an unrouted one."""
    (site / "state" / "store").mkdir(parents=True)
    conn = open_for_writing(site / "state" / FILE_NAME)
    for number in range(3):
        conn.execute(
            "INSERT INTO instance (sop_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number,"
            " number_of_frames, rows, columns, bits_allocated, file, data_set_offset, data_set_bytes,"
            " data_set_sha256, protocol, calling_aet, called_aet, address, received_at, arrival, routed, note)"
            " VALUES (?, ?, '1.2.840.10008.1.2.1', '', '', '', '', '', ?, 500, 1048076, ?, 'C-STORE', 'CT1',"
            " 'SENDRS', '10.1.2.9', ?, ?, ?, ?)",
            (f"{UID}.{number}", CT, f"000001/{number:032x}.dcm", bytes(32), NOW, number, number < 2, "odd\nnote"),
        )
    conn.execute(
        "INSERT INTO send_request (transaction_uid, origin, rule, destination, source, created_at, closed_at)"
        " VALUES (?, 'rule', 'CT to the archive', 'archive', 'CT1 at 10.1.2.9', ?, ?)",
        (JOB, NOW, NOW + 1),
    )
    for number, (state, status, reason) in enumerate((("completed", 0, ""), ("failed", 0xA900, "wrong class"))):
        conn.execute(
            "INSERT INTO sub_operation (send_request_id, instance_id, destination, sop_instance_uid, state, attempts,"
            " due_at, created_at, ended_at, status, reason) VALUES (1, ?, 'archive', ?, ?, 1, ?, ?, ?, ?, ?)",
            (number + 1, f"{UID}.{number}", state, NOW, NOW, NOW + 2, status, reason),
        )
        conn.execute(
            "INSERT INTO attempt (sub_operation_id, started_at, ended_at, outcome, status, reason)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (number + 1, NOW, NOW + 2, state, status, reason),
        )
    conn.close()
    return site


def said(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    out, _ = said(capsys)
    listed = [line.split()[0] for line in out[out.index("Commands:") + 1 :] if line.startswith("  ")]
    assert listed[: len(COMMANDS)] == list(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chek"], "sendrs: No such command 'chek'. Did you mean 'check'? (see: sendrs --help)"),
        (["--confg"], "sendrs: No such option: --confg (see: sendrs --help)"),
        (
            ["status", "--jsn"],
            "sendrs status: No such option: --jsn (Possible options: --json) (see: sendrs status --help)",
        ),
        (["explain"], "sendrs explain: Missing argument 'FILE' (see: sendrs explain --help)"),
    ],
)
def test_a_mistyped_command_line_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert run(arguments) == ExitCode.USAGE
    assert said(capsys) == ([], [line])


@pytest.mark.parametrize(
    "command", ["serve", "check", "status", "jobs", "unrouted", "parked", "retry", "peers", "verify"]
)
def test_a_missing_configuration_is_one_line_and_78(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    assert run([command, "--config", str(tmp_path / "none.toml")]) == ExitCode.CONFIG
    out, err = said(capsys)
    assert out == []
    assert err[0] == f"{tmp_path}/none.toml: there is no such file"


def test_check_says_in_a_few_lines_what_the_configuration_means(capsys: pytest.CaptureFixture[str], site: Path) -> None:
    assert run(["check", "--offline"]) == 0
    out, err = said(capsys)
    assert err == []
    text = "\n".join(out)
    assert "SENDRS on 127.0.0.1:0" in text
    assert "archive (ARCHIVE at 10.1.2.3:104), cloud (https://pacs.example/dicom-web)" in text
    assert "2 rules in 1 file" in text
    assert "programs on this machine only" in text


def test_check_shows_second_ways_and_proxies_and_notes_an_ae_title_that_two_have(
    capsys: pytest.CaptureFixture[str], site: Path
) -> None:
    file = site / "router.toml"
    text = file.read_text().replace('url = "https://pacs', 'ae_title = "ARCHIVE"\nurl = "https://pacs')
    text = text.replace('host = "10.1.2.3"', 'host = "10.1.2.3"\ndeliver = ["stow-rs", "c-store"]')
    file.write_text(
        text + '[destinations.archive.stow_rs]\nurl = "https://archive.example"\n'
        '[proxies.far]\nae_title = "FAR"\nupstream = { kind = "dicomweb", url = "https://far.example" }\n'
        '[proxies.old]\nbase_path = "/old"\nupstream = { kind = "dimse", ae_title = "OLD", host = "10.1.2.6" }\n'
    )
    assert run(["check", "--offline"]) == 0
    out, _ = said(capsys)
    text = "\n".join(out)
    assert "archive (ARCHIVE at 10.1.2.3:104, by stow-rs, then c-store)" in text
    assert "far (FAR is https://far.example), old (/old is OLD at 10.1.2.6:104)" in text
    assert "[destinations.cloud] has the AE title ARCHIVE, by which C-MOVE means [destinations.archive]" in text


def test_status_and_jobs_show_what_waits_for_commitment(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    with sqlite3.connect(used / "state" / "journal.db") as conn:
        conn.execute(
            "UPDATE sub_operation SET state = 'remaining', confirming = 'completed', in_flight = 0 WHERE id = 1"
        )
    assert run(["status"]) == 0
    assert "1 instance waiting for commitment" in "\n".join(said(capsys)[0])
    assert run(["jobs", JOB]) == 0
    assert "waiting for commitment" in "\n".join(said(capsys)[0])


def test_b95_check_tells_a_rule_to_an_unknown_destination(capsys: pytest.CaptureFixture[str], site: Path) -> None:
    (site / "rules" / "10.toml").write_text(RULES.replace('"archive"]', '"archve"]'))
    assert run(["check"]) == ExitCode.CONFIG
    _, err = said(capsys)
    assert err[0].startswith(f"{site}/rules/10.toml:4: ")
    assert "archve" in err[0]
    assert any("archive" in line for line in err[1:])
    assert err[-1] == "1 problem"


def test_check_tells_everything_wrong_in_router_toml_at_once(capsys: pytest.CaptureFixture[str], site: Path) -> None:
    (site / "router.toml").write_text(CONFIG.replace("listen", "lisen"))
    assert run(["check"]) == ExitCode.CONFIG
    _, err = said(capsys)
    assert err == [
        f"{site}/router.toml:2: [dicom] lisen: is not known here",
        "    did you mean listen?",
        f"{site}/router.toml:4: [http] lisen: is not known here",
        "    did you mean listen?",
        "2 problems; the rules are checked once these are mended",
    ]


@pytest.mark.parametrize("command", ["status", "jobs", "unrouted", "parked", "retry", "peers", "verify"])
def test_before_the_first_start_the_lists_say_so(capsys: pytest.CaptureFixture[str], site: Path, command: str) -> None:
    assert run([command]) == ExitCode.STORAGE
    expected = f"sendrs: {site}/state does not exist: the router has not run with this configuration yet"
    assert said(capsys) == ([], [expected])


def test_status_shows_each_destination_also_one_that_got_nothing(
    capsys: pytest.CaptureFixture[str], used: Path
) -> None:
    assert run(["status"]) == 0
    out, _ = said(capsys)
    assert out[0] == f"sendrs is not running, state in {used}/state"
    assert out[1] == "3 instances kept (3 MiB), 1 unrouted, 0 on the way, 1 parked"
    rows = {line.split()[0]: line.split()[1:] for line in out[4:6]}
    assert rows["archive"][:6] == ["ready", "0", "0", "1", "0", "1"]
    assert rows["cloud"][:6] == ["ready", "0", "0", "0", "0", "0"]
    assert out[-1] == "See also: sendrs unrouted, sendrs parked"


def test_status_says_which_process_runs(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from router.journal.lock import StateLock;"
            "lock = StateLock.take(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()",
            str(used / "state"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert run(["status"]) == 0
        out, _ = said(capsys)
        assert out[0].startswith(f"sendrs is running (process {holder.pid}), ")
        holder.communicate()


def test_status_as_json_has_what_the_table_has(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    assert run(["status", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["process"] is None
    assert value["totals"]["failed"] == 1
    assert {row["name"]: (row["completed"], row["state"]) for row in value["destinations"]} == {
        "archive": (1, "ready"),
        "cloud": (0, "ready"),
    }


def test_uids_are_whole_and_on_one_line_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], used: Path
) -> None:
    assert run(["parked"]) == 0
    out, _ = said(capsys)
    assert out[0].split() == ["PARKED", "DESTINATION", "SOP", "INSTANCE", "UID", "TRIES", "STATUS", "REASON"]
    assert out[1].split() == ["2023-11-14", "22:13:22", "archive", f"{UID}.1", "1", "A900H", "wrong", "class"]
    assert out[2:] == ["", "When the cause is mended: sendrs retry"]


def test_unrouted_escapes_what_would_break_a_line(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    assert run(["unrouted"]) == 0
    out, _ = said(capsys)
    assert len(out) == 2
    assert f"{UID}.2" in out[1]
    assert out[1].endswith(r"odd\nnote")


def test_jobs_lists_them_and_one_is_shown_with_every_attempt(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    assert run(["jobs"]) == 0
    out, _ = said(capsys)
    assert out[1].split()[2:8] == [JOB, "archive", "0", "1", "0", "1"]
    assert run(["jobs", JOB]) == 0
    out, _ = said(capsys)
    assert "State        finished; 1 delivered, 0 with a warning, 0 left, 1 parked" in out
    assert out[-1].split() == [f"{UID}.1", "failed", "1", "2023-11-14", "22:13:20", "A900H", "wrong", "class"]


def test_jobs_show_origin_and_resource_of_what_was_asked_for_and_of_what_a_rule_sent(
    capsys: pytest.CaptureFixture[str], used: Path
) -> None:
    conn = open_for_writing(used / "state" / FILE_NAME)
    conn.execute(
        "INSERT INTO send_request (transaction_uid, origin, resource, requester, query, destination, source,"
        " created_at, closed_at) VALUES ('1.2.3.4', 'send-rs', 'studies/1.2/series', 'operator', 'Modality=CT',"
        " 'archive', 'SEND-RS at 127.0.0.1', ?, ?)",
        (NOW + 60, NOW + 60),
    )
    conn.close()
    assert run(["jobs"]) == 0
    out, _ = said(capsys)
    asked, rule = out[1].split(), out[2].split()
    assert asked[-6:] == ["send-rs", "studies/1.2/series", "Modality=CT", "SEND-RS", "at", "127.0.0.1"]
    assert rule[8:10] == ["rule", "instances"]
    assert run(["jobs", "1.2.3.4"]) == 0
    out, _ = said(capsys)
    assert {"Origin       send-rs", "Resource     studies/1.2/series", "Query        Modality=CT"} <= set(out)


def test_an_unknown_job_is_one_line(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    assert run(["jobs", "1.2.3"]) == ExitCode.FOUND_PROBLEMS
    assert said(capsys) == ([], ["sendrs: there is no job '1.2.3' (see: sendrs jobs)"])


def test_the_limit_is_kept_and_told(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    assert run(["jobs", "--limit", "1"]) == 0
    out, _ = said(capsys)
    assert out[-1] == "The newest 1 are shown; --limit shows more."
    assert run(["jobs", JOB, "--limit", "1"]) == 0
    out, _ = said(capsys)
    assert out[-1] == "1 instance of 2 shown; --limit shows more."


def test_verify_names_each_file_that_is_not_there_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], used: Path
) -> None:
    assert run(["verify"]) == ExitCode.FOUND_PROBLEMS
    out, _ = said(capsys)
    assert out[1].split()[0] == f"000001/{0:032x}.dcm"
    assert out[-1].startswith("3 differences: ")
    with sqlite3.connect(used / "state" / FILE_NAME) as conn:
        for table in ("attempt", "sub_operation", "instance"):
            conn.execute(f"DELETE FROM {table}")
    conn.close()
    assert run(["verify"]) == 0
    out, _ = said(capsys)
    assert out[-1] == "Store and journal agree."


def test_explain_says_which_rule_fires_and_why_the_other_does_not(
    capsys: pytest.CaptureFixture[str], site: Path
) -> None:
    file = str(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    assert run(["explain", file, "--from", "CT1"]) == 0
    out, _ = said(capsys)
    assert out[0] == f"File    {file}: CT Image Storage, Explicit VR Little Endian"
    assert out[1] == "Sender  CT1 at 127.0.0.1, by C-STORE to SENDRS"
    assert out[4].split(maxsplit=1) == ["fires", "CT to the archive  archive   10.toml:1"]
    assert out[5].startswith("no ")
    assert out[5].endswith('match Modality = "MR" does not hold')


def test_explain_says_when_nothing_fires(capsys: pytest.CaptureFixture[str], site: Path) -> None:
    (site / "rules" / "10.toml").write_text(RULES.replace('Modality = "CT"', 'Modality = "US"'))
    assert run(["explain", str(pydicom.data.get_testdata_file("CT_small.dcm", download=False))]) == 0
    out, _ = said(capsys)
    assert out[-1] == "No rule fires: it would be kept and listed as unrouted."


def test_explain_of_a_file_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str], site: Path) -> None:
    assert run(["explain", "router.toml"]) == ExitCode.FOUND_PROBLEMS
    assert said(capsys) == ([], ['sendrs: router.toml: it is no PS3.10 file: "DICM" is missing'])
    assert run(["explain", "nothing.dcm"]) == ExitCode.STORAGE
    assert said(capsys) == ([], ["sendrs: nothing.dcm: No such file or directory"])


def test_serve_refuses_a_port_in_use_and_a_bad_state_folder_at_once(
    capsys: pytest.CaptureFixture[str], site: Path
) -> None:
    (site / "router.toml").write_text(CONFIG.replace('listen = "127.0.0.1:0"', 'listen = "192.0.2.1:104"', 1))
    (site / "state").write_text("in the way")
    assert run(["serve"]) == ExitCode.CONFIG
    _, err = said(capsys)
    assert err[0] == f"{site}/router.toml:6: [state] path: {site}/state is a file, not a folder"
    assert err[1] == f"{site}/router.toml:2: [dicom] listen: 192.0.2.1 is not an address of this machine"


def test_a_state_folder_in_use_is_75(capsys: pytest.CaptureFixture[str], used: Path) -> None:
    lock = StateLock.take(used / "state")
    try:
        assert run(["serve"]) == ExitCode.IN_USE
    finally:
        lock.release()
    _, err = said(capsys)
    assert err[-1].startswith(f"sendrs: {used}/state is in use by process ")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigErrors([ConfigError("f", "[a] b", "is odd", line=3)]), 78, "f:3: [a] b: is odd"),
        (ConfigError("f", "", "is odd", "this", "do that"), 78, "f: is odd\n    allowed: this\n    do that"),
        (StorageError("the disk is full"), 74, "sendrs: the disk is full"),
        (
            StateInUse(Path("/s"), 7),
            75,
            "sendrs: /s is in use by process 7; stop it first, or give this one a state folder of its own",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 74, "sendrs: x: No such file or directory"),
        (KeyboardInterrupt(), 130, ""),
        (
            ExceptionGroup("tasks", [ValueError("noise"), ExceptionGroup("more", [StorageError("the cause")])]),
            74,
            "sendrs: the cause",
        ),
        (
            ZeroDivisionError("division\nby zero"),
            70,
            "sendrs: internal error: ZeroDivisionError: division by zero "
            "(for the details to report: SENDRS_DEBUG=1 and the same command again)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_goes_wrong_ends_with_its_code_and_words(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    monkeypatch.delenv("SENDRS_DEBUG", raising=False)
    assert explain_failure(error) == (code, text)


def test_the_traceback_is_there_for_who_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDRS_DEBUG", "1")
    explain_failure(ZeroDivisionError("x"))
    assert "ZeroDivisionError: x" in capsys.readouterr().err


def test_status_codes_are_written_as_their_protocol_does(tmp_path: Path) -> None:
    config = Config(file=tmp_path, destinations={"web": StowDestination(name="web", url="https://x")})
    assert show_status_code(0xA700, config, "web") == "A700H"
    assert show_status_code(0x0110, config, "web") == "0110H"
    assert show_status_code(503, config, "web") == "HTTP 503"
    assert show_status_code(503, config, "archive") == "01F7H"
    assert show_status_code(None, config, "web") == ""


def test_a_reader_that_goes_away_is_no_trouble(used: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m router.cli jobs --config {used}/router.toml | true"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.stderr == ""
