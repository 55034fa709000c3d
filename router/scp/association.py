"""The life of one association that a peer opens: request, answer, messages, end.

One task; the slot is free and the visit closed before we wait for the peer to close the connection. Timers: ARTIM until
the request is there and after our last PDU (PS3.8 §9.1.5), idle between events, and a floor under the data rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from router.dicom.envelope import Source
from router.dimse.events import (
    Aborted,
    AssociateRequest,
    AssociateRequested,
    CommandReceived,
    DataReceived,
    ReleaseRequested,
)
from router.dimse.negotiation import answer_contexts
from router.errors import PeerError
from router.ingest.door import Door
from router.net.association import MIN_BYTES_PER_S, AssociationStream
from router.scp.escape import printable
from router.scp.occupancy import Occupancy
from router.scp.pending import PendingPeers
from router.scp.policy import (
    NO_ROOM,
    SHUTTING_DOWN,
    TOO_MANY_ASSOCIATIONS,
    TOO_MANY_OF_PEER,
    AssociationPolicy,
    Rejection,
)
from router.scp.storage import CLEAN_UP_S, StorageService

log = structlog.get_logger()

RATE_WINDOW_S: Final = 60.0
"""A data set slower than `MIN_BYTES_PER_S` over so much waiting is no transfer but a held slot (F36)."""
MAX_PROBLEM_SHOWN: Final = 200
"""Longest sentence of ours about a peer in the log, characters: it may quote the peer."""


@dataclass(slots=True)
class Front:
    """What all associations share. `policy` is replaced on reload; `stopping` ends each at a message boundary."""

    policy: AssociationPolicy
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
    contexts = answer_contexts(
        request.contexts,
        accepts_sop_class=policy.accepts_sop_class,
        accepts_transfer_syntax=policy.accepts_transfer_syntax,
    )
    with occupancy.one_more((request.calling_aet, address)):
        stream.layer.accept(contexts, identity_answer=identity_answer)
        await _serve_association(stream, front, request)


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


async def _serve_association(stream: AssociationStream, front: Front, request: AssociateRequest) -> None:
    config = front.policy.config
    source = Source("C-STORE", stream.peer_address, request.calling_aet, request.called_aet)
    visit = front.door.open_visit(source)
    service = StorageService(
        stream,
        visit,
        max_instance_bytes=config.max_instance_bytes,
        answer_s=config.idle_s,
        peer=stream.peer_address,
        calling_aet=request.calling_aet,
    )
    began = front.clock()
    ended = "cut off by us"
    try:
        ended = await _converse(stream, front, service, config.idle_s)
    except TimeoutError:
        ended = f"nothing moved for {config.idle_s:g} s"
        stream.layer.abort()
    except PeerError as error:  # ConnectionLost too
        ended = error.problem
        stream.layer.abort()  # for what only we could find; nothing when the layer has done so already
    finally:
        await service.break_off()
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            await visit.close()
        counts = service.counts
        log.info(
            "association ended",
            peer=stream.peer_address,
            calling_aet=request.calling_aet,
            called_aet=request.called_aet,
            received=counts.received,
            refused=counts.refused,
            echoed=counts.echoed,
            bytes=counts.bytes,
            seconds=round(front.clock() - began, 3),
            ended=printable(ended, MAX_PROBLEM_SHOWN),
        )


async def _converse(stream: AssociationStream, front: Front, service: StorageService, idle_s: float) -> str:
    """Serve messages until the association is over; say how it ended. Raises PeerError, TimeoutError."""
    floor = _RateFloor(stream, front.clock)
    while True:
        floor.begin_waiting()
        events = await stream.events(idle_s)
        floor.end_waiting(service.busy)
        for event in events:
            match event:
                case DataReceived():
                    await service.take(event.fragment, event.last)
                case CommandReceived():
                    await service.begin(event)
                case ReleaseRequested():
                    stream.layer.confirm_release()
                    return "released inside a message" if service.busy else "released"
                case Aborted():
                    return f"aborted by the peer ({event.source},{event.reason})"
                case _:
                    raise PeerError("not for a requestor to say")
            if front.stopping and not service.busy:
                break
        if front.stopping and not service.busy:
            stream.layer.abort()
            return "shutting down"


class _RateFloor:
    """Ends an association whose data set drips.

    Only the time that we waited for the peer counts, not the time that our disk took.
    """

    __slots__ = ("_began", "_bytes", "_clock", "_stream", "_waited")

    def __init__(self, stream: AssociationStream, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._began, self._waited, self._bytes = 0.0, 0.0, 0

    def begin_waiting(self) -> None:
        self._began = self._clock()

    def end_waiting(self, inside_message: bool) -> None:
        """Raises PeerError."""
        read = self._stream.bytes_read
        if not inside_message:  # waiting for the next message is the idle timer's
            self._waited, self._bytes = 0.0, read
            return
        self._waited += self._clock() - self._began
        if self._waited >= RATE_WINDOW_S:
            if read - self._bytes < MIN_BYTES_PER_S * RATE_WINDOW_S:
                raise PeerError(f"less than {MIN_BYTES_PER_S} bytes a second over {RATE_WINDOW_S:g} s")
            self._waited, self._bytes = 0.0, read
