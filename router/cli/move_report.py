"""What `sendrs move` shows: how far the peer is, how it ended, and what did not arrive."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines
from router.cli.exits import ExitCode
from router.cli.nodes import Node
from router.delivery.query import MoveProgress
from router.dicom.query_retrieve import CANCELLED
from router.dicom.sub_operation_status import FAILURE, SUCCESS, WARNING

MAX_LISTED = 100
"""Failed instances that are listed; --json has them all."""
_DESTINATION_UNKNOWN = 0xA801
_CARRIED_OUT = frozenset({SUCCESS, WARNING, FAILURE, CANCELLED})


def exit_code(end: MoveProgress) -> ExitCode:
    """Say by the exit code how it ended."""
    if end.status == CANCELLED:
        return ExitCode.INTERRUPTED
    if end.status not in _CARRIED_OUT:
        return ExitCode.UNAVAILABLE
    if end.status == FAILURE or end.failed or _moved_nothing(end):
        return ExitCode.FOUND_PROBLEMS
    return ExitCode.OK


class MoveReport:
    """Shows one move. The bar is on stderr, in a terminal only; facts are on stdout."""

    def __init__(self, peer: Node, to: str, *, as_json: bool):
        self.to = to
        self.stopping = False
        self._peer, self._as_json = peer, as_json
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} done"),
            TextColumn("[red]{task.fields[failed]:,} failed[/]"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"moving to {to}", total=1, failed=0, visible=False)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def watch(self, now: MoveProgress) -> None:
        done = (now.completed or 0) + (now.failed or 0) + (now.warning or 0)
        self._bar.update(
            self._task,
            visible=True,
            total=max(done + (now.remaining or 0), 1),
            completed=done,
            failed=now.failed or 0,
        )

    def stop(self) -> None:
        """Say that the peer was asked to stop."""
        self.stopping = True
        print("sendrs: asked it to stop; once more does not wait for that", file=sys.stderr)

    def show(self, end: MoveProgress) -> None:
        """Say how it ended."""
        if self._as_json:
            print_json(_facts(self._peer, self.to, end))
            return
        if end.status not in _CARRIED_OUT:
            print(f"sendrs: {self._peer}: {end.words}", *self._advice(end.status), sep="\n    ", file=sys.stderr)
            return
        print_lines(_headline(end, self.to))
        if end.comment:
            print_lines(f"It says: {end.comment}")
        if end.failed_uids:
            print_lines("", "Failed SOP instances:", *end.failed_uids[:MAX_LISTED])
        if len(end.failed_uids) > MAX_LISTED:
            print_lines(f"... and {len(end.failed_uids) - MAX_LISTED:,} more; --json lists all")

    def _advice(self, status: int) -> list[str]:
        if status == _DESTINATION_UNKNOWN:
            return [f'register "{self.to}" there, with its address and port: it sends to AE titles that it knows']
        if 0xC000 <= status <= 0xCFFF:
            return [f'its log says why: does it know the AE title "{self.to}", and does it hold what was named?']
        return []


def _headline(end: MoveProgress, to: str) -> Text:
    if end.status == CANCELLED:
        return Text.assemble("Moved to ", to, ": ", (f"stopped: {_counts(end)}", "bold yellow"))
    if end.status == FAILURE or end.failed:
        return Text.assemble("Moved to ", to, ": ", (f"NOT all: {_counts(end)}", "bold red"))
    if _moved_nothing(end):
        return Text.assemble("Moved to ", to, ": ", ("nothing: nothing matched", "bold yellow"))
    return Text.assemble("Moved to ", to, ": ", (f"all: {_counts(end)}", "bold green"))


def _moved_nothing(end: MoveProgress) -> bool:
    """Say whether the peer told its counters and all are zero; one that tells none is believed its Success."""
    told = [count for count in (end.completed, end.warning, end.failed) if count is not None]
    return bool(told) and not any(told)


def _counts(end: MoveProgress) -> str:
    if end.completed is None and end.failed is None:
        return "it did not say how many"
    text = count_of((end.completed or 0) + (end.warning or 0), "instance", "instances")
    text += f" ({end.warning:,} with a warning)" if end.warning else ""
    text += f", {end.failed:,} failed" if end.failed else ""
    return text + (f", {end.remaining:,} left" if end.remaining else "")


def _facts(peer: Node, to: str, end: MoveProgress) -> dict[str, Any]:
    return {
        "node": peer.name,
        "destination": to,
        "status": f"{end.status:04X}H",
        "words": end.words,
        "moved": exit_code(end) is ExitCode.OK,
        "remaining": end.remaining,
        "completed": end.completed,
        "warning": end.warning,
        "failed": end.failed,
        "failed_uids": list(end.failed_uids),
    }
