"""What an origin server's answer says of each instance of a request (PS3.18 Tables 10.5.3-1, 12.5.3-1; D12, O-34).

Pure: an HTTP answer and the batch it is about in; outcomes out, and what must be asked again in smaller requests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from router.dicom import status as meanings
from router.dicom.non_patient import category_of
from router.dicom.status import Meaning, Verdict
from router.dicomweb import media_types, store_response
from router.dicomweb.store_response import InstanceResult, StoreResponse
from router.errors import Misconfigured, PeerError, Transient
from router.journal.records import Delivery
from router.net.http import HttpAnswer
from router.sending.courier import MAX_REASON_CHARACTERS, BrokenOff, Outcome

_MAX_QUOTED_CHARACTERS = 200
_STORED_ALONE = {
    200: Meaning(Verdict.COMPLETED, "stored"),
    202: Meaning(Verdict.WARNING, "taken, but not yet stored (HTTP 202)"),
}
"""What the status says of a non-patient instance when there is no module: chapter 12 asks for none (O-52)."""
_QUOTED_TYPES = ("text/plain", "application/json", "application/problem+json")


class Judgement(msgspec.Struct, frozen=True):
    """`again`: smaller batches to send; together with `outcomes` they hold each delivery of the request once."""

    outcomes: tuple[Outcome, ...] = ()
    again: tuple[tuple[Delivery, ...], ...] = ()


def judge(answer: HttpAnswer, batch: Sequence[Delivery], empty_200: Literal["uncertain", "accept"]) -> Judgement:
    """Say what became of `batch`. Raises Transient and Misconfigured when the answer is about the destination as such.

    `again` never holds the whole batch, so asking again comes to an end.
    """
    meaning = meanings.http_status(answer.status)
    words = _words(meaning, answer)
    if meaning.verdict is Verdict.MISCONFIGURED:
        raise Misconfigured(words)
    if meaning.verdict is Verdict.DESTINATION:
        if answer.status == 500 and len(batch) > 1:
            return Judgement(again=_halves(batch))  # many a server chokes on one instance this way
        if answer.status == 500:
            raise BrokenOff(words, batch[0])
        raise Transient(words, answer.retry_after_s)
    module = _module(answer)
    results = [(delivery, _result(module, delivery)) for delivery in batch]
    outcomes = tuple(_outcome(delivery, result) for delivery, result in results if result is not None)
    unnamed = tuple(delivery for delivery, result in results if result is None)
    if not unnamed:
        return Judgement(outcomes)
    if meaning.verdict in (Verdict.INSTANCE, Verdict.NEVER):
        if outcomes:
            return Judgement(outcomes, (unnamed,))
        if len(unnamed) > 1:
            return Judgement(again=_halves(unnamed))
    verdict, status = meaning.verdict, answer.status
    if len(batch) == 1:
        if module is not None and module.other_failures and module.other_failures[0] is not None:
            other = meanings.failure_reason(module.other_failures[0])
            words = f"{words}; other failure {module.other_failures[0]:04X}H: {other.words}"
        elif answer.status in _STORED_ALONE and category_of(batch[0].declared.sop_class_uid) and not _is_html(answer):
            stored = _STORED_ALONE[answer.status]
            return Judgement((Outcome(batch[0], stored.verdict, status, stored.words),))
        elif empty_200 == "accept" and answer.status == 200 and not _is_html(answer):
            verdict, words = Verdict.WARNING, "unconfirmed: the answer names no instance (empty_200 = accept)"
    return Judgement(outcomes + tuple(Outcome(delivery, verdict, status, words) for delivery in unnamed))


def _module(answer: HttpAnswer) -> StoreResponse | None:
    if not answer.whole:
        return None
    try:
        return store_response.decode_store_response(answer.content_type, answer.body)
    except PeerError:
        return None


def _result(module: StoreResponse | None, delivery: Delivery) -> InstanceResult | None:
    return None if module is None else module.instances.get(delivery.declared.sop_instance_uid)


def _outcome(delivery: Delivery, result: InstanceResult) -> Outcome:
    match result.verdict:
        case store_response.Verdict.STORED:
            return Outcome(delivery, Verdict.COMPLETED, 0, "stored")
        case store_response.Verdict.CONTRADICTORY:
            return Outcome(delivery, Verdict.UNCERTAIN, result.reason, "named both as stored and as failed")
        case store_response.Verdict.WARNING:
            meaning = meanings.warning_reason(result.reason or 0)
        case store_response.Verdict.FAILED if result.reason is None:
            meaning = Meaning(Verdict.INSTANCE, "failed, without a reason")
        case store_response.Verdict.FAILED:
            meaning = meanings.failure_reason(result.reason)
    return Outcome(delivery, meaning.verdict, result.reason, meaning.words)


def _halves(batch: Sequence[Delivery]) -> tuple[tuple[Delivery, ...], ...]:
    middle = len(batch) // 2
    return tuple(batch[:middle]), tuple(batch[middle:])


def _words(meaning: Meaning, answer: HttpAnswer) -> str:
    """Our words and, where a person can read them, theirs."""
    words = meaning.words if str(answer.status) in meaning.words else f"HTTP {answer.status}: {meaning.words}"
    try:
        quoted = media_types.parse_media_type(answer.content_type).name in _QUOTED_TYPES
    except PeerError:
        quoted = False
    if quoted:
        theirs = re.sub(r"\s+", " ", answer.body[: 4 * _MAX_QUOTED_CHARACTERS].decode("utf-8", "replace")).strip()
        theirs = "".join(character for character in theirs if character.isprintable())[:_MAX_QUOTED_CHARACTERS]
        words = f"{words}; they say: {theirs}" if theirs else words
    return words[:MAX_REASON_CHARACTERS]


def _is_html(answer: HttpAnswer) -> bool:
    return "html" in answer.content_type.lower() or answer.body.lstrip()[:1] == b"<"
