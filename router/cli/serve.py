"""`sendrs serve`: check everything that can be checked, then hand over to `router.app`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Final

import anyio

from router.app import run
from router.cli.addresses import check_addresses
from router.cli.logs import set_up_logging
from router.cli.options import ConfigOption
from router.config.load import load_config
from router.config.state_folder import check_state_folder
from router.errors import ConfigErrors
from router.journal.lock import StateInUse, holder_of

SWITCH_S: Final = 0.0001
"""How long the event loop waits for the interpreter while a thread of the journal or the store is in a run of short
system calls, which it gives up and takes back too fast for the loop to come in between. Python's own 5 ms stand between
two instances on the wire: 3,200 a second instead of 3,700, measured in turn.
"""


def serve(config: ConfigOption) -> int:
    """Run the router.

    SIGTERM or Ctrl-C ends it, SIGHUP makes it read rules and destinations again.

    For example: sendrs serve --config /etc/sendrs/router.toml
    """
    loaded = load_config(config)
    set_up_logging(loaded.log)
    holder = holder_of(loaded.state.path)
    if holder is not None:
        raise StateInUse(loaded.state.path, holder or None)
    problems = check_state_folder(loaded) + check_addresses(loaded)
    if problems:
        raise ConfigErrors(problems)
    sys.setswitchinterval(SWITCH_S)
    return anyio.run(partial(run, loaded, reload=lambda: load_config(config)), backend="asyncio")
