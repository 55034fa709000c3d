"""What one answer to a Send or a Check Send Result request means (Sup 248 §10.X.3.1, §10.Y.3.1), for the user agent.

Pure and total: any status with any body is one of eight kinds, with words for a person.
"""

from __future__ import annotations

import re
from enum import Enum
from http import HTTPStatus
from typing import Final

import msgspec

from router.dicom.sub_operation_status import SUCCESS, WARNING
from router.dicomweb import media_types
from router.dicomweb.send_response import SendResult, read_module
from router.errors import PeerError

MAX_WORDS: Final = 300
"""Characters of a server's words that are repeated."""
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_OURS: Final = {
    400: "the request has an error",
    401: "it wants credentials",
    403: "this destination or this caller is not allowed",
    404: "there is no such resource: check the URL",
    405: "it does not take send requests: check the URL",
    406: "it has no answer in a form that we read",
    409: "the Transaction UID is in use",
    410: "the result has been deleted",
    413: "more instances match than it takes in one request",
    414: "the request line is too long",
    503: "it cannot handle the request now",
}


class Kind(Enum):
    """What an answer is."""

    FINAL = "finished, with the module"
    PENDING = "taken, not finished"
    UNREADABLE = "a success without a module that can be read"
    IN_USE = "409"
    UNKNOWN = "404"
    GONE = "410"
    BUSY = "not now"
    NO = "refused, or not a SEND-RS server"
    LOST = "no answer"


class Answer(msgspec.Struct, frozen=True):
    """`result` is the module, final or not; `words` say for a person what was answered."""

    kind: Kind
    words: str
    result: SendResult | None = None


def read_answer(status: int, content_type: str, body: bytes) -> Answer:
    """Say what an answer means. 202 and a Status of Pending both mean that it is not finished (O-32)."""
    if not 200 <= status <= 299:
        return Answer(_failure(status), _words(status, content_type, body))
    try:
        result = read_module(content_type, body)
    except PeerError as error:
        kind = Kind.PENDING if status == HTTPStatus.ACCEPTED else Kind.UNREADABLE
        return Answer(kind, f"HTTP {status}, but {error.problem}"[:MAX_WORDS])
    if status == HTTPStatus.ACCEPTED or result.is_pending:
        return Answer(Kind.PENDING, f"HTTP {status}: not finished", result)
    return Answer(Kind.FINAL, f"HTTP {status}, Status {result.status:04X}H", result)


def is_delivered(result: SendResult) -> bool:
    """Say whether a final module means that every instance arrived, with a warning or without (REQ-049, REQ-067).

    When nothing matched, nothing was delivered.
    """
    is_whole = result.status in (SUCCESS, WARNING) and not result.failed and not result.remaining
    return is_whole and result.completed + result.warning > 0


def _failure(status: int) -> Kind:
    match status:
        case 404:
            return Kind.UNKNOWN
        case 409:
            return Kind.IN_USE
        case 410:
            return Kind.GONE
        case _:
            return Kind.BUSY if status in _BUSY else Kind.NO


def _words(status: int, content_type: str, body: bytes) -> str:
    """Our words and, where a person can read them, theirs: a problem document's (RFC 9457) or plain text."""
    redirect = "redirects are not followed: check the URL" if 300 <= status <= 399 else ""
    ours = redirect or _OURS.get(status) or _phrase(status)
    theirs = said_by(content_type, body)
    return f"HTTP {status}: {ours}" + (f"; it says: {theirs}" if theirs else "")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "a status that is not known"


def said_by(content_type: str, body: bytes) -> str:
    """Give what a person can read in the body of an error answer, "" where there is nothing."""
    try:
        name = media_types.parse_media_type(content_type).name
    except PeerError:
        return ""
    text = ""
    if name.endswith("json"):
        text = _members(body)
    elif name == "text/plain":
        text = body[: 4 * MAX_WORDS].decode("utf-8", "replace")
    text = re.sub(r"\s+", " ", text).strip()
    return "".join(character for character in text if character.isprintable())[:MAX_WORDS]


def _members(body: bytes) -> str:
    """What a Status Report says that is a problem document, or like one (A.8)."""
    try:
        report = msgspec.json.decode(body[: 64 * 1024])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(report, dict):
        return ""
    said = report.get("detail") or report.get("message") or report.get("title")
    more = ((label, report.get(member)) for label, member in (("allowed", "allowed"), ("next", "next")))
    texts = [said] if isinstance(said, str) else []
    texts += [f"{label}: {text}" for label, text in more if isinstance(text, str) and text]
    return "; ".join(texts)
