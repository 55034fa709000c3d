"""Associations that we open: connect, ask, and say in terms of `DeliveryError` why not. Decides nothing about trying
again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import assert_never

import anyio

from router.dicom.status import Verdict, association_reject
from router.dicom.uids import AETitle, Uid
from router.dimse.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    DataReceived,
    Event,
    ProposedContext,
    Released,
    ReleaseRequested,
    Roles,
)
from router.dimse.negotiation import NO_ROLES, NOTHING_EXTENDED
from router.dimse.transitions import State
from router.dimse.upper_layer import UpperLayer
from router.errors import DeliveryError, Misconfigured, PeerError, Transient
from router.net.association import AssociationStream


async def connect_association(
    *,
    host: str,
    port: int,
    called_aet: AETitle,
    calling_aet: AETitle,
    contexts: Sequence[ProposedContext],
    max_pdu_bytes: int,
    connect_s: float,
    answer_s: float,
    roles: Mapping[Uid, Roles] = NO_ROLES,
    extended: Mapping[Uid, bytes] = NOTHING_EXTENDED,
) -> AssociationStream:
    """Open a connection and negotiate an association; the caller ends it with `release`, or aborts its layer and closes
    the stream. `roles` and `extended` are proposed by SOP class; what of them was granted, its layer says.

    Raises Transient (unreachable, silent, closed, aborted, busy) or Misconfigured (rejected for good, as
    `dicom.status` says), with the peer's words.
    """
    stream = await _connect(host, port, max_pdu_bytes, connect_s)
    established = False
    try:
        stream.layer.request(
            called_aet=called_aet, calling_aet=calling_aet, contexts=contexts, roles=roles, extended=extended
        )
        await stream.flush(answer_s)
        for event in await stream.events(answer_s):
            failure = _why_not(event)
            if failure is not None:
                raise failure
        established = True
    except TimeoutError:
        raise Transient(f"no answer to the association request within {answer_s:g} s") from None
    except PeerError as error:
        raise Transient(f"association not established: {error.problem}") from error
    finally:
        if not established:
            await _abandon(stream)
    return stream


def ending(event: Event) -> str:
    """Say how an association ended by an event that is no message; what else it is, is a violation."""
    match event:
        case Aborted(source, reason):
            return f"association aborted by the peer ({source},{reason})"
        case ReleaseRequested() | Released():
            return "the peer released the association while an answer was due"
        case CommandReceived() | DataReceived() | AssociateRequested() | AssociateAccepted() | AssociateRejected():
            return "protocol violation: a message where an answer was due"
        case _:
            assert_never(event)


async def release(stream: AssociationStream, timeout_s: float) -> None:
    """Release an association and close the connection; abort it when the peer does not confirm within `timeout_s`.
    Never raises.
    """
    deadline = anyio.current_time() + timeout_s
    released = stream.layer.state is not State.ESTABLISHED
    try:
        if not released:
            stream.layer.release()
        while not released:
            for event in await stream.events(max(deadline - anyio.current_time(), 0.0)):
                match event:
                    case Released() | Aborted():
                        released = True
                    case ReleaseRequested():  # both at once (PS3.8 §7.2.2.7)
                        stream.layer.confirm_release()
                    case _:
                        pass  # what the peer had under way; nobody waits for it any more
    except (TimeoutError, PeerError):
        pass
    finally:
        await _abandon(stream)


async def _connect(host: str, port: int, max_pdu_bytes: int, connect_s: float) -> AssociationStream:
    def new_stream() -> AssociationStream:
        return AssociationStream(UpperLayer(requestor=True, max_pdu_bytes=max_pdu_bytes))

    try:
        with anyio.fail_after(connect_s):
            _, stream = await asyncio.get_running_loop().create_connection(new_stream, host, port)
    except TimeoutError:
        raise Transient(f"no connection to {host}:{port} within {connect_s:g} s") from None
    except OSError as error:
        raise Transient(f"no connection to {host}:{port}: {_words(error)}") from error
    return stream


def _words(error: OSError) -> str:
    """What the system says; asyncio puts its own words and the address in place of that."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _why_not(event: Event) -> DeliveryError | None:
    match event:
        case AssociateAccepted():
            return None
        case AssociateRejected(result, source, reason):
            meaning = association_reject(result, source, reason)
            problem = f"{meaning.words} ({result},{source},{reason})"
            return Misconfigured(problem) if meaning.verdict is Verdict.MISCONFIGURED else Transient(problem)
        case Aborted(source, reason):
            return Transient(f"association request aborted by the peer ({source},{reason})")
        case ReleaseRequested() | Released() | CommandReceived() | DataReceived() | AssociateRequested():
            return Transient("the peer ended the association at once")
        case _:
            assert_never(event)


async def _abandon(stream: AssociationStream) -> None:
    """Abort what is not yet over, close; also when we are being cancelled."""
    with anyio.CancelScope(shield=True):
        if not stream.layer.closed:
            stream.layer.abort()
        await stream.aclose()
