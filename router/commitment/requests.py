"""Requests of storage commitment: taken, shown to those who may see them, answered (PS3.4 Annex J, PS3.18 chapter 13).

The journal is their only memory. `deciding` rules on those that are ours to decide, `asking` asks for those of proxies,
`reports` has the result brought to a DIMSE requester. One space of Transaction UIDs for both protocols (O-25).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import anyio
import msgspec
import structlog

from router.commitment.clock import Clock
from router.commitment.language import PROCESSING_FAILURE, Reference, Ruling
from router.config.model import Config, DimseUpstream
from router.config.titles import ae_title_of
from router.dicom.uids import Uid
from router.journal import commitment_questions, commitments
from router.journal.commitment_questions import Question
from router.journal.commitments import CommitmentRow, Item, NewCommitment, Origin
from router.journal.journal import Journal

log = structlog.get_logger()

OPERATOR: Final = "operator"
"""The requester who may see every request; the same word as in `sending.requests` (O-28)."""
PROXIES: Final = "proxies."
DESTINATIONS: Final = "destinations."
"""Before the name of who is asked, as the tables of router.toml are called: `Askers` takes such names."""

DIMSE_AT_ONCE: Final = 5_000
"""Instances that one N-ACTION asks a proxy's upstream about: its data set, and that of the report, stay below 1 MiB."""
POLL_LEAST_S, POLL_MOST_S = 1, 300
LOOK_FIRST_S, LOOK_CAP_S = 0.01, 0.5
"""How often a waiting requester's state is looked at: soon, then half as often each time."""

TakeReport = Callable[[str, Uid, Sequence[Ruling]], Awaitable[bool]]
"""Takes (AE title, Transaction UID, rulings) of a report about what was sent with confirm = "commitment"
(`confirming`); False: none of its own."""


class UidInUse(Exception):
    """The Transaction UID is that of another request, open, ready or remembered (409; 0131H)."""


class UnknownCommitment(Exception):
    """There is no such request, or not for this requester (404)."""


class Gone(Exception):
    """There was such a request; its result has been given up (410)."""


class CommitmentState(msgspec.Struct, frozen=True):
    """How far a request is. `rulings` has every instance, in the order of the request, once it is `finished`; else it
    is empty.
    """

    finished: bool
    rulings: Sequence[Ruling]
    poll_s: int
    """After how many seconds it is worth asking again."""


class Commitments:
    """Takes requests and tells how far they are. `config` gives the configuration that is in force just now.

    `wake` is a hint to those who decide and ask that there is something new.
    """

    def __init__(
        self,
        journal: Journal,
        config: Callable[[], Config],
        *,
        clock: Clock,
        wake: Callable[[], None],
        confirmations: TakeReport | None = None,
    ):
        self._journal, self._config, self._clock, self._wake = journal, config, clock, wake
        self._confirmations = confirmations

    async def submit(
        self,
        *,
        transaction_uid: Uid,
        origin: Origin,
        requester: str,
        references: Sequence[Reference],
        proxy: str = "",
        called_aet: str = "",
    ) -> None:
        """Take a request; when this returns, a crash loses nothing of it.

        `requester` is who may ask for the result: the calling AE title over DIMSE, which is who it is reported to, as
        `called_aet`. `proxy` names the [proxies] entry whose upstream decides. Raises UidInUse, StorageError.
        """
        now = self._clock.now()
        row = NewCommitment(transaction_uid, origin, requester, called_aet, proxy, now)
        items = [Item(one.sop_class_uid, one.sop_instance_uid, one.study, one.series) for one in references]
        with anyio.CancelScope(shield=True):  # it takes a commit, and what is journalled is carried out
            made = await self._journal.write(
                partial(
                    commitment_questions.submit,
                    request=row,
                    items=items,
                    asker=PROXIES + proxy if proxy else "",
                    at_once=DIMSE_AT_ONCE if self._is_dimse(proxy) else len(items),
                )
            )
        if made is None:
            raise UidInUse
        log.info(
            "commitment requested",
            transaction_uid=transaction_uid,
            origin=origin,
            requester=requester,
            instances=len(items),
            proxy=proxy,
        )
        self._wake()

    async def state(self, transaction_uid: Uid, requester: str) -> CommitmentState:
        """Tell how far a request is. Raises UnknownCommitment, Gone, StorageError."""
        row = await self._find(transaction_uid)
        if requester != OPERATOR and (row.origin != "web" or row.requester != requester):
            raise UnknownCommitment
        if row.ready_at is not None and row.ready_at + self._config().commitment.result_ttl_s <= self._clock.now():
            raise Gone
        return await self._state_of(row)

    async def wait(self, transaction_uid: Uid, seconds: float) -> CommitmentState:
        """Tell how far a request is after `seconds`, or as soon as it is ready. Raises as `state` does."""
        never, pause_s = anyio.Event(), LOOK_FIRST_S
        while True:
            row = await self._find(transaction_uid)
            if row.ready_at is not None or seconds <= 0:
                return await self._state_of(row)
            pause_s = min(pause_s, seconds)
            await self._clock.wait(never, pause_s)
            seconds, pause_s = seconds - pause_s, min(pause_s * 2, LOOK_CAP_S)

    async def reported(self, peer_aet: str, transaction_uid: Uid, rulings: Sequence[Ruling]) -> bool:
        """Take an N-EVENT-REPORT about something that we asked `peer_aet` for: because of a proxied request, a request
        to us that means "committed", or what was sent with confirm = "commitment".

        False: we asked nothing under this Transaction UID, or it was a requester's choice and this is not the peer that
        we asked: whoever knows it could answer. When this returns True it is journalled. Raises StorageError.
        """
        if self._confirmations is not None and await self._confirmations(peer_aet, transaction_uid, rulings):
            return True
        question = await self._journal.read(
            partial(commitment_questions.by_transaction, transaction_uid=transaction_uid)
        )
        if question is None:
            return False
        if transaction_uid == question.request_uid and self._title_of(question.asker) != peer_aet:
            return False
        if not question.closed:
            await keep_answer(self._journal, question, rulings, now=self._clock.now())
            self._wake()
        return True

    async def _find(self, transaction_uid: Uid) -> CommitmentRow:
        row = await self._journal.read(partial(commitments.find, transaction_uid=transaction_uid))
        if row is None:
            raise UnknownCommitment
        return row

    async def _state_of(self, row: CommitmentRow) -> CommitmentState:
        if row.ready_at is None:
            return CommitmentState(False, (), _poll_after_s(self._clock.now() - row.created_at))
        items = await self._journal.read(partial(commitments.items, request_id=row.request_id))
        return CommitmentState(True, tuple(map(ruling_of, items)), POLL_LEAST_S)

    def _is_dimse(self, proxy: str) -> bool:
        found = self._config().proxies.get(proxy)
        return found is not None and isinstance(found.upstream, DimseUpstream)

    def _title_of(self, asker: str) -> str | None:
        """Give the AE title of whoever this name stands for, None when nobody has it any more."""
        config = self._config()
        if asker.startswith(PROXIES):
            proxy = config.proxies.get(asker.removeprefix(PROXIES))
            return proxy.upstream.ae_title if proxy and isinstance(proxy.upstream, DimseUpstream) else None
        destination = config.destinations.get(asker.removeprefix(DESTINATIONS))
        return ae_title_of(destination) if destination else None


def reference_of(item: Item) -> Reference:
    """Give the instance of a row."""
    return Reference(item.sop_class_uid, item.sop_instance_uid, item.study, item.series)


def ruling_of(item: Item) -> Ruling:
    """Give what was decided about the instance of a row, which must be `ruled`."""
    return Ruling(reference_of(item), item.failure_reason)


async def keep_answer(journal: Journal, question: Question, rulings: Sequence[Ruling], *, now: float) -> None:
    """Journal the answer to `question`; what it says nothing about has failed. Raises StorageError."""
    reasons = {ruling.reference.sop_instance_uid: ruling.failure_reason for ruling in rulings}
    with anyio.CancelScope(shield=True):  # it takes a commit, and who answered will not do so twice
        await journal.write(
            partial(
                commitment_questions.answer,
                question=question,
                reasons=reasons,
                unanswered=PROCESSING_FAILURE,
                now=now,
            )
        )


def _poll_after_s(age_s: float) -> int:
    """What took long already will take longer: ask again after a tenth of that."""
    return round(min(max(age_s / 10, POLL_LEAST_S), POLL_MOST_S))
