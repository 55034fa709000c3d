"""Who can be asked for storage commitment: destinations, and the upstreams of proxies, each by its own protocol."""

from __future__ import annotations

from router.commitment.language import Asker
from router.commitment.requests import DESTINATIONS, PROXIES
from router.config.model import Config, Destination, DimseUpstream, StowDestination, WebUpstream
from router.delivery.commitment_dimse import DimseAsker
from router.delivery.commitment_web import WebAsker
from router.net.nodes import node_of


def asker_of(peer: Destination | DimseUpstream | WebUpstream, our_title: str) -> Asker | None:
    """Say how to ask a peer; None for a SEND-RS server, which keeps nothing of what it passes on."""
    if isinstance(peer, StowDestination | WebUpstream):
        return WebAsker(peer)
    node = node_of(peer, our_title)
    return None if node is None else DimseAsker(node)


def asker_named(config: Config, name: str) -> Asker | None:
    """Give who is called "proxies.<name>" or "destinations.<name>"; None when nobody is."""
    proxy = config.proxies.get(name.removeprefix(PROXIES)) if name.startswith(PROXIES) else None
    destination = config.destinations.get(name.removeprefix(DESTINATIONS)) if name.startswith(DESTINATIONS) else None
    peer = proxy.upstream if proxy is not None else destination
    return None if peer is None else asker_of(peer, config.dicom.ae_title)
