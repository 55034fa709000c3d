"""The Proxy Option of C-MOVE (PS3.4 §C.4.2.3.1.2): a C-MOVE becomes a Send request to a SEND-RS server.

All of it is the server's: what matches, what is sent and how far it is. Here requests and answers are translated, and
nothing is counted (REQ-146). A C-CANCEL ends our asking, not the server's sending: Send has no cancel (O-05).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import anyio
import structlog

from router.config.model import Destination
from router.config.titles import with_ae_title
from router.dicom.attributes import path_name
from router.dicom.matcher import Key
from router.dicom.matcher_keys import SingleValue, UidList
from router.dicom.query_retrieve import CANCELLED
from router.dicom.sub_operation_status import PENDING, SUCCESS
from router.dicom.uids import Uid, new_uid
from router.dicomweb.destinations import url_of
from router.dicomweb.send_answer import Answer
from router.dicomweb.send_client import Ask, End, How, SendTransaction
from router.dicomweb.send_question import SendQuestion
from router.dicomweb.send_response import SendResult
from router.dimse.commands import C_MOVE_RQ, C_MOVE_RSP
from router.dimse.events import Command, Roles
from router.errors import Misconfigured, PeerError, Transient
from router.scp.escape import printable
from router.scp.retrieve_search import (
    IDENTIFIER_DOES_NOT_MATCH,
    MODELS,
    MOVE_DESTINATION_UNKNOWN,
    OUT_OF_RESOURCES_MATCHES,
    RetrieveRefused,
    read_request,
)
from router.scp.service import Exchange, Invocation
from router.scp.sub_operations import failed_list

log = structlog.get_logger()

UNABLE_TO_PERFORM: Final = 0xA702
"""The server cannot be reached, or has no room: nothing was sent."""
UPSTREAM_REFUSED: Final = 0xC010
UPSTREAM_UNFINISHED: Final = 0xC011
"""It took the request; what became of it was not seen."""
UPSTREAM_FORGOT: Final = 0xC012
_BY_HTTP_STATUS: Final = {
    400: IDENTIFIER_DOES_NOT_MATCH,
    403: MOVE_DESTINATION_UNKNOWN,
    413: OUT_OF_RESOURCES_MATCHES,
    414: OUT_OF_RESOURCES_MATCHES,
    431: OUT_OF_RESOURCES_MATCHES,
}
"""What a refusal of the server means here; any other is UPSTREAM_REFUSED. 403 is about the destination (O-11)."""
REPEAT_S: Final = 15.0
"""The last counters are told again so often while the server has none that are newer: SCUs give up after 30 s."""
LAST_LOOK_S: Final = 10.0
"""How long a C-MOVE that is cancelled waits for the counters."""

Watch = Callable[[SendTransaction, Ask], None]


class SendClient(Protocol):
    """A SEND-RS user agent, as `delivery.send_rs.SendRsClient` is one."""

    async def follow(
        self,
        question: SendQuestion,
        uid: Uid,
        *,
        timeout_s: float,
        another_uid: Callable[[], Uid] | None = None,
        watch: Watch | None = None,
    ) -> End:
        """See the request through. Raises Misconfigured."""
        ...

    async def check(self, question: SendQuestion, uid: Uid) -> Answer:
        """Ask how far it is, once. Raises Transient, Misconfigured."""
        ...

    async def aclose(self) -> None: ...


class ProxyMove:
    """C-MOVE of Patient Root, Study Root and the non-patient models, for one SEND-RS server.

    `client` makes a user agent for one request, `follow_s` is how long that is followed; `pending_s` says how often an
    SCU may be told (0: only at the end), `destinations` gives those that are registered just now.
    """

    def __init__(
        self,
        name: str,
        client: Callable[[], SendClient],
        destinations: Callable[[], Mapping[str, Destination]],
        *,
        follow_s: float,
        pending_s: Callable[[], float],
    ):
        self._models = {model.move: model for model in MODELS}
        self.sop_classes: Mapping[Uid, frozenset[int]] = {
            sop_class: frozenset({C_MOVE_RQ}) for sop_class in self._models
        }
        self._name, self._client, self._destinations = name, client, destinations
        self._follow_s, self._pending_s = follow_s, pending_s

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        """Grant nothing: what the server can do across levels is not known here."""
        return bytes(len(offered[:2]))

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        """The requestor is the SCU."""
        return Roles(proposed.scu, scp=False)

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        """Have the server send what is asked for, and pass on what it says until it has finished."""
        uid, about = new_uid(), self._about(invocation)
        try:
            response, failed = await self._pass_on(uid, invocation, exchange)
            await exchange.respond(response, failed_list(failed, invocation.context.transfer_syntax))
        except RetrieveRefused as refusal:
            log.warning("C-MOVE refused", answer=f"{refusal.status:04X}", why=printable(refusal.words, 200), **about)
            await exchange.respond(refusal.response(invocation.command))
        except (PeerError, TimeoutError):
            log.warning("association of a C-MOVE lost, the server goes on", transaction_uid=uid, **about)
            raise
        else:
            log.info("C-MOVE ended", transaction_uid=uid, answer=f"{response.status:04X}", **about)

    def _question(self, invocation: Invocation) -> SendQuestion:
        """Translate the request. Raises RetrieveRefused."""
        request = invocation.command
        destination = with_ae_title(self._destinations(), request.move_destination)
        if destination is None:
            raise RetrieveRefused(
                MOVE_DESTINATION_UNKNOWN, f"no destination has the AE title {printable(request.move_destination, 16)}"
            )
        retrieve = read_request(self._models, invocation)
        match = tuple((path_name(key.path), _values(key)) for key in retrieve.plan.keys)
        return SendQuestion(resource=retrieve.resource, destination=url_of(destination), match=match)

    async def _pass_on(self, uid: Uid, invocation: Invocation, exchange: Exchange) -> tuple[Command, tuple[Uid, ...]]:
        """Give the last response and what failed. Raises RetrieveRefused, PeerError, TimeoutError."""
        question = self._question(invocation)
        client, news = self._client(), _News(uid)
        log.info("C-MOVE passed on", transaction_uid=uid, resource=question.resource, **self._about(invocation))
        try:
            end = await self._follow(client, question, news, exchange)
            if end is not None:
                return _last_response(end)
            return await _cancelled(client, question, news)
        except Misconfigured as error:
            raise RetrieveRefused(UPSTREAM_REFUSED, error.problem) from error
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    async def _follow(self, client: SendClient, question: SendQuestion, news: _News, exchange: Exchange) -> End | None:
        """Follow the request while its SCU wants it; None when it does not, or has gone.

        Raises Misconfigured, PeerError, TimeoutError.
        """
        end: End | None = None
        problem: Misconfigured | PeerError | TimeoutError | None = None

        async def tell() -> None:
            nonlocal problem
            try:
                await self._tell(news, exchange)
            except (PeerError, TimeoutError) as error:
                problem = error
                tasks.cancel_scope.cancel()

        async def stop() -> None:
            await exchange.cancelled.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell)
            tasks.start_soon(stop)
            try:
                end = await client.follow(
                    question, news.uid, timeout_s=self._follow_s, another_uid=new_uid, watch=news.take
                )
            except Misconfigured as error:
                problem = error
            tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return end

    async def _tell(self, news: _News, exchange: Exchange) -> None:
        """Make each module of the server that says Pending a response, and repeat the last while there is none."""
        if not self._pending_s():
            return
        told: SendResult | None = None
        while True:
            changed = news.changed
            if news.result is told:
                with anyio.move_on_after(REPEAT_S):
                    await changed.wait()
            told = news.result
            if told is not None:
                await exchange.respond(_response(PENDING, told))

    def _about(self, invocation: Invocation) -> dict[str, str]:
        return {
            "proxy": self._name,
            "calling_aet": printable(invocation.calling_aet),
            "move_destination": printable(invocation.command.move_destination),
        }


class _News:
    """What the server last said, and under which Transaction UID it knows the request."""

    def __init__(self, uid: Uid):
        self.uid = uid
        self.result: SendResult | None = None
        self.changed = anyio.Event()

    def take(self, transaction: SendTransaction, ask: Ask) -> None:
        self.uid = transaction.uid
        if transaction.result is not None and transaction.result is not self.result:
            self.result = transaction.result
            self.changed.set()
            self.changed = anyio.Event()


async def _cancelled(client: SendClient, question: SendQuestion, news: _News) -> tuple[Command, tuple[Uid, ...]]:
    """Look once more how far it is. One that has ended by then is told as it ended."""
    result = news.result
    with anyio.move_on_after(LAST_LOOK_S):
        try:
            result = (await client.check(question, news.uid)).result or result
        except (Transient, Misconfigured) as error:
            log.warning("a cancelled C-MOVE was not looked at again", transaction_uid=news.uid, problem=error.problem)
    if result is None:
        return Command(C_MOVE_RSP, status=CANCELLED), ()
    if not result.is_pending:
        return _final(result)
    return _response(CANCELLED, result), ()


def _last_response(end: End) -> tuple[Command, tuple[Uid, ...]]:
    """Translate the end of the request. Raises RetrieveRefused when nothing was sent."""
    match end.how:
        case How.ANSWERED if end.result is not None:
            return _final(end.result)
        case How.REFUSED:
            raise RetrieveRefused(_BY_HTTP_STATUS.get(end.status or 0, UPSTREAM_REFUSED), end.words)
        case How.FORGOTTEN:
            status = UPSTREAM_FORGOT
        case How.NO_ANSWER if end.taken is False:
            raise RetrieveRefused(UNABLE_TO_PERFORM, end.words)
        case _:
            status = UPSTREAM_UNFINISHED
    response = Command(C_MOVE_RSP, status=status, error_comment=end.words)
    if end.result is None:
        return response, ()
    counted = _response(status, end.result, words=end.words, remaining=False)
    return counted, end.result.failed_uids


def _final(result: SendResult) -> tuple[Command, tuple[Uid, ...]]:
    return _response(result.status, result, remaining=False), () if result.status == SUCCESS else result.failed_uids


def _response(status: int, result: SendResult, *, words: str = "", remaining: bool = True) -> Command:
    """Give the counters of a module as they are; Remaining stands in Pending and Cancel only (REQ-114)."""
    return Command(
        C_MOVE_RSP,
        status=status,
        remaining=(result.remaining or 0) if remaining else None,
        completed=result.completed,
        failed=result.failed,
        warning=result.warning,
        error_comment=words,
    )


def _values(key: Key) -> tuple[str, ...]:
    """Give what a unique key asks for."""
    match key:
        case UidList():
            return tuple(sorted(key.uids))
        case SingleValue():
            return (key.value,)
        case _:
            raise RetrieveRefused(IDENTIFIER_DOES_NOT_MATCH, f"{path_name(key.path)} takes one value", key.path[:1])
