"""`sendrs peers`: who called and was turned away because nobody registered it, with the lines that let it in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

from router.cli.console import print_json, print_lines, print_table, show_time
from router.cli.exits import ExitCode
from router.cli.options import ConfigOption, JsonOption
from router.cli.reading import check_readable
from router.config.load import load_config
from router.config.model import Config
from router.control.client import ask
from router.control.language import ListPending, Pending, PendingCaller
from router.journal.lock import holder_of


def peers(config: ConfigOption, as_json: JsonOption = False) -> int:
    """List callers that were turned away because they are not registered.

    The running router remembers the last hundred. The lines below the list, pasted into router.toml, let them in.

    For example: sendrs peers
    """
    loaded = load_config(config)
    check_readable(loaded.state.path)
    if holder_of(loaded.state.path) is None:
        print("sendrs: the router is not running, and only a running one knows who called", file=sys.stderr)
        return ExitCode.FOUND_PROBLEMS
    callers = ask(loaded.state.path, ListPending(), Pending).peers
    if as_json:
        print_json(callers)
    else:
        _print(callers, loaded)
    return ExitCode.OK


def _print(callers: Sequence[PendingCaller], config: Config) -> None:
    if not callers:
        print_lines("Nobody was turned away since the router was started.")
        return
    columns = ("CALLING AE", "ADDRESS", "CALLS", "FIRST", "LAST")
    rows = ((c.calling_aet, c.address, c.attempts, show_time(c.first_seen), show_time(c.last_seen)) for c in callers)
    print_table(columns, rows)
    print_lines("", f"To let them in, add these lines to {config.file} and reload (systemctl reload sendrs):", "")
    names = set(config.peers)
    for caller in callers:
        print_lines(*_table(caller, names))
    if not config.peers:
        print_lines("With the first [peers.…] table, callers on this machine need one too.")


def _table(caller: PendingCaller, names: set[str]) -> tuple[str, ...]:
    """Write the table that registers a caller, under a name that is not among `names`, which it joins."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", caller.calling_aet.lower()).strip("-") or "peer"
    name, number = plain, 2
    while name in names:
        name, number = f"{plain}-{number}", number + 1
    names.add(name)
    title = json.dumps(caller.calling_aet)
    return f"[peers.{name}]", f"ae_title = {title}", f'address = "{caller.address}"', ""
