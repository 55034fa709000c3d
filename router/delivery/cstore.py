"""The courier for C-STORE SCPs: one association for batch after batch, many SOP classes on it (PS3.4 Annex B, D12).

What is sent is the data set as stored. Keeps to what it learns of the peer: contexts that it refuses, how slowly it
answers (F44), after how many instances it hangs up (F48).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

import anyio
import structlog

from router.config.model import DimseDestination, StoreReach
from router.delivery.contents import Contents
from router.delivery.cstore_association import AssociationLost, StoreAssociation, refusal
from router.delivery.cstore_contexts import Need, needs_of, propose
from router.delivery.cstore_reading import ReadAhead
from router.delivery.verification import verify
from router.dicom.status import Verdict
from router.dicom.uids import AETitle
from router.errors import DeliveryError, Misconfigured, StorageError, Transient
from router.journal.records import Delivery
from router.net.connect import connect_association
from router.net.nodes import DimseNode
from router.sending.courier import BrokenOff, Outcome, Report, Session
from router.store.files import DamagedFile

log = structlog.get_logger()

BATCH_INSTANCES = 128
BATCH_BYTES = 64 * 1024**2
"""What a lane hands over at once: enough to keep an association busy while the next claim is made."""
ASSOCIATION_INSTANCES = 500
ASSOCIATION_S = 600.0
"""An association is renewed after so many instances or seconds: some peers leak memory or time out on long ones."""
ANSWER_CAP_S = 600.0
"""A peer that answers too late is given twice the time, up to this."""
LEARNT_S = 600.0
"""After how many instances a peer hangs up is forgotten after so long: it may have been mended."""
MAX_REFUSALS_NOTED = 1000


class StorePeer(StoreReach, frozen=True, kw_only=True):
    """The C-STORE SCP of a destination of another kind."""

    name: str
    ae_title: str


class CStoreCourier:
    """Knows how to store to one destination. What it learns is shared by its sessions."""

    def __init__(
        self,
        destination: DimseDestination | StorePeer,
        our_ae_title: str,
        store: Contents,
        *,
        clock: Callable[[], float] = monotonic,
    ):
        self.batch_instances = BATCH_INSTANCES
        self.batch_bytes = BATCH_BYTES
        self.sessions = destination.associations
        self.idle_s = destination.idle_s
        self.store = store
        self.answer_s = destination.answer_s
        self._destination = destination
        self._calling_aet = AETitle(destination.calling_aet or our_ae_title)
        self._clock = clock
        self._noted: set[Need] = set()
        self._hung_up_after = 0
        self._learnt_at = 0.0
        self._most_instances = ASSOCIATION_INSTANCES

    def session(self) -> Session:
        return CStoreSession(self)

    async def probe(self) -> None:
        """C-ECHO on an association of its own. Raises Transient or Misconfigured.

        A peer that takes the association but not Verification is there all the same.
        """
        destination = self._destination
        node = DimseNode(
            ae_title=AETitle(destination.ae_title),
            host=destination.host,
            port=destination.port,
            calling_aet=self._calling_aet,
            connect_s=destination.connect_s,
            answer_s=self.answer_s,
            max_pdu_bytes=destination.max_pdu_bytes,
        )
        await verify(node)

    async def associate(self, needs: Sequence[Need]) -> StoreAssociation:
        """Open an association that proposes `needs`. Raises Transient or Misconfigured."""
        destination = self._destination
        stream = await connect_association(
            host=destination.host,
            port=destination.port,
            called_aet=AETitle(destination.ae_title),
            calling_aet=self._calling_aet,
            contexts=propose(needs),
            max_pdu_bytes=destination.max_pdu_bytes,
            connect_s=destination.connect_s,
            answer_s=self.answer_s,
        )
        association = StoreAssociation(stream, needs, self._clock())
        self._note_refusals(association.refused())
        return association

    def is_worn(self, association: StoreAssociation) -> bool:
        """Say whether an association has carried enough."""
        now = self._clock()
        if now - self._learnt_at > LEARNT_S:
            self._most_instances = ASSOCIATION_INSTANCES
        return association.answered >= self._most_instances or now - association.opened_at > ASSOCIATION_S

    def learn_from(self, lost: AssociationLost, association: StoreAssociation) -> None:
        """Take in how an association was lost: an answer too late (F44), or always after so many instances (F48)."""
        if lost.silent:
            self.answer_s = max(self.answer_s, min(self.answer_s * 2, ANSWER_CAP_S))
        elif association.answered:
            if association.answered == self._hung_up_after:
                self._most_instances, self._learnt_at = association.answered, self._clock()
                log.info(
                    "destination hangs up, associations are kept shorter",
                    destination=self._destination.name,
                    instances=association.answered,
                )
            self._hung_up_after = association.answered

    def _note_refusals(self, refused: Sequence[Need]) -> None:
        for need in refused:
            if need not in self._noted and len(self._noted) < MAX_REFUSALS_NOTED:
                self._noted.add(need)
                log.warning(
                    "presentation context refused",
                    destination=self._destination.name,
                    sop_class_uid=need.sop_class,
                    transfer_syntax_uid=need.transfer_syntax,
                )


class CStoreSession:
    """One association at a time, opened when first needed."""

    def __init__(self, courier: CStoreCourier):
        self._courier = courier
        self._association: StoreAssociation | None = None

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Send `batch` in order and report each. Raises Transient (BrokenOff when one was in hand) or Misconfigured."""
        if self._association is not None and not await self._association.is_alive():
            await self.aclose()
        contents = ReadAhead(self._courier.store, batch)
        try:
            await self._deliver(batch, contents, report)
        except DeliveryError:
            await self.aclose()
            raise
        finally:
            contents.close()

    async def aclose(self) -> None:
        """Release and close; the session may be used again."""
        association, self._association = self._association, None
        if association is not None:
            await association.aclose()

    async def _deliver(self, batch: Sequence[Delivery], contents: ReadAhead, report: Report) -> None:
        late = _LateReport(report)
        try:
            await self._deliver_in_turn(batch, contents, late)
        finally:
            with anyio.CancelScope(shield=True):
                await late.tell()

    async def _deliver_in_turn(self, batch: Sequence[Delivery], contents: ReadAhead, late: _LateReport) -> None:
        for position, delivery in enumerate(batch):
            try:
                content = await contents.content(delivery)
            except StorageError as error:
                raise Transient(f"our own store cannot be read: {error}") from error
            if isinstance(content, DamagedFile):
                outcome = _damaged(delivery, content)
            else:
                association = await self._associated(batch, position)
                context = association.context_for(delivery)
                if context is None:
                    raise RuntimeError("a presentation context was not proposed")
                if context.result != 0:
                    outcome = refusal(delivery, context)
                else:
                    following = batch[position + 1] if position + 1 < len(batch) else None
                    meanwhile = _Meanwhile(association, following, contents, late)
                    outcome = await self._store(association, delivery, content, meanwhile)
            await late.tell()
            if outcome.verdict is Verdict.MISCONFIGURED:
                raise Misconfigured(outcome.reason)
            late.outcome = outcome
            if outcome.verdict is not Verdict.COMPLETED:
                await late.tell()
            if late.enough:
                return

    async def _associated(self, batch: Sequence[Delivery], position: int) -> StoreAssociation:
        """The association for `batch[position]`: the one at hand, or a new one for what is still to come."""
        association = self._association
        earlier: tuple[Need, ...] = ()
        if association is not None:
            usable = association.open and not self._courier.is_worn(association)
            if usable and association.context_for(batch[position]) is not None:
                return association
            earlier = association.needs
            await self.aclose()
        association = await self._courier.associate(needs_of(batch[position:], earlier))
        self._association = association
        return association

    async def _store(
        self, association: StoreAssociation, delivery: Delivery, content: bytes | None, meanwhile: _Meanwhile
    ) -> Outcome:
        """Send one instance; `content` None means that it is large.

        Raises BrokenOff, having reported it if it was sent whole.
        """
        answer_s = self._courier.answer_s
        try:
            if content is not None:
                return await association.store(delivery, content, answer_s, meanwhile)
            async with self._courier.store.open_data_set(delivery, last=delivery.last) as reader:
                return await association.store_chunks(delivery, reader, answer_s)
        except DamagedFile as damage:
            await self.aclose()
            return _damaged(delivery, damage)
        except StorageError as error:
            raise Transient(f"our own store cannot be read: {error}") from error
        except AssociationLost as lost:
            self._courier.learn_from(lost, association)
            if lost.sent_whole:
                await meanwhile.late.tell()
                meanwhile.late.outcome = Outcome(delivery, Verdict.UNCERTAIN, reason=lost.problem)
            raise BrokenOff(lost.problem, delivery) from lost


class _LateReport:
    """The report of a success, put off until the next instance is on the wire: the peer then works while we do."""

    def __init__(self, report: Report):
        self._report = report
        self.outcome: Outcome | None = None
        self.enough = False

    async def tell(self) -> None:
        """Report the outcome that is held back, if there is one."""
        outcome, self.outcome = self.outcome, None
        if outcome is not None and await self._report(outcome):
            self.enough = True


class _Meanwhile:
    """What we do while the peer works on an instance: report the one before, encode the one after."""

    def __init__(
        self, association: StoreAssociation, following: Delivery | None, contents: ReadAhead, late: _LateReport
    ):
        self.late = late
        self._association, self._following, self._contents = association, following, contents

    async def __call__(self) -> None:
        await self.late.tell()
        following = self._following
        if following is None or (content := self._contents.at_hand(following)) is None:
            return
        context = self._association.context_for(following)
        if context is not None and context.result == 0:
            self._association.prepare(following, content)


def _damaged(delivery: Delivery, damage: DamagedFile) -> Outcome:
    log.error("stored content damaged, not sent", file=damage.file, problem=damage.problem)
    return Outcome(delivery, Verdict.NEVER, reason=f"content damaged: {damage.problem}")
