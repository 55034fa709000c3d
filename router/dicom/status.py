"""What an answer means: one table from DIMSE status, STOW reason, HTTP status or association reject to a verdict.

Reliability-study D12. Every function is total: a code that nobody wrote down is UNCERTAIN, never a success. Pure; it
knows no destination and decides no date (that is `sending.retry`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What one answer means for one instance (reliability-study D12)."""

    COMPLETED = "completed"
    WARNING = "warning"
    """Stored, with something a person should see."""
    DESTINATION = "destination"
    """Their trouble: try again, blame the destination."""
    INSTANCE = "instance"
    """This instance's trouble: try again a few times within an hour, then park it."""
    NEVER = "never"
    """It can never work: park it at once."""
    UNCERTAIN = "uncertain"
    """Sent, but whether it was stored is unknown: send it again."""
    MISCONFIGURED = "misconfigured"
    """They say no to us as such: stop the lane, tell a person, blame no instance."""


class Meaning(msgspec.Struct, frozen=True):
    """A verdict and the words for a person."""

    verdict: Verdict
    words: str


_STORED = Meaning(Verdict.COMPLETED, "stored")
_ALREADY_THERE = Meaning(Verdict.WARNING, "already there (duplicate SOP instance)")
_TRANSFER_SYNTAX = Meaning(Verdict.NEVER, "transfer syntax not supported")

_BY_STATUS = {
    0x0000: _STORED,
    0x0001: Meaning(Verdict.WARNING, "stored; optional attributes not supported"),
    0x0107: Meaning(Verdict.WARNING, "stored; attribute list error"),
    0x0110: Meaning(Verdict.INSTANCE, "processing failure"),
    0x0111: _ALREADY_THERE,
    0x0116: Meaning(Verdict.WARNING, "stored; attribute value out of range"),
    0x0117: Meaning(Verdict.INSTANCE, "invalid SOP instance"),
    0x0118: Meaning(Verdict.NEVER, "no such SOP class"),
    0x0122: Meaning(Verdict.NEVER, "SOP class not supported"),
    0x0124: Meaning(Verdict.MISCONFIGURED, "not authorised"),
    0x0213: Meaning(Verdict.DESTINATION, "resource limitation"),
    0xB000: Meaning(Verdict.WARNING, "stored; data elements coerced"),
    0xB006: Meaning(Verdict.WARNING, "stored; data elements discarded"),
    0xB007: Meaning(Verdict.WARNING, "stored; data set does not match the SOP class"),
}

# PS3.7 Annex C names these, but for C-STORE they leave open what became of the instance.
_UNCERTAIN_WORDS = {
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0112: "no such SOP instance",
    0x0119: "class-instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0xFE00: "cancelled",
    0xFF00: "pending",
    0xFF01: "pending",
}

_BY_RANGE = (
    (0xA700, 0xA7FF, Meaning(Verdict.DESTINATION, "out of resources")),
    (0xA900, 0xA9FF, Meaning(Verdict.INSTANCE, "data set does not match the SOP class")),
    (0xB000, 0xBFFF, Meaning(Verdict.WARNING, "stored, with a warning")),
    (0xC000, 0xCFFF, Meaning(Verdict.INSTANCE, "cannot understand")),
)

_STOW_TRANSFER_SYNTAX = 0xC122
_STOW_EXISTS = 0xB00E
"""45070: Microsoft's service fails an instance that it already has with this reason."""

_BY_HTTP_STATUS = {
    400: Meaning(Verdict.INSTANCE, "bad request"),
    401: Meaning(Verdict.MISCONFIGURED, "unauthorized: check the credentials"),
    403: Meaning(Verdict.MISCONFIGURED, "forbidden: check the credentials and the rights"),
    404: Meaning(Verdict.MISCONFIGURED, "not found: check the URL"),
    405: Meaning(Verdict.MISCONFIGURED, "method not allowed: check the URL"),
    407: Meaning(Verdict.MISCONFIGURED, "a proxy asks for credentials"),
    408: Meaning(Verdict.DESTINATION, "request timeout"),
    409: Meaning(Verdict.INSTANCE, "conflict"),
    410: Meaning(Verdict.MISCONFIGURED, "gone: check the URL"),
    413: Meaning(Verdict.NEVER, "too large for the destination"),
    415: Meaning(Verdict.NEVER, "unsupported media type"),
    422: Meaning(Verdict.INSTANCE, "unprocessable content"),
    426: Meaning(Verdict.MISCONFIGURED, "upgrade required: check the URL"),
    429: Meaning(Verdict.DESTINATION, "too many requests"),
}

_BY_COMMITMENT_FAILURE = {
    0x0110: Meaning(Verdict.INSTANCE, "not committed to: processing failure"),
    0x0112: Meaning(Verdict.INSTANCE, "not committed to: no such object instance"),
    0x0119: Meaning(Verdict.NEVER, "not committed to: it is there with another SOP class"),
    0x0122: Meaning(Verdict.NEVER, "not committed to: SOP class not supported"),
    0x0131: Meaning(Verdict.DESTINATION, "not committed to: duplicate Transaction UID"),
    0x0213: Meaning(Verdict.DESTINATION, "not committed to: resource limitation"),
}

_REJECT_RESULTS = {1: "permanently", 2: "for now"}
_REJECT_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given by the association service (user identity refused?)",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_REJECT_SOURCE_CONGESTION = 3

_CONTEXT_RESULTS = {
    0: "accepted",
    1: "rejected by the user",
    2: "rejected without a reason",
    3: "SOP class not supported",
    4: "transfer syntax not supported",
}


def store_status(status: int) -> Meaning:
    """Say what the status of a C-STORE-RSP means (PS3.4 Table B.2-1, PS3.7 Annex C). Total over 0000H to FFFFH."""
    if meaning := _BY_STATUS.get(status):
        return meaning
    for first, last, meaning in _BY_RANGE:
        if first <= status <= last:
            return meaning
    return Meaning(Verdict.UNCERTAIN, _UNCERTAIN_WORDS.get(status, f"unknown status {status:04X}H"))


def failure_reason(reason: int) -> Meaning:
    """Say what a Failure Reason in a Failed SOP Sequence means (PS3.18 Table I.2-2): never a plain success."""
    if reason == _STOW_TRANSFER_SYNTAX:
        return _TRANSFER_SYNTAX
    if reason in (0x0111, _STOW_EXISTS):
        return _ALREADY_THERE
    meaning = store_status(reason)
    if meaning.verdict in (Verdict.COMPLETED, Verdict.WARNING):
        return Meaning(Verdict.UNCERTAIN, f"listed as failed with reason {reason:04X}H, which is not a failure")
    return meaning


def warning_reason(reason: int) -> Meaning:
    """Say what a Warning Reason means (PS3.18 Table I.2-1): stored, whatever the number."""
    meaning = store_status(reason)
    if meaning.verdict is Verdict.WARNING:
        return meaning
    return Meaning(Verdict.WARNING, f"stored, with warning reason {reason:04X}H")


def http_status(status: int) -> Meaning:
    """Say what an HTTP answer means as a whole, when nothing in its body speaks of the instance itself."""
    if meaning := _BY_HTTP_STATUS.get(status):
        return meaning
    if 200 <= status <= 299:
        return Meaning(Verdict.UNCERTAIN, f"HTTP {status}, but the answer does not name the instance")
    if 300 <= status <= 399:
        return Meaning(Verdict.MISCONFIGURED, f"HTTP {status}: redirects are not followed, check the URL")
    if 500 <= status <= 599:
        return Meaning(Verdict.DESTINATION, f"HTTP {status}: server error")
    return Meaning(Verdict.UNCERTAIN, f"unexpected HTTP status {status}")


def commitment_failure(reason: int) -> Meaning:
    """Say what it means for an instance that its destination, which took it, does not commit to it (PS3.3 §C.14.1.1).

    DESTINATION: ask again; INSTANCE: send it again; NEVER: sending it again would change nothing.
    """
    return _BY_COMMITMENT_FAILURE.get(reason, Meaning(Verdict.INSTANCE, f"not committed to, reason {reason:04X}H"))


def association_reject(result: int, source: int, reason: int) -> Meaning:
    """Say what an A-ASSOCIATE-RJ means (PS3.8 Table 9-21): MISCONFIGURED or DESTINATION, never about an instance.

    Congestion is their trouble even from a peer that calls it permanent.
    """
    words = _REJECT_REASONS.get((source, reason), f"source {source} reason {reason}")
    how = _REJECT_RESULTS.get(result, f"with result {result}")
    permanent = result == 1 and source != _REJECT_SOURCE_CONGESTION
    verdict = Verdict.MISCONFIGURED if permanent else Verdict.DESTINATION
    return Meaning(verdict, f"association rejected {how}: {words}")


def context_refused(result: int) -> Meaning:
    """Say what a presentation context that was not accepted means for its instances (PS3.8 Table 9-18)."""
    return Meaning(Verdict.NEVER, _CONTEXT_RESULTS.get(result, f"presentation context result {result}"))
