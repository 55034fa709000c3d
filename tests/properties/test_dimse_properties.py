"""What holds for any bytes, any split of them and any order of calls.

Events or PeerError, nothing else, and never outside the table of PS3.8.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from router.dicom.uids import AETitle, Uid
from router.dimse.associate import decode_request
from router.dimse.associate_writer import encode_request
from router.dimse.commands import decode_command, encode_command
from router.dimse.events import Command, CommandReceived, DataReceived, Event, ProposedContext, Roles
from router.dimse.negotiation import agreed_extended, agreed_roles, answer_contexts
from router.dimse.transitions import State
from router.dimse.upper_layer import UpperLayer
from router.errors import PeerError

CT, IMPLICIT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2"), Uid("1.2.840.10008.1.2.1")
CONTEXTS = tuple(ProposedContext(i, CT, (EXPLICIT, IMPLICIT)) for i in (1, 2, 255))
MAX_PDU = 4096


def drain(layer: UpperLayer) -> bytes:
    return b"".join(layer.take_output())


def associate(acceptor_max: int = MAX_PDU, requestor_max: int = MAX_PDU) -> tuple[UpperLayer, UpperLayer]:
    requestor = UpperLayer(requestor=True, max_pdu_bytes=requestor_max)
    acceptor = UpperLayer(requestor=False, max_pdu_bytes=acceptor_max)
    requestor.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS)
    acceptor.receive(drain(requestor))
    acceptor.accept(answer_contexts(CONTEXTS, accepts_sop_class=lambda _: True, accepts_transfer_syntax=lambda _: True))
    requestor.receive(drain(acceptor))
    return requestor, acceptor


REQUEST = encode_request(AETitle("A"), AETitle("B"), CONTEXTS, MAX_PDU)
RELEASE_RQ, RELEASE_RP = b"\x05\0\0\0\0\4\0\0\0\0", b"\x06\0\0\0\0\4\0\0\0\0"
ABORT, REJECT = b"\x07\0\0\0\0\4\0\0\0\0", b"\x03\0\0\0\0\4\0\1\1\1"


def in_state(state: State, *, requestor: bool) -> UpperLayer:
    """Bring a layer into a state, by the shortest way."""
    layer = associate()[0 if requestor else 1]
    match state:
        case State.IDLE:
            return UpperLayer(requestor=True, max_pdu_bytes=MAX_PDU)
        case State.AWAIT_REQUEST | State.AWAIT_LOCAL_ANSWER:
            layer = UpperLayer(requestor=False, max_pdu_bytes=MAX_PDU)
            if state is State.AWAIT_LOCAL_ANSWER:
                layer.receive(REQUEST)
        case State.AWAIT_ANSWER:
            layer = UpperLayer(requestor=True, max_pdu_bytes=MAX_PDU)
            layer.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS)
        case State.ESTABLISHED:
            pass
        case State.AWAIT_LOCAL_RELEASE:
            layer.receive(RELEASE_RQ)
        case State.AWAIT_CLOSE:
            layer.abort()
        case State.CLOSED:
            layer.connection_lost()
        case _:
            layer.release()
            if state is not State.AWAIT_RELEASE_REPLY:
                layer.receive(RELEASE_RQ)
            if state is State.COLLISION_REQUESTOR_REPLY:
                layer.confirm_release()
            if state is State.COLLISION_ACCEPTOR_LOCAL:
                layer.receive(RELEASE_RP)
    assert layer.state is state
    layer.take_output()
    return layer


BOTH_ROLES = (
    State.ESTABLISHED,
    State.AWAIT_RELEASE_REPLY,
    State.AWAIT_LOCAL_RELEASE,
    State.AWAIT_CLOSE,
    State.CLOSED,
)
SITUATIONS = [(state, requestor) for state in BOTH_ROLES for requestor in (False, True)] + [
    (State.IDLE, True),
    (State.AWAIT_ANSWER, True),
    (State.COLLISION_REQUESTOR_LOCAL, True),
    (State.COLLISION_REQUESTOR_REPLY, True),
    (State.AWAIT_REQUEST, False),
    (State.AWAIT_LOCAL_ANSWER, False),
    (State.COLLISION_ACCEPTOR_REPLY, False),
    (State.COLLISION_ACCEPTOR_LOCAL, False),
]
situations = st.sampled_from(SITUATIONS)

uids = st.builds(Uid, st.from_regex(r"[12](\.(0|[1-9][0-9]{0,9})){1,5}", fullmatch=True))
short = st.integers(0, 0xFFFF)
comments = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=64).map(
    str.rstrip
)
titles = st.builds(AETitle, st.from_regex(r"([!-~]([ -~]{0,14}[!-~])?)?", fullmatch=True))
further: dict[str, st.SearchStrategy[Any]] = {
    "requested_sop_class_uid": st.one_of(st.just(Uid("")), uids),
    "requested_sop_instance_uid": st.one_of(st.just(Uid("")), uids),
    **{
        name: st.one_of(st.none(), short)
        for name in (
            "move_originator_message_id",
            "remaining",
            "completed",
            "failed",
            "warning",
            "event_type_id",
            "action_type_id",
        )
    },
}
requests = st.builds(
    Command,
    st.sampled_from([0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0130]),
    short,
    st.none(),
    st.one_of(st.just(Uid("")), uids),
    st.one_of(st.just(Uid("")), uids),
    st.one_of(st.none(), short),
    st.none(),
    st.just(""),
    st.booleans(),
    move_destination=titles,
    move_originator_aet=titles,
    **further,
)
responses = st.builds(
    Command,
    st.sampled_from([0x8001, 0x8010, 0x8020, 0x8021, 0x8030, 0x8130]),
    st.none(),
    short,
    st.one_of(st.just(Uid("")), uids),
    st.one_of(st.just(Uid("")), uids),
    st.none(),
    short,
    comments,
    st.booleans(),
    offending_elements=st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
)
commands = st.one_of(requests, responses)
messages = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 255]),
        commands,
        st.lists(st.binary(max_size=600).map(lambda b: b[: len(b) & ~1]), max_size=4),
    ),
    max_size=5,
)


def send(layer: UpperLayer, what: list[tuple[int, Command, list[bytes]]]) -> bytes:
    for context_id, command, pieces in what:
        layer.send_command(context_id, command)
        if command.has_data_set:
            for piece in pieces:
                layer.send_data(context_id, piece, last=False)
            layer.send_data(context_id, b"", last=True)
    return drain(layer)


def keep(events: list[Event]) -> list[Event]:
    """Give the fragments a life of their own, as a driver does."""
    return [DataReceived(e.context_id, bytes(e.fragment), e.last) if isinstance(e, DataReceived) else e for e in events]


def feed(layer: UpperLayer, pieces: list[bytes]) -> tuple[list[Event], tuple[str, int] | None]:
    """Feed reads until one breaks the protocol; return the events and what was wrong."""
    events: list[Event] = []
    for piece in pieces:
        try:
            events += keep(layer.receive(piece))
        except PeerError as error:
            return events, (error.problem, error.abort_reason)
    return events, None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def is_pdus(data: bytes) -> bool:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxI", data, at)
        if not 1 <= kind <= 7:
            return False
        at += 6 + length
    return at == len(data)


def check(layer: UpperLayer) -> None:
    """What is true of a layer whatever happened to it."""
    assert layer.closed == (layer.state is State.CLOSED)
    assert not layer.artim_running or layer.state in (State.AWAIT_REQUEST, State.AWAIT_CLOSE)
    assert is_pdus(drain(layer))


@settings(max_examples=150, deadline=None)
@given(messages, st.lists(st.integers(0, 10_000), max_size=8), st.integers(12, MAX_PDU))
def test_any_split_of_a_conversation_gives_the_same_events(what, cuts, max_pdu_bytes):
    data = send(associate(acceptor_max=max_pdu_bytes)[0], what) + RELEASE_RQ
    whole = feed(associate(acceptor_max=max_pdu_bytes)[1], [data])
    assert whole[1] is None
    assert feed(associate(acceptor_max=max_pdu_bytes)[1], split(data, cuts)) == whole
    assert feed(associate(acceptor_max=max_pdu_bytes)[1], [data[i : i + 1] for i in range(len(data))]) == whole


@st.composite
def broken_streams(draw: Callable[..., object]) -> bytes:
    """A conversation with something wrong in it, or none."""
    data = bytearray(send(associate()[0], draw(messages)) + draw(st.sampled_from([RELEASE_RQ, ABORT, REQUEST, b""])))
    for at, kind, value in draw(
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2), st.integers(0, 255)), max_size=3)
    ):
        at %= len(data) + 1
        if kind == 0:
            data[at : at + 1] = bytes((value,))
        elif kind == 1:
            data[at:at] = bytes((value,)) * (1 + value % 7)
        else:
            del data[at : at + 1 + value % 20]
    return bytes(data)


@settings(max_examples=250, deadline=None)
@given(broken_streams(), st.lists(st.integers(0, 10_000), max_size=8), situations)
def test_any_split_of_a_broken_stream_ends_the_same(data, cuts, situation):
    """Events of the read that breaks the protocol are dropped: a coarser split may tell less, never something else."""
    state, requestor = situation
    coarse, fine = in_state(state, requestor=requestor), in_state(state, requestor=requestor)
    told, problem = feed(coarse, split(data, cuts))
    told_fine, problem_fine = feed(fine, [data[i : i + 1] for i in range(len(data))])
    assert problem == problem_fine
    assert told == (told_fine if problem is None else told_fine[: len(told)])
    assert (coarse.state, coarse.closed, coarse.artim_running) == (fine.state, fine.closed, fine.artim_running)
    assert drain(coarse) == drain(fine)


@settings(max_examples=250, deadline=None)
@given(broken_streams(), st.lists(st.integers(0, 10_000), max_size=8), situations)
def test_waiting_for_what_a_pdu_lacks_changes_nothing(data, cuts, situation):
    """Bytes that `lacking` speaks of have no meaning before the last of them is there."""
    state, requestor = situation
    held, fine = in_state(state, requestor=requestor), in_state(state, requestor=requestor)
    told, problem, waiting = [], None, bytearray()
    for piece in split(data, cuts):
        waiting += piece
        lacks = held.lacking(waiting, len(waiting))
        if lacks:
            more = waiting + bytes(lacks)
            assert held.lacking(more, len(more) - 1) == 1
            assert held.lacking(more, len(more)) == 0
        else:
            events, problem = feed(held, [bytes(waiting)])
            told += events
            waiting.clear()
            if problem is not None:
                break
    if waiting:
        events, problem = feed(held, [bytes(waiting)])
        told += events
    told_fine, problem_fine = feed(fine, [data[i : i + 1] for i in range(len(data))])
    assert problem == problem_fine
    assert told == (told_fine if problem is None else told_fine[: len(told)])
    assert drain(held) == drain(fine)


pdus = st.builds(
    lambda kind, body, lie: struct.pack(">BxI", kind, max(0, len(body) + lie)) + body,
    st.one_of(st.integers(1, 7), st.integers(0, 255)),
    st.one_of(st.binary(max_size=200), st.just(REQUEST[6:]), st.just(bytes(4))),
    st.sampled_from([0, 0, 0, 0, -1, 1, 70_000, 2**31]),
)
rubbish = st.one_of(
    st.binary(max_size=300),
    st.lists(pdus, max_size=4).map(b"".join),
    st.sampled_from(
        [b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("160301020001000000"), REQUEST, ABORT, REJECT, RELEASE_RP]
    ),
)


@settings(max_examples=400, deadline=None)
@given(situations, st.lists(rubbish, min_size=1, max_size=4))
def test_any_bytes_in_any_state_give_events_or_peer_error(situation, pieces):
    layer = in_state(situation[0], requestor=situation[1])
    for piece in pieces:
        feed(layer, [piece])
        check(layer)


@settings(max_examples=200, deadline=None)
@given(situations, st.binary(max_size=200))
def test_any_pdv_bytes_give_events_or_peer_error(situation, body):
    layer = in_state(situation[0], requestor=situation[1])
    feed(layer, [struct.pack(">BxI", 4, len(body)) + body])
    check(layer)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 3))
def test_any_bytes_as_a_command_set_give_a_command_or_peer_error(body, kind):
    prefix = [b"", struct.pack("<HHII", 0, 0, 4, len(body))][kind % 2]
    try:
        command = decode_command(prefix + body)
    except PeerError:
        return
    decode_command(encode_command(command))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(REQUEST) - 1), st.binary(max_size=4)), max_size=6))
def test_any_damage_to_a_request_gives_a_request_or_peer_error(damage):
    data = bytearray(REQUEST)
    for at, value in damage:
        data[at : at + len(value)] = value
    try:
        request = decode_request(bytes(data[6:]))
    except PeerError:
        return
    assert len(request.contexts) <= 128
    answers = answer_contexts(
        request.contexts, accepts_sop_class=lambda _: True, accepts_transfer_syntax=lambda _: True
    )
    assert [a.context_id for a in answers] == [c.context_id for c in request.contexts]
    layer = UpperLayer(requestor=False, max_pdu_bytes=MAX_PDU)
    layer.receive(struct.pack(">BxI", 1, len(data) - 6) + data[6:])
    layer.accept(answers)
    check(layer)


@settings(max_examples=100, deadline=None)
@given(messages, messages, st.integers(12, 3000), st.integers(12, 3000), st.data())
def test_messages_cross_an_association_whole_both_ways(there, back, acceptor_max, requestor_max, data):
    requestor, acceptor = associate(acceptor_max, requestor_max)
    for sender, receiver, what in ((requestor, acceptor, there), (acceptor, requestor, back)):
        wire = send(sender, what)
        events, problem = feed(receiver, split(wire, data.draw(st.lists(st.integers(0, 20_000), max_size=10))))
        assert problem is None
        received: list[tuple[int, Command, bytes]] = []
        for event in events:
            if isinstance(event, CommandReceived):
                received.append((event.context_id, event.command, b""))
            else:
                assert isinstance(event, DataReceived)
                context_id, command, so_far = received[-1]
                assert context_id == event.context_id
                received[-1] = (context_id, command, so_far + event.fragment)
        expected = [(i, c, b"".join(pieces) if c.has_data_set else b"") for i, c, pieces in what]
        assert received == expected
        assert sum(isinstance(e, DataReceived) and e.last for e in events) == sum(c.has_data_set for _, c, _ in what)


PRIMITIVES: list[Callable[[UpperLayer], object]] = [
    lambda layer: layer.accept([]),
    lambda layer: layer.reject(1, 1, 1),
    lambda layer: layer.release(),
    lambda layer: layer.confirm_release(),
    lambda layer: layer.abort(),
    lambda layer: layer.send_data(1, b"", last=False),
    lambda layer: layer.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS),
]
HAPPENINGS: list[Callable[[UpperLayer], object]] = [
    lambda layer: layer.connection_lost(),
    lambda layer: layer.artim_expired(),
    lambda layer: layer.receive(b""),
    *(lambda layer, data=data: layer.receive(data) for data in (REQUEST, ABORT, REJECT, RELEASE_RQ, RELEASE_RP)),
]


@settings(max_examples=400, deadline=None)
@given(situations, st.lists(st.one_of(st.sampled_from(PRIMITIVES), st.sampled_from(HAPPENINGS)), max_size=8))
def test_no_order_of_calls_leaves_the_table(situation, calls):
    """What the peer or the network does is in the table; we, out of order, get a RuntimeError and nothing changes."""
    layer = in_state(situation[0], requestor=situation[1])
    for call in calls:
        before = layer.state
        try:
            call(layer)
        except PeerError:
            assert call in HAPPENINGS
        except RuntimeError:
            assert call in PRIMITIVES
            assert layer.state is before
        except ValueError:
            assert not layer.contexts  # send_data after accept([])
        check(layer)


# no empty application information: pynetdicom does not read it
roles = st.dictionaries(uids, st.builds(Roles, st.booleans(), st.booleans()), max_size=5)
extended = st.dictionaries(uids, st.binary(min_size=1, max_size=40), max_size=5)


@settings(max_examples=100, deadline=None)
@given(roles, extended, roles, extended)
def test_nothing_is_granted_that_was_not_proposed(proposed, offered, answered, granted):
    requestor = UpperLayer(requestor=True, max_pdu_bytes=MAX_PDU)
    acceptor = UpperLayer(requestor=False, max_pdu_bytes=MAX_PDU)
    requestor.request(
        called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS, roles=proposed, extended=offered
    )
    acceptor.receive(drain(requestor))
    contexts = answer_contexts(CONTEXTS, accepts_sop_class=lambda _: True, accepts_transfer_syntax=lambda _: True)
    acceptor.accept(contexts, roles=answered | proposed, extended=granted | offered)
    requestor.receive(drain(acceptor))
    assert (requestor.roles, requestor.extended) == (acceptor.roles, acceptor.extended) == (proposed, offered)
    assert {uid: len(value) for uid, value in agreed_extended(offered, granted).items()} == {
        uid: min(len(value), len(offered[uid])) for uid, value in granted.items() if uid in offered
    }
    for uid, agreed in agreed_roles(proposed, answered).items():
        assert agreed.scu <= proposed[uid].scu
        assert agreed.scp <= proposed[uid].scp


@settings(max_examples=150, deadline=None)
@given(commands)
def test_commands_survive_the_wire(command):
    assert decode_command(encode_command(command)) == command


proposals = st.dictionaries(
    st.integers(0, 127).map(lambda n: 2 * n + 1),
    st.tuples(uids, st.lists(uids, min_size=1, max_size=5)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=100, deadline=None)
@given(proposals, st.integers(12, 2**32 - 1), roles, extended)
def test_requests_survive_the_wire_and_pynetdicom(proposed, max_pdu_bytes, roles, extended):
    contexts = tuple(ProposedContext(i, abstract, tuple(transfer)) for i, (abstract, transfer) in proposed.items())
    raw = encode_request(AETitle("ARCHIVE"), AETitle("SENDRS"), contexts, max_pdu_bytes, roles=roles, extended=extended)
    ours = decode_request(raw[6:])
    assert (ours.contexts, ours.max_pdu_bytes) == (contexts, max_pdu_bytes)
    assert (ours.roles, ours.extended) == (roles, extended)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(raw)
    assert theirs.encode() == raw
