"""The only place where the parts meet: one task group, two fronts, one core, the lanes; and what SIGTERM and SIGHUP do.

Start: lock the state folder, open the journal, sweep, then listen. Stop: stop listening, let the instance in hand finish,
drain the lanes, close the journal (D15). Nothing depends on the stop for correctness.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable

import anyio
import anyio.abc
import hypercorn.asyncio
import hypercorn.config
import structlog
from starlette.types import ASGIApp

from router.config.model import Config, Destination, DimseDestination, Listen, StowDestination
from router.delivery.cstore import CStoreCourier
from router.delivery.stow import StowCourier
from router.errors import ConfigErrors
from router.ingest.sweep import sweep
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.rules import RuleBook, load_rules
from router.scp.server import StorageScp
from router.sending.courier import Courier
from router.sending.lanes import Lanes
from router.sending.quiet import QuietWatch
from router.store.files import Store
from router.web.app import make_app

log = structlog.get_logger()

DRAIN_S = 20.0
"""How long a stop waits for the instances in hand; what is left is sent after the next start."""


async def run(config: Config, *, reload: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; gives the exit code.

    `reload` reads the configuration file again on SIGHUP and raises ConfigErrors when it is not usable: nothing changes then.
    """
    return await Daemon(config, reload).run()
