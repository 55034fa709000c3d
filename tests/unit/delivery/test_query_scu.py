"""C-FIND and C-MOVE SCU: what is asked (REQ-124), and what a peer's answers, right, odd or wrong, become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import pytest
from scripted_peer import Hangup, Message, Reply, ScriptedPeer, response

from router.delivery.query import FindClient, MoveClient, MoveProgress, QueryFailed, QueryRefused
from router.delivery.query_identifiers import (
    UnfitQuery,
    find_identifier,
    level_named,
    model_named,
    move_identifier,
)
from router.dicom.identifier import read_identifier, write_identifier
from router.dicom.json_model import JsonDataSet, element
from router.dicom.query_retrieve import PATIENT_ROOT, STUDY_ROOT
from router.dicom.uids import Uid
from router.dimse.commands import C_CANCEL_RQ
from router.errors import Misconfigured, Transient

NAME, PATIENT_ID, LEVEL = "00100010", "00100020", "00080052"
STUDY, SERIES, IMAGE, FAILED_LIST = "0020000D", "0020000E", "00080018", "00080058"


def keys(**values: str | list[str]) -> JsonDataSet:
    """Make keys of {"x0020000D": "1.2"}."""
    return {
        name[1:]: element(int(name[1:], 16), [v for v in ([value] if isinstance(value, str) else value) if v])
        for name, value in values.items()
    }


def asked(message: Message) -> JsonDataSet:
    return read_identifier(message.data, message.context.transfer_syntax)


def encoded(message: Message, data_set: JsonDataSet) -> bytes:
    return write_identifier(data_set, message.context.transfer_syntax)


def studies(*names: str) -> Callable[[Message], Iterable[Reply]]:
    def answer(message: Message) -> Iterable[Reply]:
        for name in names:
            yield response(message, 0xFF00, encoded(message, keys(x00100010=name, x0020000D="1.2")))
        yield response(message, 0)

    return answer


async def find(
    peer: ScriptedPeer, level: str = "study", what: JsonDataSet | None = None, **more: Any
) -> list[JsonDataSet]:
    async with FindClient(peer.node()) as client:
        return [one async for one in client.find(level, what or keys(x00100010="A*"), **more)]


async def move(
    peer: ScriptedPeer, what: JsonDataSet | None = None, **more: Any
) -> tuple[MoveProgress, list[MoveProgress]]:
    seen: list[MoveProgress] = []
    async with MoveClient(peer.node()) as client:
        end = await client.move(
            what or keys(x0020000D="1.2"), "STORE", **{"level": "study", "progress": seen.append, **more}
        )
    return end, seen


# --- what is asked


def test_req_124_a_move_names_one_of_each_level_above_and_one_or_a_list_of_uids_at_its_own() -> None:
    one = keys(x0020000D="1.2", x0020000E="1.3", x00080018=["1.4", "1.5"])
    assert move_identifier(STUDY_ROOT, level_named("image", STUDY_ROOT), one) == {
        IMAGE: {"vr": "UI", "Value": ["1.4", "1.5"]},
        LEVEL: {"vr": "CS", "Value": ["IMAGE"]},
        STUDY: {"vr": "UI", "Value": ["1.2"]},
        SERIES: {"vr": "UI", "Value": ["1.3"]},
    }


@pytest.mark.parametrize(
    ("model", "level", "what", "words"),
    [
        ("study", "series", keys(x0020000D=["1.2", "1.3"], x0020000E="1.4"), "StudyInstanceUID must have one value"),
        ("study", "series", keys(x0020000E="1.4"), "StudyInstanceUID must have one value.*it has 0"),
        ("study", "study", keys(x0020000D=""), "needs a value of StudyInstanceUID"),
        ("study", "study", keys(), "needs a value of StudyInstanceUID"),
        (
            "study",
            "study",
            keys(x0020000D="1.2", x00100020="7"),
            "PatientID cannot select .* allowed: StudyInstanceUID",
        ),
        ("patient", "patient", keys(x00100020=["7", "8"]), "one PatientID at a time"),
        ("patient", "patient", keys(x00100020="7*"), "wildcard"),
        ("patient", "study", keys(x0020000D="1.2"), "PatientID must have one value"),
    ],
)
def test_req_124_what_a_move_may_not_ask_is_not_sent(model: str, level: str, what: JsonDataSet, words: str) -> None:
    root = model_named(model)
    with pytest.raises(UnfitQuery, match=words):
        move_identifier(root, level_named(level, root), what)


@pytest.mark.parametrize(
    ("model", "level", "what", "words"),
    [
        ("study", "series", keys(x00080060="CT"), "StudyInstanceUID must have one value"),
        ("study", "series", keys(x0020000D="1.2", x00100010="A"), "PatientName belongs to the level study"),
        ("patient", "study", keys(x00100020="7", x00100010="A"), "PatientName belongs to the level patient"),
        ("patient", "study", keys(x00100020="7*"), "wildcard"),
    ],
)
def test_a_query_across_levels_must_be_meant_as_one(model: str, level: str, what: JsonDataSet, words: str) -> None:
    root = model_named(model)
    with pytest.raises(UnfitQuery, match=words):
        find_identifier(root, level_named(level, root), what)
    assert find_identifier(root, level_named(level, root), what, relational=True)[LEVEL]["Value"] == [level.upper()]


@pytest.mark.parametrize(
    ("level", "words"), [("patient", "the model patient"), ("planet", "allowed: study, series, image")]
)
def test_a_level_that_a_model_does_not_have_is_named_with_those_it_has(level: str, words: str) -> None:
    with pytest.raises(UnfitQuery, match=words):
        level_named(level, STUDY_ROOT)
    assert level_named("patient", PATIENT_ROOT) == "PATIENT"
    assert level_named("Instance", STUDY_ROOT) == "IMAGE"


# --- C-FIND


async def test_a_search_is_asked_with_its_level_and_unique_key_and_gives_what_matches() -> None:
    async with ScriptedPeer(studies("Aaron^A", "Äbler^Ö")).listening() as peer:
        found = await find(peer, what=keys(x00100010="Ä*"))
    assert [one[NAME]["Value"][0]["Alphabetic"] for one in found] == ["Aaron^A", "Äbler^Ö"]
    (message,) = peer.messages
    assert message.context.abstract_syntax == STUDY_ROOT.find
    query = asked(message)
    assert query[LEVEL]["Value"] == ["STUDY"]
    assert "Value" not in query[STUDY]
    assert query[NAME]["Value"][0]["Alphabetic"] == "Ä*"


async def test_both_models_and_extended_negotiation_are_offered_and_the_grant_is_seen() -> None:
    granted = {STUDY_ROOT.find: b"\1\0"}
    async with (
        ScriptedPeer(studies(), extended=lambda request: granted).listening() as peer,
        FindClient(peer.node()) as c,
    ):
        await c.open()
        assert (c.granted_relational, c.granted_date_time) == (True, False)
        await c.open(model="patient")
        assert (c.granted_relational, c.granted_date_time) == (False, False)
    (request,) = peer.requests
    assert dict(request.extended) == {STUDY_ROOT.find: b"\1\1", PATIENT_ROOT.find: b"\1\1"}


async def test_one_association_serves_search_after_search_and_another_one_when_the_peer_ended_it() -> None:
    async with ScriptedPeer(studies("A")).listening() as peer, FindClient(peer.node()) as client:
        for _ in range(3):
            assert [one async for one in client.find("study", keys(x00100010="A"))]
        assert len(peer.requests) == 1
        await client.aclose()
        assert [one async for one in client.find("study", keys(x00100010="A"))]
        assert len(peer.requests) == 2


async def test_a_search_that_was_left_early_does_not_disturb_the_next_one() -> None:
    async with ScriptedPeer(studies("A", "B")).listening() as peer, FindClient(peer.node()) as client:
        left = client.find("study", keys(x00100010="A"))
        assert await anext(left)
        assert len([one async for one in client.find("study", keys(x00100010="A"))]) == 2
        await left.aclose()  # type: ignore[attr-defined]
        assert len([one async for one in client.find("study", keys(x00100010="A"))]) == 2
        assert len(peer.requests) == 2


async def test_a_limit_cancels_and_says_that_there_was_more() -> None:
    def endless(message: Message) -> Iterable[Reply]:
        if message.command.field == C_CANCEL_RQ:
            return [response(peer.messages[0], 0xFE00)]
        return list(studies(*"ABCDE")(message))[:-1]

    async with ScriptedPeer(endless).listening() as peer, FindClient(peer.node()) as client:
        found = [one async for one in client.find("study", keys(x00100010=""), limit=2)]
        assert len(found) == 2
        assert client.cut_short
    assert peer.commands[1].message_id_responded_to == peer.commands[0].message_id
    assert peer.releases == 1


async def test_a_key_that_the_peer_ignored_is_told() -> None:
    def ignoring(message: Message) -> Iterable[Reply]:
        return [response(message, 0xFF01, encoded(message, keys(x0020000D="1.2"))), response(message, 0)]

    async with ScriptedPeer(ignoring).listening() as peer, FindClient(peer.node()) as client:
        assert [one async for one in client.find("study", keys(x00100010=""))] == [keys(x0020000D="1.2")]
        assert client.keys_ignored


ODD = bytes.fromhex("10001000") + b"PN\x08\x00" + b"Al^B^^^ " + bytes.fromhex("10002000") + b"LO\x04\x00" + b"7\0\0\0"
ODD_SEQUENCE = bytes.fromhex("08001011") + b"SQ\0\0" + bytes(4)


async def test_padding_empty_sequences_and_a_missing_level_are_taken() -> None:
    data = ODD_SEQUENCE + ODD
    async with ScriptedPeer(
        lambda message: [response(message, 0xFF00, data), response(message, 0)]
    ).listening() as peer:
        (found,) = await find(peer)
    assert found["00081110"] == {"vr": "SQ"}
    assert found[PATIENT_ID]["Value"] == ["7"]
    assert found[NAME]["Value"] == [{"Alphabetic": "Al^B^^^"}]


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0xA700, QueryFailed, "A700H out of resources: no"),
        (0xA900, QueryRefused, r"A900H identifier does not match the SOP class: no \(0008,0052\)"),
        (0xC001, QueryFailed, "C001H unable to process: no"),
        (0x0122, QueryRefused, "0122H SOP class not supported: no"),
        (0x0124, QueryRefused, "0124H not authorized: no"),
        (0x1234, QueryFailed, "1234H an unknown status: no"),
    ],
)
async def test_a_status_that_is_no_success_is_said_in_words(status: int, kind: type[QueryFailed], words: str) -> None:
    offending = (0x00080052,) if status == 0xA900 else ()
    async with ScriptedPeer(
        lambda message: [response(message, status, error_comment="no", offending_elements=offending)]
    ).listening() as peer:
        with pytest.raises(kind, match=words) as raised:
            await find(peer)
    assert raised.value.status == status


async def test_a_cancelled_search_ends_with_what_came() -> None:
    async with ScriptedPeer(
        lambda message: [*list(studies("A")(message))[:1], response(message, 0xFE00)]
    ).listening() as peer:
        assert len(await find(peer)) == 1


async def test_a_refused_model_is_told_with_the_one_that_is_taken() -> None:
    async with ScriptedPeer(studies(), accepts=lambda uid: uid == PATIENT_ROOT.find).listening() as peer:
        with pytest.raises(
            Misconfigured, match=r"does not take Study Root .* SOP class not supported.* does take Patient Root"
        ):
            await find(peer)


async def test_a_match_that_cannot_be_read_ends_the_search() -> None:
    async with ScriptedPeer(lambda message: [response(message, 0xFF00, b"\x10\0\x10\0PN\xff\xff")]).listening() as peer:
        with pytest.raises(Transient, match="a match cannot be read"):
            await find(peer)


def _hang_up(message: Message) -> Iterable[Reply]:
    raise Hangup


async def test_a_lost_association_is_transient_for_both() -> None:
    async with ScriptedPeer(_hang_up).listening() as peer:
        with pytest.raises(Transient, match="aborted"):
            await find(peer)
        with pytest.raises(Transient, match="aborted"):
            await move(peer)


# --- C-MOVE


async def test_req_124_pending_responses_are_progress_and_the_final_one_the_end() -> None:
    def moved(message: Message) -> Iterable[Reply]:
        yield response(message, 0xFF00, remaining=2, completed=0, failed=0, warning=0)
        yield response(message, 0xFF00)  # without counters
        yield response(message, 0xFF00, remaining=1, completed=1, failed=0, warning=0)
        failed = encoded(message, {FAILED_LIST: {"vr": "UI", "Value": ["1.9"]}})
        yield response(message, 0xB000, failed, completed=1, failed=1, warning=0, error_comment="one lost")

    async with ScriptedPeer(moved).listening() as peer:
        end, seen = await move(peer, priority=1)
    assert [(one.remaining, one.completed) for one in seen] == [(2, 0), (None, None), (1, 1)]
    assert end == MoveProgress(
        status=0xB000, completed=1, failed=1, warning=0, failed_uids=(Uid("1.9"),), comment="one lost"
    )
    assert end.words == "B000H sub-operations complete, one or more with a failure or a warning: one lost"
    (command,) = peer.commands
    assert (command.move_destination, command.priority) == ("STORE", 1)
    assert asked(peer.messages[0])[LEVEL]["Value"] == ["STUDY"]


@pytest.mark.parametrize("status", [0xA701, 0xA702, 0xA801, 0xA900, 0xB000, 0xC002, 0xFE00, 0x0000])
async def test_req_124_every_final_status_is_an_answer_with_words(status: int) -> None:
    async with ScriptedPeer(lambda message: [response(message, status)]).listening() as peer:
        end, seen = await move(peer)
    assert (end.status, end.completed, end.failed_uids, seen) == (status, None, (), [])
    assert end.words.startswith(f"{status:04X}H ")
    assert "unknown status" not in end.words


async def test_req_124_a_cancelled_move_ends_with_fe00_and_its_counters() -> None:
    def until_cancelled(message: Message) -> Iterable[Reply]:
        if message.command.field == C_CANCEL_RQ:
            return [response(peer.messages[0], 0xFE00, remaining=3, completed=1, failed=0, warning=0)]
        return [response(message, 0xFF00, remaining=4, completed=0, failed=0, warning=0)]

    cancelled: list[MoveProgress] = []
    async with (
        ScriptedPeer(until_cancelled).listening() as peer,
        MoveClient(peer.node()) as client,
        anyio.create_task_group() as tasks,
    ):

        def progress(now: MoveProgress) -> None:
            cancelled.append(now)
            tasks.start_soon(client.cancel)

        end = await client.move(keys(x0020000D="1.2"), "STORE", level="study", progress=progress)
    assert (end.status, end.remaining, end.completed, len(cancelled)) == (0xFE00, 3, 1, 1)


async def test_a_failed_list_that_cannot_be_read_leaves_the_counters() -> None:
    async with ScriptedPeer(
        lambda message: [response(message, 0xA702, b"\x08\0\x58\0UI\xff\xff", completed=0, failed=2, warning=0)]
    ).listening() as peer:
        end, _ = await move(peer)
    assert (end.failed, end.failed_uids) == (2, ())
