"""`sendrs init`: what it writes loads and says what was asked for; it asks again, and it overwrites nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from router.cli import run
from router.cli.exits import ExitCode
from router.config.load import load_config
from router.config.model import DimseDestination, StowDestination
from router.rules import load_rules

SHIPPED = Path(__file__).parents[3] / "router.toml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def comments(text: str) -> list[str]:
    return [found[0].rstrip() for line in text.splitlines() if (found := re.search(r"(?:^|(?<= ))# .*$", line))]


def test_options_alone_make_a_configuration_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        *("--ae-title", "ROUTER", "--listen", "0.0.0.0:11112", "--state", "/srv/sendrs"),
        *("--destination", "ARCHIVE 2@10.1.2.3:11113", "--sender", "CT1@10.1.0.0/16", "--sender", "MR@10.2.3.4"),
    ]
    assert run(["init", *options]) == ExitCode.OK
    config = load_config(tmp_path / "router.toml")
    assert (config.dicom.ae_title, config.dicom.listen.host, config.state.path) == (
        "ROUTER",
        "0.0.0.0",
        Path("/srv/sendrs"),
    )
    archive = config.destinations["archive"]
    assert isinstance(archive, DimseDestination)
    assert (archive.ae_title, archive.host, archive.port) == ("ARCHIVE 2", "10.1.2.3", 11113)
    assert [(one.ae_title, one.address) for one in config.peers.values()] == [
        ("CT1", "10.1.0.0/16"),
        ("MR", "10.2.3.4"),
    ]
    (rule,) = load_rules(config.rules.path, config.destinations).rules
    assert rule.send == ("archive",)
    assert comments((tmp_path / "router.toml").read_text()) == comments(SHIPPED.read_text())
    said = capsys.readouterr().out
    assert f"Written: {tmp_path / 'router.toml'}" in said
    assert "sendrs check " in said


def test_a_url_is_a_web_destination(tmp_path: Path) -> None:
    assert run(["init", "--destination", "https://pacs.example/dicom-web/"]) == ExitCode.OK
    config = load_config(tmp_path / "router.toml")
    cloud = config.destinations["cloud"]
    assert isinstance(cloud, StowDestination)
    assert cloud.url == "https://pacs.example/dicom-web"
    assert config.state.path == tmp_path / "state"
    (rule,) = load_rules(config.rules.path, config.destinations).rules
    assert (rule.name, rule.send) == ("Everything to the cloud", ("cloud",))
    assert [path.name for path in (tmp_path / "rules").iterdir()] == ["10-everything-to-the-cloud.toml"]


def test_into_another_folder_whose_next_commands_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--folder", "my router", "--destination", "A@[::1]:104"]) == ExitCode.OK
    assert f"sendrs check --config '{tmp_path}/my router/router.toml'" in capsys.readouterr().out
    archive = load_config(tmp_path / "my router" / "router.toml").destinations["archive"]
    assert isinstance(archive, DimseDestination)
    assert archive.host == "::1"


@pytest.mark.parametrize("there", ["router.toml", "rules/50-mine.toml"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / there).write_text("mine")
    assert run(["init", "--destination", "A@b:104"]) == ExitCode.FOUND_PROBLEMS
    said = capsys.readouterr().err
    assert said.startswith(f"sendrs init: {tmp_path / there} is there already, and is not overwritten")
    assert "sendrs init --folder FOLDER" in said
    assert [path.name for path in tmp_path.rglob("*.toml")] == [Path(there).name]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ["--ae-title", "TOO LONG FOR AN AE"],
            "'--ae-title': \"TOO LONG FOR AN AE\" has 18 characters; allowed: 1 to 16",
        ),
        (["--listen", "11112"], '\'--listen\': "11112" has no port at its end; allowed: "address:port"'),
        (["--state", "~/state"], "'--state': \"~/state\" is not the path of a folder; allowed: a path without ~"),
        (["--destination", "10.1.2.3"], "'--destination': \"10.1.2.3\" has no @ and is no URL; allowed: AET@host:port"),
        (["--destination", "A@h:0"], "'--destination': port 0 does not exist; allowed: a port from 1 to 65535"),
        (["--destination", "http://h/?x"], "has a query or a fragment"),
        (["--sender", "CT1"], "'--sender': \"CT1\" has no @; allowed: AET@address"),
        (["--sender", "CT1@10.1.2.3/16"], "has bits beyond its mask; allowed: an IP address"),
    ],
)
def test_a_bad_value_is_told_by_its_option_with_what_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    if "--destination" not in options:
        options = [*options, "--destination", "A@h:104"]
    assert run(["init", *options]) == ExitCode.USAGE
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_terminal_a_missing_destination_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--yes"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "'--destination': is missing, and there is nobody to ask; allowed: AET@host:port" in said


def test_values_that_do_not_go_together_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--listen", "127.0.0.1:11112", "--destination", "SENDRS@127.0.0.1:11112"]) == ExitCode.USAGE
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.toml"))
    assert not (tmp_path / "rules").exists()


def test_a_sender_that_is_named_twice_is_written_once(tmp_path: Path) -> None:
    assert run(["init", "--destination", "A@h:104", *(["--sender", "CT1@10.1.2.3"] * 2)]) == ExitCode.OK
    assert len(load_config(tmp_path / "router.toml").peers) == 1


CTRL_C, CTRL_D = "\x03", "\x04"


def _as_at_a_terminal() -> None:
    """In the new process: its terminal is where Ctrl-C comes from, and is heard, also when a script runs the tests."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def at_a_terminal(folder: Path, answers: list[str]) -> tuple[int, str]:
    """Run `sendrs init` at a terminal and type `answers`, each when asked for; gives exit code and what is seen."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200"}
    child = subprocess.Popen(
        [sys.executable, "-m", "router.cli", "init"],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=_as_at_a_terminal,
    )
    os.close(theirs)
    seen, asked, end = "", 0, time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([ours], [], [], 1.0)[0]:
            if answers[asked - 1 : asked] == [CTRL_C]:
                # Python hears none that comes when the prompt is out and `input` does not read yet; who types presses
                # it again
                os.write(ours, CTRL_C.encode())
            continue
        try:
            seen += os.read(ours, 4096).decode()
        except OSError:  # the other end is closed
            break
        while asked < len(answers) and len(re.findall(r"\]: |URL\): ", seen)) > asked:
            os.write(ours, answers[asked].encode())
            asked += 1
    os.close(ours)
    return child.wait(10), seen.replace("\r", "")


def test_at_a_terminal_it_asks_and_asks_again_after_a_mistake(tmp_path: Path) -> None:
    answers = [
        "\n",
        "nonsense\n",
        "0.0.0.0:104\n",
        "\n",
        "ARCHIVE\n",
        "ARCHIVE@10.1.2.3:104\n",
        "CT1@10.1.0.0/16\n",
        "\n",
    ]
    code, seen = at_a_terminal(tmp_path, answers)
    assert code == ExitCode.OK, seen
    assert '"nonsense" has no port at its end; allowed: "address:port"' in seen
    assert '"ARCHIVE" has no @ and is no URL; allowed: AET@host:port' in seen
    config = load_config(tmp_path / "router.toml")
    assert (config.dicom.ae_title, config.dicom.listen.port) == ("SENDRS", 104)
    assert [one.address for one in config.peers.values()] == ["10.1.0.0/16"]


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_whoever_gives_up_leaves_nothing_behind(tmp_path: Path, key: str) -> None:
    code, seen = at_a_terminal(tmp_path, ["\n", key])
    assert code == ExitCode.INTERRUPTED, seen
    assert "Traceback" not in seen
    assert "internal" not in seen
    assert not list(tmp_path.iterdir())
