"""What `sendrs send` shows: that the server answered, how far it is, and what was delivered. Two different things."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines
from router.dicom.uids import Uid
from router.dicomweb.send_answer import is_delivered
from router.dicomweb.send_client import Ask, End, How, SendTransaction
from router.dicomweb.send_question import SendQuestion, send_target
from router.dicomweb.send_response import SendResult

MAX_LISTED = 100
"""Failed instances that are listed; --json has them all."""


class Report:
    """Shows one request. The bar is on stderr, in a terminal only; facts are on stdout."""

    def __init__(self, server: str, question: SendQuestion, uid: Uid, *, as_json: bool):
        self.uid = uid
        self._server, self._question, self._as_json = server, question, as_json
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} done"),
            TextColumn("[green]{task.fields[delivered]:,} delivered[/]  [red]{task.fields[failed]:,} failed[/]"),
            TextColumn("{task.fields[next]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("sending", total=1, delivered=0, failed=0, next="", visible=False)
        self._told = False

    def __enter__(self) -> Self:
        if not self._as_json:
            target = unquote(send_target(self._question, self.uid).partition("&")[2])
            what = self._question.resource + (f"?{target}" if target else "")
            print_lines(
                f"Request    {self.uid}",
                f"Server     {self._server}",
                f"Sends      {what}",
                f"To         {self._question.destination}",
            )
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def watch(self, transaction: SendTransaction, ask: Ask) -> None:
        """Show how far it is, and when the server is asked again."""
        if transaction.uid != self.uid:
            self.uid = transaction.uid
            self._say(f"Request    {self.uid} (the UID before it is in use by another request)")
        result = transaction.result
        if transaction.taken and not self._told:
            self._told = True
            self._say(f"Answered   the server took it{_to_go(result)}; that is not a delivery yet")
        self._bar.update(self._task, next=f"asked again in {ask.after_s:.0f} s" if ask.after_s >= 2 else "")
        if result is not None:
            done = result.completed + result.warning + result.failed
            self._bar.update(
                self._task,
                visible=True,
                total=max(done + (result.remaining or 0), 1),
                completed=done,
                delivered=result.completed + result.warning,
                failed=result.failed,
            )

    def interrupted(self) -> None:
        """Say what an interruption does not end."""
        print(f"sendrs: what the server took goes on there; --uid {self.uid} looks again", file=sys.stderr)

    def show(self, end: End, *, followed: bool) -> None:
        """Say how it ended."""
        self.uid = end.transaction_uid
        if self._as_json:
            print_json(_facts(self._server, self._question, end))
            return
        if end.joined:
            print_lines("Note       this Transaction UID was in use already: this is what became of that request")
        match end.how:
            case How.ANSWERED if end.result is not None:
                _show_result(end.result, end.words)
            case How.UNFINISHED if not followed:
                print_lines(f"Delivered  not known yet: the same command with --uid {self.uid} looks again")
            case _:
                self._show_trouble(end)

    def _show_trouble(self, end: End) -> None:
        lines = [f"sendrs: {end.words}"]
        match end.how:
            case How.UNFINISHED:
                if end.result is not None:
                    lines.append(f"    last seen: {_counts(end.result)}")
                lines.append(f"    sending goes on at the server; the same command with --uid {self.uid} looks again")
            case How.FORGOTTEN:
                lines.append("    the server took the request and no longer knows it: ask again, with a new UID")
            case How.NO_ANSWER if end.taken is None:
                lines.append(f"    the server may have taken it; the same command with --uid {self.uid} looks again")
            case How.REFUSED if end.status == 409:
                lines.append("    choose another --uid, or leave it out")
            case _:
                lines.append("    nothing was sent")
        print("\n".join(lines), file=sys.stderr)

    def _say(self, line: str) -> None:
        if not self._as_json:
            print_lines(line)


def _show_result(result: SendResult, words: str) -> None:
    print_lines(f"Answered   {words}")
    if is_delivered(result):
        print_lines(Text.assemble("Delivered  ", (f"all: {_counts(result)}", "bold green")))
        return
    if not (result.completed or result.warning or result.failed or result.remaining):
        print_lines(Text.assemble("Delivered  ", ("nothing: nothing matched", "bold yellow")))
        return
    print_lines(Text.assemble("Delivered  ", (f"NOT all: {_counts(result)}", "bold red")))
    if result.failed_uids:
        print_lines("", "Failed SOP instances:", *result.failed_uids[:MAX_LISTED])
    if len(result.failed_uids) > MAX_LISTED:
        print_lines(f"... and {len(result.failed_uids) - MAX_LISTED:,} more; --json lists all")


def _counts(result: SendResult) -> str:
    delivered = result.completed + result.warning
    text = f"{count_of(delivered, 'instance', 'instances')} delivered"
    text += f" ({result.warning:,} with a warning)" if result.warning else ""
    text += f", {result.failed:,} failed" if result.failed else ""
    return text + (f", {result.remaining:,} left" if result.remaining else "")


def _to_go(result: SendResult | None) -> str:
    return f", {count_of(result.remaining, 'instance', 'instances')} to send" if result and result.remaining else ""


def _facts(server: str, question: SendQuestion, end: End) -> dict[str, Any]:
    result = end.result
    return {
        "transaction_uid": end.transaction_uid,
        "server": server,
        "resource": question.resource,
        "destination": question.destination,
        "ended": end.how.value,
        "taken": end.taken,
        "delivered": end.how is How.ANSWERED and result is not None and is_delivered(result),
        "joined": end.joined,
        "words": end.words,
        "http_status": end.status,
        "status": None if result is None else f"{result.status:04X}H",
        "remaining": None if result is None else result.remaining or 0,
        "completed": None if result is None else result.completed,
        "warning": None if result is None else result.warning,
        "failed": None if result is None else result.failed,
        "failed_uids": [] if result is None else list(result.failed_uids),
    }
