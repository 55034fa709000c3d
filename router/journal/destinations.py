"""What a lane last knew of its destination, kept for people: `overview.destinations` shows it."""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

LaneState = Literal["ready", "waiting", "misconfigured"]


class DestinationState(msgspec.Struct, frozen=True):
    """`since` and `retry_at` are Unix seconds; `retry_at` is None while the lane is ready."""

    name: str
    state: LaneState
    reason: str
    since: float
    retry_at: float | None = None


def save(conn: sqlite3.Connection, state: DestinationState) -> None:
    """Write the state of a destination. `since` stays what it was while the state is the same."""
    conn.execute(
        "INSERT INTO destination (name, state, reason, since, retry_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, retry_at = excluded.retry_at,"
        " since = iif(state = excluded.state, since, excluded.since), state = excluded.state",
        (state.name, state.state, state.reason, state.since, state.retry_at),
    )
