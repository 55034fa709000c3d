"""Journal one received instance: its study and series, the file it is in, where it goes. One call, in one
transaction.

Repeats are told from conflicts here (D4, D13). Never reads a file and never decides a route.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from router.journal import hierarchy, non_patient
from router.journal.connection import WritingConnection, remember
from router.journal.hierarchy import insert_into, row_id
from router.journal.records import Acceptance, Accepted, InstanceRow, QuietUnitRow, RouteRow

ARRIVALS_RESERVED: Final = 1_000
"""Arrival numbers taken from the counter at once. A crash leaves a gap; only their order means anything."""


_INSTANCE: Final = (
    "series_id",
    "sop_instance_uid",
    "sop_class_uid",
    "transfer_syntax_uid",
    "instance_number",
    "number_of_frames",
    "rows",
    "columns",
    "bits_allocated",
    "file",
    "data_set_offset",
    "data_set_bytes",
    "data_set_sha256",
    "protocol",
    "calling_aet",
    "called_aet",
    "address",
    "received_at",
    "arrival",
    "routed",
    "note",
)
_INSTANCE_INSERT: Final = insert_into("instance", _INSTANCE)

# Everything there is under this SOP Instance UID and not yet superseded: at most one row, but for what older
# releases left.
_SAME_UID: Final = """
SELECT id, file, data_set_offset, data_set_sha256, transfer_syntax_uid
  FROM instance WHERE sop_instance_uid = ? AND superseded = 0
"""
_SUPERSEDE: Final = "UPDATE instance SET superseded = 1 WHERE sop_instance_uid = ? AND superseded = 0"
_MOVE_ARRIVAL: Final = "UPDATE instance SET arrival = ?, routed = max(routed, ?) WHERE id = ?"
_MOVE_FILE: Final = "UPDATE instance SET file = ?, data_set_offset = ?, flushed = 0, note = ? WHERE id = ?"

_REQUEST_SELECT: Final = "SELECT id FROM send_request WHERE transaction_uid = ?"
_REQUEST_INSERT: Final = """
INSERT INTO send_request (transaction_uid, origin, rule, destination, source, created_at) VALUES (?, 'rule', ?, ?, ?, ?)
"""
# Still to be sent there by a rule: the repeat rides with it (D4). What was asked for over the web ends sooner.
_STILL_REMAINING: Final = """
SELECT 1 FROM sub_operation s JOIN send_request q ON q.id = s.send_request_id
 WHERE s.destination = ? AND s.sop_instance_uid = ? AND s.state = 'remaining' AND s.instance_id = ?
   AND q.origin = 'rule'
"""
_SUB_OPERATION_INSERT: Final = """
INSERT INTO sub_operation (send_request_id, instance_id, destination, sop_instance_uid, due_at, created_at)
VALUES (?, ?, ?, ?, ?, ?)
"""

# A vote starts the quiet period anew; what one instance matched or vetoed stays matched or vetoed.
_QUIET_UNIT: Final = """
INSERT INTO quiet_unit (rule, level, unit_id, destinations, matched, vetoed, due_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (rule, level, unit_id) DO UPDATE
   SET destinations = excluded.destinations, due_at = excluded.due_at, waiting = 1,
       matched = max(matched, excluded.matched), vetoed = max(vetoed, excluded.vetoed)
"""

_ARRIVAL_RESERVE: Final = "UPDATE counter SET value = value + ? WHERE name = 'arrival' RETURNING value"


def accept(conn: WritingConnection, acceptance: Acceptance, distrusted_file: str = "") -> Accepted:
    """Write down one received instance with its send requests, sub-operations and quiet units.

    The same content under the same UID is one row (D4), other content under the same UID a second one that
    supersedes the first (D13). `distrusted_file` names a file that turned out to be missing or damaged: a row that
    points to it is given this instance's file instead, and counts as not coalesced.
    """
    instance, study_id, series_id = acceptance.instance, None, None
    if acceptance.study is not None:
        study_id = hierarchy.study_id(conn, acceptance.study)
        if acceptance.series is not None:
            series_id = hierarchy.series_id(conn, study_id, acceptance.series)
    earlier, others = _same_content(conn, instance)
    arrival = _next_arrival(conn)
    coalesced, file, offset = False, instance.file, instance.data_set_offset
    if earlier is None:
        if others:
            conn.execute(_SUPERSEDE, (instance.declared.sop_instance_uid,))
        instance_id = _insert_instance(conn, instance, series_id, arrival, routed=bool(acceptance.routes))
        if acceptance.non_patient is not None:
            non_patient.insert(conn, instance_id, acceptance.non_patient)
    else:
        instance_id, earlier_file, earlier_offset = earlier
        conn.execute(_MOVE_ARRIVAL, (arrival, bool(acceptance.routes), instance_id))
        coalesced = earlier_file != distrusted_file
        if coalesced:
            file, offset = earlier_file, earlier_offset
        else:
            conn.execute(_MOVE_FILE, (file, offset, instance.note, instance_id))
    destinations = _send(conn, acceptance.routes, instance, instance_id, repeat=earlier is not None)
    for unit in acceptance.units:
        _vote(conn, unit, series_id if unit.level == "series" else study_id)
    return Accepted(
        instance_id=instance_id,
        coalesced=coalesced,
        conflict=earlier is None and others,
        destinations=destinations,
        file=file,
        data_set_offset=offset,
    )


def mark_flushed(conn: WritingConnection, instance_ids: Iterable[int]) -> None:
    """Note that these instances' files are on the disk. Needs no flush of its own: it rides with a later
    transaction.
    """
    conn.executemany("UPDATE instance SET flushed = 1 WHERE id = ?", [(instance_id,) for instance_id in instance_ids])


def drop_instance(conn: WritingConnection, file: str) -> bool:
    """Take back the instance in `file`, whose flush failed, with its sub-operations: it was never acknowledged (D9).

    Says whether there was one; a row that was given another file meanwhile stays.
    """
    row = conn.execute("SELECT id, sop_instance_uid, superseded FROM instance WHERE file = ?", (file,)).fetchone()
    if row is None:
        return False
    instance_id, uid, superseded = row
    conn.execute(
        "DELETE FROM attempt WHERE sub_operation_id IN (SELECT id FROM sub_operation WHERE instance_id = ?)",
        (instance_id,),
    )
    conn.execute("DELETE FROM sub_operation WHERE instance_id = ?", (instance_id,))
    conn.execute("DELETE FROM instance WHERE id = ?", (instance_id,))
    if not superseded:
        conn.execute(
            "UPDATE instance SET superseded = 0 WHERE id ="
            " (SELECT id FROM instance WHERE sop_instance_uid = ? ORDER BY arrival DESC LIMIT 1)",
            (uid,),
        )
    return True


def _same_content(conn: WritingConnection, instance: InstanceRow) -> tuple[tuple[int, str, int] | None, bool]:
    """Give row, file and offset of the same content, and whether there is anything else under this UID."""
    rows = conn.execute(_SAME_UID, (instance.declared.sop_instance_uid,)).fetchall()
    for number, file, offset, sha256, transfer_syntax_uid in rows:
        if sha256 == instance.data_set_sha256 and transfer_syntax_uid == instance.declared.transfer_syntax_uid:
            return (number, file, offset), len(rows) > 1
    return None, bool(rows)


def _next_arrival(conn: WritingConnection) -> int:
    memory = conn.memory
    if memory.arrival >= memory.arrival_reserved:
        memory.arrival_reserved = conn.execute(_ARRIVAL_RESERVE, (ARRIVALS_RESERVED,)).fetchall()[0][0]
        memory.arrival = memory.arrival_reserved - ARRIVALS_RESERVED
    memory.arrival += 1
    return memory.arrival


def _insert_instance(
    conn: WritingConnection, instance: InstanceRow, series_id: int | None, arrival: int, *, routed: bool
) -> int:
    declared, source = instance.declared, instance.source
    return row_id(
        conn.execute(
            _INSTANCE_INSERT,
            (
                series_id,
                declared.sop_instance_uid,
                declared.sop_class_uid,
                declared.transfer_syntax_uid,
                instance.instance_number,
                instance.number_of_frames,
                instance.rows,
                instance.columns,
                instance.bits_allocated,
                instance.file,
                instance.data_set_offset,
                instance.data_set_bytes,
                instance.data_set_sha256,
                source.protocol,
                source.calling_aet,
                source.called_aet,
                source.address,
                instance.received_at,
                arrival,
                routed,
                instance.note,
            ),
        ).lastrowid
    )


def _send(
    conn: WritingConnection, routes: Sequence[RouteRow], instance: InstanceRow, instance_id: int, *, repeat: bool
) -> tuple[str, ...]:
    """Make a sub-operation for each destination where this instance is not waiting already; give those destinations."""
    uid, now = instance.declared.sop_instance_uid, instance.received_at
    new = []
    for route in routes:
        if repeat and conn.execute(_STILL_REMAINING, (route.destination, uid, instance_id)).fetchone():
            continue
        request_id = _request_id(conn, route, instance)
        conn.execute(_SUB_OPERATION_INSERT, (request_id, instance_id, route.destination, uid, now, now))
        new.append(route.destination)
    return tuple(new)


def _request_id(conn: WritingConnection, route: RouteRow, instance: InstanceRow) -> int:
    known = conn.memory.requests.get(route.transaction_uid)
    if known is not None:
        return known
    found = conn.execute(_REQUEST_SELECT, (route.transaction_uid,)).fetchone()
    if found is not None:
        request_id: int = found[0]
    else:
        source = instance.source
        who = f"{source.calling_aet or source.protocol} at {source.address}"
        request_id = row_id(
            conn.execute(
                _REQUEST_INSERT, (route.transaction_uid, route.rule, route.destination, who, instance.received_at)
            ).lastrowid
        )
    remember(conn.memory.requests, route.transaction_uid, request_id)
    return request_id


def _vote(conn: WritingConnection, unit: QuietUnitRow, unit_id: int | None) -> None:
    if unit_id is None:
        return
    destinations = msgspec.json.encode(unit.destinations).decode()
    conn.execute(_QUIET_UNIT, (unit.rule, unit.level, unit_id, destinations, unit.matched, unit.vetoed, unit.due_at))
