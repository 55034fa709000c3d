"""One send request seen by its user agent, from the POST to the end: a state machine without I/O (REQ-157).

It says what to ask next and when; whoever drives it does, and hands back the answer or that there was none. It asks for
nothing twice: a POST whose answer was lost is looked for by GET first, and one that is repeated has the same
Transaction UID, so that the server takes it once (O-50). "Answered" is never "delivered" (REQ-049, REQ-067).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec

from router.dicom.uids import Uid
from router.dicomweb.send_answer import Kind, read_answer
from router.dicomweb.send_question import CHECK_HEADERS, SendQuestion, check_target, send_headers, send_target
from router.dicomweb.send_response import SendResult

RETRY_AFTER_CAP_S: Final = 3600.0
"""However long a server puts us off, it is asked again after an hour."""
LEAST_WAIT_S: Final = 1.0
"""However soon it wants to be asked again."""
MAX_UIDS: Final = 3
"""Transaction UIDs tried when one turns out to be another's."""

_DOUBTFUL: Final = (500, 502, 504)
"""After these the server, or the one behind it, may have taken a POST all the same."""


class Pace(msgspec.Struct, frozen=True):
    """How patient to be. Seconds; `troubles_…` is how many failures in a row are borne before and after the request
    was taken: lost connections, 503 and their like, answers that cannot be read.
    """

    poll_first_s: float = 1.0
    poll_cap_s: float = 30.0
    """Without Retry-After: after a second, then after twice as long, up to this."""
    trouble_first_s: float = 1.0
    trouble_cap_s: float = 60.0
    troubles_before: int = 8
    troubles_after: int = 12
    """Some ten minutes: a server that restarts is waited for."""


class Ask(msgspec.Struct, frozen=True):
    """Ask this after `after_s` seconds. `target` is path and query below the Base URI; there is no body."""

    method: str
    target: str
    headers: dict[str, str]
    after_s: float = 0.0


class How(Enum):
    """How it ended."""

    ANSWERED = "answered"
    """The final module is there. Only its counters say what was delivered."""
    REFUSED = "refused"
    """The server said no: it took nothing."""
    FORGOTTEN = "forgotten"
    """The server no longer knows what it had taken (404, 410): start over with a new request."""
    UNFINISHED = "unfinished"
    """The server took it; its end was not seen."""
    NO_ANSWER = "no answer"
    """Nothing was heard that helps. `End.taken` says whether it can have been taken all the same."""


class End(msgspec.Struct, frozen=True):
    """`result` is the last module seen, final when `how` is ANSWERED. `words` are for a person, and bounded.

    `taken`: whether the server took the request; None when that is unknown, too. `joined`: the Transaction UID was in
    use before we first asked, and this is about whatever was asked then; `found`: and that had ended already.
    """

    how: How
    transaction_uid: Uid
    words: str
    status: int | None = None
    result: SendResult | None = None
    taken: bool | None = True
    retry_after_s: float | None = None
    joined: bool = False
    found: bool = False


Step = Ask | End


class Phase(Enum):
    """What the last request was for."""

    SENDING = "POST"
    DOUBTING = "GET, because the POST got no answer"
    CLAIMED = "GET, because the POST was answered 409"
    FOLLOWING = "GET, because the request was taken"


class Move(Enum):
    """What follows from an answer."""

    FINISH = "the final module is there"
    FOLLOW = "it was taken: ask how far it is"
    LOOK = "the UID is in use: see by whom"
    DOUBT = "perhaps it was taken: see"
    REPEAT = "the same again, later"
    RESEND = "it was not taken: POST again, with the same UID"
    RENEW = "the UID is another's: POST with a new one"
    REFUSE = "they said no"
    FORGET = "they took it, and forgot it"
    GIVE_UP = "nothing more can be learnt"


_COMMON = {Kind.FINAL: Move.FINISH, Kind.PENDING: Move.FOLLOW, Kind.BUSY: Move.REPEAT, Kind.LOST: Move.REPEAT}
MOVES: Final = MappingProxyType(
    {
        Phase.SENDING: _COMMON
        | {
            Kind.UNREADABLE: Move.FOLLOW,
            Kind.IN_USE: Move.LOOK,
            Kind.LOST: Move.DOUBT,
            Kind.UNKNOWN: Move.REFUSE,
            Kind.GONE: Move.REFUSE,
            Kind.NO: Move.REFUSE,
        },
        Phase.DOUBTING: _COMMON
        | {
            Kind.UNREADABLE: Move.FOLLOW,
            Kind.IN_USE: Move.GIVE_UP,
            Kind.UNKNOWN: Move.RESEND,
            Kind.GONE: Move.FORGET,
            Kind.NO: Move.GIVE_UP,
        },
        Phase.CLAIMED: _COMMON
        | {
            Kind.UNREADABLE: Move.FOLLOW,
            Kind.IN_USE: Move.RENEW,
            Kind.UNKNOWN: Move.RENEW,
            Kind.GONE: Move.RENEW,
            Kind.NO: Move.GIVE_UP,
        },
        Phase.FOLLOWING: _COMMON
        | {
            Kind.UNREADABLE: Move.REPEAT,
            Kind.IN_USE: Move.GIVE_UP,
            Kind.UNKNOWN: Move.FORGET,
            Kind.GONE: Move.FORGET,
            Kind.NO: Move.GIVE_UP,
        },
    }
)
"""Total: a kind of answer in every phase."""


class SendTransaction:
    """One send request. `another_uid` makes a new Transaction UID when `uid` is another's; None: then it is refused."""

    def __init__(
        self,
        question: SendQuestion,
        uid: Uid,
        *,
        another_uid: Callable[[], Uid] | None = None,
        pace: Pace = Pace(),  # noqa: B008 it is frozen
    ):
        self.uid = uid
        self.result: SendResult | None = None
        """The last module seen: how far it is."""
        self.taken: bool | None = False
        """Whether the server took the request; None while that is unknown."""
        self._question, self._another_uid, self._pace = question, another_uid, pace
        self._phase = Phase.SENDING
        self._uids, self._troubles, self._polls = 1, 0, 0
        self._joined = self._found = False

    def begin(self) -> Ask:
        """Say what to ask first."""
        return self._ask(Phase.SENDING)

    def answered(
        self, status: int, content_type: str = "", body: bytes = b"", *, retry_after_s: float | None = None
    ) -> Step:
        """Take in an answer; a body that did not come whole counts as none."""
        answer = read_answer(status, content_type, body)
        if answer.result is not None:
            self.result = answer.result
        return self._go_on(answer.kind, answer.words, status, retry_after_s)

    def lost(self, problem: str, *, sent: bool = True) -> Step:
        """Take in that there was no answer; `sent` is False when it is certain that nothing was asked either."""
        return self._go_on(Kind.LOST if sent else Kind.BUSY, problem, None, None)

    def give_up(self, words: str) -> End:
        """End here, whatever the server goes on doing."""
        return self._open_end(words, None)

    def _go_on(self, kind: Kind, words: str, status: int | None, retry_after_s: float | None) -> Step:
        phase, move = self._phase, MOVES[self._phase][kind]
        if phase is Phase.SENDING and (kind is Kind.LOST or status in _DOUBTFUL):
            self.taken = None
        if phase is Phase.CLAIMED and move in (Move.FINISH, Move.FOLLOW):
            self._joined = self.taken is False
        match move:
            case Move.FINISH:
                self._found = self._joined and phase is Phase.CLAIMED
                self.taken = True
                return self._end(How.ANSWERED, words, status)
            case Move.FOLLOW:
                self.taken = True
                if kind is Kind.PENDING:
                    self._troubles = 0
                return self._ask(Phase.FOLLOWING, self._poll_wait_s(retry_after_s))
            case Move.LOOK:
                return self._ask(Phase.CLAIMED)
            case Move.DOUBT:
                return self._ask(Phase.DOUBTING, self._pace.trouble_first_s)
            case Move.REPEAT:
                return self._again(phase, words, status, retry_after_s)
            case Move.RESEND:
                self.taken = False
                return self._again(Phase.SENDING, "the request did not arrive", None, None)
            case Move.RENEW if self._another_uid is not None and self._uids < MAX_UIDS:
                self._uids += 1
                self.uid, self.result, self.taken = self._another_uid(), None, False
                return self._ask(Phase.SENDING)
            case Move.RENEW:
                return self._end(How.REFUSED, f"the Transaction UID {self.uid} is in use by another request", 409)
            case Move.REFUSE:
                return self._end(How.REFUSED, words, status)
            case Move.FORGET:
                return self._end(How.FORGOTTEN, words, status)
            case Move.GIVE_UP:
                return self._open_end(words, status)

    def _again(self, phase: Phase, words: str, status: int | None, retry_after_s: float | None) -> Step:
        self._troubles += 1
        pace = self._pace
        if self._troubles > (pace.troubles_after if self.taken else pace.troubles_before):
            return self._open_end(words, status, retry_after_s)
        wait_s = _bounded(retry_after_s)
        if wait_s is None:
            wait_s = _doubled(pace.trouble_first_s, self._troubles - 1, pace.trouble_cap_s)
        return self._ask(phase, wait_s)

    def _poll_wait_s(self, retry_after_s: float | None) -> float:
        wait_s = _bounded(retry_after_s)
        if wait_s is not None:
            return wait_s
        self._polls += 1
        return _doubled(self._pace.poll_first_s, self._polls - 1, self._pace.poll_cap_s)

    def _ask(self, phase: Phase, after_s: float = 0.0) -> Ask:
        self._phase = phase
        if phase is Phase.SENDING:
            return Ask("POST", send_target(self._question, self.uid), send_headers(self._question), after_s)
        return Ask("GET", check_target(self._question, self.uid), CHECK_HEADERS, after_s)

    def _open_end(self, words: str, status: int | None, retry_after_s: float | None = None) -> End:
        return self._end(How.UNFINISHED if self.taken else How.NO_ANSWER, words, status, retry_after_s)

    def _end(self, how: How, words: str, status: int | None, retry_after_s: float | None = None) -> End:
        return End(how, self.uid, words, status, self.result, self.taken, retry_after_s, self._joined, self._found)


def _bounded(retry_after_s: float | None) -> float | None:
    return None if retry_after_s is None else min(max(retry_after_s, LEAST_WAIT_S), RETRY_AFTER_CAP_S)


def _doubled(first_s: float, times: int, cap_s: float) -> float:
    return float(min(cap_s, first_s * 2.0 ** min(times, 30)))
