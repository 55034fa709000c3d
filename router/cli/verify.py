"""`sendrs verify`: prove that store and journal agree, and say what does not. Changes nothing."""

from __future__ import annotations

from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Console
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines, print_table, show_bytes
from router.cli.exits import ExitCode
from router.cli.options import ConfigOption, JsonOption
from router.cli.reading import check_readable
from router.config.load import load_config
from router.ingest.verify import VerifyReport
from router.ingest.verify import verify as compare


def verify(
    config: ConfigOption,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare names and sizes only, do not read every file.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Prove that store and journal agree.

    Each row has its file, each file its row, each hash is right. Runs beside a running router too. Exit code 1 when
    something does not agree.

    For example: sendrs verify --quick
    """
    loaded = load_config(config)
    state = loaded.state.path
    check_readable(state)
    with Console(stderr=True).status("verifying ...") as spinner:

        def progress(report: VerifyReport) -> None:
            spinner.update(f"verifying: {count_of(report.files, 'file', 'files')}, {show_bytes(report.bytes)} read ...")

        report = anyio.run(lambda: compare(state, hashes=not quick, progress=progress))
    if as_json:
        print_json(msgspec.structs.asdict(report) | {"agrees": report.agrees})
    else:
        _print(report, quick=quick)
    return ExitCode.OK if report.agrees else ExitCode.FOUND_PROBLEMS


def _print(report: VerifyReport, *, quick: bool) -> None:
    if report.differences:
        print_table(("FILE", "PROBLEM…"), ((each.file, each.problem) for each in report.differences))
        if report.different > len(report.differences):
            print_lines(f"... and {report.different - len(report.differences):,} more")
        print_lines("")
    rows, files = count_of(report.rows, "journal row", "journal rows"), count_of(report.files, "file", "files")
    looked = f"{rows} and {files} compared" + ("" if quick else f", {show_bytes(report.bytes)} read and hashed")
    if report.in_hand:
        looked += f", {report.in_hand:,} being received or made ahead"
    if report.foreign:
        looked += f", {report.foreign:,} foreign left alone"
    print_lines(looked)
    if report.agrees:
        print_lines(Text("Store and journal agree.", style="bold green"))
        return
    found = count_of(report.different, "difference", "differences")
    print_lines(
        Text(f"{found}: restart the router, it mends what can be mended; see docs/operating.md.", style="bold red")
    )
