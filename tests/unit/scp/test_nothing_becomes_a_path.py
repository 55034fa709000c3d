"""Nothing that a peer sends becomes a path: hostile titles, UIDs and values go through the real front into a real state
folder, and every name on the disk is one that the router made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_core import data_set, receiving, send
from scp_harness import CT, EXPLICIT, associate_rq

from router.config.model import Peer

HOSTILE = (
    "../../x",
    "../../../../../../tmp/x",
    "/etc/cron.d/x",
    "..",
    ".",
    "~root/x",
    "a\0b",
    "1.2\0/../x",
    "C:\\x",
    "\\\\host\\share",
    "con",
    "x\n../y",
    "$(touch x)",
    "`id`",
    "a;reboot",
    "%2e%2e%2fx",
    "\x1b]0;x\x07",
    "\xff\xfe/..",
    "1." * 4000 + "1",
    "-rf",
    "*",
    "",
)
OURS = re.compile(
    r"\.lock|journal\.db(?:-wal|-shm)?|journal\.reserve|suspect|lost\+found|store|store/[0-9]{6}"
    r"|store/[0-9]{6}/[0-9a-f]{32}\.dcm",
    re.ASCII,
)


def names(folder: Path) -> Iterator[str]:
    """All names below a folder, as the file system has them."""
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            yield str(Path(place, name).relative_to(folder))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, with the state folder deep below it: a stray file would be seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_every_name_on_the_disk_is_one_of_ours(elsewhere: Path) -> None:
    site = elsewhere / "a" / "b" / "c" / "site"
    peers = {"all": Peer(name="all", ae_title="CT1", address="127.0.0.1")}
    async with receiving(site, peers=peers, connections_burst=1000) as core:
        served = core.served
        for text in HOSTILE:
            raw = text.encode("latin-1")[:16]
            for titles in ({"calling": raw}, {"called": raw}):
                caller = await served.connect()
                await caller.send(associate_rq(**titles))
                assert (await caller.pdu())[0] in (2, 3)
                await caller.hang_up()
            if len(text) < 1000:
                caller = await served.connect()
                await caller.send(associate_rq(contexts=[(1, text, (EXPLICIT,)), (3, CT, (text, EXPLICIT))]))
                assert (await caller.pdu())[0] == 2
                await caller.hang_up()
        caller = await served.associate()
        for n, text in enumerate(HOSTILE):
            await send(caller, data_set(text), instance=text)
            assert (await caller.response())[0x0900] in (0xA900, 0x0212)
            await send(caller, data_set(f"1.2.9.{n}"), instance=f"1.2.9.{n}", sop_class=text)
            assert (await caller.response())[0x0900] in (0xA900, 0x0212)
            await send(caller, data_set(text), instance=f"1.2.9.{n}")
            assert (await caller.response())[0x0900] == 0xA900
            uids = {0x0020000D: ("UI", text or "1.2"), 0x0020000E: ("UI", text or "1.2")}
            more = {0x00100010: ("PN", text), 0x00100020: ("LO", text), 0x00080050: ("SH", text[:16]), **uids}
            await send(caller, data_set(f"1.2.9.{n}", more=more), instance=f"1.2.9.{n}")
            assert (await caller.response())[0x0900] in (0, 0xC000)
        [(kept,)] = await core.rows("SELECT count(*) FROM instance")
        assert kept >= 15  # their names are hostile, their SOP Instance UIDs are not
        assert len(core.files()) == kept
        odd = [name for name in names(core.state) if not OURS.fullmatch(name)]
        assert odd == []
    mine = {"a", "a/b", "a/b/c", "a/b/c/site", *(f"a/b/c/site/{name}" for name in ("rules", "rules/10.toml", "state"))}
    assert {name for name in names(elsewhere) if not name.startswith("a/b/c/site/state/")} == mine


async def test_titles_that_are_paths_but_allowed_are_only_text(elsewhere: Path) -> None:
    """With no peer listed a program on this machine may call itself anything that is an AE title."""
    site = elsewhere / "a" / "site"
    async with receiving(site) as core:
        for n, title in enumerate((b"../../x", b"/etc/passwd", b"..", b"'; DROP", b"$(touch x)")):
            caller = await core.served.connect()
            await caller.send(associate_rq(calling=title))
            assert (await caller.pdu())[0] == 2
            await send(caller, data_set(f"1.2.9.{n}"), instance=f"1.2.9.{n}")
            assert (await caller.response())[0x0900] == 0
            await caller.release()
        assert [name for name in names(core.state) if not OURS.fullmatch(name)] == []
        assert await core.rows("SELECT count(DISTINCT calling_aet) FROM instance") == [(5,)]
    assert {name for name in names(elsewhere) if "/state/" not in name} == {
        "a",
        "a/site",
        "a/site/rules",
        "a/site/rules/10.toml",
        "a/site/state",
    }
