"""An association of ours, one operation at a time; against a peer that answers as told, right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from scripted_peer import Hangup, Message, Reply, ScriptedPeer, response

from router.dicom.uids import Uid
from router.dimse.commands import C_CANCEL_RQ, C_ECHO_RSP, C_FIND_RQ, N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP
from router.dimse.events import Command
from router.errors import Misconfigured, Transient
from router.net.proposals import Proposal
from router.net.requestor import MAX_DATA_SET_BYTES, Requestor, Response

FIND = Uid("1.2.840.10008.5.1.4.1.2.2.1")
MOVE = Uid("1.2.840.10008.5.1.4.1.2.2.2")
RQ = Command(C_FIND_RQ, affected_sop_class_uid=FIND, priority=0)


def found(message: Message) -> Iterable[Reply]:
    return [response(message, 0xFF00, b"one "), response(message, 0xFF01, b"two "), response(message, 0)]


async def all_of(requestor: Requestor, command: Command = RQ, data: bytes = b"ask!") -> list[Response]:
    return [one async for one in requestor.ask(FIND, command, data)]


async def test_responses_come_whole_up_to_the_one_that_is_not_pending_and_message_ids_go_on() -> None:
    async with ScriptedPeer(found).listening() as peer:
        async with await Requestor.open(peer.node(), [Proposal(FIND)]) as requestor:
            first = await all_of(requestor)
            await all_of(requestor)
        assert [(one.command.status, one.data_set) for one in first] == [(0xFF00, b"one "), (0xFF01, b"two "), (0, b"")]
        assert [message.data for message in peer.messages] == [b"ask!", b"ask!"]
        assert [command.message_id for command in peer.commands] == [1, 2]
        assert peer.releases == 1


async def test_extended_negotiation_is_offered_and_what_was_granted_can_be_seen() -> None:
    async with ScriptedPeer(found, extended=lambda request: {FIND: b"\1\0"}).listening() as peer:
        async with await Requestor.open(peer.node(), [Proposal(FIND, b"\1\1"), Proposal(MOVE)]) as requestor:
            assert requestor.granted(FIND) == b"\1\0"
            assert requestor.granted(MOVE) == b""
        assert dict(peer.requests[0].extended) == {FIND: b"\1\1"}


async def test_a_refused_sop_class_is_seen_and_cannot_be_asked() -> None:
    async with (
        ScriptedPeer(found, accepts=lambda uid: uid != FIND).listening() as peer,
        await Requestor.open(peer.node(), [Proposal(FIND), Proposal(MOVE)]) as requestor,
    ):
        assert requestor.transfer_syntax(FIND) is None
        assert requestor.transfer_syntax(MOVE)
        with pytest.raises(Misconfigured, match="SOP class not supported"):
            await all_of(requestor)


def _other_message(message: Message) -> Iterable[Reply]:
    return [response(message, 0, message_id_responded_to=77)]


def _other_command(message: Message) -> Iterable[Reply]:
    return [response(message, 0, field=C_ECHO_RSP)]


def _no_status(message: Message) -> Iterable[Reply]:
    return [response(message, None)]


def _too_large(message: Message) -> Iterable[Reply]:
    return [response(message, 0xFF00, bytes(MAX_DATA_SET_BYTES + 2))]


def _many_requests(message: Message) -> Iterable[Reply]:
    return [(Command(N_EVENT_REPORT_RQ, 1), b"")] * 100


def _aborted(message: Message) -> Iterable[Reply]:
    raise Hangup


def _closed(message: Message) -> Iterable[Reply]:
    raise Hangup(abort=False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_other_message, "response to message 77 where 1 is in hand"),
        (_other_command, "response 8030H where 8020H was due"),
        (_no_status, "without a status"),
        (_too_large, "more than 1048576 bytes"),
        (_many_requests, "more than 64 requests"),
        (_aborted, "aborted by the peer"),
        (_closed, "connection was closed"),
        (lambda message: [], "did not answer within 0.2 s"),
    ],
)
async def test_a_peer_that_breaks_its_word_is_transient_and_said_in_words(
    answer: Callable[[Message], Iterable[Reply]], words: str
) -> None:
    async with ScriptedPeer(answer).listening() as peer:
        async with await Requestor.open(peer.node(answer_s=0.2), [Proposal(FIND)]) as requestor:
            with pytest.raises(Transient, match=words):
                await all_of(requestor)
            with pytest.raises(Transient):
                await all_of(requestor)
        assert peer.releases == 0


async def test_cancel_names_the_message_under_way_and_its_last_response_still_comes() -> None:
    def pending_until_cancelled(message: Message) -> Iterable[Reply]:
        if message.command.field == C_CANCEL_RQ:
            return [response(asked[0], 0xFE00)]
        asked.append(message)
        return [response(message, 0xFF00, b"one ")]

    asked: list[Message] = []
    async with ScriptedPeer(pending_until_cancelled).listening() as peer:
        async with await Requestor.open(peer.node(), [Proposal(FIND)]) as requestor:
            await requestor.cancel()  # nothing is under way
            seen = []
            async for one in requestor.ask(FIND, RQ, b"ask!"):
                seen.append(one.command.status)
                if one.command.status == 0xFF00:
                    await requestor.cancel()
        assert seen == [0xFF00, 0xFE00]
        assert peer.commands[1].message_id_responded_to == peer.commands[0].message_id
        assert peer.releases == 1


async def test_who_stops_listening_before_the_end_aborts() -> None:
    async with ScriptedPeer(found).listening() as peer:
        async with await Requestor.open(peer.node(), [Proposal(FIND)]) as requestor:
            async for _ in requestor.ask(FIND, RQ, b"ask!"):
                break
        assert peer.releases == 0


async def test_a_request_of_the_peer_is_heard_and_answered_also_when_it_comes_before_our_response() -> None:
    event = Command(N_EVENT_REPORT_RQ, 9, affected_sop_class_uid=FIND, has_data_set=True, event_type_id=1)
    async with ScriptedPeer(
        lambda message: [] if message.command.field == N_EVENT_REPORT_RSP else [(event, b"news"), response(message, 0)]
    ).listening() as peer:
        async with await Requestor.open(peer.node(), [Proposal(FIND)]) as requestor:
            assert [one.command.status for one in await all_of(requestor)] == [0]
            context_id, command, data = await requestor.listen(5.0)
            assert (command.event_type_id, data) == (1, b"news")
            await requestor.answer(context_id, Command(N_EVENT_REPORT_RSP, message_id_responded_to=9, status=0))
            with pytest.raises(TimeoutError):
                await requestor.listen(0.05)
            assert await requestor.is_alive()
        assert peer.commands[-1].message_id_responded_to == 9
        assert peer.releases == 1


async def test_an_association_that_the_peer_ended_meanwhile_is_known_to_be_dead() -> None:
    def answer_and_hang_up(message: Message) -> Iterable[Reply]:
        if len(peer.messages) > 1:
            raise Hangup
        return found(message)

    async with (
        ScriptedPeer(answer_and_hang_up).listening() as peer,
        await Requestor.open(peer.node(), [Proposal(FIND)]) as requestor,
    ):
        await all_of(requestor)
        assert await requestor.is_alive()
        with pytest.raises(Transient):
            await all_of(requestor)
        assert not await requestor.is_alive()
