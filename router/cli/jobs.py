"""`sendrs jobs`, `unrouted`, `parked`: the lists a person works through."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines, print_table, show_time
from router.cli.exits import ExitCode
from router.cli.options import ConfigOption, DestinationOption, JsonOption, LimitOption
from router.cli.reading import read_journal
from router.config.load import load_config
from router.config.model import Config, SendRsDestination
from router.dicom.uids import Uid
from router.journal import overview, requests
from router.journal.overview import ParkedInstance, UnroutedInstance
from router.journal.requests import RequestDetail, RequestSummary, SubOperationLine

_STATE_COLOURS = {"completed": "green", "warning": "yellow", "failed": "red"}
HTTP_STATUSES = (range(100, 261), range(300, 512))
"""Numbers that are HTTP statuses when a web server gave them; Failure Reasons are 0106H to 0124H and from A700H on."""


def jobs(
    config: ConfigOption,
    transaction_uid: Annotated[
        str | None, typer.Argument(metavar="TRANSACTION_UID", help="Show this job with each of its instances.")
    ] = None,
    destination: DestinationOption = None,
    limit: LimitOption = 30,
    as_json: JsonOption = False,
) -> int:
    """List send jobs, or show one in detail.

    The newest come first; one is shown with each of its instances and each attempt.

    For example: sendrs jobs --destination archive --limit 50
    """
    loaded = load_config(config)
    if transaction_uid is None:
        found = read_journal(
            loaded.state.path, lambda conn: requests.list_requests(conn, destination=destination, limit=limit)
        )
        if as_json:
            print_json(found)
        else:
            _print_jobs(found, limit)
        return ExitCode.OK
    detail = read_journal(
        loaded.state.path, lambda conn: requests.inspect_request(conn, Uid(transaction_uid), limit=limit)
    )
    if detail is None:
        print(f"sendrs: there is no job {transaction_uid!r} (see: sendrs jobs)", file=sys.stderr)
        return ExitCode.FOUND_PROBLEMS
    if as_json:
        print_json(detail)
    else:
        _print_job(detail, loaded)
    return ExitCode.OK


def unrouted(config: ConfigOption, limit: LimitOption = 100, as_json: JsonOption = False) -> int:
    """List the instances that no rule sent on.

    They are kept. The newest come first.

    For example: sendrs unrouted --json
    """
    loaded = load_config(config)
    found = read_journal(loaded.state.path, lambda conn: overview.unrouted(conn, limit=limit))
    if as_json:
        print_json(found)
        return ExitCode.OK
    if not found:
        print_lines("Every instance went somewhere: nothing is unrouted.")
        return ExitCode.OK
    columns = ("RECEIVED", "BY", "FROM", "ADDRESS", "SOP INSTANCE UID", "SOP CLASS UID", "NOTE…")
    print_table(columns, map(_unrouted_row, found))
    _say_if_cut(found, limit)
    return ExitCode.OK


def parked(
    config: ConfigOption,
    destination: DestinationOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> int:
    """List what could not be delivered, and why.

    It is kept and waits for a person. The newest come first.

    For example: sendrs parked --destination archive
    """
    loaded = load_config(config)
    found = read_journal(loaded.state.path, lambda conn: overview.parked(conn, destination=destination, limit=limit))
    if as_json:
        print_json(found)
        return ExitCode.OK
    if not found:
        print_lines("Nothing is parked.")
        return ExitCode.OK
    columns = ("PARKED", "DESTINATION", "SOP INSTANCE UID", "TRIES", "STATUS", "REASON…")
    print_table(columns, (_parked_row(row, loaded) for row in found))
    _say_if_cut(found, limit)
    print_lines("", "When the cause is mended: sendrs retry")
    return ExitCode.OK


def show_status_code(status: int | None, config: Config, destination: str) -> str:
    """Write a DIMSE status or Failure Reason as DICOM does (A700H), an HTTP status as "HTTP 503"."""
    if status is None:
        return ""
    known = config.destinations.get(destination)
    is_web = isinstance(known, SendRsDestination) or (known is not None and "stow-rs" in known.deliver)
    if is_web and any(status in codes for codes in HTTP_STATUSES):
        return f"HTTP {status}"
    return f"{status:04X}H"


def _print_jobs(found: Sequence[RequestSummary], limit: int) -> None:
    if not found:
        print_lines("There are no jobs yet.")
        return
    columns = (
        *("STARTED", "TRANSACTION UID", "DESTINATION", "LEFT", "DELIVERED", "WARNINGS", "FAILED"),
        *("ORIGIN", "RESOURCE", "RULE OR QUERY…", "FROM…"),
    )
    print_table(columns, map(_job_row, found))
    _say_if_cut(found, limit)


def _job_row(job: RequestSummary) -> list[object]:
    left = Text(f"{job.remaining:,}{'' if job.closed_at else '+'}", justify="right")
    return [
        show_time(job.created_at),
        job.transaction_uid,
        job.destination,
        left,
        job.completed,
        job.warning,
        Text(f"{job.failed:,}", style="red", justify="right") if job.failed else 0,
        job.origin,
        job.resource,
        job.rule or job.query,
        job.source,
    ]


def _print_job(detail: RequestDetail, config: Config) -> None:
    job = detail.summary
    total = job.remaining + job.completed + job.warning + job.failed
    state = "finished" if job.finished else ("sending" if job.closed_at else "open: more may be added")
    print_lines(
        f"Job          {job.transaction_uid}",
        f"Origin       {job.origin}",
        f"Resource     {job.resource}",
        f"Rule         {job.rule}" if job.origin == "rule" else f"Query        {job.query}",
        f"From         {job.source}",
        f"Destination  {job.destination}",
        f"Started      {show_time(job.created_at)}",
        f"State        {state}; {job.completed:,} delivered, {job.warning:,} with a warning, "
        f"{job.remaining:,} left, {job.failed:,} {'parked' if job.origin == 'rule' else 'failed'}",
        *([f"Problem      {job.problem}"] if job.problem else []),
        "",
    )
    columns = ("SOP INSTANCE UID", "STATE", "TRY", "AT", "STATUS", "ANSWER…")
    print_table(columns, [row for line in detail.sub_operations for row in _line_rows(line, config, job.destination)])
    if len(detail.sub_operations) < total:
        shown = count_of(len(detail.sub_operations), "instance", "instances")
        print_lines("", f"{shown} of {total:,} shown; --limit shows more.")


def _line_rows(line: SubOperationLine, config: Config, destination: str) -> list[list[object]]:
    """One row an attempt; the instance and its state stand in the first."""
    state: str = line.state
    if line.state == "remaining":
        state = "sending" if line.in_flight else ("waiting for commitment" if line.confirming else "waiting")
    first: list[object] = [line.sop_instance_uid, Text(state, style=_STATE_COLOURS.get(line.state, ""))]
    if not line.attempts:
        return [[*first, None, None, None, line.reason]]
    return [
        [
            *(first if number == 1 else ("", "")),
            number,
            show_time(attempt.started_at),
            show_status_code(attempt.status, config, destination),
            attempt.reason or attempt.outcome,
        ]
        for number, attempt in enumerate(line.attempts, start=1)
    ]


def _unrouted_row(row: UnroutedInstance) -> list[object]:
    moment = show_time(row.received_at)
    return [moment, row.protocol, row.calling_aet, row.address, row.sop_instance_uid, row.sop_class_uid, row.note]


def _parked_row(row: ParkedInstance, config: Config) -> list[object]:
    status = show_status_code(row.status, config, row.destination)
    return [show_time(row.ended_at), row.destination, row.sop_instance_uid, row.attempts, status, row.reason]


def _say_if_cut(found: Sequence[object], limit: int) -> None:
    if len(found) == limit:
        print_lines("", f"The newest {limit:,} are shown; --limit shows more.")
