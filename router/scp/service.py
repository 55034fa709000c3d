"""What a DIMSE service of this front is, besides Verification and Storage (`storage`): C-FIND, C-MOVE, C-GET,
N-ACTION, N-EVENT-REPORT. An operation may take long; meanwhile its association is read on for C-CANCEL and its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import Protocol

import anyio
import msgspec

from router.dicom.uids import AETitle, Uid
from router.dimse.events import Command, NegotiatedContext, Roles


class Invocation(msgspec.Struct, frozen=True):
    """A request of the peer, whole. `data_set` is its Identifier or Information, b"" when it came without one.

    `granted` is the application information of extended negotiation as we answered it for this SOP class, b"" for none.
    """

    context: NegotiatedContext
    command: Command
    data_set: bytes
    calling_aet: AETitle
    called_aet: AETitle
    peer_address: str
    granted: bytes = b""


class Exchange(Protocol):
    """The association as an operation sees it. Every method raises PeerError (ConnectionLost) once it is over, and
    TimeoutError when the peer takes nothing or does not answer in time.
    """

    cancelled: anyio.Event
    """Set when the peer cancels this operation (C-CANCEL-RQ), and when it has gone."""
    contexts: Mapping[int, NegotiatedContext]
    roles: Mapping[Uid, Roles]
    """Role selection as we answered it."""

    async def respond(self, response: Command, data_set: bytes = b"") -> None:
        """Send a response; field, Message ID Being Responded To, SOP Class UID and `has_data_set` are filled in.

        The one that is not Pending ends the operation for the peer, which may then ask for the next.
        """
        ...

    async def invoke(self, context_id: int, request: Command, content: bytes | AsyncIterable[bytes] = b"") -> Command:
        """Send a request of ours (C-STORE-RQ of a C-GET, N-EVENT-REPORT-RQ) with its data set; give the response.

        The Message ID is filled in. `content` comes in chunks of even length, but for the last; when it fails after the
        first of them the association is aborted. One at a time on an association: a second waits for its turn.
        """
        ...


class DimseService(Protocol):
    """One service. `sop_classes` says which Command Fields it performs for which SOP class."""

    sop_classes: Mapping[Uid, frozenset[int]]

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Answer SOP class extended negotiation (PS3.7 §D.3.3.5): at most as many bytes as offered, b"" for none."""
        ...

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """Answer role selection: no role that was not proposed (PS3.7 §D.3.3.4)."""
        ...

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Do it and answer. PeerError and TimeoutError end the association; what else is raised is logged and answered
        0110H, if nothing else was. May go on after its answer, to invoke something until the association is over.
        """
        ...
