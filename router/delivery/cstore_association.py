"""One association to a storage SCP: C-STORE-RQ and data set out, C-STORE-RSP in, one at a time (PS3.7 §9.1.1).

Says what became of each instance and whether the association still holds. Decides nothing about trying again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from router.delivery.contents import Chunks
from router.delivery.cstore_contexts import Need, need_of, propose, usable
from router.dicom.status import Verdict, context_refused, store_status
from router.dicom.uids import AETitle
from router.dimse.commands import C_STORE_RQ, C_STORE_RSP
from router.dimse.events import Command, CommandReceived, Event, NegotiatedContext, ReleaseRequested
from router.errors import PeerError
from router.journal.records import Delivery
from router.net.association import AssociationStream
from router.net.connect import ending, release
from router.sending.courier import Outcome

PIECE_BYTES = 128 * 1024
"""Written at once, so that the peer works on the first piece while the next is on its way."""
RELEASE_S = 2.0
"""Longest wait for the peer to confirm a release."""
MAX_MESSAGE_ID = 0xFFFF


Meanwhile = Callable[[], Awaitable[None]]
"""What is better done while the peer is busy than while it waits for us."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A message as it goes on the wire: sent next, or never."""

    delivery: Delivery
    message_id: int
    pieces: Sequence[bytes]


class AssociationLost(Exception):
    """The association ended while an instance was in hand. `sent_whole`: its last PDV was written, so it may be stored.

    `silent`: the peer just did not answer in time.
    """

    def __init__(self, problem: str, *, sent_whole: bool, silent: bool = False):
        self.problem, self.sent_whole, self.silent = problem, sent_whole, silent
        super().__init__(problem)


class StoreAssociation:
    """An established association. `answered` counts instances; `open` is False when it can carry no more."""

    def __init__(self, stream: AssociationStream, needs: Sequence[Need], opened_at: float):
        self.needs = tuple(needs)
        self.opened_at = opened_at
        self.answered = 0
        self.open = True
        self._stream = stream
        self.contexts = usable(propose(needs), stream.layer.contexts)
        self._message_id = 0
        self._in_hand = self._sent_whole = False
        self._early: Command | None = None
        self._prepared: _Prepared | None = None

    def context_for(self, delivery: Delivery) -> NegotiatedContext | None:
        """The answer to the context that this instance needs; None when it was not proposed."""
        return self.contexts.get(need_of(delivery))

    def refused(self) -> list[Need]:
        return [need for need in self.needs if self.contexts[need].result != 0]

    def prepare(self, delivery: Delivery, content: bytes) -> None:
        """Encode the message for an instance that is to be stored next, while another one is in hand."""
        context = self.contexts[need_of(delivery)]
        message_id = self._next_message_id()
        parts = self._stream.layer.encode_message(context.context_id, _request(delivery, message_id), content)
        self._prepared = _Prepared(delivery, message_id, _joined(parts))

    async def store(self, delivery: Delivery, content: bytes, answer_s: float, meanwhile: Meanwhile) -> Outcome:
        """Send an instance that is in memory; do `meanwhile` while the peer works on it. Raises AssociationLost."""
        if self._prepared is None or self._prepared.delivery is not delivery:
            self.prepare(delivery, content)
        prepared = self._prepared
        assert prepared is not None
        self._begin(prepared.message_id)
        layer, pieces = self._stream.layer, prepared.pieces
        try:
            for number, piece in enumerate(pieces, start=1):
                self._sent_whole = number == len(pieces)
                layer.send_encoded(piece)
                await self._stream.flush(answer_s)
            await meanwhile()
            return await self._answer(delivery, answer_s)
        except (TimeoutError, PeerError) as error:
            raise self._lost(error, answer_s) from error

    async def store_chunks(self, delivery: Delivery, reader: Chunks, answer_s: float) -> Outcome:
        """Send an instance chunk by chunk, each when the one before is taken.

        Raises AssociationLost; DamagedFile from `reader` before the last chunk is sent: then abort.
        """
        context_id, message_id = self.contexts[need_of(delivery)].context_id, self._next_message_id()
        self._begin(message_id)
        self._stream.layer.send_command(context_id, _request(delivery, message_id))
        left = delivery.data_set_bytes
        try:
            while left:
                chunk = await reader.next()
                left -= len(chunk)
                self._sent_whole = left == 0
                self._stream.layer.send_data(context_id, chunk, last=left == 0)
                await self._stream.flush(answer_s)
                if left:
                    await self._look_for_early_answer()
            return await self._answer(delivery, answer_s)
        except (TimeoutError, PeerError) as error:
            raise self._lost(error, answer_s) from error

    async def is_alive(self) -> bool:
        """Say whether nothing happened to the association while it was idle."""
        if not self.open:
            return False
        try:
            events = await self._stream.events(0)
        except TimeoutError:
            return True
        except PeerError:
            self.open = False
            return False
        self._over(events)
        return self.open

    async def aclose(self) -> None:
        """Release the association, or abort it when something is in hand or wrong; close. Never raises."""
        layer = self._stream.layer
        if self.open and not self._in_hand and not layer.closed:
            self.open = False
            await release(self._stream, RELEASE_S)
            return
        self.open = False
        if not layer.closed:
            layer.abort()
        await self._stream.aclose()

    # --- within ----------------------------------------------------------------------------------------------------

    def _begin(self, message_id: int) -> None:
        """Take an instance in hand."""
        self._message_id, self._prepared = message_id, None
        self._in_hand, self._sent_whole, self._early = True, False, None

    def _next_message_id(self) -> int:
        return self._message_id % MAX_MESSAGE_ID + 1

    async def _look_for_early_answer(self) -> None:
        """Take an answer that comes before all is sent: a refusal may (PS3.7 §9.3.1.2), a success must not (F42)."""
        try:
            events = await self._stream.events(0)
        except TimeoutError:
            return
        answer = self._expect(events)
        if store_status(_status(answer)).verdict in (Verdict.COMPLETED, Verdict.WARNING):
            raise PeerError("protocol violation: success answered before the whole data set was sent")
        self._early = answer

    async def _answer(self, delivery: Delivery, answer_s: float) -> Outcome:
        answer = self._early
        if answer is None:
            answer = self._expect(await self._stream.events(answer_s))
        uid = answer.affected_sop_instance_uid
        if uid and uid != delivery.declared.sop_instance_uid:
            raise PeerError("protocol violation: the answer is for another SOP instance")
        status = _status(answer)
        meaning = store_status(status)
        self._in_hand = False
        self.answered += 1
        if meaning.verdict is Verdict.COMPLETED:
            return Outcome(delivery, Verdict.COMPLETED, status)
        reason = f"{status:04X}H {meaning.words}"
        if answer.error_comment:
            reason += f": {answer.error_comment}"
        return Outcome(delivery, meaning.verdict, status, reason)

    def _expect(self, events: Sequence[Event]) -> Command:
        """The answer to the message in hand out of `events`. Raises PeerError for anything else."""
        first = events[0]
        if isinstance(first, CommandReceived):
            command = first.command
            if command.field != C_STORE_RSP:
                raise PeerError(f"protocol violation: command {command.field:04X}H where an answer was due")
            if command.message_id_responded_to != self._message_id:
                raise PeerError(
                    f"protocol violation: answer to message {command.message_id_responded_to}"
                    f" where {self._message_id} is in hand"
                )
            if len(events) > 1:
                self._over(events[1:])
            return command
        self._over(events)
        raise PeerError(ending(first))

    def _over(self, events: Sequence[Event]) -> None:
        """Something came that nobody asked for: the association carries nothing more."""
        self.open = False
        if any(isinstance(event, ReleaseRequested) for event in events):
            self._stream.layer.confirm_release()

    def _lost(self, error: TimeoutError | PeerError, answer_s: float) -> AssociationLost:
        self.open = False
        if isinstance(error, PeerError):
            return AssociationLost(error.problem, sent_whole=self._sent_whole)
        what = "did not answer" if self._sent_whole else "took no data"
        return AssociationLost(
            f"the destination {what} within {answer_s:g} s", sent_whole=self._sent_whole, silent=True
        )


def _request(delivery: Delivery, message_id: int) -> Command:
    declared = delivery.declared
    return Command(
        C_STORE_RQ,
        message_id,
        affected_sop_class_uid=declared.sop_class_uid,
        affected_sop_instance_uid=declared.sop_instance_uid,
        priority=delivery.priority,
        has_data_set=True,
        move_originator_aet=AETitle(delivery.originator_aet),
        move_originator_message_id=delivery.originator_message_id,
    )


def _joined(parts: Sequence[bytes | memoryview]) -> list[bytes]:
    """Join PDUs into pieces of some PIECE_BYTES."""
    pieces: list[bytes] = []
    start = size = 0
    for number, part in enumerate(parts, start=1):
        size += len(part)
        if size >= PIECE_BYTES or number == len(parts):
            pieces.append(b"".join(parts[start:number]))
            start, size = number, 0
    return pieces


def refusal(delivery: Delivery, context: NegotiatedContext) -> Outcome:
    """The outcome of an instance whose presentation context was not accepted: it can never go this way (F41)."""
    meaning = context_refused(context.result)
    need = need_of(delivery)
    reason = (
        f"no presentation context accepted for SOP class {need.sop_class}"
        f" with transfer syntax {need.transfer_syntax}: {meaning.words}"
    )
    return Outcome(delivery, meaning.verdict, reason=reason)


def _status(answer: Command) -> int:
    if answer.status is None:
        raise PeerError("protocol violation: answer without a status")
    return answer.status
