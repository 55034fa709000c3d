"""The courier for `kind = "send-rs"`: a server that already holds the instances is asked to send them to a target.

Each request names its instances by a list of SOP Instance UIDs. Its Transaction UID is made from what it is for, so
that after a crash, a lost answer or a pause the same request is found again and not made twice (O-50): the server's
journal remembers it, ours need not. When batches come out differently than before, something is sent twice, which is
harmless; never not at all.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from urllib.parse import urlsplit

import anyio
import msgspec

from router.config.model import SendRsDestination
from router.delivery.send_rs import SendRsClient, Server
from router.delivery.send_rs_answer import judge
from router.dicom.non_patient import category_of
from router.dicom.status import Verdict
from router.dicom.uids import Uid, new_uid
from router.dicomweb.send_answer import Kind
from router.dicomweb.send_client import End, How, Pace
from router.dicomweb.send_question import INSTANCES, SendQuestion, send_target
from router.errors import Misconfigured, Transient
from router.journal.records import Delivery
from router.sending.courier import Outcome, Report

IDLE_S = 10.0
MAX_LINE_BYTES = 8000
"""Length of a request line that any server must take (RFC 9110 §4.1)."""
MAX_ANSWER_BYTES = 1024**2
"""10,000 failed UIDs, the largest batch, take 700 KiB."""
UNLIMITED_BYTES = 1024**6
"""No instance passes through us."""
PACE = Pace(troubles_before=0)
"""Before the request was taken the lane decides what follows from trouble; afterwards it is waited out."""
LONGEST_UID = Uid("2.25." + "9" * 39)
_SOP_INSTANCE_UID = "SOPInstanceUID"
_NAMESPACE = uuid.UUID("4c8a9e52-6d0f-5b1e-9a37-2f6c1d7be048")

Wait = Callable[[float], Awaitable[None]]


class SendRsCourier:
    """A `sending.Courier` for a SEND-RS server. `wait` passes the time between requests."""

    def __init__(self, destination: SendRsDestination, *, wait: Wait = anyio.sleep):
        self._destination, self._wait = destination, wait
        self.batch_instances = destination.batch_instances
        self.batch_bytes = UNLIMITED_BYTES
        self.sessions = destination.connections
        self.idle_s = IDLE_S

    def session(self) -> SendRsSession:
        return SendRsSession(self._destination, self._wait)

    async def probe(self) -> None:
        """Ask about a request that does not exist. Raises Misconfigured, Transient."""
        client = _client(self._destination, self._wait)
        try:
            question = SendQuestion(resource=INSTANCES, destination=self._destination.target)
            answer = await client.check(question, new_uid())
        finally:
            await client.aclose()
        match answer.kind:
            case Kind.BUSY:
                raise Transient(answer.words)
            case Kind.NO:
                raise Misconfigured(answer.words)
            case _:
                return


class SendRsSession:
    """A `sending.Session`: one HTTP connection, one request followed at a time."""

    def __init__(self, destination: SendRsDestination, wait: Wait = anyio.sleep):
        self._destination = destination
        self._client = _client(destination, wait)

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Have `batch` sent, in as many requests as it takes; report each instance when its request has ended."""
        waiting = deque(requests_of(self._destination, batch))
        while waiting:
            request = waiting.popleft()
            end = await self._follow(request)
            judgement = judge(end, request)
            enough = False
            for outcome in judgement.outcomes:  # all of them, as all were asked for
                enough = bool(await report(outcome)) or enough
            if end.how is How.NO_ANSWER:
                raise Transient(end.words, end.retry_after_s)
            if enough:
                return
            waiting.extendleft(reversed(judgement.again))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _follow(self, request: Sequence[Delivery]) -> End:
        """See one request through. One that had ended before we came is asked anew for what it did not deliver."""
        destination = self._destination
        uid, question = transaction_uid(destination, request), _question(destination, request)
        end = await self._client.follow(question, uid, timeout_s=destination.follow_s, another_uid=new_uid)
        if end.found and not _is_delivered(judge(end, request).outcomes, request):
            return await self._client.follow(question, new_uid(), timeout_s=destination.follow_s, another_uid=new_uid)
        return end


def transaction_uid(destination: SendRsDestination, request: Sequence[Delivery]) -> Uid:
    """Make the Transaction UID of a request: the same for the same sub-operations, until one of them has failed.

    A sub-operation is known by its id, its date and its instance, so that a journal that begins anew repeats no UID.
    """
    parts = [destination.url, destination.target, _resource(request[0])]
    parts += sorted(
        f"{one.sub_operation_id} {one.created_at!r} {one.declared.sop_instance_uid} {one.instance_failures}"
        for one in request
    )
    return Uid(f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}")


def requests_of(destination: SendRsDestination, batch: Sequence[Delivery]) -> Iterator[tuple[Delivery, ...]]:
    """Cut a batch into requests whose lines are short enough.

    What has been tried as often stays together: after a crash that is what was in one request before it. Non-patient
    instances are asked for at the resource of their category.
    """
    for _, group in groupby(sorted(batch, key=_alike), key=_alike):
        same = list(group)
        request: list[Delivery] = []
        left = room = _room(destination, same[0])
        for delivery in same:
            needed = len(delivery.declared.sop_instance_uid) + len(",")
            if request and needed > left:
                yield tuple(request)
                request, left = [], room
            request.append(delivery)
            left -= needed
        yield tuple(request)


def _alike(delivery: Delivery) -> tuple[str, int]:
    return _resource(delivery), delivery.attempts


def _resource(delivery: Delivery) -> str:
    category = category_of(delivery.declared.sop_class_uid)
    return INSTANCES if category is None else category.name


def _room(destination: SendRsDestination, one: Delivery) -> int:
    """Give the bytes that the UIDs and commas of a request like that for `one` may take."""
    bare = msgspec.structs.replace(_question(destination, (one,)), match=((_SOP_INSTANCE_UID, ()),))
    line = f"POST {urlsplit(destination.url).path}{send_target(bare, LONGEST_UID)} HTTP/1.1"
    return MAX_LINE_BYTES - len(line)


def _question(destination: SendRsDestination, request: Sequence[Delivery]) -> SendQuestion:
    uids = tuple(delivery.declared.sop_instance_uid for delivery in request)
    match = ((_SOP_INSTANCE_UID, uids),)
    return SendQuestion(resource=_resource(request[0]), destination=destination.target, match=match)


def _is_delivered(outcomes: Sequence[Outcome], request: Sequence[Delivery]) -> bool:
    stored = (Verdict.COMPLETED, Verdict.WARNING)
    return len(outcomes) == len(request) and all(outcome.verdict in stored for outcome in outcomes)


def _client(destination: SendRsDestination, wait: Wait) -> SendRsClient:
    server = Server(
        url=destination.url,
        connect_s=destination.connect_s,
        answer_s=destination.answer_s,
        headers=destination.headers,
        bearer_token_file=destination.bearer_token_file,
        ca_file=destination.ca_file,
        max_answer_bytes=MAX_ANSWER_BYTES,
    )
    return SendRsClient(server, pace=PACE, wait=wait)
