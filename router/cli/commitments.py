"""`sendrs commitments`: who asked for storage commitment, what became of it, and who could not be told."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from router.cli.console import print_json, print_lines, print_table, show_time
from router.cli.exits import ExitCode
from router.cli.options import ConfigOption, JsonOption, LimitOption
from router.cli.reading import read_journal
from router.config.load import load_config
from router.journal import commitment_reports
from router.journal.commitment_reports import CommitmentSummary

_COLUMNS = (
    *("ASKED", "TRANSACTION UID", "BY", "OVER", "STATE", "LEFT", "COMMITTED", "FAILED"),
    *("UPSTREAM", "NOTE…"),
)
_COLOURS = {"reported": "green", "ready": "green", "to report": "yellow", "not reported": "red"}


def commitments(
    config: ConfigOption,
    unfinished: Annotated[
        bool, typer.Option("--open", help="Only those that are not decided, or not reported yet.")
    ] = False,
    limit: LimitOption = 30,
    as_json: JsonOption = False,
) -> int:
    """List requests for storage commitment.

    With what waits to be reported to who asked, and why it could not be. The newest come first.

    For example: sendrs commitments --open
    """
    loaded = load_config(config)
    found = read_journal(
        loaded.state.path, lambda conn: commitment_reports.summaries(conn, unfinished=unfinished, limit=limit)
    )
    if as_json:
        print_json(found)
        return ExitCode.OK
    if not found:
        print_lines("Nothing is open." if unfinished else "Nobody has asked for storage commitment yet.")
        return ExitCode.OK
    print_table(_COLUMNS, map(_row, found))
    if len(found) == limit:
        print_lines("", f"The newest {limit:,} are shown; --limit shows more.")
    return ExitCode.OK


def _row(one: CommitmentSummary) -> list[object]:
    state = _state(one)
    return [
        show_time(one.created_at),
        one.transaction_uid,
        one.requester,
        one.origin,
        Text(state, style=_COLOURS.get(state, "")),
        one.open,
        one.committed,
        Text(f"{one.failed:,}", style="red", justify="right") if one.failed else 0,
        one.proxy or one.waits_for,
        one.problem,
    ]


def _state(one: CommitmentSummary) -> str:
    if one.ready_at is None:
        return "open"
    if one.origin == "web":
        return "ready"
    if one.reported_at is not None:
        return "reported"
    return "to report" if one.report_due_at is not None else "not reported"
