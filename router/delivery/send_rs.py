"""SEND-RS user agent: asks one server to send what it holds to somebody else, and follows that to the end.

Drives `dicomweb.send_client` over HTTP (Sup 248 §10.X, §10.Y, §12.X, §12.Y). It touches no journal and no instance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import anyio
import msgspec

from router.delivery.web_headers import request_headers
from router.dicom.uids import Uid
from router.dicomweb.send_answer import Answer, read_answer
from router.dicomweb.send_client import Ask, End, Pace, SendTransaction
from router.dicomweb.send_question import CHECK_HEADERS, SendQuestion, check_target
from router.dicomweb.send_response import MAX_BYTES
from router.errors import Transient
from router.net.http import AnswerLost, HttpAnswer, HttpClient

WAIT_ROOM_S = 10.0
"""A server that was asked to wait may answer so much later than that."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A SEND-RS server and how to talk to it. `url` is the Base URI of its services, without a slash at its end."""

    url: str
    connect_s: float = 10.0
    answer_s: float = 60.0
    """Longest wait for one answer, besides the time that the server itself is asked to wait."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    max_answer_bytes: int = MAX_BYTES


Watch = Callable[[SendTransaction, Ask], None]
"""Is shown how far it is and what is asked next."""


class SendRsClient:
    """One connection to one server; one request at a time. `wait` passes the time between requests."""

    def __init__(
        self,
        server: Server,
        *,
        pace: Pace = Pace(),  # noqa: B008 it is frozen
        longest_wait_s: float = 0.0,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ):
        self._server, self._pace, self._wait = server, pace, wait
        self._http = HttpClient(
            connect_s=server.connect_s,
            answer_s=max(server.answer_s, longest_wait_s + WAIT_ROOM_S),
            ca_file=server.ca_file,
            max_answer_bytes=server.max_answer_bytes,
        )

    async def follow(
        self,
        question: SendQuestion,
        uid: Uid,
        *,
        timeout_s: float,
        another_uid: Callable[[], Uid] | None = None,
        watch: Watch | None = None,
        until_taken: bool = False,
    ) -> End:
        """Ask for it and see it through, for `timeout_s` at most; `until_taken`: only until the server took it.

        `another_uid` gives Transaction UIDs to go on with when `uid` is another's. What the server has taken goes on
        there in any case. Raises Misconfigured; every other failure is an `End`.
        """
        transaction = SendTransaction(question, uid, another_uid=another_uid, pace=self._pace)
        with anyio.move_on_after(timeout_s):
            return await self._follow(transaction, watch, until_taken)
        return transaction.give_up(f"not finished within {timeout_s:g} s")

    async def check(self, question: SendQuestion, uid: Uid) -> Answer:
        """Make the Check Send Result request, once. Raises Transient, Misconfigured."""
        answer = await self._ask(Ask("GET", check_target(question, uid), CHECK_HEADERS))
        return read_answer(answer.status, answer.content_type, _whole(answer))

    async def aclose(self) -> None:
        """Close the connection; a later request opens a new one. Never raises."""
        await self._http.aclose()

    async def _follow(self, transaction: SendTransaction, watch: Watch | None, until_taken: bool) -> End:
        step: Ask | End = transaction.begin()
        while isinstance(step, Ask):
            await self._wait(step.after_s)
            try:
                answer = await self._ask(step)
            except AnswerLost as error:
                step = transaction.lost(error.problem)
            except Transient as error:
                step = transaction.lost(error.problem, sent=False)
            else:
                step = transaction.answered(
                    answer.status, answer.content_type, _whole(answer), retry_after_s=answer.retry_after_s
                )
            if isinstance(step, Ask):
                if until_taken and transaction.taken:
                    return transaction.give_up("taken, and not followed")
                if watch is not None:
                    watch(transaction, step)
        return step

    async def _ask(self, ask: Ask) -> HttpAnswer:
        server = self._server
        headers = await request_headers(ask.headers, configured=server.headers, token_file=server.bearer_token_file)
        return await self._http.request(ask.method, f"{server.url}{ask.target}", headers=headers)


def _whole(answer: HttpAnswer) -> bytes:
    return answer.body if answer.whole else b""
