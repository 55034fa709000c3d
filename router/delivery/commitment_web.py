"""Storage commitment asked of a DICOMweb origin server (PS3.18 §13.4, §13.5): one request, then a look now and then.

Keeps nothing: what was asked is journalled by who asks. A request whose answer was lost is asked again under its UID;
the server then says that the UID is in use (409), and has the result below it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from anyio import to_thread

from router.commitment.language import Forgotten
from router.config.model import StowDestination, WebUpstream
from router.delivery.stow_targets import resource_url
from router.delivery.web_headers import request_headers
from router.dicom.commitment import DUPLICATE_TRANSACTION_UID, Reference, Ruling
from router.dicom.json_model import encode_object, in_order
from router.dicom.uids import Uid
from router.dicomweb.commitment_module import COMMITMENT_REQUESTS, MAX_BYTES, read_response, request_module
from router.dicomweb.media_types import DICOM_JSON
from router.dicomweb.one_data_set import read_one
from router.dicomweb.send_answer import said_by
from router.errors import Misconfigured, PeerError, Transient
from router.net.http import HttpAnswer, HttpClient

ACCEPT: Final = (
    'application/dicom+json, application/dicom+xml;q=0.9, multipart/related;type="application/dicom+xml";q=0.8'
)
POLL_S: Final = 10.0
"""When to look again at a server that does not say when."""
POLL_LEAST_S, POLL_MOST_S = 1.0, 3_600.0
"""What a server says of that is kept within these."""
_BUSY: Final = frozenset({408, 425, 429})
_NOT_IMPLEMENTED: Final = 501
_FORGOTTEN: Final = frozenset({404, 410})


class WebAsker:
    """A `commitment.language.Asker` for the origin server of a destination, or the upstream of a proxy."""

    def __init__(self, server: StowDestination | WebUpstream):
        self._server = server
        self._poll_s = POLL_S

    @property
    def poll_s(self) -> float:
        return self._poll_s

    async def ask(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """See `Asker.ask`. A UID that is another's there, or whose result is given up, fails all (0131H)."""
        body = await to_thread.run_sync(lambda: encode_object(in_order(request_module(references))))
        answer = await self._request("POST", transaction_uid, body)
        if answer.status != 409:
            return await self._read(answer, references)
        answer = await self._request("GET", transaction_uid)
        if answer.status in _FORGOTTEN:
            return [Ruling(reference, DUPLICATE_TRANSACTION_UID) for reference in references]
        return await self._read(answer, references)

    async def check(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """See `Asker.check`."""
        answer = await self._request("GET", transaction_uid)
        if answer.status in _FORGOTTEN:
            raise Forgotten(f"HTTP {answer.status}")
        return await self._read(answer, references)

    async def _read(self, answer: HttpAnswer, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """Say what a server means. None: not finished. Raises Transient, Misconfigured."""
        status = answer.status
        if status == 202:
            said = POLL_S if answer.retry_after_s is None else answer.retry_after_s
            self._poll_s = min(max(said, POLL_LEAST_S), POLL_MOST_S)
            return None
        if 200 <= status <= 299:
            if not answer.whole:
                raise Transient(f"HTTP {status}, with an answer of more than {MAX_BYTES} bytes")
            return await to_thread.run_sync(partial(_rulings, answer, references))
        words = f"HTTP {status} to a commitment request"
        if theirs := said_by(answer.content_type, answer.body):
            words += f"; it says: {theirs}"
        if status in _BUSY or (status >= 500 and status != _NOT_IMPLEMENTED):
            raise Transient(words, answer.retry_after_s)
        raise Misconfigured(words)

    async def _request(self, method: str, transaction_uid: Uid, body: bytes | None = None) -> HttpAnswer:
        server = self._server

        async def chunks() -> AsyncIterator[bytes]:
            assert body is not None
            yield body

        ours = {"Accept": ACCEPT} | ({} if body is None else {"Content-Type": DICOM_JSON})
        headers = await request_headers(ours, configured=server.headers, token_file=server.bearer_token_file)
        client = HttpClient(
            connect_s=server.connect_s, answer_s=server.answer_s, ca_file=server.ca_file, max_answer_bytes=MAX_BYTES
        )
        try:
            return await client.request(
                method,
                f"{resource_url(server.url, COMMITMENT_REQUESTS)}/{transaction_uid}",
                headers=headers,
                body=None if body is None else chunks,
                body_bytes=None if body is None else len(body),
            )
        finally:
            await client.aclose()


def _rulings(answer: HttpAnswer, references: Sequence[Reference]) -> Sequence[Ruling]:
    try:
        rulings = read_response(read_one(answer.content_type, answer.body), references)
    except PeerError as error:
        raise Transient(f"HTTP {answer.status}, but {error.problem}") from error
    if rulings is None:
        raise Transient(f"HTTP {answer.status}, but the answer holds no Storage Commitment Response Module")
    return rulings
