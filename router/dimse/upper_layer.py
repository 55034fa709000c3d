"""One association without I/O (PS3.8): bytes in, events out, bytes out. The states are a table (`transitions.py`).

Opens no socket, starts no timer, decides no policy: a driver reads, writes, runs ARTIM while `artim_running`, and
closes when `closed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.dicom.uids import AETitle, Uid
from router.dimse.admission import INPUTS, RECEIVING, Stranger, check_pdu
from router.dimse.associate import AE_TITLES, decode_answer, decode_request
from router.dimse.associate_writer import encode_accept, encode_request
from router.dimse.commands import encode_command
from router.dimse.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Command,
    Event,
    NegotiatedContext,
    ProposedContext,
    Released,
    ReleaseRequested,
    Roles,
)
from router.dimse.framing import Framer
from router.dimse.items import Unacceptable
from router.dimse.machine import Machine
from router.dimse.negotiation import ACCEPTED, NO_ROLES, NOTHING_EXTENDED, agreed_extended, agreed_roles
from router.dimse.pdata import MIN_PDU_BYTES, MessageReader, encode_command_pdus, encode_data_pdus
from router.dimse.pdu import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    FIXED_BODY_BYTES,
    INVALID_PARAMETER,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    RELEASE_RQ_PDU,
    SOURCE_PROVIDER,
    SOURCE_USER,
    UNEXPECTED_PDU,
    encode_abort,
    encode_reject,
)
from router.dimse.transitions import Action, Input, State
from router.errors import PeerError

__all__ = ["State", "UpperLayer"]


class UpperLayer(Machine):
    """The protocol machine of one association, in either role.

    `contexts` holds every negotiated context by id, refused ones too (`result` tells); `roles` and `extended` what was
    answered, of what was proposed. `peer_max_pdu_bytes` 0 is no limit. A primitive of the user (`accept`, `send_data`,
    `release` …) does nothing on an association that the peer or an error ended meanwhile; one out of order raises
    RuntimeError, for it is a mistake of ours.
    """

    def __init__(self, *, requestor: bool, max_pdu_bytes: int):
        if max_pdu_bytes < MIN_PDU_BYTES:
            raise ValueError(f"max_pdu_bytes {max_pdu_bytes} is less than {MIN_PDU_BYTES}")
        super().__init__(requestor=requestor)
        self.contexts: Mapping[int, NegotiatedContext] = {}
        self.roles: Mapping[Uid, Roles] = {}
        self.extended: Mapping[Uid, bytes] = {}
        self.peer_max_pdu_bytes = 0
        self._max_pdu_bytes = max_pdu_bytes
        self._output: list[bytes | memoryview] = []
        self._framer = Framer()
        self._deaf = False  # after a violation nothing more is read
        self._reader = MessageReader(())
        self._proposed: Sequence[ProposedContext] = ()
        self._proposed_roles: Mapping[Uid, Roles] = {}
        self._offered: Mapping[Uid, bytes] = {}
        self._titles = b""
        self._window_offered = False
        self._release_confirmed = False

    # what comes in

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take what was read and return what it means, in order.

        Raises PeerError when the peer breaks the protocol: the A-ABORT (A-ASSOCIATE-RJ for B8 and B15, nothing for a
        stranger) is then in the output, and events of the same read are dropped: nothing of them was answered.
        Fragments may point into `data` and are valid until the next call.
        """
        events: list[Event] = []
        if self._is_over():
            return events
        try:
            for kind, buffer, start, end in self._framer.pdus(memoryview(data), self._admit):
                if kind == P_DATA_TF:
                    self._reader.read(buffer, start, end, events)
                else:
                    self._take(kind, bytes(buffer[start:end]), events)
                if self._is_over():
                    break
        except Unacceptable as refusal:
            self.step(Input.UNACCEPTABLE_PDU)
            self._output.append(encode_reject(refusal.result, refusal.source, refusal.reason))
            self._deaf = True
            raise
        except PeerError as error:
            self._fail(error.abort_reason)
            raise
        return events

    def lacking(self, data: bytearray, size: int) -> int:
        """Say how many bytes must follow `data[:size]` before `receive` has anything to do with it; 0 when it may have.

        Only a P-DATA-TF that will be admitted is waited for: any other PDU is judged as soon as its header is there.
        """
        kind, length, missing = self._framer.lacking(data, size)
        admitted = kind == P_DATA_TF and self.state in RECEIVING and length <= self._max_pdu_bytes
        return missing if admitted else 0

    def take_output(self) -> list[bytes | memoryview]:
        """Return what is to be written, in order, and forget it; data sent is in there as views, not copies."""
        output, self._output = self._output, []
        return output

    # what we say

    def request(
        self,
        *,
        called_aet: AETitle,
        calling_aet: AETitle,
        contexts: Sequence[ProposedContext],
        roles: Mapping[Uid, Roles] = NO_ROLES,
        extended: Mapping[Uid, bytes] = NOTHING_EXTENDED,
    ) -> None:
        """Ask for an association (A-ASSOCIATE request); ValueError when it cannot be encoded."""
        pdu = encode_request(called_aet, calling_aet, contexts, self._max_pdu_bytes, roles=roles, extended=extended)
        if self.step(Input.REQUEST) is not Action.LATE:
            self._proposed, self._proposed_roles, self._offered = tuple(contexts), roles, extended
            self._output.append(pdu)

    def accept(
        self,
        contexts: Sequence[NegotiatedContext],
        *,
        roles: Mapping[Uid, Roles] = NO_ROLES,
        extended: Mapping[Uid, bytes] = NOTHING_EXTENDED,
        identity_answer: bytes | None = None,
    ) -> None:
        """Accept with these contexts (`negotiation.answer_contexts`), and of roles and application information with
        what was proposed; `identity_answer` only when one was asked for.
        """
        if self.step(Input.ACCEPT) is Action.LATE:
            return
        self._associate(contexts, roles, extended)
        self._output.append(
            encode_accept(
                self._titles,
                contexts,
                self._max_pdu_bytes,
                roles=self.roles,
                extended=self.extended,
                window_offered=self._window_offered,
                identity_answer=identity_answer,
            )
        )

    def reject(self, result: int, source: int, reason: int) -> None:
        """Reject the association (PS3.8 Table 9-21); the peer closes, or ARTIM does."""
        if self.step(Input.REJECT) is not Action.LATE:
            self._output.append(encode_reject(result, source, reason))

    def send_command(self, context_id: int, command: Command) -> None:
        """Send a command set on an accepted context."""
        if self.step(Input.SEND) is not Action.LATE:
            self._check_context(context_id)
            self._output += encode_command_pdus(context_id, encode_command(command), self.peer_max_pdu_bytes)

    def send_data(self, context_id: int, data: bytes | memoryview, *, last: bool) -> None:
        """Send a piece of a data set, of even length unless `last`; `data` must stay unchanged until it is written."""
        if self.step(Input.SEND) is not Action.LATE:
            self._check_context(context_id)
            self._output += encode_data_pdus(context_id, data, last, self.peer_max_pdu_bytes)

    def encode_message(self, context_id: int, command: Command, data: bytes) -> list[bytes | memoryview]:
        """Encode a command set and its whole data set for `send_encoded`, ahead of the moment when it may be sent."""
        self._check_context(context_id)
        limit = self.peer_max_pdu_bytes
        parts = encode_command_pdus(context_id, encode_command(command), limit)
        return parts + encode_data_pdus(context_id, data, True, limit)

    def send_encoded(self, part: bytes) -> None:
        """Send a part of what `encode_message` gave, in its order and cut anywhere."""
        if self.step(Input.SEND) is not Action.LATE:
            self._output.append(part)

    def release(self) -> None:
        """Ask to release; `Released` comes back, or `ReleaseRequested` when the peer asked at the same moment."""
        if self.step(Input.RELEASE) is not Action.LATE:
            self._output.append(RELEASE_RQ_PDU)

    def confirm_release(self) -> None:
        """Answer `ReleaseRequested`, in a collision too: there the acceptor's answer waits for the peer's (AR-10)."""
        if self.state is State.COLLISION_ACCEPTOR_REPLY:
            self._release_confirmed = True
        elif self.step(Input.CONFIRM_RELEASE) is not Action.LATE:
            self._output.append(RELEASE_RP_PDU)

    def abort(self, source: int = SOURCE_USER, reason: int = 0) -> None:
        """Abort; the peer closes, or ARTIM does."""
        if self.step(Input.ABORT) is Action.AA_1:
            self._output.append(encode_abort(source, reason))

    # within

    def _is_over(self) -> bool:
        return self._deaf or self.closed

    def _fail(self, reason: int) -> None:
        if self.state is not State.CLOSED:
            self.step(Input.INVALID_PDU)
            # What breaks a message is the DIMSE user's to say, what breaks a PDU the provider's (B22, B23).
            self._output.append(encode_abort(SOURCE_PROVIDER if reason else SOURCE_USER, reason))
        self._deaf = True

    def _admit(self, kind: int, length: int, header: bytearray | memoryview) -> bool:
        """Judge a PDU by its header, before its body is read; False to skip it."""
        if kind == P_DATA_TF and self.state in RECEIVING:
            if length > self._max_pdu_bytes:
                raise PeerError(f"P-DATA-TF of {length} bytes, {self._max_pdu_bytes} negotiated", INVALID_PARAMETER)
            return True
        if self.state is State.AWAIT_CLOSE:
            return self._admit_late(kind, length)
        try:
            check_pdu(kind, length, bytes(header), self.state, self.table)
        except Stranger:
            self.step(Input.CONNECTION_LOST)  # nobody there who would understand an A-ABORT
            raise
        return True

    def _admit_late(self, kind: int, length: int) -> bool:
        """In Sta13 only an A-ABORT matters; the rest is skipped, and one more A-ABORT is all there is to say (AA-7)."""
        event = INPUTS.get(kind, Input.INVALID_PDU)
        if self._deaf:
            return False
        if event is Input.ABORT_PDU and length == FIXED_BODY_BYTES:
            return True
        if self.step(Input.INVALID_PDU if event is Input.ABORT_PDU else event) is Action.AA_7:
            self._output.append(encode_abort(SOURCE_PROVIDER, UNEXPECTED_PDU))
            self._deaf = True
        return False

    def _take(self, kind: int, body: bytes, events: list[Event]) -> None:
        """Take the whole body of a PDU that was admitted and is not P-DATA-TF."""
        if kind == ASSOCIATE_RQ:
            request = decode_request(body)
            self.step(Input.REQUESTING_PDU)
            self._titles = body[AE_TITLES]
            self._window_offered = request.max_operations_invoked != 1
            self._proposed_roles, self._offered = request.roles, request.extended
            self.peer_max_pdu_bytes = request.max_pdu_bytes
            events.append(AssociateRequested(request))
        elif kind == ASSOCIATE_AC:
            answer = decode_answer(body, self._proposed)
            self.step(Input.ACCEPTING_PDU)
            self._associate(answer.contexts, answer.roles, answer.extended)
            self.peer_max_pdu_bytes = answer.max_pdu_bytes
            events.append(AssociateAccepted(answer.contexts, answer.max_pdu_bytes, self.roles, self.extended))
        elif kind == ASSOCIATE_RJ:
            self.step(Input.REJECTING_PDU)
            events.append(AssociateRejected(body[1], body[2], body[3]))
        elif kind == RELEASE_RQ:
            self.step(Input.RELEASE_PDU)
            events.append(ReleaseRequested())
        elif kind == RELEASE_RP:
            self.step(Input.RELEASED_PDU)
            if self._release_confirmed:
                self.confirm_release()
            events.append(Released())
        else:
            was_over = self.state is State.AWAIT_CLOSE
            self.step(Input.ABORT_PDU)
            if not was_over:
                events.append(Aborted(body[2], body[3]))

    def _associate(
        self, contexts: Sequence[NegotiatedContext], roles: Mapping[Uid, Roles], extended: Mapping[Uid, bytes]
    ) -> None:
        self.roles = agreed_roles(self._proposed_roles, roles)
        self.extended = agreed_extended(self._offered, extended)
        self.contexts = {context.context_id: context for context in contexts}
        self._reader = MessageReader({context.context_id for context in contexts if context.result == ACCEPTED})

    def _check_context(self, context_id: int) -> None:
        context = self.contexts.get(context_id)
        if context is None or context.result != ACCEPTED:
            raise ValueError(f"presentation context {context_id} is not accepted")
