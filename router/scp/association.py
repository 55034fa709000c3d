"""The life of one association that a peer opens: request, answer, messages, end.

One task; the slot is free and the visit closed before we wait for the peer to close the connection. Timers: ARTIM until
the request is there and after our last PDU (PS3.8 §9.1.5), idle between events, and a floor under the data rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from router.dicom.envelope import Source
from router.dicom.uids import AETitle
from router.dimse.events import (
    AssociateRequest,
    AssociateRequested,
)
from router.errors import PeerError
from router.ingest.door import Door
from router.net.association import AssociationStream
from router.scp.conversation import Conversation
from router.scp.escape import printable
from router.scp.occupancy import Occupancy
from router.scp.offer import Offer
from router.scp.operations import Operations
from router.scp.outlet import Outlet
from router.scp.pending import PendingPeers
from router.scp.policy import (
    NO_ROOM,
    SHUTTING_DOWN,
    TOO_MANY_ASSOCIATIONS,
    TOO_MANY_OF_PEER,
    AssociationPolicy,
    Rejection,
)
from router.scp.storage import CLEAN_UP_S, Counts, StorageService

log = structlog.get_logger()

MAX_PROBLEM_SHOWN: Final = 200
"""Longest sentence of ours about a peer in the log, characters: it may quote the peer."""


@dataclass(slots=True)
class Front:
    """What all associations share. `policy` and `offers`, by called AE title, are replaced on reload; `stopping` ends
    each association at a message boundary.
    """

    policy: AssociationPolicy
    offers: Mapping[AETitle, Offer]
    door: Door
    pending_peers: PendingPeers
    occupancy: Occupancy
    clock: Callable[[], float] = time.monotonic
    stopping: bool = False


async def serve(stream: AssociationStream, front: Front) -> None:
    """Serve one connection until it is closed."""
    artim_s = front.policy.config.artim_s
    try:
        request = await _request(stream, artim_s)
        if request is not None:
            await _admit(stream, front, request)
        await stream.linger(artim_s)
    finally:
        if not stream.layer.closed:
            stream.layer.abort()  # cancelled, or failed in our code; nothing when it has ended otherwise
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def _request(stream: AssociationStream, artim_s: float) -> AssociateRequest | None:
    """Wait for the A-ASSOCIATE-RQ; None, with one line in the log, when there is none (B1-B8, B13-B16)."""
    request = None
    ended = "shutting down"
    try:
        for event in await stream.events(artim_s):
            match event:
                case AssociateRequested():
                    request = event.request
                case _:  # an A-ABORT, the only other thing that a requestor can say before it is answered
                    request, ended = None, "aborted by the peer"
        if request is not None:
            return request
        stream.layer.abort()
    except TimeoutError:
        ended = f"no association request within {artim_s:g} s"
        stream.layer.artim_expired()
    except PeerError as error:
        ended = error.problem
    log.info("connection without association", peer=stream.peer_address, ended=printable(ended, MAX_PROBLEM_SHOWN))
    return None


async def _admit(stream: AssociationStream, front: Front, request: AssociateRequest) -> None:
    """Accept the association and serve it, or reject it."""
    policy, occupancy, address = front.policy, front.occupancy, stream.peer_address
    rejection = policy.rejection(request, address) or _overload(front, request, address)
    identity_answer = None
    if rejection is None:
        verdict = policy.identity_answer(request, address)
        if isinstance(verdict, Rejection):
            rejection = verdict
        else:
            identity_answer = verdict
    if rejection is not None:
        _reject(stream, front, request, rejection)
        return
    offer = front.offers.get(request.called_aet) or Offer(())
    answer = offer.answer(request, policy)
    with occupancy.one_more((request.calling_aet, address)):
        stream.layer.accept(
            answer.contexts, roles=answer.roles, extended=answer.extended, identity_answer=identity_answer
        )
        await _serve_association(stream, front, request, offer)


def _overload(front: Front, request: AssociateRequest, address: str) -> Rejection | None:
    config = front.policy.config
    if front.stopping:
        return SHUTTING_DOWN
    if front.occupancy.total >= config.max_associations:
        return TOO_MANY_ASSOCIATIONS
    if front.occupancy.of((request.calling_aet, address)) >= config.max_associations_per_peer:
        return TOO_MANY_OF_PEER
    if not front.door.has_room():
        return NO_ROOM
    return None


def _reject(stream: AssociationStream, front: Front, request: AssociateRequest, rejection: Rejection) -> None:
    if rejection.unknown_peer:
        front.pending_peers.add(request.calling_aet, stream.peer_address)
    log.warning(
        "association rejected",
        peer=stream.peer_address,
        calling_aet=printable(request.calling_aet),
        called_aet=printable(request.called_aet),
        answer=f"{rejection.result},{rejection.source},{rejection.reason}",
        why=printable(rejection.why, MAX_PROBLEM_SHOWN),
    )
    stream.layer.reject(rejection.result, rejection.source, rejection.reason)


async def _serve_association(stream: AssociationStream, front: Front, request: AssociateRequest, offer: Offer) -> None:
    config = front.policy.config
    visit = front.door.open_visit(Source("C-STORE", stream.peer_address, request.calling_aet, request.called_aet))
    outlet = Outlet(stream, config.idle_s)
    storage = StorageService(
        stream,
        outlet,
        visit,
        max_instance_bytes=config.max_instance_bytes,
        peer=stream.peer_address,
        calling_aet=request.calling_aet,
    )
    began = front.clock()
    ended = "cut off by us"
    try:
        async with anyio.create_task_group() as tasks:
            operations = Operations(tasks, stream, outlet, storage, offer, request, clock=front.clock)
            conversation = Conversation(
                stream,
                outlet,
                storage,
                operations,
                stopping=lambda: front.stopping,
                idle_s=config.idle_s,
                clock=front.clock,
            )
            ended = await conversation.hold()
            await operations.end(ended)
    finally:
        await storage.break_off()
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            await visit.close()
        _tell(stream, request, storage.counts, front.clock() - began, ended)


def _tell(stream: AssociationStream, request: AssociateRequest, counts: Counts, seconds: float, ended: str) -> None:
    log.info(
        "association ended",
        peer=stream.peer_address,
        calling_aet=request.calling_aet,
        called_aet=request.called_aet,
        received=counts.received,
        refused=counts.refused,
        echoed=counts.echoed,
        bytes=counts.bytes,
        seconds=round(seconds, 3),
        ended=printable(ended, MAX_PROBLEM_SHOWN),
    )
