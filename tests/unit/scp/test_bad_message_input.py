"""Rows B19 to B29, B42 and B44 of the bad-input catalogue, and faults F17, F34 to F36: what a socket hears inside an
association.
"""

from __future__ import annotations

import struct
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from scp_harness import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    FakeDoor,
    abort,
    command_set,
    echo_rq,
    elements,
    p_data,
    pdv,
    serving,
    store_command,
    store_rq,
)
from structlog.testing import capture_logs

from router.errors import Refused, StorageError

BOTH = [(1, CT, (EXPLICIT,)), (3, VERIFICATION, (IMPLICIT,))]


async def status_of(sent: bytes, door: FakeDoor | None = None, **settings: Any) -> dict[int, Any]:
    """The answer to one message; afterwards the association must still take an instance."""
    door = door or FakeDoor()
    async with serving(door, **settings) as served:
        caller = await served.associate(BOTH)
        await caller.send(sent)
        answer = await caller.response()
        door.fail_receive = door.fail_write = door.fail_accept = None
        await caller.send(store_rq(message_id=99))
        after = await caller.response()
        assert (after[0x0900], after[0x0120]) == (0, 99)
        assert door.receptions[-1].ended == "accepted"
        await caller.release()
    assert all(reception.ended for reception in door.receptions)
    assert all(visit.closed for visit in door.visits)
    return answer


async def bytes_after(sent: bytes, door: FakeDoor | None = None, **settings: Any) -> bytes:
    """The ten bytes that an association hears instead of an answer."""
    door = door or FakeDoor()
    async with serving(door, **settings) as served:
        caller = await served.associate(BOTH)
        await caller.send(sent)
        heard = await caller.read(10)
        await door.visit_closed.wait()
    assert all(reception.ended == "discarded" for reception in door.receptions)
    return heard


async def test_a_good_instance_is_stored_and_answered() -> None:
    door = FakeDoor()
    answer = await status_of(store_rq(b"D" * 5000), door)
    assert answer == {
        0: answer[0],
        0x0002: CT,
        0x0100: 0x8001,
        0x0120: 7,
        0x0800: 0x0101,
        0x0900: 0,
        0x1000: "1.2.3.4.5",
    }
    stored = door.receptions[0]
    assert b"".join(stored.chunks) == b"D" * 5000
    assert (stored.declared.sop_class_uid, stored.declared.sop_instance_uid) == (CT, "1.2.3.4.5")
    assert stored.declared.transfer_syntax_uid == EXPLICIT
    source = door.visits[0].source
    assert (source.protocol, source.address) == ("C-STORE", "127.0.0.1")
    assert (source.calling_aet, source.called_aet) == ("CT1", "SENDRS")


async def test_an_echo_is_answered() -> None:
    assert (await status_of(echo_rq(12, context_id=3)))[0x0900] == 0


async def test_b19_a_command_that_never_ends_is_aborted_at_64_kib() -> None:
    endless = p_data(pdv(1, 1, b"C" * 8192)) * 9
    assert await bytes_after(endless) == abort(2, 6)


async def test_b20_an_endless_data_set_is_refused_and_aborted() -> None:
    door = FakeDoor()
    async with serving(door, max_instance_bytes=50_000) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command()))))
        await caller.send(p_data(pdv(1, 0, b"D" * 10_000)) * 6)
        answer = await caller.response()
        assert answer[0x0900] == 0xA700
        assert answer[0x0902] == "data set exceeds 50000 bytes"
        assert await caller.read(10) == abort(0, 0)
    assert [reception.ended for reception in door.receptions] == ["discarded"]


async def test_b20_an_endless_data_set_of_a_refused_instance_is_aborted_too() -> None:
    async with serving(FakeDoor(fail_receive=Refused(0xA900, "no")), max_instance_bytes=50_000) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command()))))
        await caller.send(p_data(pdv(1, 0, b"D" * 10_000)) * 6)
        assert (await caller.response())[0x0900] == 0xA700
        assert await caller.read(10) == abort(0, 0)


@pytest.mark.parametrize(
    "second",
    [
        pdv(1, 3, command_set(store_command(message_id=8))),
        pdv(3, 3, command_set({0x0100: 0x30, 0x0110: 1, 0x0800: 257})),
    ],
)
async def test_b21_a_command_inside_a_data_set_is_aborted(second: bytes) -> None:
    begun = p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD"))
    assert await bytes_after(begun + p_data(second)) == abort(2, 2)


@pytest.mark.parametrize("missing", ["x0100", "x0110", "x0800"])
async def test_b22_a_command_that_cannot_be_answered_is_aborted(missing: str) -> None:
    assert await bytes_after(store_rq(**{missing: None})) == abort(0, 0)


@pytest.mark.parametrize("missing", ["x0002", "x1000"])
async def test_b22_a_store_without_its_uids_is_mistyped(missing: str) -> None:
    door = FakeDoor()
    assert (await status_of(store_rq(**{missing: None}), door))[0x0900] == 0x0212
    assert len(door.receptions) == 1  # the good one afterwards


@pytest.mark.parametrize(
    "command",
    [
        command_set(store_command())[:-2],
        struct.pack("<HHII", 0, 0, 4, 5) + command_set(store_command())[12:],
        command_set(store_command())[12:],
        struct.pack("<HHII", 0, 0, 4, 20) + struct.pack("<HHIHHHIH", 0, 0x110, 2, 7, 0, 0x100, 2, 1),
        struct.pack("<HH2sHI", 0, 0, b"UL", 4, 10) + struct.pack("<HH2sHH", 0, 0x0100, b"US", 2, 1),
        struct.pack("<HHII", 0, 0, 4, 10) + struct.pack("<HHIH", 8, 0x0016, 2, 1),
    ],
    ids=["cut short", "group length wrong", "no group length", "unsorted", "explicit VR", "group 0008"],
)
async def test_b23_what_is_no_command_set_is_aborted(command: bytes) -> None:
    assert await bytes_after(p_data(pdv(1, 3, command))) == abort(2, 6)


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0140, 0x0130, 0x0777, 0x0030])
@pytest.mark.parametrize("with_data_set", [True, False])
async def test_b24_an_operation_that_is_not_storage_is_unrecognized(field: int, with_data_set: bool) -> None:
    door = FakeDoor()
    sent = (
        store_rq(b"Q" * 3000, x0100=field)
        if with_data_set
        else p_data(pdv(1, 3, command_set(store_command(x0100=field, x0800=0x0101))))
    )
    answer = await status_of(sent, door)
    assert (answer[0x0900], answer[0x0100]) == (0x0211, field | 0x8000)
    assert len(door.receptions) == 1


async def test_b24_a_store_on_the_verification_context_is_unrecognized() -> None:
    sent = store_rq(context_id=3, sop_class=VERIFICATION)
    assert (await status_of(sent))[0x0900] == 0x0211


async def test_b25_a_message_id_used_again_after_its_answer_is_no_duplicate() -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.associate()
        await caller.send(store_rq() + store_rq(instance="1.2.3.4.6"))
        assert [(await caller.response())[0x0900] for _ in range(2)] == [0, 0]


async def test_b26_a_store_without_a_data_set_is_refused() -> None:
    answer = await status_of(p_data(pdv(1, 3, command_set(store_command(x0800=0x0101)))))
    assert (answer[0x0900], answer[0x0902]) == (0xA900, "no data set")


async def test_b27_a_sop_class_that_is_not_the_contexts_is_refused() -> None:
    assert (await status_of(store_rq(sop_class=MR)))[0x0900] == 0xA900


@pytest.mark.parametrize("stage", ["fail_receive", "fail_write", "fail_accept"])
async def test_b28_b29_what_ingest_refuses_is_answered_with_its_status_and_words(stage: str) -> None:
    door = FakeDoor(**{stage: Refused(0xA900, "invalid UID")})
    with capture_logs() as logs:
        answer = await status_of(store_rq(b"D" * 40_000), door)
    assert (answer[0x0900], answer[0x0902]) == (0xA900, "invalid UID")
    (line,) = [line for line in logs if line["event"] == "request refused"]
    assert (line["status"], line["why"]) == ("A900", "invalid UID")


@pytest.mark.parametrize("uid", ["../../etc/cron.d/x", "/abs", "a;reboot", "1." * 40 + "1", "\xb2.\xb3", "1\x1b[2J"])
async def test_b29_a_uid_that_is_none_is_not_sent_back_and_logged_escaped(uid: str) -> None:
    with capture_logs() as logs:
        answer = await status_of(store_rq(instance=uid), FakeDoor(fail_receive=Refused(0xA900, "invalid UID")))
    assert 0x1000 not in answer
    (line,) = [line for line in logs if line["event"] == "request refused"]
    assert line["sop_instance_uid"].isascii()
    assert line["sop_instance_uid"].isprintable()
    assert len(line["sop_instance_uid"]) <= 70


async def test_b42_an_empty_data_set_is_refused() -> None:
    answer = await status_of(store_rq(b""))
    assert (answer[0x0900], answer[0x0902]) == (0xA900, "empty data set")


async def test_b44_a_release_inside_a_message_discards_it() -> None:
    door = FakeDoor()
    begun = p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD"))
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(begun + RELEASE_RQ)
        assert await caller.read(10) == RELEASE_RP
        await door.visit_closed.wait()
    assert [reception.ended for reception in door.receptions] == ["discarded"]


@pytest.mark.parametrize("last_words", [abort(0, 0), abort(99, 99)])
async def test_b44_an_abort_inside_a_message_discards_it_and_is_closed(last_words: bytes) -> None:
    door = FakeDoor()
    begun = p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD"))
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(begun + last_words)
        assert await caller.rest() == b""
        await door.visit_closed.wait()
    assert [reception.ended for reception in door.receptions] == ["discarded"]


async def test_b44_an_abort_of_a_wrong_length_is_aborted() -> None:
    assert await bytes_after(b"\x07\0\0\0\0\x08" + bytes(8)) == abort(2, 6)


@pytest.mark.parametrize("stage", ["fail_receive", "fail_write", "fail_accept"])
async def test_f17_an_error_of_our_own_fails_the_instance_not_the_association(stage: str) -> None:
    door = FakeDoor(**{stage: KeyError("a mistake of ours")})
    with capture_logs() as logs:
        answer = await status_of(store_rq(), door)
    assert answer[0x0900] == 0x0110
    assert "mistake" not in answer[0x0902]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["instance failed in our code"]


@pytest.mark.parametrize("stage", ["fail_write", "fail_accept"])
async def test_f12_a_full_disk_is_answered_out_of_resources_and_the_association_lives(stage: str) -> None:
    door = FakeDoor(**{stage: StorageError("no space left on device")})
    assert (await status_of(store_rq(b"D" * 40_000), door))[0x0900] == 0xA700


async def test_a_cancel_is_ignored() -> None:
    async with serving(FakeDoor()) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set({0x0100: 0x0FFF, 0x0120: 7, 0x0800: 0x0101}))))
        await caller.send(store_rq())
        assert (await caller.response())[0x0900] == 0


async def test_a_response_to_nothing_is_aborted() -> None:
    response = command_set({0x0100: 0x8001, 0x0120: 7, 0x0800: 0x0101, 0x0900: 0})
    assert await bytes_after(p_data(pdv(1, 3, response))) == abort(0, 0)


@pytest.mark.parametrize("cut", [1, 5, 6, 11, 12, 40, 100, 118, 119, 130, 200])
async def test_f34_a_sender_that_dies_anywhere_leaves_nothing_behind(cut: int) -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        whole = store_rq()
        assert cut < len(whole)
        await caller.send(whole[:cut])
        await caller.hang_up()
        await door.visit_closed.wait()
        while served.scp.connections:
            await anyio.wait_all_tasks_blocked()
    assert [reception.ended for reception in door.receptions] == ["discarded"] * len(door.receptions)


async def test_f34_a_sender_that_resets_the_connection_leaves_nothing_behind() -> None:
    door = FakeDoor()
    async with serving(door) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD")))
        await door.writing.wait()
        reset = struct.pack("ii", 1, 0)  # linger on, for no time
        caller.socket.extra(SocketAttribute.raw_socket).setsockopt(1, 13, reset)
        await caller.hang_up()
        await door.visit_closed.wait()
    assert [reception.ended for reception in door.receptions] == ["discarded"]


async def test_f34_a_sender_that_falls_silent_inside_a_message_is_aborted() -> None:
    door = FakeDoor()
    async with serving(door, idle_s=0.05) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"DD")))
        assert await caller.read(10) == abort(0, 0)
        await door.visit_closed.wait()
    assert [reception.ended for reception in door.receptions] == ["discarded"]


async def test_an_idle_association_is_aborted() -> None:
    with capture_logs() as logs:
        async with serving(FakeDoor(), idle_s=0.05) as served:
            caller = await served.associate()
            assert await caller.read(10) == abort(0, 0)
    assert [line["ended"] for line in logs] == ["nothing moved for 0.05 s"]


async def test_f35_a_sender_that_never_reads_our_answers_is_cut_off() -> None:
    door = FakeDoor(keep_bytes=False)
    with capture_logs() as logs:
        async with serving(door, idle_s=0.3) as served:
            caller = await served.associate([(1, VERIFICATION, (IMPLICIT,))])
            many = echo_rq() * 1000
            with anyio.move_on_after(20):
                while not door.visit_closed.is_set():
                    with anyio.move_on_after(0.5):
                        try:
                            await caller.socket.send(many)
                        except anyio.BrokenResourceError:
                            break
            await door.visit_closed.wait()
    assert [line["ended"] for line in logs] == ["nothing moved for 0.3 s"]


async def test_f36_a_sender_that_drips_is_cut_off() -> None:
    now = 0.0
    door = FakeDoor()
    async with serving(door, clock=lambda: now) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command()))))
        for _ in range(3):
            door.writing = anyio.Event()
            await caller.send(p_data(pdv(1, 0, b"D")))
            await door.writing.wait()
            await anyio.wait_all_tasks_blocked()  # the SCP waits for more
            now += 25
        await caller.send(p_data(pdv(1, 0, b"D")))
        assert await caller.read(10) == abort(0, 0)
    assert [reception.ended for reception in door.receptions] == ["discarded"]


async def test_a_slow_disk_of_ours_is_not_held_against_the_sender() -> None:
    now = 0.0
    door = FakeDoor(may_write=anyio.Event())
    async with serving(door, clock=lambda: now) as served:
        caller = await served.associate()
        await caller.send(p_data(pdv(1, 3, command_set(store_command())), pdv(1, 0, b"D")))
        await door.writing.wait()
        now += 1000
        door.may_write.set()
        await caller.send(p_data(pdv(1, 2, b"D")))
        assert (await caller.response())[0x0900] == 0


def test_the_harness_reads_its_own_commands() -> None:
    assert elements(command_set(store_command()))[0x1000] == "1.2.3.4.5"
