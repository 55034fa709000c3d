"""The DIMSE front as a whole: listens, serves Verification, Storage and what services there are, hands instances to a
`Door`.

Stops in order, reloads its policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import anyio
from anyio.abc import TaskStatus

from router.config.model import DicomConfig, Listen, Peer
from router.dicom.uids import AETitle
from router.ingest.door import Door
from router.net.association import AssociationStream
from router.net.listener import Listener
from router.scp.association import Front, serve
from router.scp.occupancy import Occupancy
from router.scp.offer import Offer, ServicesByTitle
from router.scp.pending import PendingPeer, PendingPeers
from router.scp.policy import AssociationPolicy, IdentityHook, ignore_identity

_NO_SERVICES: ServicesByTitle = {}


class StorageScp:
    """A Storage SCP on one address. Every instance that arrives goes through `door`.

    `services` are offered besides, to those who call the AE title. Each of its titles may be called, without services
    of its own too; all of them store.
    """

    def __init__(
        self,
        config: DicomConfig,
        peers: Mapping[str, Peer],
        door: Door,
        services: ServicesByTitle = _NO_SERVICES,
        *,
        identity: IdentityHook = ignore_identity,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity, self._services = identity, services
        self._front = Front(
            policy=self._policy(config, peers),
            offers=_offers(services),
            door=door,
            pending_peers=PendingPeers(wall_clock),
            occupancy=Occupancy(),
            clock=clock,
        )
        self._listener = Listener(
            config.listen,
            self._serve,
            max_pdu_bytes=config.max_pdu_bytes,
            max_associations=config.max_associations,
            connections_per_s=config.connections_per_s,
            connections_burst=config.connections_burst,
            clock=clock,
        )

    @property
    def associations(self) -> int:
        """How many associations are open."""
        return self._front.occupancy.total

    @property
    def connections(self) -> int:
        """How many connections are open, those without an association too."""
        return self._listener.connections

    @property
    def config(self) -> DicomConfig:
        """The configuration in force."""
        return self._front.policy.config

    def pending_peers(self) -> list[PendingPeer]:
        """List callers turned away because nobody registered them, the most recent first."""
        return self._front.pending_peers.listing()

    async def run(self, *, task_status: TaskStatus[Listen] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` and until the last association has ended; reports the address bound.

        Raises OSError when it cannot listen. Cancel it to end at once: what is in hand is discarded, not acknowledged.
        """
        await self._listener.serve(task_status=task_status)

    def stop(self) -> None:
        """Stop listening; each association ends (A-ABORT) when the instance in hand is answered."""
        self._front.stopping = True
        self._listener.stop()

    def replace(self, config: DicomConfig, peers: Mapping[str, Peer], services: ServicesByTitle | None = None) -> None:
        """Use another policy for the associations that come from now on, and other services unless None. Address, PDU
        size and connection rate stay.
        """
        if services is not None:
            self._services = services
        self._front.policy, self._front.offers = self._policy(config, peers), _offers(self._services)

    def _policy(self, config: DicomConfig, peers: Mapping[str, Peer]) -> AssociationPolicy:
        return AssociationPolicy(config, peers, identity=self._identity, further_titles=self._services)

    async def _serve(self, stream: AssociationStream) -> None:
        await serve(stream, self._front)


def _offers(services: ServicesByTitle) -> Mapping[AETitle, Offer]:
    return {title: Offer(offered) for title, offered in services.items()}
