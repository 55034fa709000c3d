"""What `sendrs store` shows: how far it is, and which files the peer did not take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines
from router.cli.nodes import Node
from router.dicom import sop_classes, transfer_syntax
from router.dicom.status import Verdict
from router.sending.courier import Outcome

MAX_LISTED = 100
"""Failures that are listed; --json has them all."""


class StoreReport:
    """Counts, and shows how far it is. The bar is on stderr, in a terminal only; facts are on stdout."""

    def __init__(self, peer: Node, *, as_json: bool):
        self._peer, self._as_json = peer, as_json
        self._files = self._stored = self._left_out = 0
        self._warnings: list[tuple[str, str]] = []
        self._failures: list[tuple[str, str]] = []
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} files"),
            TextColumn("[red]{task.fields[failed]:,} failed[/]"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("storing", total=1, failed=0)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def all_well(self) -> bool:
        """The peer has every file that was to be sent, and there was one."""
        return not self._failures and self._stored > 0

    def count(self, files: int) -> None:
        self._files = files
        self._bar.update(self._task, total=max(files, 1))

    def leave_out(self, path: Path, reason: str, *, named: bool) -> None:
        """Note a file that is not sent; one that was named itself is a failure."""
        if named:
            self._failures.append((str(path), reason))
        else:
            self._left_out += 1
        self._advance()

    async def take(self, outcome: Outcome) -> None:
        """Note what became of a file."""
        file = outcome.delivery.file
        if outcome.verdict in (Verdict.COMPLETED, Verdict.WARNING):
            self._stored += 1
            if outcome.verdict is Verdict.WARNING:
                self._warnings.append((file, _words(outcome)))
        else:
            self._failures.append((file, _words(outcome)))
        self._advance()

    def show(self) -> None:
        """Say what the peer has now."""
        if self._as_json:
            print_json(self._facts())
            return
        print_lines(Text.assemble(f"Stored at {self._peer}: ", self._headline()))
        if self._left_out:
            print_lines(
                f"Left out: {count_of(self._left_out, 'file that is', 'files that are')} not DICOM, or a DICOMDIR"
            )
        _show("With a warning:", self._warnings)
        _show("Failed:", self._failures)

    def _headline(self) -> tuple[str, str]:
        unsent = self._unsent()
        text = count_of(self._stored, "instance", "instances")
        text += f" ({len(self._warnings):,} with a warning)" if self._warnings else ""
        text += f", {len(self._failures):,} failed" if self._failures else ""
        text += f", {unsent:,} not tried" if unsent else ""
        if self._failures or unsent:
            return f"NOT all: {text}", "bold red"
        return (f"all: {text}", "bold green") if self._stored else ("nothing: no DICOM file is there", "bold yellow")

    def _unsent(self) -> int:
        return self._files - self._stored - len(self._failures) - self._left_out

    def _advance(self) -> None:
        self._bar.update(self._task, advance=1, failed=len(self._failures))

    def _facts(self) -> dict[str, Any]:
        return {
            "node": self._peer.name,
            "files": self._files,
            "stored": self._stored,
            "left_out": self._left_out,
            "not_tried": self._unsent(),
            "warnings": [{"file": file, "reason": reason} for file, reason in self._warnings],
            "failed": [{"file": file, "reason": reason} for file, reason in self._failures],
        }


def _show(heading: str, rows: Sequence[tuple[str, str]]) -> None:
    """List files under each reason."""
    if not rows:
        return
    print_lines("", heading)
    shown = sorted(rows[:MAX_LISTED], key=lambda row: row[1])
    for reason, group in groupby(shown, key=lambda row: row[1]):
        print_lines(f"  {reason}", *(f"    {file}" for file, _ in group))
    if len(rows) > MAX_LISTED:
        print_lines(f"... and {len(rows) - MAX_LISTED:,} more; --json lists all")


def _words(outcome: Outcome) -> str:
    """Say why in names instead of UIDs."""
    declared = outcome.delivery.declared
    text = outcome.reason.replace(declared.transfer_syntax_uid, transfer_syntax.name_of(declared.transfer_syntax_uid))
    return text.replace(declared.sop_class_uid, sop_classes.name_of(declared.sop_class_uid))
