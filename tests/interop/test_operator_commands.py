"""What an operator does to a running router from the command line: try again what is parked, see who is turned away."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ledger import data_set_of, stow
from peers import Daemon, StoreScp, free_port, run_dcmtk, wait_until

from router.cli.samples import ct_series, wheel_instances

pytestmark = pytest.mark.interop

TO_ARCHIVE = '[[rule]]\nname = "Everything to the archive"\nsend = ["archive"]\n'
DELIVER_S = 60.0


def archive_at(port: int) -> str:
    return f'[destinations.archive]\nkind = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\n'


def parked(daemon: Daemon) -> list[Any]:
    found: list[Any] = json.loads(daemon.cli("parked", "--json").stdout)
    return found


def jpeg_2000(folder: Path) -> Path:
    (file,) = (path for path in wheel_instances(folder) if path.name == "MR_small_jp2klossless.dcm")
    return file


@pytest.mark.parametrize("running", [True, False], ids=["asking the router", "while it is stopped"])
def test_what_is_parked_is_delivered_after_a_retry(tmp_path: Path, running: bool) -> None:
    file, port = jpeg_2000(tmp_path / "wheel"), free_port()
    with Daemon(tmp_path / "sendrs", archive_at(port), TO_ARCHIVE) as daemon:
        with StoreScp(tmp_path / "picky", port, accept="+x="):
            stow(daemon.http_port, "/dicom-web/studies", [file.read_bytes()])
            wait_until(lambda: len(parked(daemon)) == 1, DELIVER_S, "the refusal")
        with StoreScp(tmp_path / "mended", port) as archive:
            if not running:
                assert daemon.stop() == 0
            typo = daemon.cli("retry", "--destination", "archiv", check=False)
            assert (typo.returncode, "did you mean" in typo.stderr) == (1, True)
            told = daemon.cli("retry", "--destination", "archive").stdout.splitlines()
            assert told[0] == "Due again: 1 instance to archive."
            if not running:
                assert told[1:] == ["The router is not running: what is due goes out once it is started."]
                daemon.start()
            wait_until(lambda: len(archive.files()) == 1 and parked(daemon) == [], DELIVER_S, "the instance")
            assert data_set_of(archive.files()[0].read_bytes()) == data_set_of(file.read_bytes())
            assert json.loads(daemon.cli("retry", "--json").stdout)["retried"] == 0
            assert daemon.cli("retry").stdout == "Nothing is parked.\n"
            daemon.cli("verify")


def test_a_caller_that_was_turned_away_is_let_in_by_the_lines_shown(tmp_path: Path) -> None:
    (file,) = ct_series(tmp_path / "ct", 1, rows=64, columns=64)
    known = '[peers.other]\nae_title = "OTHER"\naddress = "10.1.2.3"\n'
    with Daemon(tmp_path / "sendrs", known) as daemon:
        assert daemon.cli("peers").stdout == "Nobody was turned away since the router was started.\n"
        call = ["storescu", "-aet", "CT 1", "-aec", "SENDRS", "127.0.0.1", str(daemon.dicom_port), file]
        assert run_dcmtk(call, check=False).returncode != 0
        (caller,) = json.loads(daemon.cli("peers", "--json").stdout)
        assert (caller["calling_aet"], caller["address"], caller["attempts"]) == ("CT 1", "127.0.0.1", 1)
        table = daemon.cli("peers").stdout.partition(":\n\n")[2]
        assert tomllib.loads(table) == {"peers": {"ct-1": {"ae_title": "CT 1", "address": "127.0.0.1"}}}
        daemon.config_file.write_text(f"{daemon.config_file.read_text()}\n{table}")
        assert daemon.stop() == 0
        daemon.start()
        run_dcmtk(call)
        assert len(json.loads(daemon.cli("unrouted", "--json").stdout)) == 1


def test_a_router_that_is_not_running_knows_no_callers_and_says_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "sendrs")
    never_ran = daemon.cli("peers", check=False)
    assert (never_ran.returncode, "has not run" in never_ran.stderr) == (74, True)
    with daemon:
        assert daemon.stop() == 0
    stopped = daemon.cli("peers", check=False)
    assert (stopped.returncode, "not running" in stopped.stderr) == (1, True)


def test_a_router_whose_socket_is_gone_is_told_of_in_one_line(tmp_path: Path) -> None:
    with Daemon(tmp_path / "sendrs", archive_at(free_port()), TO_ARCHIVE) as daemon:
        (daemon.state_folder / "control").unlink()
        for command in ("retry", "peers"):
            told = daemon.cli(command, check=False)
            assert told.returncode == 75
            assert told.stderr.startswith("sendrs: nobody answers at ")
            assert len(told.stderr.splitlines()) == 1
