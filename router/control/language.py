"""Questions and answers of the control socket: each one line of JSON, one of each on a connection. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from router.errors import PeerError
from router.sending.parked import RetryReport

SOCKET_NAME: Final = "control"
"""In the state folder; only its owner and root may connect."""
MAX_QUESTION_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 256 * 1024
"""A hundred pending peers have some 20 KiB."""


class Retry(msgspec.Struct, frozen=True, tag="retry", tag_field="ask"):
    """Try again what is parked, for one destination or (None) for all. Answered by `Retried`."""

    destination: str | None = None


class ListPending(msgspec.Struct, frozen=True, tag="pending-peers", tag_field="ask"):
    """List the callers that were turned away because nobody registered them. Answered by `Pending`."""


class PendingCaller(msgspec.Struct, frozen=True):
    """A caller that was turned away; times are Unix seconds."""

    calling_aet: str
    address: str
    first_seen: float
    last_seen: float
    attempts: int


class Retried(msgspec.Struct, frozen=True, tag="retried", tag_field="answer"):
    report: RetryReport


class Pending(msgspec.Struct, frozen=True, tag="pending-peers", tag_field="answer"):
    """The most recent caller first."""

    peers: list[PendingCaller]


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="answer"):
    """It could not be done; `error` says why."""

    error: str


Question = Retry | ListPending
Answer = Retried | Pending | Failed

_QUESTIONS: Final[msgspec.json.Decoder[Question]] = msgspec.json.Decoder(Question)
_ANSWERS: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)


def socket_of(state: Path) -> Path:
    """Name the control socket of a state folder."""
    return state / SOCKET_NAME


def encode(message: Question | Answer) -> bytes:
    """Write a question or an answer as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_question(line: bytes) -> Question:
    """Read a question. Raises PeerError."""
    try:
        return _QUESTIONS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerError(f"not a question that this router knows: {error}") from error


def decode_answer(line: bytes) -> Answer:
    """Read an answer. Raises PeerError."""
    try:
        return _ANSWERS.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerError(f"not an answer that this command knows: {error}") from error
