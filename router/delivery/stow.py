"""STOW-RS user agent: batches of instances to one origin server, one POST each, and what became of every instance.

Non-patient instances go to their own resource, one a request (§12.5, O-52). Decides neither about retries nor about
dates; touches no journal. PS3.18 §10.5, reliability-study D12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from router.config.model import StowReach
from router.delivery.contents import DataSets
from router.delivery.stow_answer import judge
from router.delivery.stow_body import StowBody, Unsendable
from router.delivery.stow_targets import STUDIES, by_target, resource_of, resource_url
from router.delivery.web_headers import request_headers
from router.dicom.status import Verdict, http_status
from router.dicomweb.media_types import DICOM_JSON
from router.errors import Misconfigured, StorageError, Transient
from router.journal.records import Delivery
from router.net.http import AnswerLost, HttpClient
from router.sending.courier import BrokenOff, Outcome, Report

IDLE_S = 10.0
"""A connection without work is closed after so long: most servers close theirs after 15 s or more."""
_BUSY = (408, 429)
_NOT_IMPLEMENTED = 501
_SAYS_NO = (401, 403, 404, 407)


class StowCourier:
    """A `sending.Courier` for a STOW-RS destination; `data_sets` is the store."""

    def __init__(self, destination: StowReach, data_sets: DataSets):
        self._destination, self._data_sets = destination, data_sets
        # A server that names no instance in its answer says of a batch only that something of it was stored.
        self.batch_instances = 1 if destination.empty_200 == "accept" else destination.batch_instances
        self.batch_bytes = destination.batch_bytes
        self.sessions = destination.connections
        self.idle_s = IDLE_S

    def session(self) -> StowSession:
        return StowSession(self._destination, self._data_sets)

    async def probe(self) -> None:
        """Search for one study. Any answer will do but one that says that we are wrong here, or they in trouble.

        Raises Misconfigured, Transient.
        """
        destination = self._destination
        client = _client(destination)
        try:
            answer = await client.request(
                "GET",
                f"{resource_url(destination.url, STUDIES)}?limit=1",
                headers=await _headers(destination, {"Accept": DICOM_JSON}),
            )
        finally:
            await client.aclose()
        if answer.status in _SAYS_NO or 300 <= answer.status <= 399:
            raise Misconfigured(f"HTTP {answer.status}: {http_status(answer.status).words}")
        if answer.status in _BUSY or (answer.status >= 500 and answer.status != _NOT_IMPLEMENTED):
            raise Transient(f"HTTP {answer.status}: {http_status(answer.status).words}", answer.retry_after_s)


class StowSession:
    """A `sending.Session`: one HTTP connection."""

    def __init__(self, destination: StowReach, data_sets: DataSets):
        self._destination, self._data_sets = destination, data_sets
        self._client = _client(destination)

    async def deliver(self, batch: Sequence[Delivery], report: Report) -> None:
        """Send `batch` in one request, in more and smaller ones where the answer asks for it; report each instance."""
        waiting = deque(by_target(batch))
        while waiting:
            request = waiting.popleft()
            if not request:
                continue
            enough = False
            try:
                outcomes, again = await self._send(request)
            except Unsendable as error:
                enough = bool(await report(Outcome(error.delivery, Verdict.NEVER, reason=error.reason)))
                again = (tuple(delivery for delivery in request if delivery is not error.delivery),)
            except AnswerLost as error:
                for delivery in request:
                    await report(Outcome(delivery, Verdict.UNCERTAIN, reason=error.problem))
                raise
            else:
                for outcome in outcomes:  # all of them, as all were sent
                    enough = bool(await report(outcome)) or enough
            if enough:
                return
            waiting.extendleft(reversed(again))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _send(self, batch: Sequence[Delivery]) -> tuple[Sequence[Outcome], Sequence[tuple[Delivery, ...]]]:
        destination = self._destination
        body = StowBody(batch, self._data_sets)
        url = resource_url(destination.url, resource_of(batch[0]))
        headers = await _headers(destination, {"Accept": DICOM_JSON, "Content-Type": body.content_type})
        try:
            answer = await self._client.request("POST", url, headers=headers, body=body.chunks, body_bytes=body.length)
        except StorageError as error:
            raise Transient(f"our own store: {error}") from error
        except AnswerLost:
            raise
        except Transient as error:
            if body.sending is None:
                raise
            raise BrokenOff(error.problem, body.sending) from error
        judgement = judge(answer, batch, destination.empty_200)
        return judgement.outcomes, judgement.again


def _client(destination: StowReach) -> HttpClient:
    return HttpClient(connect_s=destination.connect_s, answer_s=destination.answer_s, ca_file=destination.ca_file)


async def _headers(destination: StowReach, ours: dict[str, str]) -> dict[str, str]:
    return await request_headers(ours, configured=destination.headers, token_file=destination.bearer_token_file)
