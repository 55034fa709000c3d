"""`sendrs check`: everything that can be found wrong without starting, in one list; or what the configuration says, and
whether each destination is there.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from router.cli.console import count_of, print_lines, show_bytes
from router.cli.exits import ExitCode, show_config_error
from router.cli.options import ConfigOption
from router.cli.reach import ask_all
from router.config.load import load_config
from router.config.model import (
    Config,
    DimseDestination,
    DimseUpstream,
    SendRsDestination,
    StowDestination,
    WebUpstream,
)
from router.config.state_folder import check_state_folder, filesystem_of
from router.config.titles import shared_titles
from router.errors import ConfigError, ConfigErrors
from router.rules import RuleBook, load_rules


def check(
    config: ConfigOption,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no destination whether it is there.")] = False,
) -> int:
    """Check configuration, rules, state folder and destinations.

    Starts and changes nothing. Asks each destination and upstream whether it is there and wants us: C-ECHO, or OPTIONS
    and a question. For example: sendrs check --config router.toml. Exit code 0: all is well. 1: a destination is away
    or refuses us. 78: the configuration is wrong.
    """
    problems: list[ConfigError] = []
    book = None
    try:
        loaded = load_config(config)
    except ConfigErrors as errors:
        return _complain(errors.errors, "the rules are checked once these are mended")
    try:
        book = load_rules(loaded.rules.path, loaded.destinations)
    except ConfigErrors as errors:
        problems += errors.errors
    problems += check_state_folder(loaded)
    if problems or book is None:
        return _complain(problems)
    for name, text in _summary(loaded, book):
        print_lines(Text.assemble((_tick(), "bold green"), f" {name:<14}{text}"))
    for warning in (*map(str, book.warnings), *_notes(loaded)):
        print_lines(Text.assemble(("! ", "bold yellow"), warning))
    return ExitCode.OK if offline else _ask_destinations(loaded)


def _ask_destinations(config: Config) -> int:
    answers = ask_all(config)
    for one in answers:
        if one.problem:
            print_lines(Text.assemble(("! ", "bold yellow"), f"{one.name:<14}{one.where}: {one.problem}"))
            print_lines(f"    {one.advice}")
        else:
            print_lines(Text.assemble((_tick(), "bold green"), f" {one.name:<14}{one.where} {one.answer}"))
    return ExitCode.FOUND_PROBLEMS if any(one.problem for one in answers) else ExitCode.OK


def _complain(problems: tuple[ConfigError, ...] | list[ConfigError], note: str = "") -> int:
    for problem in problems:
        print(show_config_error(problem), file=sys.stderr)
    found = count_of(len(problems), "problem", "problems")
    print(f"{found}; {note}" if note else found, file=sys.stderr)
    return ExitCode.CONFIG


def _summary(config: Config, book: RuleBook) -> Iterator[tuple[str, str]]:
    dicom, http = config.dicom, config.http
    yield "configuration", str(config.file)
    yield "DICOM", f"{dicom.ae_title} on {_address(dicom.listen.host, dicom.listen.port)}"
    yield "web", f"http://{_address(http.listen.host, http.listen.port)}{http.base_path}/studies"
    callers = [f"{peer.ae_title} from {peer.address}" for peer in config.peers.values()]
    yield "callers", ", ".join(callers) or "programs on this machine only (no [peers] are listed)"
    yield "destinations", ", ".join(_destinations(config)) or "none: what arrives is kept and goes nowhere"
    if config.proxies:
        yield "proxies", ", ".join(_proxies(config))
    files = len({rule.file for rule in book.rules})
    yield (
        "rules",
        f"{count_of(len(book.rules), 'rule', 'rules')} in {count_of(files, 'file', 'files')} of {config.rules.path}",
    )
    state = config.state.path
    existing = next(parent for parent in (state, *state.parents) if parent.exists())
    free = show_bytes(shutil.disk_usage(existing).free)
    new = "" if existing == state else ", will be made"
    yield "state folder", f"{state} on {filesystem_of(existing) or 'an unknown filesystem'}, {free} free{new}"


def _notes(config: Config) -> Iterator[str]:
    """What is not wrong, but may not be meant."""
    for title, name, owner in shared_titles(config.destinations):
        yield f"[destinations.{name}] has the AE title {title}, by which C-MOVE means [destinations.{owner}]"


def _destinations(config: Config) -> Iterator[str]:
    for name, destination in config.destinations.items():
        match destination:
            case DimseDestination(ae_title=title, host=host, port=port):
                where = f"{title} at {_address(host, port)}"
                yield f"{name} ({where}{_second_way(destination)})"
            case SendRsDestination(url=url, target=target):
                yield f"{name} ({url}, which sends to {target})"
            case _:
                yield f"{name} ({destination.url}{_second_way(destination)})"


def _second_way(destination: DimseDestination | StowDestination) -> str:
    deliver = destination.deliver
    return f", by {', then '.join(deliver)}" if len(deliver) > 1 else ""


def _proxies(config: Config) -> Iterator[str]:
    for name, proxy in config.proxies.items():
        match proxy.upstream:
            case DimseUpstream(ae_title=title, host=host, port=port):
                yield f"{name} ({proxy.base_path} is {title} at {_address(host, port)})"
            case WebUpstream(url=url):
                yield f"{name} ({proxy.ae_title} is {url})"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tick() -> str:
    return "✓" if (sys.stdout.encoding or "").lower().startswith("utf") else "ok"
