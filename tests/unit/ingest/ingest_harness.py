"""A whole core on a temporary folder: store, journal, ingest; with rules that a test decides and a disk that it can
break.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.config.model import Config, DicomConfig, RulesConfig, StateConfig
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header
from router.dicom.uids import AETitle, Uid
from router.ingest.sweep import SweepReport, sweep
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.rules.decision import Decision, Route
from router.store.disk import Disk, SystemDisk
from router.store.files import Store

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
IMPLICIT = Uid("1.2.840.10008.1.2")
SOURCE = Source("C-STORE", "192.0.2.7", AETitle("CT1"), AETitle("SENDRS"))
TO_ARCHIVE = Decision((Route("everything", "archive"),))
LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})


def element(tag: int, vr: str, value: bytes | str) -> bytes:
    """One element in Explicit VR Little Endian."""
    raw = value.encode("latin_1") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, len(raw)) if vr in LONG else struct.pack("<H", len(raw))) + raw


def data_set(uid: str, *, pixels: bytes = b"\1\2" * 50, without: Iterable[int] = (), **changed: str) -> bytes:
    """A small CT image. `changed` by the names below."""
    values = {
        "study": "1.2.3",
        "series": "1.2.3.4",
        "patient": "P1",
        "number": "7",
        "sop_class": CT,
        "description": "CHEST",
    } | changed
    elements = [
        (0x00080016, "UI", values["sop_class"]),
        (0x00080018, "UI", uid),
        (0x00080020, "DA", "20240102"),
        (0x00080060, "CS", "CT"),
        (0x00081030, "LO", values["description"]),
        (0x00100010, "PN", "Doe^Jane"),
        (0x00100020, "LO", values["patient"]),
        (0x0020000D, "UI", values["study"]),
        (0x0020000E, "UI", values["series"]),
        (0x00200013, "IS", values["number"]),
        (0x00280010, "US", b"\x0a\0"),
        (0x00280011, "US", b"\x05\0"),
        (0x7FE00010, "OW", pixels),
    ]
    return b"".join(element(*one) for one in elements if one[0] not in set(without))


def declared(uid: str, sop_class: str = CT, transfer_syntax: str = EXPLICIT) -> Declared:
    return Declared(Uid(sop_class), Uid(uid), Uid(transfer_syntax))


@dataclass
class FixedRules:
    """Decides what a test says, whatever comes."""

    decision: Decision = TO_ARCHIVE
    wanted: frozenset[tuple[int, ...]] = frozenset()
    headers: list[Header] = field(default_factory=list)

    def decide(self, source: Source, header: Header) -> Decision:
        self.headers.append(header)
        return self.decision


class FaultyDisk(SystemDisk):
    """The system's disk, whose operations number `fail_at` (from 1) and, if `forever`, all later ones fail with `code`.

    `only` restricts counting to some operations. `calls` is what was asked, in order.
    """

    OPERATIONS = ("open", "pwrite", "fdatasync", "fsync", "close", "unlink", "rename", "mkdir")

    def __init__(
        self, fail_at: int = 0, code: int = errno.EIO, *, forever: bool = False, only: Iterable[str] = OPERATIONS
    ):
        self.fail_at, self.code, self.forever, self.only = fail_at, code, forever, frozenset(only)
        self.count = 0
        self.failed: list[str] = []
        self.calls: list[tuple[str, object]] = []
        for name in self.OPERATIONS:
            setattr(self, name, self._wrapped(name, getattr(SystemDisk, name)))

    def _wrapped(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments[0]))
            if name in self.only:
                self.count += 1
                if self.fail_at and (self.count == self.fail_at or (self.forever and self.count > self.fail_at)):
                    self.failed.append(name)
                    if name == "close":
                        operation(*arguments)  # Linux closes the descriptor whatever it says
                    raise OSError(self.code, os.strerror(self.code))
            return operation(*arguments)

        return call


@dataclass
class Core:
    """What a test needs at hand."""

    state: Path
    store: Store
    journal: Journal
    ingest: Ingest
    rules: FixedRules
    woken: list[str]
    swept: SweepReport

    async def send(self, uid: str, content: bytes | None = None, *, chunk: int = 4096) -> None:
        """Send one instance in a visit of its own. Raises as `accept` does."""
        visit = self.ingest.open_visit(SOURCE)
        try:
            reception = visit.receive(declared(uid))
            content = data_set(uid) if content is None else content
            try:
                for start in range(0, len(content), chunk):
                    await reception.write(content[start : start + chunk])
            except BaseException:
                await reception.discard()
                raise
            await reception.accept()
        finally:
            await visit.close()

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the journal."""
        found: list[tuple[Any, ...]] = await self.journal.read(lambda conn: conn.execute(sql).fetchall())
        return found

    def files(self) -> dict[str, bytes]:
        """All files of the store that are not blanks, by name relative to it."""
        root = self.store.root
        found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.dcm"))}
        return {name: content for name, content in found.items() if content}


@asynccontextmanager
async def open_core(
    state: Path,
    *,
    rules: FixedRules | None = None,
    disk: Disk | None = None,
    dicom: DicomConfig | None = None,
    min_free_bytes: int = 0,
    now: Callable[[], float] = lambda: 1_700_000_000.0,
) -> AsyncIterator[Core]:
    """Open and sweep. The disk's faults are for what comes after: it counts from here."""
    book, woken = rules or FixedRules(), list[str]()
    config = Config(
        file=state / "router.toml",
        dicom=dicom or DicomConfig(),
        state=StateConfig(path=state, min_free_bytes=min_free_bytes),
        rules=RulesConfig(quiet_period_s=60.0),
    )
    async with Journal.open(state) as journal, Store.open(state, disk=disk) as store:
        ingest = Ingest(store, journal, lambda: book, config, woken.extend, now=now)
        swept = await sweep(store, journal, ingest)
        yield Core(state, store, journal, ingest, book, woken, swept)
