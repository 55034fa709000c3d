"""Series and studies that rules wait for: find the quiet ones and turn each into send requests.

Rules with when = "series" or "study" vote as instances arrive (`acceptance` keeps the votes); here the votes are
counted when nothing more came for the quiet period. What comes later is sent by itself when it is quiet again.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

import msgspec

from router.dicom.uids import Uid, new_uid

DUE_LIMIT = 64
"""Units taken by one read, so that a pass is bounded."""


class DueUnit(msgspec.Struct, frozen=True):
    """Names a unit whose quiet period is over. `unit_id` is a series.id or study.id."""

    rule: str
    level: Literal["series", "study"]
    unit_id: int


class FiredRequest(msgspec.Struct, frozen=True):
    """A send request that a quiet unit made, with how many sub-operations it holds."""

    transaction_uid: Uid
    rule: str
    destination: str
    instances: int


def due(conn: sqlite3.Connection, *, now: float, limit: int = DUE_LIMIT) -> list[DueUnit]:
    """List units that have been quiet long enough, longest first."""
    rows = conn.execute(
        "SELECT rule, level, unit_id FROM quiet_unit WHERE waiting = 1 AND due_at <= ? ORDER BY due_at LIMIT ?",
        (now, limit),
    )
    return [DueUnit(*row) for row in rows]


def next_due(conn: sqlite3.Connection) -> float | None:
    """Say when the next unit becomes quiet (Unix seconds), None when none waits."""
    due_at: float | None = conn.execute("SELECT min(due_at) FROM quiet_unit WHERE waiting = 1").fetchone()[0]
    return due_at


_RESOURCES = {"series": "series", "study": "studies"}
"""What the send request of a quiet unit is one of (Table 10.X.1-1)."""
_INSTANCES = {
    "series": "SELECT id FROM instance WHERE series_id = :unit",
    "study": "SELECT i.id FROM series r JOIN instance i ON i.series_id = r.id WHERE r.study_id = :unit",
}

# What a rule still has to send to this destination is not sent twice (D4).
_SUB_OPERATIONS = """
INSERT INTO sub_operation (send_request_id, instance_id, destination, sop_instance_uid, due_at, created_at)
SELECT :request, i.id, :destination, i.sop_instance_uid, :now, :now
  FROM instance i
 WHERE i.id IN ({instances}) AND i.arrival > :sent_through AND i.superseded = 0
   AND NOT EXISTS (SELECT 1 FROM sub_operation o JOIN send_request q ON q.id = o.send_request_id
                    WHERE o.instance_id = i.id AND o.destination = :destination AND o.state = 'remaining'
                      AND q.origin = 'rule')
 ORDER BY i.arrival
"""


def fire(conn: sqlite3.Connection, unit: DueUnit, *, now: float) -> list[FiredRequest]:
    """Send what came of a quiet unit since it was last sent, one send request a destination, if the votes say so.

    Does nothing when the unit is no longer due, because something arrived since `due` listed it.
    """
    row = conn.execute(
        "SELECT destinations, matched, vetoed, sent_through FROM quiet_unit"
        " WHERE rule = ? AND level = ? AND unit_id = ? AND waiting = 1 AND due_at <= ?",
        (unit.rule, unit.level, unit.unit_id, now),
    ).fetchone()
    if row is None:
        return []
    destinations, matched, vetoed, sent_through = row
    conn.execute(
        "UPDATE quiet_unit SET waiting = 0 WHERE rule = ? AND level = ? AND unit_id = ?",
        (unit.rule, unit.level, unit.unit_id),
    )
    if not matched or vetoed:
        return []
    which = {"unit": unit.unit_id, "sent_through": sent_through, "now": now}
    names = msgspec.json.decode(destinations, type=list[str])
    fired = [request for name in names if (request := _send(conn, unit, name, which))]
    instances = _INSTANCES[unit.level]
    conn.execute(
        f"UPDATE instance SET routed = 1 WHERE id IN ({instances}) AND arrival > :sent_through AND superseded = 0",
        which,
    )
    conn.execute(
        f"UPDATE quiet_unit SET sent_through = (SELECT max(arrival) FROM instance WHERE id IN ({instances}))"
        " WHERE rule = :rule AND level = :level AND unit_id = :unit",
        {"unit": unit.unit_id, "rule": unit.rule, "level": unit.level},
    )
    return fired


def _send(conn: sqlite3.Connection, unit: DueUnit, destination: str, which: dict[str, Any]) -> FiredRequest | None:
    uid = new_uid()
    request = conn.execute(
        "INSERT INTO send_request (transaction_uid, origin, resource, rule, destination, source, created_at, closed_at)"
        " VALUES (?, 'rule', ?, ?, ?, ?, ?, ?)",
        (uid, _RESOURCES[unit.level], unit.rule, destination, _source(conn, unit), which["now"], which["now"]),
    ).lastrowid
    made = conn.execute(
        _SUB_OPERATIONS.format(instances=_INSTANCES[unit.level]),
        {**which, "request": request, "destination": destination},
    ).rowcount
    if made == 0:
        conn.execute("DELETE FROM send_request WHERE id = ?", (request,))
        return None
    return FiredRequest(uid, unit.rule, destination, made)


def _source(conn: sqlite3.Connection, unit: DueUnit) -> str:
    """The quiet series or study by its UID, for people."""
    if unit.level == "series":
        row = conn.execute("SELECT series_instance_uid FROM series WHERE id = ?", (unit.unit_id,)).fetchone()
    else:
        row = conn.execute("SELECT study_instance_uid FROM study WHERE id = ?", (unit.unit_id,)).fetchone()
    return f"{unit.level} {row[0]}" if row else unit.level
