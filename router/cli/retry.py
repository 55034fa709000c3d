"""`sendrs retry`: try again what is parked. A running router does it itself, for the journal has one writer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import anyio
import msgspec

from router.cli.console import count_of, print_json, print_lines
from router.cli.exits import ExitCode
from router.cli.logs import set_up_logging
from router.cli.options import ConfigOption, DestinationOption, JsonOption
from router.cli.reading import read_journal
from router.config.load import load_config
from router.config.locate import nearest
from router.config.model import Config
from router.control.client import ask
from router.control.language import Retried, Retry
from router.journal.journal import Journal
from router.journal.lock import holder_of
from router.journal.overview import destinations_with_parked
from router.sending.parked import RetryReport
from router.sending.parked import retry as retry_in


def retry(config: ConfigOption, destination: DestinationOption = None, as_json: JsonOption = False) -> int:
    """Try again what is parked.

    Mend what stood against it first: see sendrs parked. A router that is not running sends it after its next start.

    For example: sendrs retry --destination archive
    """
    loaded = load_config(config)
    parked = read_journal(loaded.state.path, destinations_with_parked)
    if destination is not None and destination not in {*parked, *loaded.destinations}:
        near = nearest(destination, sorted({*parked, *loaded.destinations}))
        hint = f'; did you mean "{near}"?' if near else " (see: sendrs status)"
        print(f"sendrs: there is no destination {destination!r}{hint}", file=sys.stderr)
        return ExitCode.FOUND_PROBLEMS
    state = loaded.state.path
    running = holder_of(state) is not None
    if running:
        report = ask(state, Retry(destination), Retried).report
    else:
        set_up_logging(msgspec.structs.replace(loaded.log, level="warning"))
        report = anyio.run(_do_it_here, state, destination)
    if as_json:
        print_json(report)
    else:
        _print(report, loaded, running)
    return ExitCode.OK


async def _do_it_here(state: Path, destination: str | None) -> RetryReport:
    """Raises StateInUse when a router was started meanwhile."""
    async with Journal.open(state) as journal:
        return await retry_in(journal, destination=destination, now=time.time())


def _print(report: RetryReport, config: Config, running: bool) -> None:
    if not report.retried and not report.overtaken:
        print_lines("Nothing is parked.")
        return
    if report.retried:
        print_lines(
            f"Due again: {count_of(report.retried, 'instance', 'instances')} to {', '.join(report.destinations)}."
        )
        if not running:
            print_lines("The router is not running: what is due goes out once it is started.")
    if report.overtaken:
        left = count_of(report.overtaken, "instance stays", "instances stay")
        print_lines(f"{left} parked: the same or a newer version went to the destination since.")
    for name in report.destinations:
        if name not in config.destinations:
            print_lines(f"{name} is no longer in the configuration: what goes there waits until it is.")
