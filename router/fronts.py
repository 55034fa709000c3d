"""What the two fronts offer, put together for one configuration: the services of each AE title, the web application.

`app` runs them; here is only which part gets which other. What is looked up while serving is given as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.routing import Route
from starlette.types import ASGIApp

from router.commitment.desk import CommitmentDesk
from router.config.model import Config, Destination, DimseUpstream, WebUpstream
from router.delivery.proxied_send import ProxiedSends
from router.delivery.proxy_upstreams import find_client, send_client
from router.dicom.uids import AETitle
from router.ingest.door import Door
from router.journal.journal import Journal
from router.net.callers import Callers
from router.scp.commitment import CommitmentScp
from router.scp.find import FindService
from router.scp.get import GetService
from router.scp.move import MoveService
from router.scp.proxy_move import ProxyMove
from router.scp.service import DimseService
from router.search import Index
from router.search.located import located
from router.search.non_patient import NonPatientIndex
from router.sending.proxied import ProxiedRequests
from router.sending.requests import SendRequests
from router.store.files import Store
from router.web.app import DEFAULT_LIMITS, make_app
from router.web.commitment import commitment_collection_routes, commitment_routes
from router.web.hosts import our_names
from router.web.npi import npi_collection_routes, npi_routes
from router.web.proxy_send import Upstream, proxy_routes
from router.web.retrieve import retrieve_routes
from router.web.search import search_routes
from router.web.send import collection_routes, send_routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts behind both fronts. `config` and `callers` give those that are in force just now."""

    journal: Journal
    store: Store
    index: Index
    non_patient: NonPatientIndex
    ingest: Door
    requests: SendRequests
    proxied: ProxiedSends
    desk: CommitmentDesk
    config: Callable[[], Config]
    callers: Callable[[], Callers]

    def destinations(self) -> Mapping[str, Destination]:
        """Give those that are registered just now."""
        return self.config().destinations


def dimse_services(core: Core, config: Config) -> dict[AETitle, list[DimseService]]:
    """Say what is offered over DIMSE, besides Storage, to those who call each AE title of ours."""
    commitments, reporting = core.desk.commitments, core.desk.reporting
    services: dict[AETitle, list[DimseService]] = {
        AETitle(config.dicom.ae_title): [
            FindService(core.index, core.non_patient, max_results=lambda: core.config().dicom.max_find_results),
            MoveService(core.index, core.non_patient, core.requests, core.config),
            GetService(core.index, core.non_patient, core.store, partial(located, core.journal), core.config),
            CommitmentScp(commitments, reporting),
        ]
    }
    for name, proxy in config.proxies.items():
        if isinstance(proxy.upstream, WebUpstream):
            services[AETitle(proxy.ae_title)] = [
                ProxyMove(
                    name,
                    partial(send_client, proxy.upstream),
                    core.destinations,
                    follow_s=proxy.upstream.follow_s,
                    pending_s=lambda: core.config().dicom.move_pending_s,
                ),
                CommitmentScp(commitments, reporting, proxy=name),
            ]
    return services


def web_app(core: Core, config: Config) -> ASGIApp:
    """Make the web application: our own services, and those of archives that have DIMSE only."""
    base_path, store, destinations = config.http.base_path, core.store, core.destinations
    return make_app(
        config.http,
        core.ingest,
        may_call=lambda address: core.callers().allows_request(address),
        is_our_host=our_names(config.http.names, config.http.public_url),
        open_spool=store.spool,
        services=[
            *search_routes(base_path, core.index),
            *send_routes(base_path, core.index, core.requests, destinations, config),
            *retrieve_routes(base_path, core.index, store),
            *commitment_routes(base_path, core.desk.commitments, config.http),
            *npi_routes(
                config, core.ingest, DEFAULT_LIMITS, store.spool, core.non_patient, store, core.requests, destinations
            ),
        ],
        hidden=[
            *collection_routes(base_path),
            *npi_collection_routes(base_path),
            *commitment_collection_routes(base_path),
            *_proxy_routes(core, config),
        ],
    )


def _proxy_routes(core: Core, config: Config) -> list[Route]:
    """Make the web services of archives that have DIMSE only, each below a base path of its own."""
    routes: list[Route] = []
    proxied = ProxiedRequests(core.journal, core.proxied.wake, core.config)
    for name, proxy in config.proxies.items():
        if isinstance(proxy.upstream, DimseUpstream):
            path = proxy.base_path
            upstream = Upstream(name, partial(find_client, proxy.upstream, config.dicom.ae_title))
            more = commitment_routes(path, core.desk.commitments, config.http, proxy=name)
            routes += commitment_collection_routes(path)
            routes += proxy_routes(path, upstream, core.requests, proxied, core.destinations, config, more=more)
    return routes
