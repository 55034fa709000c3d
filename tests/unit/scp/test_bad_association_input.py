"""Rows B1 to B18, B35, B41, B46 and B47 of the bad-input catalogue: what a socket hears before and around an
association.
"""

from __future__ import annotations

import struct

import pytest
from scp_harness import (
    BIG_ENDIAN,
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    RELEASE_RP,
    VERIFICATION,
    FakeDoor,
    abort,
    associate_rq,
    echo_rq,
    item,
    max_length,
    p_data,
    pdv,
    reject,
    serving,
    store_rq,
)
from structlog.testing import capture_logs

from router.config.model import Peer
from router.dimse.events import UserIdentity
from router.errors import Refused

CT1 = {"ct1": Peer(name="ct1", ae_title="CT1", address="127.0.0.0/8")}


async def answer_to(sent: bytes, **settings: object) -> bytes:
    """What a new connection hears until it is closed, when it sends this."""
    async with serving(FakeDoor(), **{"artim_s": 0.2, **settings}) as served:
        caller = await served.connect()
        await caller.send(sent)
        return await caller.rest()


def contexts_of(body: bytes) -> dict[int, tuple[int, str]]:
    """Result and transfer syntax by context id, from the body of an A-ASSOCIATE-AC."""
    found, at = {}, 68
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        value = body[at + 4 : at + 4 + length]
        if kind == 0x21:
            found[value[0]] = (value[2], value[8:].decode())
        at += 4 + length
    return found


@pytest.mark.parametrize("kind", [0x00, 0x08, 0xFF])
async def test_b1_an_unknown_pdu_type_is_aborted(kind: int) -> None:
    assert await answer_to(bytes((kind, 0, 0, 0, 0, 4, 0, 0, 0, 0))) == abort(2, 1)


async def test_b1_an_unknown_pdu_type_inside_an_association_is_aborted() -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.associate()
        await caller.send(bytes((8, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
        assert await caller.read(10) == abort(2, 1)


async def test_b2_a_request_of_4_gib_is_aborted_from_its_header() -> None:
    assert await answer_to(b"\x01\x00\xff\xff\xff\xff") == abort(2, 6)


async def test_b3_a_request_packed_with_sub_items_is_aborted() -> None:
    assert await answer_to(associate_rq(more_user=item(0x99, b"") * 15_000)) == abort(2, 6)
    assert await answer_to(struct.pack(">BxI", 1, 65_622) + bytes(1000)) == abort(2, 6)


async def test_b4_128_contexts_are_answered_and_129_aborted() -> None:
    contexts = [(2 * n + 1, CT, (EXPLICIT,)) for n in range(128)]
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=contexts))
        kind, body = await caller.pdu()
        assert kind == 2
        assert contexts_of(body) == {2 * n + 1: (0, EXPLICIT) for n in range(128)}
    assert await answer_to(associate_rq(contexts=[*contexts, (2, CT, (EXPLICIT,))])) == abort(2, 6)


async def test_b5_a_browser_is_closed_without_an_answer_and_named_in_the_log() -> None:
    with capture_logs() as logs:
        assert await answer_to(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert [line["ended"] for line in logs] == ["HTTP on a DICOM port"]


async def test_b6_a_tls_client_is_closed_without_an_answer_and_named_in_the_log() -> None:
    with capture_logs() as logs:
        assert await answer_to(bytes.fromhex("16030100c8010000c40303") + bytes(194)) == b""
    assert logs[0]["ended"].startswith("TLS ClientHello")


@pytest.mark.parametrize("sent", [b"\x01\x00", b"\x01\x00\x00\x00\x01\x00\x00\x01"])
async def test_b7_a_peer_that_does_not_finish_its_request_is_closed_by_artim(sent: bytes) -> None:
    with capture_logs() as logs:
        assert await answer_to(sent) == b""
    assert [line["ended"] for line in logs] == ["no association request within 0.2 s"]


async def test_b7_a_silent_peer_is_closed_by_artim() -> None:
    async with serving(FakeDoor(), artim_s=0.05) as served:
        assert await (await served.connect()).rest() == b""


async def test_b8_another_protocol_version_is_rejected() -> None:
    assert await answer_to(associate_rq(version=2)) == reject(1, 2, 2)


async def test_b9_another_application_context_is_rejected() -> None:
    assert await answer_to(associate_rq(application_context="1.2.3")) == reject(1, 1, 2)


@pytest.mark.parametrize("called", [b"OTHER", b"sendrs", b"", b" " * 16, b"SENDRS\0", b"../../x", b"'; DROP"])
async def test_b10_another_called_ae_title_is_rejected(called: bytes) -> None:
    assert await answer_to(associate_rq(called=called)) == reject(1, 1, 7)


@pytest.mark.parametrize(
    ("calling", "address"), [("CT2", "127.0.0.0/8"), ("CT1", "10.0.0.0/8"), ("CT1", "::1"), ("ct1", "127.0.0.1")]
)
async def test_b11_a_caller_that_is_not_registered_is_rejected_and_remembered(calling: str, address: str) -> None:
    peers = {"ct1": Peer(name="ct1", ae_title="CT1", address=address)}
    async with serving(FakeDoor(), peers=peers) as served:
        for _ in range(2):
            caller = await served.connect()
            await caller.send(associate_rq(calling=calling.encode()))
            assert await caller.read(10) == reject(1, 1, 3)
        (pending,) = served.scp.pending_peers()
        assert (pending.calling_aet, pending.address, pending.attempts) == (calling, "127.0.0.1", 2)


async def test_b11_a_registered_caller_is_accepted() -> None:
    async with serving(FakeDoor(), peers=CT1) as served:
        await (await served.associate()).release()
        assert served.scp.pending_peers() == []


@pytest.mark.parametrize(
    "calling",
    [
        b"",
        b" " * 16,
        b"A\r\nB",
        b"\x1b]0;x\x07",
        b"A\0B",
        b"\x80\xff",
        b"A\\B",
        b"../../x",
        b"'; DROP",
        b"\xe2\x80\xae",
    ],
)
async def test_b12_an_odd_calling_ae_title_is_rejected_and_logged_escaped(calling: bytes) -> None:
    with capture_logs() as logs:
        assert await answer_to(associate_rq(calling=calling), peers=CT1) == reject(1, 1, 3)
    (line,) = logs
    assert line["event"] == "association rejected"
    assert line["calling_aet"].isascii()
    assert line["calling_aet"].isprintable()


@pytest.mark.parametrize("calling", [b"", b" " * 16, b"A\r\nB", b"\x1b]0;x\x07", b"A\0B", b"\x80\xff", b"A\\B"])
async def test_b12_what_is_no_ae_title_is_rejected_even_with_no_peer_registered(calling: bytes) -> None:
    assert await answer_to(associate_rq(calling=calling)) == reject(1, 1, 3)


@pytest.mark.parametrize("user", [max_length(0), max_length(12), max_length(2**31), b""])
async def test_b13_a_usable_maximum_length_or_none_is_taken_and_kept_to(user: bytes) -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(associate_rq(user=user, contexts=[(1, VERIFICATION, (IMPLICIT,))]))
        assert (await caller.pdu())[0] == 2
        await caller.send(echo_rq())
        answer = b""
        while not answer.endswith(b"\0\x09\x02\0\0\0\0\0"):  # its last element: Status, Success
            kind, body = await caller.pdu()
            assert kind == 4
            assert len(body) <= 12 or user != max_length(12)
            answer += body[6:]


@pytest.mark.parametrize("size", [1, 7, 11])
async def test_b13_a_maximum_length_without_room_for_a_pdv_is_aborted(size: int) -> None:
    assert await answer_to(associate_rq(user=max_length(size))) == abort(2, 6)


async def test_b14_contexts_that_are_not_acceptable_are_answered_one_by_one() -> None:
    service = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root FIND
    contexts = [(1, service, (IMPLICIT,)), (3, CT, ("1.9.9.9",)), (5, "1.9.8.7", (IMPLICIT,))]
    settings = {"accept_unknown_transfer_syntaxes": False, "accept_unknown_sop_classes": False}
    async with serving(FakeDoor(), **settings) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=contexts))
        kind, body = await caller.pdu()
        assert kind == 2
        assert {number: result for number, (result, _) in contexts_of(body).items()} == {1: 3, 3: 4, 5: 3}
        await caller.release()


async def test_b14_what_is_unknown_is_accepted_when_configured_but_never_a_service() -> None:
    contexts = [(1, "1.2.840.10008.5.1.4.1.2.2.1", (IMPLICIT,)), (3, "1.9.8.7", ("1.9.9.9", IMPLICIT))]
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=contexts))
        answers = contexts_of((await caller.pdu())[1])
        assert answers[1][0] == 3
        assert answers[3] == (0, "1.9.9.9")


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [(True, (0, "1.2.840.10008.1.2.4.999")), (False, (4, IMPLICIT))],
    ids=["accepted", "refused"],
)
async def test_b35_an_unknown_transfer_syntax_is_accepted_if_configured(
    accepts: bool, expected: tuple[int, str]
) -> None:
    async with serving(FakeDoor(), accept_unknown_transfer_syntaxes=accepts) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=[(1, CT, ("1.2.840.10008.1.2.4.999",))]))
        answer = contexts_of((await caller.pdu())[1])[1]
        assert answer[0] == expected[0]
        if accepts:
            assert answer == expected


@pytest.mark.parametrize(("accepts", "result"), [(True, 0), (False, 4)])
async def test_b41_big_endian_is_accepted_if_configured(accepts: bool, result: int) -> None:
    async with serving(FakeDoor(), accept_big_endian=accepts) as served:
        caller = await served.connect()
        await caller.send(associate_rq(contexts=[(1, MR, (BIG_ENDIAN,))]))
        assert contexts_of((await caller.pdu())[1])[1][0] == result


def identity(kind: int, primary: bytes, *, wants_answer: bool = False) -> bytes:
    value = bytes((kind, wants_answer)) + struct.pack(">H", len(primary)) + primary + b"\0\0"
    return item(0x58, value)


@pytest.mark.parametrize(("kind", "size"), [(9, 5), (0, 5), (5, 40_000), (1, 17_000)])
async def test_b15_a_user_identity_that_cannot_be_one_is_rejected_and_never_logged(kind: int, size: int) -> None:
    secret = (b"s3cret" * (size // 6 + 1))[:size]
    with capture_logs() as logs:
        assert await answer_to(associate_rq(more_user=identity(kind, secret))) == reject(1, 1, 1)
    assert logs
    assert "s3cre" not in repr(logs)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
async def test_b15_a_user_identity_of_a_known_type_is_ignored_by_default(kind: int) -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(associate_rq(more_user=identity(kind, b"user", wants_answer=True)))
        accepted, body = await caller.pdu()
        assert accepted == 2
        assert b"\x59\x00" not in body[-60:]


async def test_a_policy_hook_decides_on_the_user_identity_and_answers_it() -> None:
    seen: list[tuple[bytes, str, str]] = []

    def hook(offered: UserIdentity, calling_aet: str, address: str) -> bytes:
        seen.append((offered.primary, calling_aet, address))
        if offered.primary != b"good":
            raise Refused(0x0124, "not authorized")
        return b"ticket"

    async with serving(FakeDoor(), identity=hook) as served:
        caller = await served.connect()
        await caller.send(associate_rq(more_user=identity(3, b"good", wants_answer=True)))
        accepted, body = await caller.pdu()
        assert accepted == 2
        assert body.endswith(item(0x59, b"\0\x06ticket"))
        caller = await served.connect()
        await caller.send(associate_rq(more_user=identity(3, b"bad")))
        assert await caller.read(10) == reject(1, 2, 1)
    assert seen == [(b"good", "CT1", "127.0.0.1"), (b"bad", "CT1", "127.0.0.1")]


@pytest.mark.parametrize(
    "sent",
    [
        p_data(pdv(1, 3, b"")),
        b"\x02" + associate_rq()[1:],
        b"\x05\0\0\0\0\4\0\0\0\0",
        b"\x03\0\0\0\0\4\0\1\1\1",
        RELEASE_RP,
    ],
    ids=["P-DATA", "AC", "RELEASE-RQ", "RJ", "RELEASE-RP"],
)
async def test_b16_anything_but_a_request_before_the_association_is_aborted(sent: bytes) -> None:
    assert await answer_to(sent) == abort(2, 2)


@pytest.mark.parametrize("sent", [associate_rq(), b"\x02" + associate_rq()[1:], RELEASE_RP])
async def test_b16_a_second_request_or_an_answer_inside_an_association_is_aborted(sent: bytes) -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.associate()
        await caller.send(sent)
        assert await caller.read(10) == abort(2, 2)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x04\0\0\0\0\x04" + struct.pack(">I", 0),
        b"\x04\0\0\0\0\x05" + struct.pack(">IB", 1, 1),
        b"\x04\0\0\0\0\x06" + struct.pack(">IBB", 1000, 1, 3),
        b"\x04\0" + struct.pack(">I", 4097),
        b"\x04\0\0\0\0\0",
    ],
    ids=["length 0", "length 1", "larger than its PDU", "more than negotiated", "no PDV"],
)
async def test_b17_a_pdv_length_that_cannot_be_is_aborted(sent: bytes) -> None:
    async with serving(FakeDoor(), max_pdu_bytes=4096) as served:
        caller = await served.associate()
        await caller.send(sent)
        assert await caller.read(10) == abort(2, 6)


@pytest.mark.parametrize("context_id", [2, 3, 5, 0])
async def test_b18_a_pdv_on_a_context_that_was_not_accepted_is_aborted(context_id: int) -> None:
    refused = (3, "1.2.840.10008.5.1.4.1.2.2.1", (IMPLICIT,))
    async with serving(FakeDoor()) as served:
        caller = await served.associate([(1, CT, (EXPLICIT,)), refused])
        await caller.send(echo_rq(context_id=context_id))
        assert await caller.read(10) == abort(2, 6)


async def test_an_even_context_id_of_a_known_odd_peer_is_answered_with_that_id() -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.associate([(2, CT, (EXPLICIT,))])
        await caller.send(store_rq(context_id=2))
        assert (await caller.response())[0x0900] == 0


async def test_b46_connections_beyond_the_rate_are_closed_and_the_others_served() -> None:
    now = 0.0
    with capture_logs() as logs:
        async with serving(FakeDoor(), connections_per_s=1.0, connections_burst=3, clock=lambda: now) as served:
            for _ in range(3):
                await (await served.associate()).release()
            for _ in range(9):
                assert await (await served.connect()).rest() == b""
            now = 1.0
            await (await served.associate()).release()
    refused = [line["refused"] for line in logs if line["event"] == "connections refused, too many a second"]
    assert refused == [1, 2, 4, 8]


async def test_b47_an_operations_window_is_negotiated_down() -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        await caller.send(associate_rq(more_user=item(0x53, struct.pack(">HH", 65535, 65535))))
        _, body = await caller.pdu()
        assert item(0x53, struct.pack(">HH", 1, 1)) in body


@pytest.mark.parametrize("split", [1, 3, 7, 64])
async def test_a_request_may_come_in_pieces_of_any_size(split: int) -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.connect()
        whole = associate_rq(contexts=[(1, VERIFICATION, (IMPLICIT,))])
        for at in range(0, len(whole), split):
            await caller.send(whole[at : at + split])
        assert (await caller.pdu())[0] == 2
        await caller.send(echo_rq())
        assert (await caller.response())[0x0900] == 0


async def test_associations_beyond_the_limits_are_told_to_come_back() -> None:
    async with serving(FakeDoor(), max_associations=3, max_associations_per_peer=2) as served:
        first, _ = await served.associate(), await served.associate()
        third = await served.connect()
        await third.send(associate_rq())
        assert await third.read(10) == reject(2, 3, 2)
        other = await served.connect()
        await other.send(associate_rq(calling=b"CT2"))
        assert (await other.pdu())[0] == 2
        fourth = await served.connect()
        await fourth.send(associate_rq(calling=b"CT3"))
        assert await fourth.read(10) == reject(2, 3, 2)
        await first.release()
        again = await served.connect()
        await again.send(associate_rq())
        assert (await again.pdu())[0] == 2


async def test_without_room_an_association_is_told_to_come_back() -> None:
    door = FakeDoor(room=False)
    async with serving(door) as served:
        caller = await served.connect()
        await caller.send(associate_rq())
        assert await caller.read(10) == reject(2, 3, 1)
        door.room = True
        await (await served.associate()).release()


async def test_f60_a_known_peer_gets_in_past_hundreds_of_idle_connections() -> None:
    async with serving(FakeDoor(), connections_burst=1000, max_associations=4) as served:
        idle = [await served.connect() for _ in range(300)]
        held = await served.associate()
        for _ in range(20):
            await (await served.associate()).release()
        assert await idle[0].rest() == b""  # the oldest made room
        await held.send(store_rq())  # the association did not
        assert (await held.response())[0x0900] == 0
        for caller in idle:
            await caller.hang_up()


async def test_a_reload_changes_who_may_call_from_now_on() -> None:
    async with serving(FakeDoor()) as served:
        held = await served.associate()
        config = served.scp.config
        served.scp.replace(config, {"mr": Peer(name="mr", ae_title="MR1", address="127.0.0.1")})
        caller = await served.connect()
        await caller.send(associate_rq())
        assert await caller.read(10) == reject(1, 1, 3)
        await held.send(store_rq())
        assert (await held.response())[0x0900] == 0
