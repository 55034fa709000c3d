"""Who stands behind each proxy, and by what it is asked: C-FIND and C-MOVE, or SEND-RS (Sup 248 B.X3)."""

from __future__ import annotations

from collections.abc import Callable

from router.config.model import Config, DimseUpstream, WebUpstream
from router.delivery.proxied_send import ProxiedSends
from router.delivery.query import FindClient, MoveClient
from router.delivery.send_rs import SendRsClient, Server
from router.dicomweb.send_client import Pace
from router.journal.journal import Journal
from router.net.nodes import DimseNode, node_of
from router.sending.clock import Clock

PACE = Pace(troubles_before=2)
"""The SCU of a C-MOVE waits: a server that cannot be reached is given three seconds, one that took the request ten
minutes.
"""


def find_client(upstream: DimseUpstream, our_title: str) -> FindClient:
    """Make what searches an archive."""
    return FindClient(_node(upstream, our_title))


def send_client(upstream: WebUpstream) -> SendRsClient:
    """Make a user agent for one request to a SEND-RS server."""
    server = Server(
        url=upstream.url,
        connect_s=upstream.connect_s,
        answer_s=upstream.answer_s,
        headers=upstream.headers,
        bearer_token_file=upstream.bearer_token_file,
        ca_file=upstream.ca_file,
    )
    return SendRsClient(server, pace=PACE)


def proxied_sends(journal: Journal, config: Callable[[], Config], *, clock: Clock) -> ProxiedSends:
    """Make what carries out the send requests of the proxies that are configured now."""
    now = config()
    upstreams = {
        name: proxy.upstream for name, proxy in now.proxies.items() if isinstance(proxy.upstream, DimseUpstream)
    }
    return ProxiedSends(
        journal,
        upstreams,
        lambda upstream: MoveClient(_node(upstream, now.dicom.ae_title)),
        config,
        clock=clock,
    )


def _node(upstream: DimseUpstream, our_title: str) -> DimseNode:
    node = node_of(upstream, our_title)
    assert node is not None, "an upstream of kind dimse can be called"
    return node
