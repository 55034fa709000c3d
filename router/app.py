"""The only place where the parts meet: two fronts, one core, the lanes; and what SIGTERM and SIGHUP do.

Start: lock the state folder, open journal and store, sweep, then listen. Stop: stop listening, let the instances in
hand finish, drain the lanes, close the journal (D15). Nothing depends on the stop for correctness.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import assert_never

import anyio
import structlog
from starlette.types import ASGIApp

from router.config.model import Config, Destination, DimseDestination, SendRsDestination, StowDestination
from router.control.language import socket_of
from router.control.server import serve_control
from router.delivery.cstore import CStoreCourier
from router.delivery.send_rs_courier import SendRsCourier
from router.delivery.stow import StowCourier
from router.dicom.uids import AETitle
from router.errors import ConfigErrors
from router.http_server import serve_http
from router.ingest.sweep import sweep
from router.ingest.visit import Ingest
from router.journal.journal import Journal
from router.net.callers import Callers
from router.rules import RuleBook, load_rules
from router.scp.server import StorageScp
from router.search import Index
from router.search.non_patient import NonPatientIndex
from router.sending import expiry, quiet
from router.sending.clock import WallClock
from router.sending.courier import Courier
from router.sending.lanes import Lanes
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.app import DEFAULT_LIMITS, make_app
from router.web.hosts import our_names
from router.web.npi import npi_collection_routes, npi_routes
from router.web.retrieve import retrieve_routes
from router.web.search import search_routes
from router.web.send import collection_routes, send_routes

log = structlog.get_logger()

DRAIN_S = 20.0
"""How long a stop waits for the instances in hand, coming in and going out; the rest is sent after the next start."""


async def run(config: Config, *, reload: Callable[[], Config]) -> int:
    """Run the daemon until SIGTERM or SIGINT; gives the exit code.

    `reload` reads the configuration file again on SIGHUP; when it raises ConfigErrors, nothing changes. Raises
    ConfigErrors for unusable rules, StorageError when journal or store gave up, OSError when it cannot listen.
    """
    book = _load_book(config)
    async with Journal.open(config.state.path) as journal, Store.open(config.state.path) as store:
        await _Daemon(config, book, journal, store, reload).run()
    log.info("stopped")
    return 0


class _Daemon:
    def __init__(
        self, config: Config, book: RuleBook, journal: Journal, store: Store, reload: Callable[[], Config]
    ) -> None:
        self._config, self._book, self._reload = config, book, reload
        self._journal = journal
        self._lanes = Lanes(config, journal, lambda destination, now: _courier_for(destination, now, store))
        self._ingest = Ingest(store, journal, lambda: self._book, config, wake=self._lanes.wake)
        self._scp = StorageScp(config.dicom, config.peers, self._ingest)
        self._callers = Callers(config.peers)
        self._store = store
        self._app = self._make_app(SendRequests(journal, self._lanes.wake, lambda: self._config))
        self._http_stop = anyio.Event()

    async def run(self) -> None:
        """Sweep, serve, stop."""
        began = time.monotonic()
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
                parts.start_soon(self._watch_requests)
                log.info(
                    "ready",
                    ae_title=self._config.dicom.ae_title,
                    dicom=f"{dicom.host}:{dicom.port}",
                    http=f"http://{http.host}:{http.port}{self._config.http.base_path}",
                    destinations=len(self._config.destinations),
                    rules=len(self._book.rules),
                )
                await self._obey_signals()
                self._stop_fronts(fronts.cancel_scope)
            await self._lanes.drain(DRAIN_S)
            parts.cancel_scope.cancel()

    def _make_app(self, requests: SendRequests) -> ASGIApp:
        config, journal, store = self._config, self._journal, self._store
        base_path = config.http.base_path
        index, non_patient = Index(journal, store), NonPatientIndex(journal, store)

        def destinations() -> Mapping[str, Destination]:
            return self._config.destinations

        return make_app(
            config.http,
            self._ingest,
            may_call=lambda address: self._callers.allows_request(address),
            is_our_host=our_names(config.http.names, config.http.public_url),
            open_spool=store.spool,
            services=[
                *search_routes(base_path, index),
                *send_routes(base_path, index, requests, destinations, config),
                *retrieve_routes(base_path, index, store),
                *npi_routes(
                    config, self._ingest, DEFAULT_LIMITS, store.spool, non_patient, store, requests, destinations
                ),
            ],
            hidden=[*collection_routes(base_path), *npi_collection_routes(base_path)],
        )

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
                await self._take_new_configuration()

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
            return
        before, self._config, self._book = self._config, config, book
        self._callers = Callers(config.peers)
        self._scp.replace(config.dicom, config.peers)
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


def _load_book(config: Config) -> RuleBook:
    book = load_rules(config.rules.path, config.destinations)
    for warning in book.warnings:
        log.warning("rules", problem=str(warning))
    return book


def _courier_for(destination: Destination, config: Config, store: Store) -> Courier:
    match destination:
        case DimseDestination():
            return CStoreCourier(destination, AETitle(config.dicom.ae_title), store)
        case StowDestination():
            return StowCourier(destination, store)
        case SendRsDestination():
            return SendRsCourier(destination)
        case _:
            assert_never(destination)


def _needs_restart(before: Config, after: Config) -> list[str]:
    """Name what was changed but is only read at start."""
    fixed = {
        "[dicom] listen": (before.dicom.listen, after.dicom.listen),
        "[dicom] max_pdu_bytes": (before.dicom.max_pdu_bytes, after.dicom.max_pdu_bytes),
        "[dicom] connections_per_s": (before.dicom.connections_per_s, after.dicom.connections_per_s),
        "[dicom] connections_burst": (before.dicom.connections_burst, after.dicom.connections_burst),
        "[http]": (before.http, after.http),
        "[log]": (before.log, after.log),
        "[state] path": (before.state.path, after.state.path),
    }
    return [name for name, (old, new) in fixed.items() if old != new]
