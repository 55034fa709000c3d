"""How the router is, in three numbers that cost next to nothing: for `systemctl status`, again and again."""

from __future__ import annotations

import sqlite3

import msgspec

MOST_COUNTED = 100_000
"""Counting goes no further: 13 ms for both together, on two busy cores."""


class Glance(msgspec.Struct, frozen=True):
    """`waiting` and `parked` are counted up to MOST_COUNTED. `troubled`: destinations that are not ready, by name."""

    waiting: int
    failed: int
    troubled: dict[str, str]


def glance(conn: sqlite3.Connection) -> Glance:
    """Count what waits to be delivered and what has failed, by indexes that hold nothing else."""
    return Glance(
        waiting=_count(conn, "remaining"),
        failed=_count(conn, "failed"),
        troubled=dict(conn.execute("SELECT name, state FROM destination WHERE state <> 'ready' ORDER BY name")),
    )


def _count(conn: sqlite3.Connection, state: str) -> int:
    # left alone, SQLite goes through the index of jobs, which holds all that was ever delivered
    index = f"sub_operation_{state}"
    counted = f"SELECT 1 FROM sub_operation INDEXED BY {index} WHERE state = '{state}' LIMIT {MOST_COUNTED}"
    return int(conn.execute(f"SELECT count(*) FROM ({counted})").fetchone()[0])
