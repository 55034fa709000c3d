"""A state folder of schema 1 with queued work is upgraded; one that was backed up while running is restored: all of it
is delivered.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from ledger import Instances, Ledger, Sender, by_c_store, data_set_of
from peers import Daemon, StoreScp, free_port, require, wait_until
from pydicom import dcmread

from router.journal.connection import APPLICATION_ID, FILE_NAME, SCHEMA_VERSION

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
OPERATING = ROOT / "docs" / "operating.md"
SCHEMA_1 = Path(__file__).parents[1] / "data" / "journal-schema-1.sql"
JOB = "2.25.99999.20250901"
RULES = """
[[rule]]
name = "Everything to the archive"
send = ["archive"]
[[rule]]
name = "Whole series to the AI server"
when = "series"
send = ["ai"]
"""


def make_daemon(folder: Path, ports: dict[str, int], rules: str = RULES) -> Daemon:
    tables = "".join(
        f'[destinations.{name}]\nkind = "dimse"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = {port}\n'
        for name, port in ports.items()
    )
    return Daemon(folder, f"{tables}[rules]\nquiet_period_s = 3600\n[http]\nallow_unfiltered_send = true\n", rules)


def fill(daemon: Daemon, folder: Path, instances: int) -> Ledger:
    """Have the router acknowledge some instances."""
    ledger = Ledger()
    sender = Sender(ledger, Instances(folder, seed=5), by_c_store(daemon.dicom_port))
    sender.start()
    wait_until(lambda: len(ledger.acknowledged) >= instances, 30, "enough instances")
    sender.stop()
    return ledger


def downgrade(file: Path) -> None:
    """Make a journal what sendrs 0.1 left, with schema 1; nobody has it open."""
    whole = sqlite3.connect(file)
    whole.execute("VACUUM INTO ?", (str(file.with_name("new.db")),))  # with what is in the log only
    whole.close()
    for left in file.parent.glob(f"{FILE_NAME}*"):
        left.unlink()
    new = sqlite3.connect(file.with_name("new.db"))
    old = sqlite3.connect(file, isolation_level=None)
    old.executescript(SCHEMA_1.read_text())
    old.execute("DELETE FROM counter")
    for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
        rows = new.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
        old.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)
    old.execute("PRAGMA journal_mode=WAL")
    old.execute(f"PRAGMA application_id={APPLICATION_ID}")
    old.execute("PRAGMA user_version=1")
    old.close()
    new.close()
    file.with_name("new.db").unlink()


def everything_at(scp: StoreScp, ledger: Ledger) -> Callable[[], bool]:
    def here() -> bool:
        if len(scp.files()) < len(ledger.acknowledged):
            return False
        return not missing(scp, ledger)

    return here


def missing(scp: StoreScp, ledger: Ledger) -> dict[str, str]:
    files = [(dcmread(path, stop_before_pixels=True, force=True).get("SOPInstanceUID"), path) for path in scp.files()]
    return dict(ledger.missing((uid, data_set_of(path.read_bytes())) for uid, path in files))


def test_what_an_older_sendrs_had_queued_is_delivered_after_the_upgrade(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("archive", "ai", "asked")}
    daemon = make_daemon(tmp_path / "sendrs", ports)
    with daemon:
        ledger = fill(daemon, tmp_path / "template", 12)
        connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=30)
        query = f"destination=dicom://127.0.0.1:{ports['asked']}/ASKED"
        connection.request(
            "POST",
            f"/dicom-web/instances/send-requests/{JOB}?{query}",
            headers={"Accept": "application/dicom+json", "Host": "127.0.0.1"},
        )
        assert connection.getresponse().status == 202
        connection.close()
        daemon.kill9()

    journal = daemon.state_folder / FILE_NAME
    downgrade(journal)
    with sqlite3.connect(journal) as conn:
        conn.execute("UPDATE quiet_unit SET due_at = ?", (time.time(),))
        (parked,) = conn.execute("SELECT min(id) FROM sub_operation WHERE destination = 'archive'").fetchone()
        conn.execute("UPDATE sub_operation SET state = 'failed', in_flight = 0, status = 42752 WHERE id = ?", (parked,))
    conn.close()

    refused = daemon.cli("status", check=False)
    assert refused.returncode == 74
    assert "has schema 1" in refused.stderr
    assert "start the router with this sendrs once" in refused.stderr

    with ExitStack() as stack:
        scps = {
            name: stack.enter_context(StoreScp(tmp_path / name, port, "-aet", name.upper()))
            for name, port in ports.items()
        }
        stack.enter_context(daemon)
        wait_until(everything_at(scps["ai"], ledger), 60, "the series at the AI server")
        wait_until(everything_at(scps["asked"], ledger), 60, "what was asked for")
        wait_until(lambda: len(scps["archive"].files()) == len(ledger.acknowledged) - 1, 60, "all but what is parked")
        daemon.cli("retry")
        wait_until(everything_at(scps["archive"], ledger), 60, "the parked one")
        wait_until(lambda: _left(daemon) == 0, 30, "an empty queue")
        daemon.cli("verify")
        assert daemon.stop() == 0
    backup = sqlite3.connect(f"file:{daemon.state_folder}/journal-before-{SCHEMA_VERSION}.db?mode=ro", uri=True)
    assert backup.execute("PRAGMA user_version").fetchone() == (1,)
    assert backup.execute("SELECT count(*) FROM instance").fetchone() == (len(ledger.acknowledged),)
    backup.close()


def test_a_journal_of_a_newer_sendrs_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path / "sendrs", {"archive": free_port(), "ai": free_port()})
    with daemon:
        assert daemon.stop() == 0
    journal = daemon.state_folder / FILE_NAME
    with sqlite3.connect(journal) as conn:
        conn.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    conn.close()
    before = journal.read_bytes()
    for command in ("serve", "status"):
        done = daemon.cli(command, check=False)
        assert done.returncode == 78
        (line,) = [line for line in done.stderr.splitlines() if "schema" in line]
        assert f"has schema {SCHEMA_VERSION + 1}, this sendrs knows {SCHEMA_VERSION}: start the newer sendrs" in line
        assert "Traceback" not in done.stderr
    assert journal.read_bytes() == before


def test_a_backup_made_while_running_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    """As docs/operating.md has it: the journal first, then the store."""
    ports = {"archive": free_port()}
    rules = '[[rule]]\nname = "All"\nsend = ["archive"]\n'
    daemon = make_daemon(tmp_path / "sendrs", ports, rules)
    backup = tmp_path / "backup"
    backup.mkdir()
    before, ledger = Ledger(), Ledger()
    with daemon:
        senders = [
            Sender(ledger, Instances(tmp_path / f"template{seed}", seed), by_c_store(daemon.dicom_port))
            for seed in (1, 2)
        ]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(ledger.acknowledged) > 50, 30, "some load")
        before.acknowledged = dict(ledger.acknowledged)
        for command in backup_commands():
            there = command.replace("/var/lib/sendrs", str(daemon.state_folder)).replace("/backup", str(backup))
            subprocess.run(["sh", "-c", there], check=True, timeout=60)
            more = len(ledger.acknowledged) + 20
            wait_until(lambda: len(ledger.acknowledged) > more, 30, "more of it meanwhile")  # noqa: B023
        for sender in senders:
            sender.stop()
        daemon.kill9()

    shutil.rmtree(daemon.state_folder)
    shutil.move(backup, daemon.state_folder)
    with StoreScp(tmp_path / "archive", ports["archive"], "-aet", "ARCHIVE") as scp, daemon:
        wait_until(everything_at(scp, before), 60, "all that was acknowledged before the backup")
        wait_until(lambda: _left(daemon) == 0, 30, "an empty queue")
        daemon.cli("verify")
        assert daemon.stop() == 0


def backup_commands() -> list[str]:
    """The commands as docs/operating.md has them."""
    require("sqlite3")
    text = OPERATING.read_text()
    block = re.search(r"```sh\n(sqlite3 .*?)```", text, re.DOTALL)
    assert block is not None
    commands = block[1].splitlines()
    assert len(commands) == 2
    return commands


def test_the_log_has_the_events_that_the_page_explains() -> None:
    section = OPERATING.read_text().partition("## Read the logs")[2].partition("\n## ")[0]
    events = [
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)
    ]
    code = "".join(path.read_text() for path in (ROOT / "router").rglob("*.py"))
    assert len(events) > 8
    for event in events:
        assert re.search(rf'"{re.escape(event.removesuffix(": …"))}[":]', code) or event == "critical", event


def _left(daemon: Daemon) -> int:
    return sum(row["remaining"] for row in json.loads(daemon.cli("status", "--json").stdout)["destinations"])
