"""Query/Retrieve SCU: asks one peer what it holds (C-FIND) and to send it somewhere (C-MOVE), PS3.4 Annex C.

One association a client, opened when first needed and kept. What comes back is read whatever its padding is; a peer
that refuses says so in words. Knows no journal and no rule.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
import msgspec

from router.delivery.query_identifiers import (
    UnfitQuery,
    find_identifier,
    level_named,
    model_named,
    move_identifier,
    texts_of,
)
from router.dicom.identifier import BadIdentifier, read_identifier, write_identifier
from router.dicom.json_model import JsonDataSet
from router.dicom.query_retrieve import CANCELLED, PATIENT_ROOT, STUDY_ROOT, InformationModel, status_words
from router.dicom.sub_operation_status import PENDING_STATUSES, SUCCESS
from router.dicom.transfer_syntax import name_of
from router.dicom.uids import AETitle, Uid
from router.dimse.commands import C_FIND_RQ, C_MOVE_RQ
from router.dimse.events import Command
from router.errors import Misconfigured, Transient
from router.net.nodes import DimseNode
from router.net.proposals import Proposal
from router.net.requestor import Requestor, Response

MEDIUM_PRIORITY: Final = 0
CANCEL_S: Final = 10.0
"""How long a peer that was told to stop may go on giving answers before the association is aborted."""
_FAILED_UIDS: Final = "00080058"
_RELATIONAL, _DATE_TIME = 0, 1
_OFFERED: Final = b"\1\1"
"""Extended negotiation of C-FIND: relational queries, combined date-time matching (PS3.4 Table C.5-1)."""
_KEYS_IGNORED: Final = 0xFF01
_MODELS: Final = (STUDY_ROOT, PATIENT_ROOT)
_OURS_TO_MEND: Final = frozenset({0x0122, 0x0124, 0x0211, 0x0212, 0xA900})
"""Statuses that come again however often the same is asked."""


class QueryFailed(Transient):
    """The peer could not answer just now; `status` is its last."""

    def __init__(self, problem: str, status: int):
        super().__init__(problem)
        self.status = status


class QueryRefused(Misconfigured):
    """The peer will not answer this, however often it is asked; `status` is its last."""

    def __init__(self, problem: str, status: int):
        super().__init__(problem)
        self.status = status


class MoveProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One response to a C-MOVE. Counters that the peer did not give are None."""

    status: int
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    failed_uids: tuple[Uid, ...] = ()
    comment: str = ""

    @property
    def words(self) -> str:
        """What the status means, with the peer's own comment."""
        return _words(self.status, self.comment)


class _Client:
    """An association with one peer, on which both information models are proposed. One operation at a time: a new one
    takes the place of one whose answers nobody reads any more.
    """

    def __init__(self, node: DimseNode):
        self.node = node
        self._requestor: Requestor | None = None

    async def aclose(self) -> None:
        """Release the association, or abort it when something is under way; the client may be used again."""
        if self._requestor is not None:
            await self._drop(self._requestor)

    async def cancel(self) -> None:
        """Ask the peer to stop what is under way; its final response still comes."""
        if self._requestor is not None:
            await self._requestor.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _sop_class(self, model: InformationModel) -> Uid:
        raise NotImplementedError

    def _extended(self) -> bytes:
        return b""

    async def _drop(self, requestor: Requestor) -> None:
        """Close an association; by now there may be a newer one."""
        if self._requestor is requestor:
            self._requestor = None
        await requestor.aclose()

    async def _ready(self, model: InformationModel) -> tuple[Requestor, Uid]:
        """Give the association and its transfer syntax for `model`. Raises Transient, Misconfigured."""
        if self._requestor is not None and not await self._requestor.is_alive():
            await self.aclose()
        if self._requestor is None:
            proposals = [Proposal(self._sop_class(one), self._extended()) for one in _MODELS]
            self._requestor = await Requestor.open(self.node, proposals)
        syntax = self._requestor.transfer_syntax(self._sop_class(model))
        if syntax is None:
            raise Misconfigured(self._refusal(model, self._requestor))
        return self._requestor, syntax

    def _refusal(self, model: InformationModel, requestor: Requestor) -> str:
        uid = self._sop_class(model)
        text = f"{self.node.ae_title} does not take {model.name} here (SOP class {uid} {requestor.refusal(uid)})"
        other = next((o for o in _MODELS if requestor.transfer_syntax(self._sop_class(o)) is not None), None)
        return f"{text}; it does take {other.name}" if other is not None else text


class FindClient(_Client):
    """C-FIND. `granted_…` say what the peer granted for the model last asked with, once it was asked or `open`.

    `cut_short`: the last search had more matches than its limit. `keys_ignored`: the peer said that it does not support
    one of its optional keys, so there may be more matches than were asked for (FF01H).
    """

    def __init__(self, node: DimseNode):
        super().__init__(node)
        self.granted_relational = False
        self.granted_date_time = False
        self.cut_short = False
        self.keys_ignored = False

    async def open(self, *, model: str = "study") -> None:
        """Negotiate without asking anything. Raises Transient, Misconfigured, UnfitQuery."""
        await self._ready(model_named(model))

    async def find(
        self, level: str, keys: JsonDataSet, *, model: str = "study", relational: bool = False, limit: int | None = None
    ) -> AsyncGenerator[JsonDataSet, None]:
        """Ask for what matches `keys`, and give it as it comes; after `limit` of them the peer is told to stop.

        `relational` leaves out the check that all levels above are named, whether the peer granted that or not. Raises
        UnfitQuery before anything is sent; QueryFailed, QueryRefused; Transient, Misconfigured.
        """
        root = model_named(model)
        identifier = find_identifier(root, level_named(level, root), keys, relational=relational)
        requestor, syntax = await self._ready(root)
        command = Command(C_FIND_RQ, affected_sop_class_uid=root.find, priority=MEDIUM_PRIORITY)
        found, patience, ended = 0, None, False
        self.cut_short = self.keys_ignored = False
        try:
            async for response in requestor.ask(root.find, command, _written(identifier, syntax)):
                self.keys_ignored |= response.command.status == _KEYS_IGNORED
                if response.command.status not in PENDING_STATUSES:
                    ended = True
                    _check_end(response.command)
                elif limit is None or found < limit:
                    found += 1
                    yield _read(response, syntax)
                elif patience is None:
                    self.cut_short, patience = True, anyio.current_time() + CANCEL_S
                    await requestor.cancel()
                elif anyio.current_time() > patience:
                    return
        finally:
            if not ended:
                await self._drop(requestor)

    async def _ready(self, model: InformationModel) -> tuple[Requestor, Uid]:
        requestor, syntax = await super()._ready(model)
        granted = requestor.granted(model.find).ljust(len(_OFFERED), b"\0")
        self.granted_relational = granted[_RELATIONAL] == 1
        self.granted_date_time = granted[_DATE_TIME] == 1
        return requestor, syntax

    def _sop_class(self, model: InformationModel) -> Uid:
        return model.find

    def _extended(self) -> bytes:
        return _OFFERED


class MoveClient(_Client):
    """C-MOVE (REQ-124)."""

    async def move(
        self,
        keys: JsonDataSet,
        destination_aet: str,
        *,
        level: str,
        model: str = "study",
        priority: int = MEDIUM_PRIORITY,
        progress: Callable[[MoveProgress], None],
    ) -> MoveProgress:
        """Have what `keys` name sent to `destination_aet`; `progress` is told each pending response.

        `keys` are unique keys: one value for each level above, one (or several UIDs) at `level`. Gives the final
        response, whatever its status is: A801 is an answer too. Raises UnfitQuery before anything is sent; Transient,
        Misconfigured.
        """
        root = model_named(model)
        identifier = move_identifier(root, level_named(level, root), keys)
        requestor, syntax = await self._ready(root)
        command = Command(
            C_MOVE_RQ,
            affected_sop_class_uid=root.move,
            priority=priority,
            move_destination=AETitle(destination_aet),
        )
        last = MoveProgress(status=SUCCESS)
        try:
            async for response in requestor.ask(root.move, command, _written(identifier, syntax)):
                last = _progress(response, syntax)
                if last.status in PENDING_STATUSES:
                    progress(last)
        except BaseException:
            await self._drop(requestor)
            raise
        return last

    def _sop_class(self, model: InformationModel) -> Uid:
        return model.move


def _check_end(command: Command) -> None:
    status = command.status or SUCCESS
    if status in (SUCCESS, CANCELLED):
        return
    words = _words(status, command.error_comment)
    if command.offending_elements:
        words += f" ({', '.join(f'{tag >> 16:04X},{tag & 0xFFFF:04X}' for tag in command.offending_elements)})"
    raise (QueryRefused if status in _OURS_TO_MEND else QueryFailed)(words, status)


def _words(status: int, comment: str) -> str:
    text = f"{status:04X}H {status_words(status)}"
    return f"{text}: {comment}" if comment else text


def _written(identifier: JsonDataSet, syntax: Uid) -> bytes:
    try:
        return write_identifier(identifier, syntax)
    except BadIdentifier as error:
        raise UnfitQuery(error.problem) from error


def _read(response: Response, syntax: Uid) -> JsonDataSet:
    try:
        return read_identifier(response.data_set, syntax)
    except BadIdentifier as error:
        raise Transient(f"a match cannot be read: {error.problem} (in {name_of(syntax)})") from error


def _progress(response: Response, syntax: Uid) -> MoveProgress:
    command = response.command
    return MoveProgress(
        status=command.status or SUCCESS,
        remaining=command.remaining,
        completed=command.completed,
        failed=command.failed,
        warning=command.warning,
        failed_uids=_failed_uids(response, syntax),
        comment=command.error_comment,
    )


def _failed_uids(response: Response, syntax: Uid) -> tuple[Uid, ...]:
    """Read the Failed SOP Instance UID List; a peer whose list cannot be read has given none: its counters hold."""
    if not response.data_set or response.command.status in PENDING_STATUSES:
        return ()
    try:
        found: dict[str, Any] = read_identifier(response.data_set, syntax)
    except BadIdentifier:
        return ()
    return tuple(Uid(uid) for uid in texts_of(found.get(_FAILED_UIDS)) if uid)
