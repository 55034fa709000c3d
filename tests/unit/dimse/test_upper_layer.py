"""Associations as they should go: opened, used, released, aborted, lost."""

from __future__ import annotations

import struct
import weakref

import pytest
from dimse_wire import (
    CONTEXTS,
    CT,
    EXPLICIT,
    IMPLICIT,
    STORE,
    abort,
    acceptor,
    associate,
    command_pdv,
    context,
    established,
    item,
    output,
    pdu,
    pdv,
    request,
    user_information,
)

from router.dicom.uids import AETitle, Uid
from router.dimse.associate_writer import encode_accept
from router.dimse.events import (
    Aborted,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    DataReceived,
    NegotiatedContext,
    ProposedContext,
    Released,
    ReleaseRequested,
    Roles,
)
from router.dimse.pdata import MAX_SENT_PDU_BYTES
from router.dimse.upper_layer import State, UpperLayer
from router.errors import PeerError

RELEASE_RQ, RELEASE_RP = pdu(5, bytes(4)), pdu(6, bytes(4))


def asking(contexts=CONTEXTS) -> UpperLayer:
    """Return a requestor that waits for the answer."""
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    layer.request(called_aet=AETitle("ARCHIVE"), calling_aet=AETitle("SENDRS"), contexts=contexts)
    layer.take_output()
    return layer


def answered(context_id: int, result: int, transfer: str = "") -> bytes:
    syntax = item(0x40, transfer.encode()) if transfer else b""
    return item(0x21, bytes((context_id, 0, result, 0)) + syntax)


def accept(*contexts: bytes, user: bytes | None = None) -> bytes:
    head = struct.pack(">HH", 1, 0) + bytes(64)
    user = user_information() if user is None else user
    return pdu(0x02, head + item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(contexts) + user)


def test_titles_lose_their_padding():
    [event] = acceptor().receive(request(called=b"  SENDRS", calling=b"CT 1  "))
    assert isinstance(event, AssociateRequested)
    assert (event.request.called_aet, event.request.calling_aet) == ("SENDRS", "CT 1")


def test_answer_repeats_the_titles_as_they_came():
    layer = acceptor()
    asked = request(called=b" SENDRS", calling=b"\xff\x00CT")
    layer.receive(asked)
    layer.accept([NegotiatedContext(1, CT, IMPLICIT, 0)])
    assert output(layer)[10:74] == asked[10:74]


def test_request_waits_for_our_answer_without_artim():
    layer = acceptor()
    assert layer.artim_running
    layer.receive(request())
    assert layer.state is State.AWAIT_LOCAL_ANSWER
    assert not layer.artim_running


def test_both_sides_agree_on_contexts_and_lengths():
    requestor, accepting = associate(acceptor_max=8192, requestor_max=4096)
    assert requestor.state is accepting.state is State.ESTABLISHED
    assert requestor.contexts == accepting.contexts
    assert requestor.contexts[1] == NegotiatedContext(1, CT, EXPLICIT, 0)
    assert (requestor.peer_max_pdu_bytes, accepting.peer_max_pdu_bytes) == (8192, 4096)


def test_identity_answer_is_sent_when_given():
    layer = acceptor()
    layer.receive(request())
    layer.accept([NegotiatedContext(1, CT, IMPLICIT, 0)], identity_answer=b"ok")
    assert output(layer).endswith(item(0x59, b"\0\2ok"))


def test_rejected_requestor_hears_why_and_waits_for_the_close():
    layer = acceptor()
    layer.receive(request())
    layer.reject(1, 1, 7)
    answer = output(layer)
    assert answer == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 7))
    assert (layer.state, layer.artim_running, layer.closed) == (State.AWAIT_CLOSE, True, False)
    requestor = asking()
    assert requestor.receive(answer) == [AssociateRejected(1, 1, 7)]
    assert requestor.closed


def test_destination_that_answers_oddly_leaves_only_usable_contexts_accepted():
    layer = asking((*CONTEXTS, ProposedContext(5, CT, (IMPLICIT,)), ProposedContext(7, CT, (IMPLICIT,))))
    answer = accept(answered(1, 0, IMPLICIT), answered(3, 0, EXPLICIT), answered(7, 3, "1.2"), answered(9, 0, IMPLICIT))
    [event] = layer.receive(answer)
    assert isinstance(event, AssociateAccepted)
    assert [(c.context_id, c.result, c.transfer_syntax) for c in event.contexts] == [
        (1, 0, IMPLICIT),  # what we proposed
        (3, 4, ""),  # in a transfer syntax that we did not propose
        (5, 2, ""),  # not answered
        (7, 3, ""),
    ]
    layer.send_command(1, STORE)
    with pytest.raises(ValueError, match="context 3"):
        layer.send_command(3, STORE)
    with pytest.raises(ValueError, match="context 9"):
        layer.send_data(9, b"", last=True)


@pytest.mark.parametrize(("said", "read"), [(None, 16384), (0, 0), (65536, 65536)])
def test_b13_destination_without_maximum_length_is_sent_16_kib(said, read):
    layer = asking()
    layer.receive(accept(answered(1, 0, IMPLICIT), user=user_information(max_length=said)))
    assert layer.peer_max_pdu_bytes == read


@pytest.mark.parametrize(
    "answer", [accept(answered(1, 0, IMPLICIT), answered(1, 0, IMPLICIT)), accept(user=user_information(max_length=5))]
)
def test_destination_whose_answer_is_broken_is_aborted(answer):
    layer = asking()
    with pytest.raises(PeerError):
        layer.receive(answer)
    assert output(layer) == abort(2, 6)


def test_message_comes_as_a_command_and_fragments():
    layer = established()
    events = layer.receive(pdu(4, command_pdv() + pdv(1, 0, b"abcd")) + pdu(4, pdv(1, 2, b"ef")))
    assert events == [CommandReceived(1, STORE), DataReceived(1, b"abcd", False), DataReceived(1, b"ef", True)]


def test_fragments_of_a_whole_pdu_are_not_copied():
    layer = established()
    received = bytearray(pdu(4, command_pdv() + pdv(1, 2, b"abcd")))
    fragment = layer.receive(received)[1].fragment
    received[-4:] = b"ABCD"
    assert fragment == b"ABCD"


def test_command_set_in_pieces_is_put_together():
    layer = established()
    whole = command_pdv()[6:]
    pieces = [pdv(1, 1, whole[:7]), pdv(1, 1, b""), pdv(1, 1, whole[7:50]), pdv(1, 3, whole[50:])]
    assert layer.receive(b"".join(pdu(4, piece) for piece in pieces)) == [CommandReceived(1, STORE)]
    assert layer.receive(pdu(4, pdv(1, 2, b"data"))) == [DataReceived(1, b"data", True)]


@pytest.mark.parametrize("peer_max", [12, 13, 64, 16384])
def test_no_pdu_is_longer_than_the_peer_takes_and_no_fragment_odd_but_the_last(peer_max):
    requestor, accepting = associate(acceptor_max=peer_max)
    data = bytes(range(256)) * 100 + b"odd"
    requestor.send_command(1, STORE)
    requestor.send_data(1, data, last=True)
    sent = output(requestor)
    at, fragments = 0, []
    while at < len(sent):
        length = int.from_bytes(sent[at + 2 : at + 6], "big")
        assert length <= peer_max
        fragments.append(length - 6)
        at += 6 + length
    assert all(size % 2 == 0 for size in fragments[:-1])
    events = accepting.receive(sent)
    assert events[0] == CommandReceived(1, STORE)
    assert b"".join(event.fragment for event in events[1:]) == data
    assert [event.last for event in events[1:]] == [False] * (len(events) - 2) + [True]


def test_peer_without_limit_is_sent_pdus_of_bounded_size():
    layer = acceptor()
    layer.receive(request(user=user_information(max_length=0)))
    layer.accept([NegotiatedContext(1, CT, IMPLICIT, 0)])
    layer.take_output()
    layer.send_data(1, bytes(3 * MAX_SENT_PDU_BYTES), last=False)
    lengths = [struct.unpack(">xxI", part[:6])[0] for part in layer.take_output()[::2]]
    assert max(lengths) == MAX_SENT_PDU_BYTES
    assert len(lengths) == 4


@pytest.mark.parametrize("size", [16378, 2 * 16378])
def test_data_that_fills_its_pdus_exactly_has_no_empty_pdv_behind(size):
    requestor = associate()[0]
    requestor.send_data(1, bytes(size), last=True)
    parts = requestor.take_output()
    assert [len(part) for part in parts[1::2]] == [16378] * (size // 16378)
    assert [part[11] for part in parts[::2]] == [0] * (size // 16378 - 1) + [2]


def test_nothing_to_send_sends_nothing_unless_it_ends_the_data_set():
    requestor = associate()[0]
    requestor.send_data(1, b"", last=False)
    assert requestor.take_output() == []
    requestor.send_data(1, b"", last=True)
    assert output(requestor) == pdu(4, pdv(1, 2, b""))


def test_sent_data_is_not_copied():
    requestor = associate()[0]
    data = bytearray(40_000)
    requestor.send_data(1, memoryview(data), last=True)
    parts = requestor.take_output()
    data[:] = b"x" * len(data)
    assert b"".join(parts[1::2]) == bytes(data)


def test_release_is_confirmed_and_closes():
    requestor, accepting = associate()
    requestor.release()
    assert accepting.receive(output(requestor)) == [ReleaseRequested()]
    accepting.confirm_release()
    assert (accepting.state, accepting.artim_running, accepting.closed) == (State.AWAIT_CLOSE, True, False)
    assert requestor.receive(output(accepting)) == [Released()]
    assert requestor.closed
    accepting.connection_lost()
    assert accepting.closed
    assert not accepting.artim_running


def test_data_still_comes_while_we_wait_for_the_release():
    requestor, accepting = associate()
    requestor.release()
    requestor.take_output()
    accepting.send_command(1, STORE)
    assert requestor.receive(output(accepting)) == [CommandReceived(1, STORE)]


def test_answer_can_still_be_sent_after_the_peer_asked_to_release():
    requestor, accepting = associate()
    requestor.release()
    accepting.receive(output(requestor))
    accepting.send_command(1, STORE)
    assert requestor.receive(output(accepting)) == [CommandReceived(1, STORE)]


def test_release_after_the_peer_asked_first_leaves_it_to_the_confirmation():
    layer = established()
    layer.receive(RELEASE_RQ)
    layer.release()
    assert output(layer) == b""
    layer.confirm_release()
    assert output(layer) == RELEASE_RP


@pytest.mark.parametrize("confirm_first", [True, False])
def test_b45_release_collision_ends_on_both_sides(confirm_first):
    requestor, accepting = associate()
    requestor.release()
    accepting.release()
    to_accepting, to_requestor = output(requestor), output(accepting)
    assert accepting.receive(to_accepting) == [ReleaseRequested()]
    assert requestor.receive(to_requestor) == [ReleaseRequested()]
    if confirm_first:
        accepting.confirm_release()
        assert output(accepting) == b""  # the requestor answers first (AR-9), then the acceptor (AR-10)
    requestor.confirm_release()
    assert requestor.state is State.COLLISION_REQUESTOR_REPLY
    assert accepting.receive(output(requestor)) == [Released()]
    if not confirm_first:
        assert accepting.state is State.COLLISION_ACCEPTOR_LOCAL
        accepting.confirm_release()
    assert accepting.state is State.AWAIT_CLOSE
    assert requestor.receive(output(accepting)) == [Released()]
    assert requestor.closed


@pytest.mark.parametrize("requestor", [True, False])
def test_our_abort_waits_for_the_close_and_ignores_what_comes(requestor):
    layer = associate()[0 if requestor else 1]
    layer.receive(pdu(4, command_pdv())[:20])
    layer.abort()
    assert output(layer) == abort(0, 0)
    assert (layer.state, layer.artim_running) == (State.AWAIT_CLOSE, True)
    assert layer.receive(pdu(4, command_pdv())[20:] + pdu(4, pdv(1, 2, bytes(100))) + RELEASE_RQ) == []
    assert output(layer) == b""
    assert layer.receive(abort(2, 0)) == []
    assert layer.closed


def test_abort_of_the_peer_is_told_and_what_we_still_say_is_dropped():
    layer = established()
    assert layer.receive(abort(2, 4) + pdu(4, command_pdv())) == [Aborted(2, 4)]
    assert layer.closed
    layer.send_command(1, STORE)
    layer.send_data(1, b"data", last=True)
    layer.release()
    layer.confirm_release()
    layer.abort()
    layer.connection_lost()
    assert output(layer) == b""


def test_after_a_rejection_a_new_request_is_aborted_once():
    layer = acceptor()
    layer.receive(request())
    layer.reject(1, 1, 3)
    layer.take_output()
    assert layer.receive(request() + request()) == []
    assert layer.receive(request()) == []
    assert output(layer) == abort(2, 2)
    layer.artim_expired()
    assert layer.closed


def test_rubbish_after_a_rejection_is_answered_by_one_abort():
    layer = acceptor()
    layer.receive(request())
    layer.reject(1, 1, 3)
    layer.take_output()
    assert layer.receive(pdu(0xEE, b"") * 10 + pdu(0x07, b"")) == []
    assert output(layer) == abort(2, 2)


def test_artim_does_nothing_when_it_is_not_running():
    layer = established()
    layer.artim_expired()
    assert layer.state is State.ESTABLISHED


@pytest.mark.parametrize("requestor", [True, False])
def test_connection_lost_ends_the_association(requestor):
    layer = associate()[0 if requestor else 1]
    layer.connection_lost()
    assert (layer.state, layer.closed) == (State.CLOSED, True)
    assert layer.receive(pdu(4, command_pdv())) == []


def test_connection_lost_before_we_asked_leaves_nothing_to_ask():
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    layer.connection_lost()
    layer.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS)
    assert output(layer) == b""


def test_an_association_dropped_is_freed_at_once():
    """B46: no reference cycle, so no memory waits for the garbage collector."""
    layer = acceptor()
    layer.receive(request()[:50])
    gone = weakref.ref(layer)
    del layer
    assert gone() is None


def test_primitive_out_of_order_is_our_mistake():
    with pytest.raises(RuntimeError, match="ACCEPT in Sta6"):
        established().accept([])
    with pytest.raises(RuntimeError, match="SEND in Sta2"):
        acceptor().send_command(1, STORE)
    with pytest.raises(RuntimeError, match="REQUEST in Sta2"):
        acceptor().request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=CONTEXTS)
    requestor = associate()[0]
    requestor.release()
    with pytest.raises(RuntimeError, match="SEND in Sta7"):
        requestor.send_data(1, b"", last=True)


@pytest.mark.parametrize("title", ["", "A" * 17])
def test_request_with_a_title_that_does_not_fit_is_refused_before_it_is_sent(title):
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    with pytest.raises(ValueError, match="AE title"):
        layer.request(called_aet=AETitle(title), calling_aet=AETitle("B"), contexts=CONTEXTS)
    assert layer.state is State.IDLE


@pytest.mark.parametrize("count", [0, 129])
def test_request_without_or_with_too_many_contexts_is_refused_before_it_is_sent(count):
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    contexts = [ProposedContext(i % 256, Uid("1.2"), (IMPLICIT,)) for i in range(1, count + 1)]
    with pytest.raises(ValueError, match="presentation contexts"):
        layer.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=contexts)


def test_of_several_roles_or_informations_for_a_sop_class_the_first_counts():
    one, other = b"\0\x031.2\0\1", b"\0\x031.2\1\0"
    more = item(0x54, one) + item(0x54, other) + item(0x56, one) + item(0x56, other)
    [event] = acceptor().receive(request(user=user_information(more=more)))
    assert isinstance(event, AssociateRequested)
    assert event.request.roles == {Uid("1.2"): Roles(scu=False, scp=True)}
    assert event.request.extended == {Uid("1.2"): b"\0\1"}


def test_a_role_that_was_not_proposed_is_not_taken_from_an_answer():
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    layer.request(
        called_aet=AETitle("A"),
        calling_aet=AETitle("B"),
        contexts=CONTEXTS,
        roles={CT: Roles(scu=True, scp=False)},
        extended={CT: b"\1"},
    )
    granted = {CT: Roles(scu=True, scp=True), Uid("1.2"): Roles(scu=True, scp=True)}
    answer = encode_accept(
        bytes(64),
        [NegotiatedContext(1, CT, IMPLICIT, 0)],
        16384,
        roles=granted,
        extended={CT: b"\1\1\1", Uid("1.2"): b"\1"},
        window_offered=False,
        identity_answer=None,
    )
    [event] = layer.receive(answer)
    assert isinstance(event, AssociateAccepted)
    assert (event.roles, event.extended) == (layer.roles, layer.extended) == ({CT: Roles(True, False)}, {CT: b"\1"})


def test_max_pdu_without_room_for_a_pdv_is_refused():
    with pytest.raises(ValueError, match="max_pdu_bytes"):
        UpperLayer(requestor=False, max_pdu_bytes=11)


def test_pdu_may_come_byte_by_byte():
    layer = acceptor()
    events = [event for byte in request(context(1)) for event in layer.receive(bytes((byte,)))]
    assert [type(event) for event in events] == [AssociateRequested]
