"""An index filled through facts and acceptance: data sets are bytes, scanned as when they are received."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from router.dicom.attributes import INDEX_PATHS, attribute_path, vr_of
from router.dicom.envelope import Declared, Source
from router.dicom.header import Header, HeaderScanner
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid
from router.ingest.facts import read_facts
from router.journal import search
from router.journal.acceptance import accept
from router.journal.connection import WritingConnection
from router.journal.journal import Journal
from router.journal.records import Acceptance
from router.search import Asked, Found, Index, Level, Plan, Result, Scope, plan
from router.store.files import Store, StoredFile

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = Uid("1.2.840.10008.1.2.1")
SOURCE = Source("C-STORE", "192.0.2.7")
LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
REQUESTS = 0x00400275

Values = Mapping[str, str | bytes | Sequence[Mapping[str, str]]]
"""Attributes by keyword; texts in Latin-1 if they are not bytes; a sequence as its items."""


def element(keyword: str, value: str | bytes | Sequence[Mapping[str, str]]) -> bytes:
    """Encode one element in Explicit VR Little Endian."""
    path = attribute_path(keyword)
    vr = vr_of(path[0])
    if vr == "SQ":
        items = [b"".join(element(*one) for one in in_order(item)) for item in value]  # type: ignore[arg-type]
        raw = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    elif vr == "US":
        raw = struct.pack("<H", int(value))  # type: ignore[arg-type]
    else:
        raw = value.encode("latin_1") if isinstance(value, str) else bytes(value)  # type: ignore[arg-type]
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" else b" "
    head = struct.pack("<HH2s", path[0] >> 16, path[0] & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, len(raw)) if vr in LONG else struct.pack("<H", len(raw))) + raw


def in_order(values: Values) -> list[tuple[str, str | bytes | Sequence[Mapping[str, str]]]]:
    return sorted(values.items(), key=lambda one: attribute_path(one[0]))


def data_set(values: Values) -> bytes:
    return b"".join(element(*one) for one in in_order(values))


def instance(study: str, series: str, uid: str, **values: str | bytes | Sequence[Mapping[str, str]]) -> Values:
    return {
        "SOPClassUID": CT,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "Modality": "CT",
        **values,
    }


def scanned(content: bytes) -> Header:
    scanner = HeaderScanner(EXPLICIT, INDEX_PATHS)
    scanner.feed(content)
    return scanner.finish()


def put(conn: WritingConnection, values: Values, *, stored: StoredFile | None = None, now: float = 1.7e9) -> int:
    """Journal one instance; gives its row id."""
    content = data_set(values)
    declared = Declared(Uid(str(values["SOPClassUID"])), Uid(str(values["SOPInstanceUID"])), EXPLICIT)
    facts = read_facts(declared, scanned(content))
    number = conn.execute("SELECT count(*) FROM instance").fetchone()[0]
    stored = stored or StoredFile(f"1/{number}.dcm", 400, len(content), number.to_bytes(32, "big"))
    row = facts.instance_row(declared, SOURCE, now, stored, "")
    return accept(conn, Acceptance(facts.study, facts.series, row)).instance_id


def asked(**values: str | tuple[str, ...]) -> list[Asked]:
    """Make keys by keyword; `__` stands for the dot of a path."""
    return [Asked(attribute_path(name.replace("__", ".")), value, name) for name, value in values.items()]


def plan_of(
    level: Level,
    scope: Scope | None = None,
    *,
    options: MatchOptions | None = None,
    strict: bool = False,
    **keys: str | tuple[str, ...],
) -> Plan:
    return plan(level, scope or Scope(), asked(**keys), options=options or MatchOptions(), strict=strict)


def sql_matches(conn: sqlite3.Connection, planned: Plan) -> set[int]:
    return set(search.find(conn, planned.question(), limit=-1).ids)


@dataclass
class Archive:
    """An index with its journal and store."""

    journal: Journal
    store: Store
    index: Index
    rows: list[int] = field(default_factory=list)

    async def put(self, *instances: Values, in_store: bool = False) -> list[int]:
        """Journal instances, with their files if `in_store`; gives their row ids."""
        ids = []
        for values in instances:
            stored = await self._store_file(values) if in_store else None
            ids.append(await self.journal.write(partial(put, values=values, stored=stored)))
        return ids

    async def find(self, level: Level, scope: Scope | None = None, *, limit: int = 100, **keys: Any) -> Found:
        return await self.index.find(plan_of(level, scope, **keys), limit=limit)

    async def _store_file(self, values: Values) -> StoredFile:
        declared = Declared(Uid(str(values["SOPClassUID"])), Uid(str(values["SOPInstanceUID"])), EXPLICIT)
        writer = self.store.begin(declared, SOURCE, 1.7e9)
        await writer.write(data_set(values))
        return await writer.finish()


@asynccontextmanager
async def open_archive(state: Path) -> AsyncIterator[Archive]:
    async with Journal.open(state) as journal, Store.open(state) as store:
        yield Archive(journal, store, Index(journal, store))


def uids(found: Found | Sequence[Result]) -> list[str]:
    """Give the UID of each result."""
    results = found.results if isinstance(found, Found) else found
    return [one.instance or one.series or one.study for one in results]
