"""Which services, roles and application informations an association has."""

from __future__ import annotations

import pytest
from scp_harness import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    FakeDoor,
    associate_rq,
    reject,
    serving,
)
from service_harness import (
    C_FIND,
    COMMITMENT,
    FIND,
    GET,
    answer_of,
    committer,
    extended,
    find_association,
    find_two,
    finder,
    get_two,
    getter,
    message,
    offering,
    request,
    role,
)

from router.dicom.uids import AETitle
from router.dimse.events import Roles


async def test_every_title_stores_and_only_its_own_services_are_offered() -> None:
    services = {AETitle("SENDRS"): [finder(find_two)], AETitle("PROXY"): []}
    async with serving(FakeDoor(), services=services) as served:
        contexts = ((1, FIND, (EXPLICIT,)), (3, CT, (EXPLICIT,)))
        for called, results in ((b"SENDRS", [0, 0]), (b"PROXY", [3, 0])):
            caller = await served.connect()
            await caller.send(associate_rq(called=called, contexts=contexts))
            kind, body = await caller.pdu()
            assert kind == 2
            at = body.index(b"\x21\0", 68)
            assert [body[at + 6], body[body.index(b"\x21\0", at + 6) + 6]] == results
        caller = await served.connect()
        await caller.send(associate_rq(called=b"OTHER", contexts=contexts))
        assert await caller.read(10) == reject(1, 1, 7)


async def test_services_may_be_replaced_for_the_associations_to_come() -> None:
    async with serving(FakeDoor(), services=offering(finder(find_two))) as served:
        served.scp.replace(served.scp.config, {})
        await find_association(served)
        served.scp.replace(served.scp.config, {}, {AETitle("OTHER"): []})
        caller = await served.connect()
        await caller.send(associate_rq(called=b"OTHER"))
        assert (await caller.pdu())[0] == 2


async def test_roles_are_answered_for_what_was_proposed_and_accepted() -> None:
    service = committer(find_two)
    service.takes_roles = Roles(scu=True, scp=True)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await served.connect()
        proposed = role(COMMITMENT, 1, 0) + role(CT, 1, 1) + role(FIND, 1, 1) + role(VERIFICATION, 1, 0)
        contexts = ((1, COMMITMENT, (IMPLICIT,)), (3, CT, (EXPLICIT,)), (5, FIND, (EXPLICIT,)))
        await caller.send(associate_rq(contexts=contexts, more_user=proposed + role(CT, 0, 0)))
        assert (await answer_of(caller))[0x54] == [role(COMMITMENT, 1, 0)[4:], role(CT, 1, 0)[4:]]


@pytest.mark.parametrize("get_proposed", [True, False])
async def test_a_requestor_may_receive_instances_only_where_c_get_is_served(get_proposed: bool) -> None:
    async with serving(FakeDoor(), services=offering(getter(get_two))) as served:
        caller = await served.connect()
        contexts = [(3, CT, (EXPLICIT,))] + ([(1, GET, (EXPLICIT,))] if get_proposed else [])
        await caller.send(associate_rq(contexts=contexts, more_user=role(CT, 0, 1)))
        assert (await answer_of(caller))[0x54] == [role(CT, 0, int(get_proposed))[4:]]


@pytest.mark.parametrize(("offered", "granted"), [(b"\x01", b"\x01"), (b"\x01\x01\x00", b"\x01\x01\x01"), (b"", b"")])
async def test_extended_negotiation_answers_as_many_bytes_as_were_offered(offered: bytes, granted: bytes) -> None:
    service = finder(find_two)
    async with serving(FakeDoor(), services=offering(service)) as served:
        caller = await served.connect()
        more = extended(FIND, offered) + extended(FIND, b"\0\0\0\0\0") + extended(CT, b"\2\0")
        await caller.send(associate_rq(contexts=((1, FIND, (EXPLICIT,)),), more_user=more))
        assert (await answer_of(caller)).get(0x56) == ([extended(FIND, granted)[4:]] if granted else None)
        await caller.send(request(C_FIND, b"keys"))
        await message(caller)
    assert service.invocations[0].granted == granted


async def test_nothing_is_answered_that_was_not_offered() -> None:
    async with serving(FakeDoor(), services=offering(finder(find_two))) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=((1, FIND, (EXPLICIT,)),)))
        assert not {0x54, 0x56} & (await answer_of(caller)).keys()


@pytest.mark.parametrize(("accept_big_endian", "result"), [(True, 0), (False, 4)])
async def test_data_sets_of_services_come_in_the_default_syntaxes_only(accept_big_endian: bool, result: int) -> None:
    settings = {"accept_big_endian": accept_big_endian}
    async with serving(FakeDoor(), services=offering(finder(find_two)), **settings) as served:
        caller = await served.connect()
        syntaxes = [("1.2.840.10008.1.2.4.50",), ("1.2.840.10008.1.2.2",), (IMPLICIT,)]
        contexts = [(2 * n + 1, FIND, one) for n, one in enumerate(syntaxes)]
        await caller.send(associate_rq(contexts=contexts))
        _, body = await caller.pdu()
        results = [
            body[i + 6] for i in range(68, len(body)) if body[i : i + 2] == b"\x21\0" and body[i + 4] in (1, 3, 5)
        ]
        assert results == [4, result, 0]
