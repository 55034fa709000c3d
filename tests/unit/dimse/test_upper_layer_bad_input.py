"""The bad-input catalogue (reliability-study 4.1), as far as it is decided without I/O."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from dimse_wire import (
    CT,
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
from router.dimse.associate import MAX_TRANSFER_SYNTAXES
from router.dimse.commands import encode_command
from router.dimse.events import Aborted, AssociateRequested, CommandReceived, DataReceived, ProposedContext
from router.dimse.items import MAX_ITEMS
from router.dimse.negotiation import answer_contexts
from router.dimse.pdata import MAX_COMMAND_BYTES
from router.dimse.upper_layer import State, UpperLayer
from router.dimse.user_information import MAX_IDENTITY_BYTES
from router.errors import PeerError


def refused(layer: UpperLayer, data: bytes) -> tuple[bytes, str]:
    """Feed bytes that must be refused; return what we answer and what we say of it."""
    with pytest.raises(PeerError) as caught:
        layer.receive(data)
    return output(layer), caught.value.problem


@pytest.mark.parametrize("kind", [0x00, 0x08, 0xFF])
@pytest.mark.parametrize("layer", [acceptor, established], ids=["before", "associated"])
def test_b1_unknown_pdu_type_is_aborted(layer, kind):
    answer, problem = refused(layer := layer(), pdu(kind, b"1234"))
    assert answer == abort(2, 1)
    assert f"{kind:02X}H" in problem
    assert layer.state is State.AWAIT_CLOSE
    assert layer.artim_running


def test_b2_request_of_4_gib_is_refused_from_its_header():
    answer, problem = refused(acceptor(), struct.pack(">BxI", 0x01, 0xFFFFFFFF))
    assert answer == abort(2, 6)
    assert "4294967295" in problem


def test_b2_request_of_64_kib_is_read_and_one_byte_more_is_not():
    assert acceptor().receive(struct.pack(">BxI", 0x01, 65_536)) == []
    assert refused(acceptor(), struct.pack(">BxI", 0x01, 65_537))[0] == abort(2, 6)


@pytest.mark.parametrize("place", ["user information", "presentation context", "top level"])
def test_b3_request_packed_with_items_is_refused_and_costs_little_memory(place):
    many = item(0x99, b"") * (MAX_ITEMS + 1)
    packed = {
        "user information": lambda: request(user=user_information(more=many)),
        "presentation context": lambda: request(item(0x20, b"\x01\0\0\0" + item(0x30, CT.encode()) + many)),
        "top level": lambda: request(more=many),
    }[place]()
    layer = acceptor()
    tracemalloc.start()
    try:
        answer, problem = refused(layer, packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer == abort(2, 6)
    assert str(MAX_ITEMS) in problem
    assert peak < 1 << 20


def test_b4_128_contexts_are_taken_and_the_129th_is_not():
    ids = [*range(1, 256, 2), 2]
    [event] = acceptor().receive(request(b"".join(context(i) for i in ids[:128])))
    assert isinstance(event, AssociateRequested)
    assert [c.context_id for c in event.request.contexts] == ids[:128]
    assert refused(acceptor(), request(b"".join(context(i) for i in ids)))[0] == abort(2, 6)


def test_b4_transfer_syntaxes_after_the_64th_are_ignored():
    proposed = tuple(f"1.2.{i}" for i in range(256))
    [event] = acceptor().receive(request(context(1, CT, proposed) + context(3)))
    assert isinstance(event, AssociateRequested)
    assert event.request.contexts[0].transfer_syntaxes == proposed[:MAX_TRANSFER_SYNTAXES]
    assert event.request.contexts[1].transfer_syntaxes == (IMPLICIT,)


def test_b4_even_context_id_is_answered_with_the_same_id():
    """data/README: a storage commitment SCU in wide use really sends 2."""
    [event] = acceptor().receive(request(context(2)))
    assert isinstance(event, AssociateRequested)
    assert event.request.contexts == (ProposedContext(2, CT, (IMPLICIT,)),)


@pytest.mark.parametrize("contexts", [context(0), context(1) + context(1)], ids=["zero", "repeated"])
def test_b4_context_id_zero_or_repeated_is_aborted(contexts):
    assert refused(acceptor(), request(contexts))[0] == abort(2, 6)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"POST /studies HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n"])
def test_b5_http_on_the_dicom_port_is_named_and_closed_without_an_answer(line):
    answer, problem = refused(layer := acceptor(), line)
    assert "HTTP" in problem
    assert answer == b""
    assert layer.closed


def test_b5_http_inside_an_association_is_just_an_unknown_pdu():
    assert refused(established(), b"GET / HTTP/1.1\r\n")[0] == abort(2, 1)


def test_b6_tls_client_hello_on_the_plain_port_is_named_and_closed():
    answer, problem = refused(layer := acceptor(), bytes.fromhex("16030100c8010000c40303"))
    assert "TLS" in problem
    assert answer == b""
    assert layer.closed


@pytest.mark.parametrize(("data", "word"), [(bytes.fromhex("15030100020250"), "TLS"), (b"HTTP/1.1 400 Bad", "HTTP")])
def test_b6_destination_that_speaks_tls_or_http_is_named(data, word):
    layer = UpperLayer(requestor=True, max_pdu_bytes=16384)
    layer.request(called_aet=AETitle("A"), calling_aet=AETitle("B"), contexts=[ProposedContext(1, CT, (IMPLICIT,))])
    layer.take_output()
    answer, problem = refused(layer, data)
    assert word in problem
    assert answer == b""
    assert layer.closed


def test_b7_nothing_or_half_a_header_is_closed_when_artim_runs_out():
    for sent in (b"", b"\x01\x00\x00"):
        layer = acceptor()
        assert layer.artim_running
        assert layer.receive(sent) == []
        layer.artim_expired()
        assert layer.closed
        assert output(layer) == b""


def test_b8_protocol_version_without_bit_0_is_rejected():
    answer, _ = refused(layer := acceptor(), request(version=2))
    assert answer == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 2))
    assert layer.state is State.AWAIT_CLOSE
    assert layer.artim_running


def test_b8_further_protocol_versions_next_to_1_are_fine():
    [event] = acceptor().receive(request(version=0xFFFF))
    assert isinstance(event, AssociateRequested)


@pytest.mark.parametrize(("said", "read"), [(None, 16384), (0, 0), (12, 12), (2**31, 2**31), (2**32 - 1, 2**32 - 1)])
def test_b13_maximum_length_missing_zero_or_large_is_taken(said, read):
    layer = acceptor()
    layer.receive(request(user=user_information(max_length=said)))
    assert layer.peer_max_pdu_bytes == read


@pytest.mark.parametrize("said", [1, 11])
def test_b13_maximum_length_without_room_for_a_pdv_is_aborted(said):
    assert refused(acceptor(), request(user=user_information(max_length=said)))[0] == abort(2, 6)


def identity(kind: int, primary: bytes, secondary: bytes = b"") -> bytes:
    fields = struct.pack(">H", len(primary)) + primary + struct.pack(">H", len(secondary)) + secondary
    return user_information(more=item(0x58, bytes((kind, 1)) + fields))


@pytest.mark.parametrize(
    "user",
    [
        identity(2, b"user", b"p" * (MAX_IDENTITY_BYTES + 1)),
        identity(5, b"j" * 60_000),
        identity(9, b"user"),
        identity(0, b"user"),
    ],
    ids=["password", "jwt", "type 9", "type 0"],
)
def test_b15_user_identity_too_large_or_of_unknown_type_is_rejected_and_not_shown(user):
    answer, problem = refused(acceptor(), request(user=user))
    assert answer == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 1))
    assert "ppp" not in problem
    assert "jjj" not in problem


def test_b15_user_identity_is_taken_and_its_secret_not_in_its_repr():
    [event] = acceptor().receive(request(user=identity(2, b"user", b"secret")))
    assert isinstance(event, AssociateRequested)
    offered = event.request.user_identity
    assert offered is not None
    assert (offered.kind, offered.primary, offered.secondary, offered.answer_requested) == (2, b"user", b"secret", True)
    assert "secret" not in repr(event)


def test_b15_user_identity_with_empty_primary_field_is_read_right():
    [event] = acceptor().receive(request(user=identity(2, b"", b"pass")))
    assert isinstance(event, AssociateRequested)
    assert event.request.user_identity is not None
    assert event.request.user_identity.primary == b""
    assert event.request.user_identity.secondary == b"pass"


def test_b16_data_before_an_association_is_aborted_from_its_header():
    assert refused(acceptor(), pdu(0x04, pdv(1, 3, b""))[:6])[0] == abort(2, 2)


def test_b16_second_request_inside_an_association_is_aborted():
    layer = established()
    assert refused(layer, request())[0] == abort(2, 2)
    assert layer.state is State.AWAIT_CLOSE


@pytest.mark.parametrize("layer", [acceptor, established], ids=["before", "associated"])
def test_b16_answer_from_a_client_is_aborted(layer):
    assert refused(layer(), pdu(0x02, bytes(68)))[0] == abort(2, 2)


def test_b16_data_before_our_answer_is_aborted():
    layer = acceptor()
    layer.receive(request())
    assert refused(layer, pdu(0x04, command_pdv()))[0] == abort(2, 2)


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">IBB", 0, 1, 3),
        struct.pack(">IBB", 1, 1, 3),
        struct.pack(">IBB", 100, 1, 3) + bytes(97),
        struct.pack(">IBB", 0xFFFFFFFF, 1, 3) + bytes(97),
        command_pdv() + b"\0\0\0",
        b"",
    ],
    ids=["length 0", "length 1", "one more than the PDU", "4 GiB", "rubbish behind", "no PDV"],
)
def test_b17_pdv_length_that_does_not_fit_is_aborted(body):
    answer, problem = refused(established(), pdu(0x04, body))
    assert answer == abort(2, 6)
    assert "PDV" in problem


@pytest.mark.parametrize("length", [0, 1])
def test_b17_short_pdv_where_data_is_due_is_aborted_for_its_length(length):
    body = command_pdv() + struct.pack(">IBB", length, 1, 2)
    answer, problem = refused(established(), pdu(0x04, body))
    assert answer == abort(2, 6)
    assert f"PDV length {length} " in problem


def test_b17_pdu_longer_than_negotiated_is_aborted_from_its_header():
    layer = established(max_pdu_bytes=4096)
    assert layer.receive(struct.pack(">BxI", 0x04, 4096)) == []
    assert refused(established(max_pdu_bytes=4096), struct.pack(">BxI", 0x04, 4097))[0] == abort(2, 6)


@pytest.mark.parametrize("context_id", [0, 2, 5, 255])
def test_b18_pdv_on_a_context_never_accepted_is_aborted(context_id):
    assert refused(established(), pdu(0x04, command_pdv(context_id=context_id)))[0] == abort(2, 6)


def test_b18_pdv_on_a_refused_context_is_aborted():
    layer = acceptor()
    [event] = layer.receive(request(context(1) + context(3, "1.2.3")))
    assert isinstance(event, AssociateRequested)
    answers = answer_contexts(
        event.request.contexts, accepts_sop_class=lambda uid: uid == CT, accepts_transfer_syntax=lambda _: True
    )
    layer.accept(answers)
    layer.take_output()
    assert len(layer.receive(pdu(0x04, command_pdv(context_id=1)))) == 1
    assert refused(layer, pdu(0x04, command_pdv(context_id=3)))[0] == abort(2, 6)


def test_b19_command_set_that_never_ends_is_aborted_at_64_kib():
    layer = established(max_pdu_bytes=16384)
    piece = pdu(0x04, pdv(1, 1, bytes(8192)))
    for _ in range(MAX_COMMAND_BYTES // 8192):
        assert layer.receive(piece) == []
    assert refused(layer, piece)[0] == abort(2, 6)


def test_b19_command_set_in_one_piece_over_64_kib_is_aborted():
    layer = established(max_pdu_bytes=131072)
    assert refused(layer, pdu(0x04, pdv(1, 3, bytes(MAX_COMMAND_BYTES + 2))))[0] == abort(2, 6)


@pytest.mark.parametrize(
    "pdvs",
    [
        [pdv(1, 0, b"data")],
        [pdv(1, 1, b"ab"), pdv(1, 0, b"data")],
        [pdv(1, 1, b"ab"), pdv(3, 1, b"cd")],
        [command_pdv(), command_pdv()],
        [command_pdv(), pdv(1, 0, b"data"), command_pdv()],
        [command_pdv(), pdv(3, 0, b"data")],
        [command_pdv(), pdv(1, 2, b"data"), pdv(1, 2, b"data")],
    ],
    ids=[
        "data without a command",
        "data inside a command",
        "two commands on two contexts",
        "command where data is due",
        "command inside data",
        "data on another context",
        "data after the last",
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one PDU", "a PDU each"])
def test_b21_interleaved_messages_are_aborted(pdvs, together):
    pdus = pdu(0x04, b"".join(pdvs)) if together else b"".join(pdu(0x04, one) for one in pdvs)
    assert refused(established(), pdus)[0] == abort(2, 2)


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def command_set(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body))) + body


FIELD, MESSAGE_ID = element(0x0100, b"\x01\x00"), element(0x0110, b"\x07\x00")
DATA_TYPE = element(0x0800, b"\x02\x01")


@pytest.mark.parametrize(
    ("elements", "name"),
    [
        ((MESSAGE_ID, DATA_TYPE), "Command Field"),
        ((FIELD, DATA_TYPE), "Message ID"),
        ((FIELD, MESSAGE_ID), "Data Set Type"),
        ((element(0x0100, b"\x01\x80"), MESSAGE_ID, DATA_TYPE), "Responded To"),
    ],
)
def test_b22_command_that_cannot_be_answered_is_aborted_by_the_user(elements, name):
    answer, problem = refused(established(), pdu(0x04, pdv(1, 3, command_set(*elements))))
    assert answer == abort(0, 0)
    assert name in problem


def test_b22_command_without_sop_class_or_instance_is_left_to_the_scp():
    [event] = established().receive(pdu(0x04, pdv(1, 3, command_set(FIELD, MESSAGE_ID, DATA_TYPE))))
    assert isinstance(event, CommandReceived)
    assert event.command.affected_sop_class_uid == event.command.affected_sop_instance_uid == ""


@pytest.mark.parametrize(
    "command",
    [
        encode_command(STORE)[:-2],
        encode_command(STORE) + b"\0\0",
        element(0, struct.pack("<I", 999)) + FIELD,
        command_set(MESSAGE_ID, FIELD, DATA_TYPE),
        command_set(FIELD, FIELD, MESSAGE_ID, DATA_TYPE),
        command_set(FIELD, MESSAGE_ID, DATA_TYPE, element(0x1010, b"045Y", 0x0010)),
        command_set(element(0x0100, b"\x01"), MESSAGE_ID, DATA_TYPE),
        command_set(FIELD, MESSAGE_ID, struct.pack("<HHI", 0, 0x0800, 200) + b"\x02\x01"),
        FIELD + MESSAGE_ID + DATA_TYPE,
        bytes.fromhex("00000000") + b"UL" + bytes.fromhex("0400") + bytes(20),
        b"",
        bytes(64),
    ],
    ids=[
        "cut short",
        "longer than its group length",
        "group length wrong",
        "unsorted",
        "repeated",
        "another group",
        "wrong size",
        "element over the end",
        "no group length",
        "explicit VR",
        "empty",
        "zeros",
    ],
)
def test_b23_command_set_that_is_none_is_aborted(command):
    assert refused(established(), pdu(0x04, pdv(1, 3, command)))[0] == abort(2, 6)


def test_b44_release_in_the_middle_of_a_message_is_told():
    layer = established()
    events = layer.receive(pdu(0x04, command_pdv() + pdv(1, 0, b"half")) + pdu(0x05, bytes(4)))
    assert [type(event).__name__ for event in events] == ["CommandReceived", "DataReceived", "ReleaseRequested"]
    layer.confirm_release()
    assert output(layer) == pdu(0x06, bytes(4))


def test_b44_abort_with_rubbish_in_its_reserved_bytes_is_an_abort():
    layer = established()
    assert layer.receive(pdu(0x07, b"\xde\xad\xbe\xef")) == [Aborted(0xBE, 0xEF)]
    assert layer.closed


@pytest.mark.parametrize("body", [b"", b"123", b"12345", bytes(1000)])
def test_b44_abort_of_wrong_length_ends_the_association_too(body):
    layer = established()
    assert refused(layer, pdu(0x07, body))[0] == abort(2, 6)
    assert layer.state is State.AWAIT_CLOSE


@pytest.mark.parametrize("kind", [0x05, 0x06])
def test_b44_release_of_wrong_length_is_aborted(kind):
    layer = associate()[0]
    layer.release()
    layer.take_output()
    assert refused(layer, pdu(kind, b"12345"))[0] == abort(2, 6)


def test_b46_request_and_abort_in_one_read_leave_nothing_open():
    layer = acceptor()
    events = layer.receive(request() + abort(0, 0))
    assert [type(event).__name__ for event in events] == ["AssociateRequested", "Aborted"]
    assert layer.closed
    layer.accept([])
    assert output(layer) == b""


@pytest.mark.parametrize("invoked", [0, 2, 65_535])
def test_b47_operations_window_comes_back_as_one(invoked):
    layer = acceptor()
    [event] = layer.receive(request(user=user_information(more=item(0x53, struct.pack(">HH", invoked, invoked)))))
    assert isinstance(event, AssociateRequested)
    assert event.request.max_operations_invoked == invoked
    layer.accept([])
    assert item(0x53, b"\0\1\0\1") in output(layer)


def test_b47_no_operations_window_is_answered_with_none():
    layer = acceptor()
    layer.receive(request())
    layer.accept([])
    assert b"\x53\x00\x00\x04" not in output(layer)


@pytest.mark.parametrize(
    "broken",
    [
        pdu(0x01, bytes(67)),
        request(more=b"\x99\x00"),
        request(more=struct.pack(">BxH", 0x99, 10) + b"short"),
        request(item(0x20, b"\x01\0\0")),
        request(user=item(0x50, item(0x51, b"\0\0\0"))),
        request(user=user_information(more=item(0x53, b"\0\1"))),
        request(user=user_information(more=item(0x58, b"\x01\0"))),
        request(user=user_information(more=item(0x58, b"\x01\0\xff\xffshort"))),
        request(user=user_information(more=item(0x58, b"\x02\0\0\1u\xff\xffp"))),
        request(user=user_information(more=item(0x58, b"\x02\0\0\1u"))),
        request(user=user_information(more=item(0x54, b"y"))),
        request(user=user_information(more=item(0x54, b"\0\x051.2\1\1"))),
        request(user=user_information(more=item(0x54, b"\0\x031.2\1"))),
        request(user=user_information(more=item(0x54, b"\0\x031.2\1\1\1"))),
        request(user=user_information(more=item(0x56, b""))),
        request(user=user_information(more=item(0x56, b"\0\x041.2"))),
    ],
)
def test_request_whose_items_do_not_fit_is_aborted(broken):
    assert refused(acceptor(), broken)[0] == abort(2, 6)


def test_items_nobody_knows_are_skipped():
    user = user_information(more=item(0x5A, b"x") + item(0x57, b"y") + item(0x57, b""))
    [event] = acceptor().receive(request(item(0x77, b"?") + context(1), user))
    assert isinstance(event, AssociateRequested)
    assert event.request.contexts == (ProposedContext(1, CT, (IMPLICIT,)),)


def test_second_abstract_syntax_of_a_context_is_ignored():
    doubled = item(0x20, b"\x01\0\0\0" + item(0x30, CT.encode()) + item(0x30, b"1.2.3") + item(0x40, IMPLICIT.encode()))
    [event] = acceptor().receive(request(doubled))
    assert isinstance(event, AssociateRequested)
    assert event.request.contexts == (ProposedContext(1, CT, (IMPLICIT,)),)


def test_after_a_violation_nothing_more_is_read():
    layer = established()
    refused(layer, pdu(0xFF, b""))
    assert layer.receive(pdu(0x04, command_pdv())) == []
    assert output(layer) == b""


def test_odd_uids_and_titles_of_a_peer_never_raise_anything_else():
    contexts = context(1, "\x1b[31m", ("é" * 40,))
    [event] = acceptor().receive(request(contexts, called=b"\xff\x00\r\n", calling=b"'; DROP"))
    assert isinstance(event, AssociateRequested)
    assert event.request.calling_aet == "'; DROP"
    assert event.request.called_aet == "ÿ\x00\r\n"
    assert event.request.contexts[0].abstract_syntax == Uid("?[31m")


def test_data_of_a_message_that_came_before_the_violation_is_not_taken_for_answered():
    layer = established()
    with pytest.raises(PeerError):
        layer.receive(pdu(0x04, command_pdv() + pdv(1, 2, b"data")) + pdu(0xEE, b""))
    layer.send_command(1, STORE)
    assert output(layer) == abort(2, 1)


def test_empty_pdvs_are_borne_and_an_empty_last_one_ends_the_message():
    layer = established()
    events = layer.receive(pdu(0x04, command_pdv() + pdv(1, 0, b"") + pdv(1, 0, b"ab") + pdv(1, 2, b"")))
    assert [(bytes(e.fragment), e.last) for e in events if isinstance(e, DataReceived)] == [(b"ab", False), (b"", True)]
