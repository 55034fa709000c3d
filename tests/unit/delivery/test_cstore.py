"""The C-STORE courier against an SCP on loopback that answers as the test says (F40 to F42, F45 to F48, D5)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from scripted_scp import (
    CT,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    MR,
    Hangup,
    Received,
    Reports,
    ScriptedScp,
    Silence,
    Stored,
    courier_for,
    respond,
    wrong,
)

from router.delivery.cstore_contexts import Need, needs_of, propose
from router.dicom.status import Verdict, store_status
from router.dicom.uids import Uid
from router.dimse.events import Command, NegotiatedContext
from router.errors import Misconfigured, Transient
from router.sending.courier import BrokenOff
from router.store.files import Store

LARGE = 3 * 1024 * 1024


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[Stored]:
    async with Store.open(tmp_path) as store:
        yield Stored(store)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_a_batch_goes_out_byte_for_byte_over_one_association(stored: Stored) -> None:
    sizes = [10, 16_384, 300_000, LARGE, 0, 7, 1024 * 1024, 1024 * 1024 + 1]
    contents = [noise(size, seed) for seed, size in enumerate(sizes)]
    batch = [await stored.put(content) for content in contents]
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch[:4], reports)
        await session.deliver(batch[4:], reports)
        await session.aclose()
        assert [received.data for received in scp.received] == contents
        assert [received.command.affected_sop_instance_uid for received in scp.received] == [
            delivery.declared.sop_instance_uid for delivery in batch
        ]
        assert reports.verdicts == ["completed"] * len(batch)
        assert len(scp.requests) == 1
        assert (scp.releases, scp.aborts) == (1, 0)
        assert (scp.requests[0].calling_aet, scp.requests[0].called_aet) == ("SENDRS", "ARCHIVE")


async def test_many_sop_classes_and_transfer_syntaxes_share_one_association(stored: Stored) -> None:
    syntaxes = (EXPLICIT, JPEG)
    batch = [await stored.put(noise(100, n), sop_class=Uid(f"1.2.3.{n}"), syntax=syntaxes[n % 2]) for n in range(30)]
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["completed"] * 30
        assert [received.transfer_syntax for received in scp.received] == [EXPLICIT, JPEG] * 15
        assert len(scp.requests) == 1


async def test_more_than_128_contexts_take_a_second_association_and_no_more(stored: Stored) -> None:
    batch = [await stored.put(b"ab", sop_class=Uid(f"1.2.3.{n}")) for n in range(140)]
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["completed"] * 140
        assert [len(request.contexts) for request in scp.requests] == [128, 128]


async def test_a_later_batch_with_other_needs_gets_an_association_for_both(stored: Stored) -> None:
    first, second, third = (
        await stored.put(b"ab", sop_class=CT),
        await stored.put(b"cd", sop_class=MR),
        await stored.put(b"ef", sop_class=CT),
    )
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        for delivery in (first, second, third):
            await session.deliver([delivery], reports)
        await session.aclose()
        assert len(scp.requests) == 2
        assert scp.releases == 2


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0x0111, 0xA700, 0xA900, 0xC000, 0x0122, 0xFFFF, 0xFF00])
async def test_f40_each_status_is_reported_as_d12_says_and_the_association_lives_on(
    stored: Stored, status: int
) -> None:
    batch = [await stored.put(b"ab"), await stored.put(b"cd")]

    def answer(received: Received) -> list[Command]:
        return [respond(received, status if received.data == b"ab" else 0, "disk nearly full")]

    async with ScriptedScp(on_store=answer).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        first, second = reports.outcomes
        assert (first.verdict, first.status) == (store_status(status).verdict, status)
        if status:
            assert first.reason.startswith(f"{status:04X}H ")
            assert first.reason.endswith("disk nearly full")
        assert second.verdict is Verdict.COMPLETED
        assert len(scp.requests) == 1


async def test_f40_not_authorised_stops_the_destination_and_blames_no_instance(stored: Stored) -> None:
    delivery = await stored.put(b"ab")
    async with ScriptedScp(on_store=lambda received: [respond(received, 0x0124)]).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(Misconfigured, match="not authorised"):
            await session.deliver([delivery], reports)
        assert reports.outcomes == []


async def test_f41_a_refused_sop_class_fails_its_instances_only_and_never_costs_an_association(stored: Stored) -> None:
    batch = [await stored.put(b"ab", sop_class=(CT, MR)[n % 2]) for n in range(10)]
    async with ScriptedScp(accepts_sop_class=lambda uid: uid != MR).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["completed", "never"] * 10
        assert MR in reports.outcomes[1].reason
        assert EXPLICIT in reports.outcomes[1].reason
        assert len(scp.requests) == 1


async def test_f41_a_refused_transfer_syntax_is_named(stored: Stored) -> None:
    batch = [await stored.put(b"ab", syntax=JPEG), await stored.put(b"cd", syntax=IMPLICIT)]
    async with ScriptedScp(accepts_transfer_syntax=lambda uid: uid != JPEG).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["never", "completed"]
        assert f"transfer syntax {JPEG}: transfer syntax not supported" in reports.outcomes[0].reason


async def test_a_context_that_the_peer_did_not_answer_is_not_used(stored: Stored) -> None:
    def forget_the_first(contexts: tuple[NegotiatedContext, ...]) -> tuple[NegotiatedContext, ...]:
        return contexts[1:]

    delivery = await stored.put(b"ab")
    async with ScriptedScp(change_contexts=forget_the_first).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver([delivery], reports)
        await session.aclose()
        assert reports.verdicts == ["never"]
        assert scp.received == []


@pytest.mark.parametrize(
    "changes", [{"message_id_responded_to": 4711}, {"affected_sop_instance_uid": Uid("1.2.3.4.5")}, {"status": None}]
)
async def test_f42_an_answer_that_does_not_fit_is_uncertain_and_ends_the_association(
    stored: Stored, changes: dict[str, object]
) -> None:
    batch = [await stored.put(b"ab"), await stored.put(b"cd")]
    async with ScriptedScp(on_store=lambda received: wrong(received, **changes)).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(BrokenOff, match="protocol violation") as caught:
            await session.deliver(batch, reports)
        assert caught.value.delivery is batch[0]
        assert reports.verdicts == ["uncertain"]
        assert "protocol violation" in reports.outcomes[0].reason


async def test_f42_an_answer_given_twice_never_completes_the_next_instance(stored: Stored) -> None:
    batch = [await stored.put(b"ab"), await stored.put(b"cd")]

    def twice(received: Received) -> list[Command]:
        if received.data == b"cd":
            raise Silence
        return [respond(received), respond(received)]

    async with ScriptedScp(on_store=twice).listening() as scp:
        session, reports = courier_for(scp, stored.store, answer_s=0.2).session(), Reports()
        with pytest.raises(BrokenOff):
            await session.deliver(batch, reports)
        assert reports.verdicts == ["completed", "uncertain"]


async def test_f42_success_before_the_data_is_sent_is_never_taken_for_stored(stored: Stored) -> None:
    delivery = await stored.put(noise(LARGE))
    early: list[Command] = []

    def remember(command: Command) -> list[Command]:
        early.append(command)
        return []

    def answer_early(size: int) -> list[Command]:
        return [respond(Received(early.pop(), EXPLICIT, b""))] if early else []

    async with ScriptedScp(on_command=remember, on_data=answer_early).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(BrokenOff, match="before the whole data set"):
            await session.deliver([delivery], reports)
        assert Verdict.COMPLETED not in [outcome.verdict for outcome in reports.outcomes]


async def test_a_refusal_before_the_data_is_sent_counts(stored: Stored) -> None:
    delivery = await stored.put(noise(LARGE))
    pending: list[Command] = []

    def refuse_early(size: int) -> list[Command]:
        return [respond(Received(pending.pop(), EXPLICIT, b""), 0xA700)] if pending else []

    def remember(command: Command) -> list[Command]:
        pending.append(command)
        return []

    scp = ScriptedScp(on_command=remember, on_data=refuse_early, on_store=lambda received: [])
    async with scp.listening():
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver([delivery], reports)
        await session.aclose()
        assert reports.verdicts == ["destination"]


async def test_f45_an_abort_after_all_was_sent_is_uncertain_for_that_one_only(stored: Stored) -> None:
    batch = [await stored.put(b"ab"), await stored.put(b"cd"), await stored.put(b"ef")]

    def poison(received: Received) -> list[Command]:
        if received.data == b"cd":
            raise Hangup
        return [respond(received)]

    async with ScriptedScp(on_store=poison).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(BrokenOff, match="aborted by the peer") as caught:
            await session.deliver(batch, reports)
        assert caught.value.delivery is batch[1]
        assert reports.verdicts == ["completed", "uncertain"]
        await session.deliver(batch[2:], reports)
        assert reports.verdicts[-1] == "completed"
        await session.aclose()


@pytest.mark.parametrize("abort", [True, False])
async def test_f45_an_abort_while_data_is_being_sent_means_not_sent(stored: Stored, abort: bool) -> None:
    delivery = await stored.put(noise(16 * LARGE))

    def hang_up(size: int) -> list[Command]:
        raise Hangup(abort=abort)

    async with ScriptedScp(on_data=hang_up).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(BrokenOff) as caught:
            await session.deliver([delivery], reports)
        assert caught.value.delivery is delivery
        assert reports.outcomes == []


@pytest.mark.parametrize("rejection", [(1, 1, 3), (1, 1, 7), (1, 2, 1)])
async def test_f46_a_permanent_rejection_is_a_misconfiguration(stored: Stored, rejection: tuple[int, int, int]) -> None:
    delivery = await stored.put(b"ab")
    async with ScriptedScp(rejection=rejection).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(Misconfigured):
            await session.deliver([delivery], reports)
        assert reports.outcomes == []


@pytest.mark.parametrize("rejection", [(2, 3, 1), (2, 3, 2)])
async def test_f46_a_rejection_for_now_is_tried_again(stored: Stored, rejection: tuple[int, int, int]) -> None:
    delivery = await stored.put(b"ab")
    async with ScriptedScp(rejection=rejection).listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        with pytest.raises(Transient) as caught:
            await session.deliver([delivery], reports)
        assert not isinstance(caught.value, BrokenOff)
        scp.rejection = None
        await session.deliver([delivery], reports)
        assert reports.verdicts == ["completed"]
        await session.aclose()


@pytest.mark.parametrize("max_pdu_bytes", [12, 13, 127, 4096, 16_383, 2**32 - 1])
async def test_f47_the_peers_maximum_length_is_honoured(stored: Stored, max_pdu_bytes: int) -> None:
    content = noise(40_001)
    delivery = await stored.put(content)
    async with ScriptedScp(max_pdu_bytes=max_pdu_bytes).listening() as scp:  # the SCP's own layer refuses longer ones
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver([delivery], reports)
        await session.aclose()
        assert reports.verdicts == ["completed"]
        assert scp.received[0].data == content


async def test_f48_a_peer_that_hangs_up_after_five_gets_shorter_associations(stored: Stored) -> None:
    batch = [await stored.put(bytes([n])) for n in range(40)]
    answered = 0

    def tired(received: Received) -> list[Command]:
        nonlocal answered
        if len(scp.received) - answered > 5:
            answered = len(scp.received)
            raise Hangup
        return [respond(received)]

    def count_anew(contexts: tuple[NegotiatedContext, ...]) -> tuple[NegotiatedContext, ...]:
        nonlocal answered
        answered = len(scp.received)
        return contexts

    scp = ScriptedScp(on_store=tired, change_contexts=count_anew)
    async with scp.listening():
        courier = courier_for(scp, stored.store)
        session, reports = courier.session(), Reports()
        left = list(batch)
        for _ in range(2):
            with pytest.raises(BrokenOff):
                await session.deliver(left, reports)
            left = batch[len(reports.outcomes) :]
        await session.deliver(left, reports)
        await session.aclose()
        assert reports.verdicts.count("uncertain") == 2
        assert reports.verdicts.count("completed") == 38


async def test_f44_a_peer_that_answers_too_late_is_given_more_time(stored: Stored) -> None:
    delivery = await stored.put(b"ab")

    def never(received: Received) -> list[Command]:
        raise Silence

    async with ScriptedScp(on_store=never).listening() as scp:
        courier = courier_for(scp, stored.store, answer_s=0.1)
        session, reports = courier.session(), Reports()
        with pytest.raises(BrokenOff, match="did not answer"):
            await session.deliver([delivery], reports)
        assert reports.verdicts == ["uncertain"]
        assert courier.answer_s == pytest.approx(0.2)


@pytest.mark.parametrize(("size", "at"), [(16_384, 0), (16_384, 16_383), (LARGE, 0), (LARGE, LARGE - 1), (LARGE, 9)])
async def test_one_flipped_bit_is_never_accepted_by_the_peer(stored: Stored, size: int, at: int) -> None:
    batch = [await stored.put(b"ab"), await stored.put(noise(size)), await stored.put(b"cd")]
    stored.flip_bit(batch[1], at)
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["completed", "never", "completed"]
        assert reports.outcomes[1].reason.startswith("content damaged")
        assert [received.data for received in scp.received] == [b"ab", b"cd"]


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_missing_file_is_parked_and_the_rest_goes(stored: Stored, size: int) -> None:
    batch = [await stored.put(noise(size)), await stored.put(b"cd")]
    stored.remove(batch[0])
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch, reports)
        await session.aclose()
        assert reports.verdicts == ["never", "completed"]


async def test_an_association_that_the_peer_closed_while_idle_costs_no_instance(stored: Stored) -> None:
    batch = [await stored.put(b"ab"), await stored.put(b"cd")]
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports()
        await session.deliver(batch[:1], reports)
        scp.close_all()
        for _ in range(10):
            await asyncio.sleep(0)
        await session.deliver(batch[1:], reports)
        await session.aclose()
        assert reports.verdicts == ["completed", "completed"]
        assert len(scp.requests) == 2


async def test_a_lane_that_wants_no_more_is_obeyed_after_the_instance_in_hand(stored: Stored) -> None:
    batch = [await stored.put(bytes([n])) for n in range(20)]
    async with ScriptedScp().listening() as scp:
        session, reports = courier_for(scp, stored.store).session(), Reports(stop_after=3)
        await session.deliver(batch, reports)
        assert len(reports.outcomes) == 4  # the fourth was on the wire when the third was reported
        reports.stop_after = 1000
        await session.deliver(batch[4:], reports)
        await session.aclose()
        assert len(scp.requests) == 1
        assert reports.verdicts == ["completed"] * 20


async def test_nobody_listening_is_transient(stored: Stored) -> None:
    delivery = await stored.put(b"ab")
    async with ScriptedScp().listening() as scp:
        pass
    session, reports = courier_for(scp, stored.store).session(), Reports()
    with pytest.raises(Transient):
        await session.deliver([delivery], reports)
    assert reports.outcomes == []


async def test_a_probe_is_a_c_echo(stored: Stored) -> None:
    async with ScriptedScp().listening() as scp:
        await courier_for(scp, stored.store).probe()
        assert (scp.echoes, scp.releases) == (1, 1)
        scp.accepts_sop_class = lambda uid: False
        await courier_for(scp, stored.store).probe()  # it is there, it just does not do Verification
        scp.rejection = (1, 1, 7)
        with pytest.raises(Misconfigured):
            await courier_for(scp, stored.store).probe()
    with pytest.raises(Transient):
        await courier_for(scp, stored.store).probe()


def test_the_default_transfer_syntax_is_offered_for_each_sop_class_as_far_as_there_is_room() -> None:
    contexts = propose([Need(CT, EXPLICIT), Need(CT, JPEG), Need(MR, IMPLICIT)])
    assert [(context.abstract_syntax, context.transfer_syntaxes) for context in contexts] == [
        (CT, (EXPLICIT,)),
        (CT, (JPEG,)),
        (MR, (IMPLICIT,)),
        (CT, (IMPLICIT,)),
    ]
    assert [context.context_id for context in contexts] == [1, 3, 5, 7]
    many = propose([Need(Uid(f"1.2.{n}"), EXPLICIT) for n in range(128)])
    assert len(many) == 128
    assert many[-1].context_id == 255
    assert {context.transfer_syntaxes for context in many} == {(EXPLICIT,)}


async def test_needs_of_a_batch_come_first_then_those_of_before(stored: Stored) -> None:
    first, second = await stored.put(b"", sop_class=CT), await stored.put(b"", sop_class=MR)
    before = Need(Uid("1.2"), EXPLICIT)
    assert needs_of([first, second, first], [before]) == (Need(CT, EXPLICIT), Need(MR, EXPLICIT), before)


async def test_req_109_the_request_has_the_priority_of_the_move_and_its_originator(stored: Stored) -> None:
    """REQ-109: Priority (0000,0700), Move Originator (0000,1030), (0000,1031). O-46: without a C-MOVE there is none."""
    of_rule, of_move = await stored.put(b"\1\2" * 10), await stored.put(b"\3\4" * 10)
    of_move = msgspec.structs.replace(of_move, originator_aet="VIEWER", originator_message_id=513, priority=2)
    async with ScriptedScp().listening() as scp:
        session = courier_for(scp, stored.store).session()
        await session.deliver([of_rule, of_move], Reports())
        await session.aclose()
    seen = [
        (one.command.priority, one.command.move_originator_aet, one.command.move_originator_message_id)
        for one in scp.received
    ]
    assert seen == [(0, "", None), (2, "VIEWER", 513)]
