"""A Storage SCP on a loopback port in front of the real thing: ingest, store, journal and rules, in one folder."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec
from scp_harness import CT, EXPLICIT, Caller, Served, command_set, p_data, pdv, serving, store_command, store_rq

from router.config.model import Config, DicomConfig, Peer, RulesConfig, StateConfig
from router.ingest.sweep import sweep
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.rules import load_rules
from router.store.files import Store

IDLE_S = 60.0
"""Longest wait for a disk: a flush takes seconds while something else on the machine writes gigabytes."""
LONG_VRS = frozenset({"OB", "OW", "SQ", "UN", "UT"})
UNDEFINED = 0xFFFFFFFF
CT_TO_ARCHIVE = '[[rule]]\nname = "CT"\nmatch = { Modality = "CT" }\nsend = ["archive"]\n'


def element(tag: int, vr: str, value: bytes | str, length: int | None = None) -> bytes:
    """One element in Explicit VR Little Endian; `length` replaces the true one."""
    raw = value.encode("latin_1") if isinstance(value, str) else value
    raw += (b"\0" if vr in ("UI", "OB") else b" ") * (len(raw) % 2)
    size = len(raw) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, size) if vr in LONG_VRS else struct.pack("<H", size)) + raw


def data_set(
    uid: str, *, more: Mapping[int, tuple[str, bytes | str]] | None = None, without: Iterable[int] = ()
) -> bytes:
    """A small CT image in Explicit VR Little Endian; `more` elements by tag are added or take the place of its own."""
    elements: dict[int, tuple[str, bytes | str]] = {
        0x00080016: ("UI", CT),
        0x00080018: ("UI", uid),
        0x00080060: ("CS", "CT"),
        0x00100010: ("PN", "Doe^Jane"),
        0x00100020: ("LO", "P1"),
        0x0020000D: ("UI", "1.2.3"),
        0x0020000E: ("UI", "1.2.3.4"),
        0x00280010: ("US", b"\x0a\0"),
        0x00280011: ("US", b"\x05\0"),
        0x7FE00010: ("OW", b"\1\2" * 50),
        **(more or {}),
    }
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements) if tag not in set(without))


@dataclass
class RealCore:
    """The running front and what is behind it."""

    served: Served
    state: Path
    store: Store
    journal: Journal

    def files(self) -> dict[str, bytes]:
        """All files of the store that hold something, by name relative to the state folder."""
        paths = (path for folder in ("store", "suspect", "lost+found") for path in (self.state / folder).rglob("*"))
        found = {str(path.relative_to(self.state)): path.read_bytes() for path in paths if path.is_file()}
        return {name: content for name, content in found.items() if content}

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the journal."""
        found: list[tuple[Any, ...]] = await self.journal.read(lambda conn: conn.execute(sql).fetchall())
        return found

    async def until_idle(self) -> None:
        """Wait until no connection is left: each ends by itself, once its peer is gone and its file discarded."""
        with anyio.fail_after(IDLE_S):
            while self.served.scp.connections:  # noqa: ASYNC110 - threads work on the disk; spinning would starve them
                await anyio.sleep(0.005)

    async def assert_holds_nothing(self) -> None:
        """Neither a file nor a row of any instance, study or job."""
        assert self.files() == {}
        for table in ("instance", "study", "series", "send_request", "sub_operation"):
            assert await self.rows(f"SELECT count(*) FROM {table}") == [(0,)]


@asynccontextmanager
async def receiving(
    state: Path, rules: str = CT_TO_ARCHIVE, *, peers: Mapping[str, Peer] | None = None, **dicom: Any
) -> AsyncIterator[RealCore]:
    """Run all of the way in on `state`, with these settings of `[dicom]` and destinations "archive" and "ai"."""
    (state / "rules").mkdir(parents=True)
    (state / "rules" / "10.toml").write_text(rules)
    book = load_rules(state / "rules", ("archive", "ai"))
    config = Config(
        file=state / "router.toml",
        dicom=msgspec.structs.replace(DicomConfig(), **dicom),
        state=StateConfig(path=state / "state", min_free_bytes=0),
        rules=RulesConfig(path=state / "rules"),
    )
    folder = config.state.path
    async with Journal.open(folder) as journal, Store.open(folder) as store:
        ingest = Ingest(store, journal, lambda: book, config, lambda _: None)
        await sweep(store, journal, ingest)
        async with serving(ingest, peers=peers, **dicom) as served:
            yield RealCore(served, folder, store, journal)


async def send(caller: Caller, content: bytes, *, context_id: int = 1, piece: int = 60_000, **command: Any) -> None:
    """Send a C-STORE request, its data set in as many PDUs as it takes."""
    await caller.send(p_data(pdv(context_id, 3, command_set(store_command(**command)))))
    for start in range(0, len(content), piece):
        last = start + piece >= len(content)
        await caller.send(p_data(pdv(context_id, 2 if last else 0, content[start : start + piece])))
    if not content:
        await caller.send(p_data(pdv(context_id, 2, b"")))


async def answer_to(core: RealCore, content: bytes, *, uid: str, syntax: str = EXPLICIT) -> dict[int, Any]:
    """The answer to one instance; the association must live and take a good one afterwards, which is kept."""
    caller = await core.served.associate([(1, CT, (syntax,)), (3, CT, (EXPLICIT,))])
    await send(caller, content, instance=uid)
    answer = await caller.response()
    before = core.files()
    await caller.send(store_rq(data_set("1.2.9.99"), context_id=3, message_id=99, instance="1.2.9.99"))
    after = await caller.response()
    assert (after[0x0900], after[0x0120]) == (0, 99)
    assert len(core.files()) == len(before) + 1
    await caller.release()
    return answer


async def refusal_of(
    state: Path, content: bytes, *, uid: str, syntax: str = EXPLICIT, rules: str = CT_TO_ARCHIVE, **dicom: Any
) -> tuple[int, str]:
    """Status and words for one instance of which nothing may be kept; the association must live."""
    async with receiving(state, rules, **dicom) as core:
        caller = await core.served.associate([(1, CT, (syntax,))])
        await send(caller, content, instance=uid)
        answer = await caller.response()
        await core.assert_holds_nothing()
        await caller.release()
        answer_again = await answer_to(core, content, uid=uid, syntax=syntax)
        assert answer_again[0x0900] == answer[0x0900]
        assert await core.rows("SELECT sop_instance_uid FROM instance") == [("1.2.9.99",)]
    return answer[0x0900], answer.get(0x0902, "")


async def kept(
    state: Path, content: bytes, *, uid: str, syntax: str = EXPLICIT, rules: str = CT_TO_ARCHIVE, **dicom: Any
) -> tuple[int, str]:
    """Whether an instance that must be taken, bit for bit, was routed, and what its row notes."""
    async with receiving(state, rules, **dicom) as core:
        answer = await answer_to(core, content, uid=uid, syntax=syntax)
        assert answer[0x0900] == 0
        [(file, offset, size, routed, note)] = await core.rows(
            "SELECT file, data_set_offset, data_set_bytes, routed, note FROM instance"
            " WHERE sop_instance_uid <> '1.2.9.99'"
        )
        stored = core.files()[f"store/{file}"]
        assert stored[offset:] == content
        assert size == len(content)
    return routed, note
