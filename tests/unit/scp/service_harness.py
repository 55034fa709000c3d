"""A service that does what a test says, and messages of queries, written by hand."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from scp_harness import CT, EXPLICIT, Caller, Served, command_set, elements, item, p_data, pdv

from router.dicom.uids import AETitle, Uid
from router.dimse.events import Command, Roles
from router.scp.service import DimseService, Exchange, Invocation

FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
COMMITMENT = "1.2.840.10008.1.20.1"
C_STORE, C_FIND, C_GET, N_ACTION, N_EVENT_REPORT, C_CANCEL = 0x0001, 0x0020, 0x0010, 0x0130, 0x0100, 0x0FFF
SENDRS = AETitle("SENDRS")
PENDING, CANCELLED = 0xFF00, 0xFE00
BOTH_ROLES = Roles(scu=True, scp=True)

Performance = Callable[[Invocation, Exchange], Awaitable[None]]


@dataclass
class FakeService:
    """Performs `performance`; `granted` and `takes_roles` answer negotiation."""

    performance: Performance
    sop_classes: Mapping[Uid, frozenset[int]]
    granted: bytes = b"\x01\x01\x01\x01\x01\x01\x01"
    takes_roles: Roles = BOTH_ROLES
    invocations: list[Invocation] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)
    raised: list[BaseException] = field(default_factory=list)

    def grant(self, sop_class: Uid, offered: bytes) -> bytes:
        return self.granted

    def roles(self, sop_class: Uid, proposed: Roles) -> Roles:
        return self.takes_roles

    async def perform(self, invocation: Invocation, exchange: Exchange) -> None:
        self.invocations.append(invocation)
        try:
            await self.performance(invocation, exchange)
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            self.ended.set()


def offering(*services: DimseService) -> dict[AETitle, list[DimseService]]:
    return {SENDRS: list(services)}


def finder(performance: Performance) -> FakeService:
    return FakeService(performance, {Uid(FIND): frozenset({C_FIND})})


def getter(performance: Performance) -> FakeService:
    return FakeService(performance, {Uid(GET): frozenset({C_GET})})


def committer(performance: Performance) -> FakeService:
    return FakeService(performance, {Uid(COMMITMENT): frozenset({N_ACTION, N_EVENT_REPORT})})


async def find_association(served: Served, **request: Any) -> Caller:
    return await served.associate(((1, FIND, (EXPLICIT,)),), **request)


def request(
    field: int, identifier: bytes = b"", *, message_id: int = 1, context_id: int = 1, sop_class: str = FIND, **more: Any
) -> bytes:
    """A request in one PDU for the command and one for the data set; `more` by hexadecimal number."""
    values: dict[int, int | str | None] = {
        0x0002: sop_class,
        0x0100: field,
        0x0110: message_id,
        0x0800: 0 if identifier else 0x0101,
    }
    values.update({int(number[1:], 16): value for number, value in more.items()})
    said = {number: value for number, value in values.items() if value is not None}
    command = p_data(pdv(context_id, 3, command_set(said)))
    return command + (p_data(pdv(context_id, 2, identifier)) if identifier else b"")


def cancel(message_id: int, context_id: int = 1) -> bytes:
    return p_data(pdv(context_id, 3, command_set({0x0100: C_CANCEL, 0x0120: message_id, 0x0800: 0x0101})))


def response(field: int, message_id: int, status: int = 0, context_id: int = 1) -> bytes:
    """A response of the peer to a request of ours."""
    values = {0x0100: field | 0x8000, 0x0120: message_id, 0x0800: 0x0101, 0x0900: status}
    return p_data(pdv(context_id, 3, command_set(values)))


def role(sop_class: str, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp)))


def extended(sop_class: str, information: bytes) -> bytes:
    return item(0x56, struct.pack(">H", len(sop_class)) + sop_class.encode() + information)


async def message(caller: Caller) -> tuple[dict[int, Any], bytes]:
    """Read a whole message: the elements of its command, its data set."""
    command, data_set, follows = {}, b"", True
    while follows:
        kind, body = await caller.pdu()
        assert kind == 4, f"PDU type {kind}: {body.hex()}"
        while body:
            length, _, control = struct.unpack_from(">IBB", body)
            fragment, body = body[6 : 4 + length], body[4 + length :]
            if control & 1:
                assert control & 2, "command set in pieces"
                command = elements(fragment)
                follows = command[0x0800] != 0x0101
            else:
                assert fragment, "an empty PDV"
                data_set += fragment
                follows = not control & 2
    return command, data_set


async def answer_of(caller: Caller) -> dict[int, list[bytes]]:
    """Read the A-ASSOCIATE-AC: the values of its user information by sub-item type."""
    kind, body = await caller.pdu()
    assert kind == 2
    found: dict[int, list[bytes]] = {}
    at = 68
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        if kind == 0x50:
            end, at = at + 4 + length, at + 4
            while at < end:
                kind, length = struct.unpack_from(">BxH", body, at)
                found.setdefault(kind, []).append(body[at + 4 : at + 4 + length])
                at += 4 + length
        else:
            at += 4 + length
    return found


async def find_two(invocation: Invocation, exchange: Exchange) -> None:
    for number in (b"one.", b"two."):
        await exchange.respond(Command(0, status=PENDING), number)
    await exchange.respond(Command(0, status=0))


async def until_cancelled(invocation: Invocation, exchange: Exchange) -> None:
    await exchange.respond(Command(0, status=PENDING), b"hit.")
    await exchange.cancelled.wait()
    await exchange.respond(Command(0, status=CANCELLED))


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


STORE = Command(
    C_STORE, affected_sop_class_uid=Uid(CT), affected_sop_instance_uid=Uid("1.2.3"), priority=0, has_data_set=True
)


async def get_two(invocation: Invocation, exchange: Exchange) -> None:
    first = await exchange.invoke(3, STORE, pieces(b"stre", b"", b"amed", b"!"))
    await exchange.respond(Command(0, status=PENDING, remaining=1, completed=1, failed=0, warning=0))
    second = await exchange.invoke(3, STORE, b"whole.")
    failed = sum(one.status != 0 for one in (first, second))
    await exchange.respond(Command(0, status=0xB000 if failed else 0, completed=2 - failed, failed=failed, warning=0))


async def get_association(served: Served, more_user: bytes = b"") -> Caller:
    return await served.associate(((1, GET, (EXPLICIT,)), (3, CT, (EXPLICIT,))), more_user=more_user)
