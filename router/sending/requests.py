"""Send requests as SEND-RS knows them (Sup 248 §10.X, §10.Y): taken, counted, shown to those who may see them.

The journal is the only memory of what they are and how far: a restart loses nothing, and a job of a rule is shown like
one that was asked for. Lanes carry their sub-operations and know nothing of this.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import Final

import anyio
import msgspec

from router.config.model import Config
from router.dicom.uids import AETitle, Uid
from router.journal import moves, send_requests
from router.journal.journal import Journal
from router.journal.send_requests import NewRequest, Origin, RequestState
from router.sending import expiry
from router.sending.clock import Clock, WallClock

OPERATOR: Final = "operator"
"""The requester who may see every job, also those of rules (O-28)."""

LOOK_FIRST_S = 0.01
LOOK_CAP_S = 0.5
"""How often a waiting request looks whether it has ended: soon, then half as often each time."""
LET_GO_LOOKS = 3
"""So often a lane is told to give back what it claimed: a claim may have been under way at the first time."""
FRESH_S = 0.5
"""A counter this old is still an answer: who polls faster learns no more (B89)."""
MAX_KEPT = 1_024
"""Answers kept for that. None of them holds a list of UIDs."""
POLL_LEAST_S = 1
POLL_MOST_S = 300
GUESSED_PER_S = 50.0
"""Retry-After: the time that what remains will take at the rate so far, or at this guess before anything was sent."""


class UidInUse(Exception):
    """The Transaction UID is that of another request, running, finished or remembered (409, O-25)."""


class UnknownRequest(Exception):
    """There is no such request, or not for this resource, or not for this requester (404, O-27, O-28)."""


class Gone(Exception):
    """There was such a request; its result has been given up (410, O-26)."""


class SendRequest(msgspec.Struct, frozen=True):
    """What somebody asks for. `destination` is a registered name.

    `resource` is the path below the base URI without "/send-requests/…"; `requester` a principal who may ask how far it
    is; `source` and `query` say for people who asked for what.
    """

    transaction_uid: Uid
    resource: str
    destination: str
    requester: str
    source: str
    query: str
    origin: Origin = "send-rs"
    originator_aet: AETitle = AETitle("")
    """Who invoked the C-MOVE, its Message ID and priority (PS3.7 §9.1.1.1); only a C-MOVE has them (O-46)."""
    originator_message_id: int | None = None
    priority: int = 0


class Progress(msgspec.Struct, frozen=True):
    """How far a request is: each instance is counted once, by its last outcome (O-35).

    `failed_uids` names those that failed, each once, and is complete when `finished`, empty before.
    """

    remaining: int
    completed: int
    warning: int
    failed: int
    failed_uids: tuple[Uid, ...]
    finished: bool
    created_at: float
    cancelled: int = 0
    """Of those that failed, how many were never tried to their end, as nobody wanted them any more."""
    cancelled_uids: tuple[Uid, ...] = ()

    def poll_after_s(self, now: float) -> int:
        """Say after how many seconds it is worth asking again (Retry-After)."""
        done, elapsed_s = self.completed + self.warning + self.failed, max(now - self.created_at, 1.0)
        rate = done / elapsed_s if done else GUESSED_PER_S
        return round(min(max(self.remaining / rate, POLL_LEAST_S), POLL_MOST_S))


class SendRequests:
    """Takes send requests and tells how far they are. `config` gives the configuration that is in force just now.

    `hurry` has a lane try its destination now, `let_go` give back what it claimed and has not begun.
    """

    def __init__(
        self,
        journal: Journal,
        wake: Callable[[Iterable[str]], None],
        config: Callable[[], Config],
        *,
        clock: Clock | None = None,
        hurry: Callable[[str], None] = lambda destination: None,
        let_go: Callable[[str], None] = lambda destination: None,
    ):
        self._journal, self._wake, self._config = journal, wake, config
        self._hurry, self._let_go = hurry, let_go
        self._clock: Clock = clock or WallClock()
        self._kept: dict[Uid, tuple[float, RequestState]] = {}

    async def submit(self, request: SendRequest, instance_ids: Sequence[int]) -> Progress:
        """Make the request with one sub-operation an instance, in one transaction, and have it carried out.

        `instance_ids` are rows of the journal, in the order in which they should go. When this returns, a crash loses
        nothing of it. Raises UidInUse, StorageError.
        """
        now, sending = self._clock.now(), self._config().sending
        lifetime_s = sending.move_retry_s if request.origin == "c-move" else sending.request_lifetime_s
        row = NewRequest(
            transaction_uid=request.transaction_uid,
            origin=request.origin,
            resource=request.resource,
            requester=request.requester,
            query=request.query,
            destination=request.destination,
            source=request.source,
            created_at=now,
            expires_at=now + lifetime_s,
            originator_aet=request.originator_aet,
            originator_message_id=request.originator_message_id,
            priority=request.priority,
        )
        ids = msgspec.json.encode(instance_ids).decode()
        with anyio.CancelScope(shield=True):  # it takes a commit, and what is journalled is carried out
            made = await self._journal.write(partial(send_requests.submit, request=row, instance_ids=ids))
        if made is None:
            raise UidInUse
        if made:
            self._wake([request.destination])
            if request.origin == "c-move":
                self._hurry(request.destination)
        return Progress(made, 0, 0, 0, (), finished=not made, created_at=now)

    async def progress(self, transaction_uid: Uid, resource: str, requester: str) -> Progress:
        """Tell how far a request is, as it was at most FRESH_S ago.

        Raises UnknownRequest, Gone, StorageError.
        """
        now = self._clock.now()
        read_at, state = self._kept.get(transaction_uid, (0.0, None))
        if state is None or not 0 <= now - read_at < FRESH_S:
            state = await self._look(transaction_uid)
        if state.resource != resource or requester not in (state.requester, OPERATOR):
            raise UnknownRequest
        if state.ended_at is not None and state.ended_at <= now - self._config().http.result_ttl_s:
            raise Gone
        return _progress(state)

    async def wait(self, transaction_uid: Uid, seconds: float) -> Progress:
        """Tell how far a request is after `seconds`, or as soon as it has ended. Raises as `progress` does."""
        never, pause_s = anyio.Event(), LOOK_FIRST_S
        while True:
            state = await self._look(transaction_uid)
            if state.ended_at is not None or seconds <= 0:
                return _progress(state)
            pause_s = min(pause_s, seconds)
            await self._clock.wait(never, pause_s)
            seconds, pause_s = seconds - pause_s, min(pause_s * 2, LOOK_CAP_S)

    async def follow(self, transaction_uid: Uid, every_s: float, until: anyio.Event) -> AsyncGenerator[Progress, None]:
        """Tell how far a request is, each `every_s` seconds (0: never before its end), last when it has ended.

        Stops without that when `until` is set. Raises as `wait` does.
        """
        pause_s, told_at = LOOK_FIRST_S, self._clock.now()
        while True:
            progress = _progress(await self._look(transaction_uid))
            now = self._clock.now()
            if progress.finished or (every_s and not 0 <= now - told_at < every_s):
                told_at = now
                yield progress
                if progress.finished:
                    return
            left_s = every_s - (now - told_at) if every_s else LOOK_CAP_S
            if until.is_set() or await self._clock.wait(until, min(pause_s, left_s)):
                return
            pause_s = min(pause_s * 2, LOOK_CAP_S)

    async def cancel(self, transaction_uid: Uid, destination: str) -> Progress:
        """End a request: nothing more of it is begun; gives what became of it when what was in flight has ended.

        Raises UnknownRequest, StorageError.
        """
        cancel = partial(moves.cancel, transaction_uid=transaction_uid, now=self._clock.now())
        with anyio.CancelScope(shield=True):  # it takes a commit
            if await self._journal.write(cancel) is None:
                raise UnknownRequest
        never, pause_s, looks = anyio.Event(), LOOK_FIRST_S, 0
        while True:
            await expiry.expire_overdue(self._journal, self._config(), now=self._clock.now())
            progress = _progress(await self._look(transaction_uid))
            if progress.finished:
                return progress
            if looks < LET_GO_LOOKS:
                self._let_go(destination)
            await self._clock.wait(never, pause_s)
            pause_s, looks = min(pause_s * 2, LOOK_CAP_S), looks + 1

    def now(self) -> float:
        """Give the time that dates are counted by (Unix seconds)."""
        return self._clock.now()

    async def _look(self, transaction_uid: Uid) -> RequestState:
        state = await self._journal.read(partial(send_requests.state, transaction_uid=transaction_uid))
        self._kept.pop(transaction_uid, None)
        if state is None:
            raise UnknownRequest
        if state.ended_at is None:
            self._kept[transaction_uid] = self._clock.now(), state
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return state


def _progress(state: RequestState) -> Progress:
    return Progress(
        remaining=state.remaining,
        completed=state.completed,
        warning=state.warning,
        failed=state.failed,
        failed_uids=state.failed_uids,
        finished=state.ended_at is not None,
        created_at=state.created_at,
        cancelled=state.cancelled,
        cancelled_uids=state.cancelled_uids,
    )
