"""The DIMSE services of one association, message by message: C-STORE into a `Visit`, C-ECHO, and a status for
everything else.

A message that we cannot take is answered after its data set has been read and dropped, so that the sender, which looks
for an answer only then, hears it and the association goes on. No two operations are ever outstanding here: each is
answered before the next is read, whatever window the peer asked for. Those of services may be: `operations`.
Clauses: PS3.7 §9.1.1, §9.1.5, Annex C; PS3.4 Table B.2-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import structlog

from router.dicom.envelope import Declared
from router.dicom.uids import VERIFICATION, Uid, is_valid_uid
from router.dimse.commands import C_ECHO_RQ, C_STORE_RQ, RESPONSE
from router.dimse.events import Command, CommandReceived
from router.errors import PeerError, Refused, StorageError
from router.ingest.door import Reception, Visit
from router.net.association import AssociationStream
from router.scp.escape import printable
from router.scp.outlet import Outlet

log = structlog.get_logger()

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
"""Statuses (PS3.7 Annex C, PS3.4 Table B.2-1)."""

CLEAN_UP_S = 10.0
"""Longest that an association that is cancelled may take to discard what it had in hand."""


@dataclass(slots=True)
class Counts:
    """What came in over one association."""

    received: int = 0
    refused: int = 0
    echoed: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Message:
    """The request whose data set is coming in. `status` is what it will be answered with; the data set is dropped
    unless that is Success.
    """

    context_id: int
    command: Command
    transfer_syntax_uid: Uid
    status: int = SUCCESS
    comment: str = ""
    bytes: int = 0
    reception: Reception | None = None


class StorageService:
    """Serves the messages of one association, one after the other."""

    def __init__(
        self,
        stream: AssociationStream,
        outlet: Outlet,
        visit: Visit,
        *,
        max_instance_bytes: int,
        peer: str,
        calling_aet: str,
    ) -> None:
        self.counts = Counts()
        self._stream, self._outlet, self._visit = stream, outlet, visit
        self._max_instance_bytes = max_instance_bytes
        self._log = log.bind(peer=peer, calling_aet=calling_aet)
        self._message: _Message | None = None

    @property
    def busy(self) -> bool:
        """Whether a message has begun that is not yet answered."""
        return self._message is not None

    async def begin(self, event: CommandReceived, refusal: tuple[int, str] | None = None) -> None:
        """Take a request; with a `refusal`, status and comment, only to answer that. Raises PeerError for one that
        cannot be answered; TimeoutError, ConnectionLost from writing the answer.
        """
        command = event.command
        if self._message is not None:
            raise PeerError("command inside the data set of another message")
        context = self._stream.layer.contexts[event.context_id]
        message = _Message(event.context_id, command, context.transfer_syntax)
        message.status, message.comment = refusal or _verdict(command, context.abstract_syntax)
        if command.has_data_set:
            self._message = message
        else:
            await self._answer(message)

    async def take(self, fragment: bytes | memoryview, last: bool) -> None:
        """Take a fragment of the data set; with the last one, answer. Raises as `begin` does, and PeerError for an
        endless data set (B20).
        """
        message = self._message
        if message is None:
            raise PeerError("data set without a command")
        message.bytes += len(fragment)
        if message.bytes > self._max_instance_bytes:
            await self.break_off()
            self._fail(message, OUT_OF_RESOURCES, f"data set exceeds {self._max_instance_bytes} bytes")
            await self._answer(message)
            raise PeerError(f"data set of more than {self._max_instance_bytes} bytes")
        if message.status == SUCCESS and message.command.field == C_STORE_RQ:
            await self._store(message, fragment, last)
        if last:
            self._message = None
            await self._answer(message)

    async def break_off(self) -> None:
        """Forget the message in hand: its sender is gone or is being sent away (B44)."""
        message, self._message = self._message, None
        if message is not None:
            await _discard(message)

    async def _store(self, message: _Message, fragment: bytes | memoryview, last: bool) -> None:
        try:
            reception = message.reception
            if reception is None:
                command = message.command
                declared = Declared(
                    command.affected_sop_class_uid, command.affected_sop_instance_uid, message.transfer_syntax_uid
                )
                reception = message.reception = self._visit.receive(declared)
            if fragment:
                await reception.write(fragment)
            if not last:
                return
            if not message.bytes:
                raise Refused(DOES_NOT_MATCH_SOP_CLASS, "empty data set")  # B42
            message.reception = None  # from here on it ends itself
            await reception.accept()
        except Refused as refusal:
            self._fail(message, refusal.status, refusal.reason)
        except StorageError as error:
            self._log.error("instance not stored", error=str(error), sop_instance_uid=_shown(message.command))
            self._fail(message, OUT_OF_RESOURCES, "not stored, try again later")
        except Exception:  # noqa: BLE001  the stage's edge: one instance fails, the association goes on (F17)
            self._log.exception("instance failed in our code", sop_instance_uid=_shown(message.command))
            self._fail(message, PROCESSING_FAILURE, "internal error, try again later")
        if message.status != SUCCESS:
            await _discard(message)

    def _fail(self, message: _Message, status: int, comment: str) -> None:
        message.status, message.comment = status, comment

    async def _answer(self, message: _Message) -> None:
        command, counts = message.command, self.counts
        if message.status != SUCCESS:
            counts.refused += 1
            self._log.warning(
                "request refused",
                command=f"{command.field:04X}",
                status=f"{message.status:04X}",
                why=message.comment,
                sop_class_uid=printable(command.affected_sop_class_uid),
                sop_instance_uid=_shown(message.command),
            )
        elif command.field == C_STORE_RQ:
            counts.received += 1
            counts.bytes += message.bytes
        else:
            counts.echoed += 1
        await self._outlet.send(
            message.context_id,
            Command(
                field=command.field | RESPONSE,
                message_id_responded_to=command.message_id,
                affected_sop_class_uid=_echoed(command.affected_sop_class_uid),
                affected_sop_instance_uid=_echoed(command.affected_sop_instance_uid),
                status=message.status,
                error_comment=message.comment,
            ),
        )


async def _discard(message: _Message) -> None:
    reception, message.reception = message.reception, None
    if reception is not None:
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            await reception.discard()


def _verdict(command: Command, abstract_syntax: Uid) -> tuple[int, str]:
    """Check what the command says against its presentation context, before any byte of its data set."""
    operation = command.field
    if operation == C_ECHO_RQ and abstract_syntax == VERIFICATION:
        return SUCCESS, ""
    if operation != C_STORE_RQ or abstract_syntax == VERIFICATION:
        return UNRECOGNIZED_OPERATION, f"operation {operation:04X}H is not served here"  # B24
    if not command.affected_sop_class_uid:
        return MISTYPED_ARGUMENT, "no Affected SOP Class UID"  # B22
    if not command.affected_sop_instance_uid:
        return MISTYPED_ARGUMENT, "no Affected SOP Instance UID"  # B22
    if not command.has_data_set:
        return DOES_NOT_MATCH_SOP_CLASS, "no data set"  # B26
    if command.affected_sop_class_uid != abstract_syntax:
        return DOES_NOT_MATCH_SOP_CLASS, "SOP class is not that of the presentation context"  # B27
    return SUCCESS, ""


def _echoed(uid: Uid) -> Uid:
    """The UID for the answer; what is not a UID is not sent back."""
    return uid if is_valid_uid(uid, odd=True) else Uid("")


def _shown(command: Command) -> str:
    return printable(command.affected_sop_instance_uid)
