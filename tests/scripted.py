"""Destinations that can be reached in two ways, and what becomes of an instance for each outcome of each (Sup 248).

The truth table of C-MOVE and SEND-RS × delivery mechanisms × fallback: `CASES` has every row, `scripted` plays one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import anyio
from anyio.abc import SocketAttribute
from unit.delivery.scripted_origin import Asked, Origin, answer, module, serving
from unit.delivery.scripted_scp import Hangup, Received, ScriptedScp, respond

from router.config.model import DimseDestination, Mechanism, StowReach
from router.dimse.events import Command

CANNOT_UNDERSTAND = 0xC000
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
COERCED = 0xB000

State = Literal["completed", "warning", "failed", "remaining"]

STORED: dict[str, State] = {"success": "completed", "warning": "warning"}
NEVER = ("sop class refused", "context refused")
"""By this mechanism it can never work; all other failures leave hope."""


def _status(status: int) -> Callable[[Received], Sequence[Command]]:
    return lambda received: [respond(received, status)]


def _hang_up(received: Received) -> Sequence[Command]:
    raise Hangup


C_STORE: dict[str, Callable[[], ScriptedScp | None]] = {
    "success": lambda: ScriptedScp(),
    "warning": lambda: ScriptedScp(on_store=_status(COERCED)),
    "refused": lambda: ScriptedScp(on_store=_status(CANNOT_UNDERSTAND)),
    "sop class refused": lambda: ScriptedScp(on_store=_status(SOP_CLASS_NOT_SUPPORTED)),
    "context refused": lambda: ScriptedScp(accepts_sop_class=lambda uid: False),
    "busy": lambda: ScriptedScp(on_store=_status(OUT_OF_RESOURCES)),
    "hang-up": lambda: ScriptedScp(on_store=_hang_up),
    "turned away": lambda: ScriptedScp(rejection=(1, 1, 7)),
    "unreachable": lambda: None,
}
"""What a C-STORE SCP does; None: nobody listens."""


def _failed(reason: int) -> Callable[[Asked], bytes]:
    return lambda asked: answer(409, module(failed=dict.fromkeys(asked.parts, reason)))


STOW_RS: dict[str, Callable[[Asked], bytes | None] | None] = {
    "success": lambda asked: answer(200, module(stored=dict.fromkeys(asked.parts))),
    "warning": lambda asked: answer(202, module(stored=dict.fromkeys(asked.parts, COERCED))),
    "refused": _failed(CANNOT_UNDERSTAND),
    "sop class refused": _failed(SOP_CLASS_NOT_SUPPORTED),
    "busy": lambda asked: answer(503),
    "hang-up": lambda asked: None,
    "turned away": lambda asked: answer(401),
    "unreachable": None,
}
"""What a STOW-RS origin server does; None: nobody listens."""


@dataclass(frozen=True)
class Case:
    """One row: what each mechanism does, in which order they are tried."""

    c_store: str
    stow_rs: str
    deliver: tuple[Mechanism, ...]

    @property
    def deeds(self) -> list[str]:
        """What happens, in the order of the tries."""
        return [self.c_store if mechanism == "c-store" else self.stow_rs for mechanism in self.deliver]

    @property
    def after_one_attempt(self) -> State:
        """A success or warning ends it; it has failed when no mechanism leaves hope, and remains otherwise."""
        for deed in self.deeds:
            if deed in STORED:
                return STORED[deed]
        return "failed" if all(deed in NEVER for deed in self.deeds) else "remaining"

    @property
    def second_is_tried(self) -> bool:
        return self.deeds[0] not in STORED

    def __str__(self) -> str:
        return ", ".join(f"{mechanism} {deed}" for mechanism, deed in zip(self.deliver, self.deeds, strict=True))


ORDERS: tuple[tuple[Mechanism, ...], ...] = (("c-store", "stow-rs"), ("stow-rs", "c-store"))
CASES = [Case(*case) for case in product(C_STORE, STOW_RS, ORDERS)]


@dataclass
class Scripted:
    """A destination that plays a case; what it was asked."""

    destination: DimseDestination
    scp: ScriptedScp | None
    origin: Origin | None

    @property
    def instances_by_c_store(self) -> int:
        return len(self.scp.received) if self.scp else 0

    @property
    def requests_by_stow(self) -> int:
        return sum(asked.method == "POST" for asked in self.origin.requests) if self.origin else 0


@asynccontextmanager
async def scripted(case: Case, name: str = "archive", **changes: Any) -> AsyncIterator[Scripted]:
    """Play `case` on loopback; `changes` are keys of the destination."""
    async with AsyncExitStack() as stack:
        scp, script = C_STORE[case.c_store](), STOW_RS[case.stow_rs]
        if scp is not None:
            await stack.enter_async_context(scp.listening())
        origin = None if script is None else Origin(script=script)
        if origin is not None:
            await stack.enter_async_context(serving(origin))
        destination = DimseDestination(
            name=name,
            ae_title="ARCHIVE",
            host="127.0.0.1",
            port=scp.port if scp else await _closed_port(),
            deliver=list(case.deliver),
            stow_rs=StowReach(
                url=origin.url if origin else f"http://127.0.0.1:{await _closed_port()}/dicom-web", answer_s=5.0
            ),
            answer_s=5.0,
            **changes,
        )
        yield Scripted(destination, scp, origin)


async def _closed_port() -> int:
    """A port on which nobody listens (any more)."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        port: int = listener.extra(SocketAttribute.local_port)
    return port
