"""A journal in memory with instances accepted into it, for the tests of the operations on sub-operations and units."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from importlib import resources
from typing import Any

from router.dicom.envelope import Declared, Source
from router.dicom.uids import Uid
from router.journal.acceptance import accept
from router.journal.claims import claim
from router.journal.connection import WritingConnection
from router.journal.records import (
    Acceptance,
    Accepted,
    Delivery,
    InstanceRow,
    QuietUnitRow,
    RouteRow,
    SeriesRow,
    StudyRow,
)
from router.journal.sub_operations import Conclusion

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
NOON = 1_700_000_000.0


def new_journal() -> WritingConnection:
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=WritingConnection)
    conn.executescript(resources.files("router.journal").joinpath("schema.sql").read_text())
    conn.execute("PRAGMA foreign_keys=ON")
    return conn


def put(
    conn: WritingConnection,
    n: int,
    *,
    destinations: Sequence[str] = ("archive",),
    content: bytes = b"",
    series: str = "1.2.3.4",
    study: str = "1.2.3",
    size: int = 1000,
    now: float = NOON,
    units: Sequence[QuietUnitRow] = (),
    transaction: str = "2.25.1",
) -> Accepted:
    """Accept instance 1.2.9.<n>."""
    instance = InstanceRow(
        declared=Declared(CT, Uid(f"1.2.9.{n}"), EXPLICIT),
        source=Source("C-STORE", "10.0.0.1"),
        file=f"1/{n}-{content.hex()}.dcm",
        data_set_offset=500,
        data_set_bytes=size,
        data_set_sha256=content.ljust(32, b"\0"),
        received_at=now,
    )
    routes = tuple(RouteRow("rule", name, Uid(f"{transaction}.{len(name)}")) for name in destinations)
    return accept(conn, Acceptance(StudyRow(Uid(study)), SeriesRow(Uid(series)), instance, routes, tuple(units)))


def take(conn: WritingConnection, destination: str = "archive", **how: Any) -> list[Delivery]:
    settings = {"now": NOON, "max_instances": 64, "max_bytes": 2**30, **how}
    return claim(conn, destination, **settings)


def ended(delivery: Delivery, state: str = "completed", **how: Any) -> Conclusion:
    settings = {"outcome": state, "ended_at": NOON + 1, "due_at": NOON + 30, **how}
    return Conclusion(delivery.sub_operation_id, delivery.attempt_id, state, **settings)  # type: ignore[arg-type]


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [int(delivery.declared.sop_instance_uid.rpartition(".")[2]) for delivery in deliveries]
