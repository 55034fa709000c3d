"""`sendrs check`: everything that can be found wrong without starting, in one list; or what the configuration says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from rich.text import Text

from router.cli.console import count_of, print_lines, show_bytes
from router.cli.exits import ExitCode, show_config_error
from router.cli.options import ConfigOption
from router.config.load import load_config
from router.config.model import Config, DimseDestination, SendRsDestination
from router.config.state_folder import check_state_folder, filesystem_of
from router.errors import ConfigError, ConfigErrors
from router.rules import RuleBook, load_rules


def check(config: ConfigOption) -> int:
    """Check configuration, rules and state folder.

    Starts and changes nothing.
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
    for warning in book.warnings:
        print_lines(Text.assemble(("! ", "bold yellow"), str(warning)))
    return ExitCode.OK


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


def _destinations(config: Config) -> Iterator[str]:
    for name, destination in config.destinations.items():
        match destination:
            case DimseDestination(ae_title=title, host=host, port=port):
                yield f"{name} ({title} at {_address(host, port)})"
            case SendRsDestination(url=url, target=target):
                yield f"{name} ({url}, which sends to {target})"
            case _:
                yield f"{name} ({destination.url})"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tick() -> str:
    return "✓" if (sys.stdout.encoding or "").lower().startswith("utf") else "ok"
