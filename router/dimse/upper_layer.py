"""One association without I/O (PS3.8): bytes in, events out, bytes out. The states are a table (`transitions.py`).

Opens no socket, starts no timer, decides no policy: a driver reads, writes, runs ARTIM while `artim_running`, and
closes when `closed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.dicom.uids import AETitle
from router.dimse.associate import AE_TITLES, Unacceptable, decode_answer, decode_request
from router.dimse.associate_writer import encode_accept, encode_request
from router.dimse.commands import encode_command
from router.dimse.events import (
    Aborted,
    AssociateRejected,
    AssociateRequested,
    Command,
    Event,
    NegotiatedContext,
    ProposedContext,
    Released,
    ReleaseRequested,
)
from router.dimse.framing import Framer
from router.dimse.negotiation import ACCEPTED
from router.dimse.pdata import MIN_PDU_BYTES, MessageReader, encode_command_pdus, encode_data_pdus
from router.dimse.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    FIXED_BODY_BYTES,
    INVALID_PARAMETER,
    MAX_ASSOCIATE_BYTES,
    NAMES,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    RELEASE_RQ_PDU,
    SOURCE_PROVIDER,
    SOURCE_USER,
    UNEXPECTED_PDU,
    UNRECOGNISED_PDU,
    encode_abort,
    encode_reject,
    name_stranger,
)
from router.dimse.transitions import AS_ACCEPTOR, AS_REQUESTOR, Action, Input, State
from router.errors import PeerError

__all__ = ["State", "UpperLayer"]

_INPUTS = {
    ASSOCIATE_RQ: Input.REQUESTING_PDU,
    ASSOCIATE_AC: Input.ACCEPTING_PDU,
    ASSOCIATE_RJ: Input.REJECTING_PDU,
    P_DATA_TF: Input.DATA_PDU,
    RELEASE_RQ: Input.RELEASE_PDU,
    RELEASE_RP: Input.RELEASED_PDU,
    ABORT: Input.ABORT_PDU,
}
_RECEIVING = (State.ESTABLISHED, State.AWAIT_RELEASE_REPLY)
_UNACQUAINTED = (State.IDLE, State.AWAIT_REQUEST, State.AWAIT_ANSWER)


class UpperLayer:
    """The protocol machine of one association, in either role.

    `contexts` holds every negotiated context by id, refused ones too (`result` tells). `peer_max_pdu_bytes` 0 is no
    limit. A primitive of the user (`accept`, `send_data`, `release` …) does nothing on an association that the peer or
    an error ended meanwhile; one out of order raises RuntimeError, for it is a mistake of ours.
    """

    def __init__(self, *, requestor: bool, max_pdu_bytes: int):
        if max_pdu_bytes < MIN_PDU_BYTES:
            raise ValueError(f"max_pdu_bytes {max_pdu_bytes} is less than {MIN_PDU_BYTES}")
        self.state = State.IDLE if requestor else State.AWAIT_REQUEST
        self.contexts: Mapping[int, NegotiatedContext] = {}
        self.peer_max_pdu_bytes = 0
        self.artim_running = not requestor  # AE-5
        self.closed = False
        self._table = AS_REQUESTOR if requestor else AS_ACCEPTOR
        self._max_pdu_bytes = max_pdu_bytes
        self._output: list[bytes | memoryview] = []
        self._framer = Framer()
        self._deaf = False  # after a violation nothing more is read
        self._reader = MessageReader(())
        self._proposed: Sequence[ProposedContext] = ()
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
            self._step(Input.UNACCEPTABLE_PDU)
            self._output.append(encode_reject(refusal.result, refusal.source, refusal.reason))
            self._deaf = True
            raise
        except PeerError as error:
            self._fail(error.abort_reason)
            raise
        return events

    def take_output(self) -> list[bytes | memoryview]:
        """Return what is to be written, in order, and forget it; data sent is in there as views, not copies."""
        output, self._output = self._output, []
        return output

    def connection_lost(self) -> None:
        """Note that the connection is gone."""
        self._step(Input.CONNECTION_LOST)

    def artim_expired(self) -> None:
        """Note that ARTIM ran out; the connection is to be closed."""
        if self.artim_running:
            self._step(Input.ARTIM_EXPIRED)

    # what we say

    def request(self, *, called_aet: AETitle, calling_aet: AETitle, contexts: Sequence[ProposedContext]) -> None:
        """Ask for an association (A-ASSOCIATE request); ValueError when it cannot be encoded."""
        pdu = encode_request(called_aet, calling_aet, contexts, self._max_pdu_bytes)
        if self._step(Input.REQUEST) is not Action.LATE:
            self._proposed = tuple(contexts)
            self._output.append(pdu)

    def accept(self, contexts: Sequence[NegotiatedContext], *, identity_answer: bytes | None = None) -> None:
        """Accept with these contexts (`negotiation.answer_contexts`); `identity_answer` only when one was asked for."""
        if self._step(Input.ACCEPT) is Action.LATE:
            return
        self._associate(contexts)
        self._output.append(
            encode_accept(
                self._titles,
                contexts,
                self._max_pdu_bytes,
                window_offered=self._window_offered,
                identity_answer=identity_answer,
            )
        )

    def reject(self, result: int, source: int, reason: int) -> None:
        """Reject the association (PS3.8 Table 9-21); the peer closes, or ARTIM does."""
        if self._step(Input.REJECT) is not Action.LATE:
            self._output.append(encode_reject(result, source, reason))

    def send_command(self, context_id: int, command: Command) -> None:
        """Send a command set on an accepted context."""
        if self._step(Input.SEND) is not Action.LATE:
            self._check_context(context_id)
            self._output += encode_command_pdus(context_id, encode_command(command), self.peer_max_pdu_bytes)

    def send_data(self, context_id: int, data: bytes | memoryview, *, last: bool) -> None:
        """Send a piece of a data set, of even length unless `last`; `data` must stay unchanged until it is written."""
        if self._step(Input.SEND) is not Action.LATE:
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
        if self._step(Input.SEND) is not Action.LATE:
            self._output.append(part)

    def release(self) -> None:
        """Ask to release; `Released` comes back, or `ReleaseRequested` when the peer asked at the same moment."""
        if self._step(Input.RELEASE) is not Action.LATE:
            self._output.append(RELEASE_RQ_PDU)

    def confirm_release(self) -> None:
        """Answer `ReleaseRequested`, in a collision too: there the acceptor's answer waits for the peer's (AR-10)."""
        if self.state is State.COLLISION_ACCEPTOR_REPLY:
            self._release_confirmed = True
        elif self._step(Input.CONFIRM_RELEASE) is not Action.LATE:
            self._output.append(RELEASE_RP_PDU)

    def abort(self, source: int = SOURCE_USER, reason: int = 0) -> None:
        """Abort; the peer closes, or ARTIM does."""
        if self._step(Input.ABORT) is Action.AA_1:
            self._output.append(encode_abort(source, reason))

    # within

    def _is_over(self) -> bool:
        return self._deaf or self.closed

    def _step(self, event: Input) -> Action:
        transition = self._table.get((self.state, event))
        if transition is None:
            raise RuntimeError(f"{event.name} in {self.state.value} {self.state.name}")
        action, self.state = transition
        if action.artim is not None:
            self.artim_running = action.artim
        self.closed = self.closed or action.closes
        return action

    def _fail(self, reason: int) -> None:
        if self.state is not State.CLOSED:
            self._step(Input.INVALID_PDU)
            # What breaks a message is the DIMSE user's to say, what breaks a PDU the provider's (B22, B23).
            self._output.append(encode_abort(SOURCE_PROVIDER if reason else SOURCE_USER, reason))
        self._deaf = True

    def _admit(self, kind: int, length: int, header: bytearray | memoryview) -> bool:
        """Judge a PDU by its header, before its body is read (B1, B2, B5, B6, B16, B17); False to skip it."""
        if kind == P_DATA_TF and self.state in _RECEIVING:
            if length > self._max_pdu_bytes:
                raise PeerError(f"P-DATA-TF of {length} bytes, {self._max_pdu_bytes} negotiated", INVALID_PARAMETER)
            return True
        event = _INPUTS.get(kind, Input.INVALID_PDU)
        if self.state is State.AWAIT_CLOSE:
            return self._admit_late(event, length)
        if self.state in _UNACQUAINTED:
            self._turn_away_strangers(bytes(header))
        if event is Input.INVALID_PDU:
            raise PeerError(f"unrecognised PDU type {kind:02X}H", UNRECOGNISED_PDU)
        if self._table[self.state, event][0] in (Action.AA_1, Action.AA_8):
            raise PeerError(f"unexpected {NAMES[kind]} in {self.state.value}", UNEXPECTED_PDU)
        if length > MAX_ASSOCIATE_BYTES if kind in (ASSOCIATE_RQ, ASSOCIATE_AC) else length != FIXED_BODY_BYTES:
            raise PeerError(f"{NAMES[kind]} of {length} bytes", INVALID_PARAMETER)
        return True

    def _admit_late(self, event: Input, length: int) -> bool:
        """In Sta13 only an A-ABORT matters; the rest is skipped, and one more A-ABORT is all there is to say (AA-7)."""
        if self._deaf:
            return False
        if event is Input.ABORT_PDU and length == FIXED_BODY_BYTES:
            return True
        if self._step(Input.INVALID_PDU if event is Input.ABORT_PDU else event) is Action.AA_7:
            self._output.append(encode_abort(SOURCE_PROVIDER, UNEXPECTED_PDU))
            self._deaf = True
        return False

    def _turn_away_strangers(self, header: bytes) -> None:
        mistake = name_stranger(header)
        if mistake is not None:
            self._step(Input.CONNECTION_LOST)  # nobody there who would understand an A-ABORT
            raise PeerError(mistake)

    def _take(self, kind: int, body: bytes, events: list[Event]) -> None:
        """Take the whole body of a PDU that was admitted and is not P-DATA-TF."""
        if kind == ASSOCIATE_RQ:
            request = decode_request(body)
            self._step(Input.REQUESTING_PDU)
            self._titles = body[AE_TITLES]
            self._window_offered = request.max_operations_invoked != 1
            self.peer_max_pdu_bytes = request.max_pdu_bytes
            events.append(AssociateRequested(request))
        elif kind == ASSOCIATE_AC:
            answer = decode_answer(body, self._proposed)
            self._step(Input.ACCEPTING_PDU)
            self._associate(answer.contexts)
            self.peer_max_pdu_bytes = answer.max_pdu_bytes
            events.append(answer)
        elif kind == ASSOCIATE_RJ:
            self._step(Input.REJECTING_PDU)
            events.append(AssociateRejected(body[1], body[2], body[3]))
        elif kind == RELEASE_RQ:
            self._step(Input.RELEASE_PDU)
            events.append(ReleaseRequested())
        elif kind == RELEASE_RP:
            self._step(Input.RELEASED_PDU)
            if self._release_confirmed:
                self.confirm_release()
            events.append(Released())
        else:
            was_over = self.state is State.AWAIT_CLOSE
            self._step(Input.ABORT_PDU)
            if not was_over:
                events.append(Aborted(body[2], body[3]))

    def _associate(self, contexts: Sequence[NegotiatedContext]) -> None:
        self.contexts = {context.context_id: context for context in contexts}
        self._reader = MessageReader({context.context_id for context in contexts if context.result == ACCEPTED})

    def _check_context(self, context_id: int) -> None:
        context = self.contexts.get(context_id)
        if context is None or context.result != ACCEPTED:
            raise ValueError(f"presentation context {context_id} is not accepted")
