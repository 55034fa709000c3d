"""The only place where the parts meet: two fronts, one core, the lanes; and what SIGTERM and SIGHUP do.

Start: lock the state folder, open journal and store, sweep, then listen. Stop: stop listening, let the instances in
hand finish, drain the lanes, close the journal (D15). Nothing depends on the stop for correctness.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing

import anyio
import structlog

from router.commitment.confirming import Confirmations
from router.commitment.desk import CommitmentDesk
from router.commitment.language import Asker
from router.config.model import Config, Destination
from router.control.language import socket_of
from router.control.server import serve_control
from router.delivery.commitment_askers import asker_named, asker_of
from router.delivery.commitment_report import ReportCourier
from router.delivery.mechanisms import courier_for
from router.delivery.proxy_upstreams import proxied_sends
from router.errors import ConfigErrors
from router.fronts import Core, dimse_services, web_app
from router.http_server import serve_http
from router.ingest.sweep import sweep
from router.ingest.visit import Ingest
from router.journal.glance import MOST_COUNTED, glance
from router.journal.journal import Journal
from router.net.callers import Callers
from router.rules import RuleBook, load_rules
from router.scp.server import StorageScp
from router.search import Index
from router.search.non_patient import NonPatientIndex
from router.sending import expiry, quiet
from router.sending.clock import WallClock
from router.sending.lanes import Lanes
from router.sending.requests import SendRequests
from router.sending.retry import instance_retry_at
from router.service_manager import ServiceManager, extend_start, keep_alive
from router.store.files import Store

log = structlog.get_logger()

DRAIN_S = 20.0
"""How long a stop waits for the instances in hand, coming in and going out; the rest is sent after the next start."""


async def run(config: Config, *, reload: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; gives the exit code.

    `reload` reads the configuration file again on SIGHUP; when it raises ConfigErrors, nothing changes. Raises
    ConfigErrors for unusable rules, StorageError when journal or store gave up, OSError when it cannot listen.
    """
    book = _load_book(config)
    with closing(ServiceManager.from_environment()) as manager:
        manager.starting("opens the journal")
        async with anyio.create_task_group() as telling:
            telling.start_soon(extend_start, manager)
            async with Journal.open(config.state.path) as journal, Store.open(config.state.path) as store:
                await _Daemon(config, book, journal, store, reload, manager).run()
            telling.cancel_scope.cancel()
    log.info("stopped")
    return 0


class _Daemon:
    def __init__(
        self,
        config: Config,
        book: RuleBook,
        journal: Journal,
        store: Store,
        reload: Callable[[], Config],
        manager: ServiceManager,
    ) -> None:
        self._config, self._book, self._reload = config, book, reload
        self._manager, self._not_reloaded = manager, False
        self._journal, self._store = journal, store
        self._lanes = Lanes(
            config, journal, lambda destination, now: courier_for(destination, now.dicom.ae_title, store)
        )
        self._ingest = Ingest(store, journal, lambda: self._book, config, wake=self._lanes.wake)
        self._confirmations = Confirmations(
            journal,
            lambda: self._config,
            self._asker_for,
            retry_at=instance_retry_at,
            wake=self._lanes.wake,
            clock=WallClock(),
        )
        self._desk = CommitmentDesk(
            journal,
            store,
            lambda: self._config,
            askers=lambda name: asker_named(self._config, name),
            bring=ReportCourier(lambda: self._config.destinations),
            confirmations=self._confirmations.reported,
            clock=WallClock(),
        )
        self._proxied = proxied_sends(journal, lambda: self._config, clock=WallClock())
        self._callers = Callers(config.peers)
        self._core = Core(
            journal=journal,
            store=store,
            index=Index(journal, store),
            non_patient=NonPatientIndex(journal, store),
            ingest=self._ingest,
            requests=SendRequests(
                journal, self._lanes.wake, lambda: self._config, hurry=self._lanes.hurry, let_go=self._lanes.let_go
            ),
            proxied=self._proxied,
            desk=self._desk,
            config=lambda: self._config,
            callers=lambda: self._callers,
        )
        self._scp = StorageScp(config.dicom, config.peers, self._ingest, dimse_services(self._core, config))
        self._app = web_app(self._core, config)
        self._http_stop = anyio.Event()

    async def run(self) -> None:
        """Sweep, serve, stop."""
        began = time.monotonic()
        self._manager.starting("brings store and journal into agreement")
        report = await sweep(self._store, self._journal, self._ingest)
        log.info("swept", seconds=round(time.monotonic() - began, 3), **report.counts())
        async with anyio.create_task_group() as parts:
            parts.start_soon(self._journal.watch)
            control = socket_of(self._config.state.path)
            await parts.start(serve_control, control, self._journal, self._lanes.wake, self._scp.pending_peers)
            await parts.start(self._lanes.run)
            async with anyio.create_task_group() as fronts:
                dicom = await fronts.start(self._scp.run)
                http = await fronts.start(serve_http, self._app, self._config.http.listen, self._http_stop)
                parts.start_soon(self._watch_quiet)
                parts.start_soon(self._desk.watch)
                parts.start_soon(self._confirmations.watch)
                parts.start_soon(self._watch_requests)
                parts.start_soon(self._proxied.run)
                log.info(
                    "ready",
                    ae_title=self._config.dicom.ae_title,
                    dicom=f"{dicom.host}:{dicom.port}",
                    http=f"http://{http.host}:{http.port}{self._config.http.base_path}",
                    destinations=len(self._config.destinations),
                    rules=len(self._book.rules),
                )
                self._manager.ready(f"serves {dicom.host}:{dicom.port}")
                parts.start_soon(keep_alive, self._manager, self._glance)
                await self._obey_signals()
                self._manager.stopping()
                self._stop_fronts(fronts.cancel_scope)
            await self._lanes.drain(DRAIN_S)
            parts.cancel_scope.cancel()

    def _asker_for(self, destination: Destination) -> Asker:
        asker = asker_of(destination, self._config.dicom.ae_title)
        assert asker is not None, "only destinations that can be asked have the key confirm"
        return asker

    async def _watch_quiet(self) -> None:
        await quiet.watch(self._journal, self._lanes.wake, clock=WallClock())

    async def _watch_requests(self) -> None:
        await expiry.watch(self._journal, lambda: self._config, clock=WallClock())

    async def _obey_signals(self) -> None:
        """Return when the process is told to stop."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            async for number in received:
                if number != signal.SIGHUP:
                    log.info("stopping", signal=number.name)
                    return
                self._manager.reloading()
                await self._take_new_configuration()
                self._manager.ready("new configuration not taken over" if self._not_reloaded else "reloaded")

    async def _glance(self) -> str:
        """Say in a line how we are; that the journal can be read, too. Raises StorageError."""
        seen = await self._journal.read(glance)
        destinations = len(self._config.destinations)
        parts = [f"{destinations} destination{'s' * (destinations != 1)}", f"waiting: {_counted(seen.waiting)}"]
        parts += [f"failed or parked: {_counted(seen.failed)}"] if seen.failed else []
        parts += [f"{name} is {state}" for name, state in seen.troubled.items() if name in self._config.destinations]
        parts += ["the last reload failed, the log says why"] if self._not_reloaded else []
        return ", ".join(parts)

    def _stop_fronts(self, fronts: anyio.CancelScope) -> None:
        self._scp.stop()
        self._http_stop.set()
        fronts.deadline = anyio.current_time() + DRAIN_S

    async def _take_new_configuration(self) -> None:
        """Go over to the files as they are now, or say why not and change nothing."""
        try:
            config = self._reload()
            book = _load_book(config)
        except ConfigErrors as errors:
            for error in errors.errors:
                log.error("configuration not reloaded", problem=str(error))
            self._not_reloaded = True
            return
        self._not_reloaded = False
        before, self._config, self._book = self._config, config, book
        self._callers = Callers(config.peers)
        self._scp.replace(config.dicom, config.peers, dimse_services(self._core, config))
        self._ingest.replace(config)
        changes = await self._lanes.reload(config)
        log.info(
            "configuration reloaded",
            rules=len(book.rules),
            added=changes.added,
            changed=changes.changed,
            removed=dict(changes.removed),
            after_restart=_needs_restart(before, config),
        )


def _counted(number: int) -> str:
    return f"{number:,}{'+' * (number >= MOST_COUNTED)}"


def _load_book(config: Config) -> RuleBook:
    book = load_rules(config.rules.path, config.destinations)
    for warning in book.warnings:
        log.warning("rules", problem=str(warning))
    return book


def _needs_restart(before: Config, after: Config) -> list[str]:
    """Name what was changed but is only read at start."""
    fixed = {
        "[dicom] listen": (before.dicom.listen, after.dicom.listen),
        "[dicom] max_pdu_bytes": (before.dicom.max_pdu_bytes, after.dicom.max_pdu_bytes),
        "[dicom] connections_per_s": (before.dicom.connections_per_s, after.dicom.connections_per_s),
        "[dicom] connections_burst": (before.dicom.connections_burst, after.dicom.connections_burst),
        "[http]": (before.http, after.http),
        "[proxies]": (before.proxies, after.proxies),
        "[log]": (before.log, after.log),
        "[state] path": (before.state.path, after.state.path),
    }
    return [name for name, (old, new) in fixed.items() if old != new]
