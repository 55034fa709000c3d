"""What the sweep at start and `sendrs verify` ask the journal about files, and what they write back (D8, D10).

All queries go shard by shard, in the order of the index on `file`, so that none holds much or takes long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from router.journal import proxied, sub_operations

CONTENT_MISSING: Final = "content missing"
"""Reason of the sub-operations, and note of the row, when a file was lost after it was acknowledged."""


class FileRow(msgspec.Struct, frozen=True):
    """What a row says of its file. `known_lost`: it was found missing before, and the alarm was raised."""

    instance_id: int
    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes
    flushed: bool
    known_lost: bool


def next_shard(conn: sqlite3.Connection, after: str = "") -> str | None:
    """Name the first shard behind `after` that any row points into; None when there is none."""
    beyond = f"{after}0" if after else ""  # "0" is the character behind "/"
    row = conn.execute("SELECT file FROM instance WHERE file >= ? ORDER BY file LIMIT 1", (beyond,)).fetchone()
    return None if row is None else row[0].partition("/")[0]


def rows_in_shard(conn: sqlite3.Connection, shard: str) -> list[FileRow]:
    """List the rows whose files are in one shard, by file."""
    rows = conn.execute(
        "SELECT id, file, data_set_offset, data_set_bytes, data_set_sha256, flushed, note"
        " FROM instance WHERE file >= ? AND file < ? ORDER BY file",
        (f"{shard}/", f"{shard}0"),
    )
    return [
        FileRow(row_id, file, offset, size, sha256, bool(flushed), note.startswith(CONTENT_MISSING))
        for row_id, file, offset, size, sha256, flushed, note in rows
    ]


def has_file(conn: sqlite3.Connection, file: str) -> bool:
    """Say whether any row points to `file`."""
    return conn.execute("SELECT 1 FROM instance WHERE file = ?", (file,)).fetchone() is not None


def mark_lost(conn: sqlite3.Connection, instance_ids: Iterable[int], *, now: float) -> None:
    """Park what was still to be sent of instances whose content is gone, and note it on their rows.

    What a destination has, and is only to commit to, is left alone.
    """
    ids = [(instance_id,) for instance_id in instance_ids]
    conn.executemany(
        f"UPDATE sub_operation SET state = 'failed', in_flight = 0, ended_at = {now!r}, reason = '{CONTENT_MISSING}'"
        " WHERE instance_id = ? AND state = 'remaining' AND confirming = ''",
        ids,
    )
    conn.executemany(f"UPDATE instance SET note = '{CONTENT_MISSING}; ' || note WHERE id = ?", ids)


def take_back_in_flight(conn: sqlite3.Connection, *, now: float, longest_wait_s: float) -> int:
    """Take back what a dead process had in flight, for every destination, also those no longer configured."""
    names = [row[0] for row in conn.execute("SELECT DISTINCT destination FROM sub_operation WHERE state = 'remaining'")]
    ours = sum(sub_operations.recover(conn, name, now=now, longest_wait_s=longest_wait_s) for name in names)
    return ours + proxied.take_back(conn)
