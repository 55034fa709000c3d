"""Command sets, against pynetdicom's fixtures and its own encoder."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from pynetdicom.tests import encoded_dimse_msg as fixtures

from router.dicom.uids import AETitle, Uid
from router.dimse.commands import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    decode_command,
    encode_command,
)
from router.dimse.events import Command
from router.errors import PeerError

CT, INSTANCE = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.3.4")


def test_store_request_is_what_pynetdicom_reads_and_writes():
    expected = Command(C_STORE_RQ, 7, None, CT, Uid("1.2.392.200036.9116.2.6.1.48.1215709044.1459316254.522441"), 2)
    decoded = decode_command(fixtures.c_store_rq_cmd_b[1:])
    assert decoded.has_data_set
    for field in ("field", "message_id", "affected_sop_class_uid", "affected_sop_instance_uid", "priority"):
        assert getattr(decoded, field) == getattr(expected, field)


@pytest.mark.parametrize("name", [name for name in dir(fixtures) if name.endswith("_cmd")])
def test_every_command_set_of_the_wheel_is_read(name):
    raw = getattr(fixtures, name)[1:]
    command = decode_command(raw)
    assert command.field == int.from_bytes(raw[raw.index(b"\x00\x00\x00\x01\x02\x00") + 8 :][:2], "little")
    assert (command.message_id is None) == ("rsp" in name)


def as_dataset(command: Command) -> Dataset:
    dataset = Dataset()
    dataset.CommandField = command.field
    dataset.CommandDataSetType = 0x0102 if command.has_data_set else 0x0101
    for keyword, value in {
        "AffectedSOPClassUID": command.affected_sop_class_uid or None,
        "AffectedSOPInstanceUID": command.affected_sop_instance_uid or None,
        "MessageID": command.message_id,
        "MessageIDBeingRespondedTo": command.message_id_responded_to,
        "Priority": command.priority,
        "Status": command.status,
        "ErrorComment": command.error_comment or None,
        "RequestedSOPClassUID": command.requested_sop_class_uid or None,
        "RequestedSOPInstanceUID": command.requested_sop_instance_uid or None,
        "MoveDestination": command.move_destination or None,
        "MoveOriginatorApplicationEntityTitle": command.move_originator_aet or None,
        "MoveOriginatorMessageID": command.move_originator_message_id,
        "NumberOfRemainingSuboperations": command.remaining,
        "NumberOfCompletedSuboperations": command.completed,
        "NumberOfFailedSuboperations": command.failed,
        "NumberOfWarningSuboperations": command.warning,
        "EventTypeID": command.event_type_id,
        "ActionTypeID": command.action_type_id,
        "OffendingElement": list(command.offending_elements) or None,
    }.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.CommandGroupLength = len(encode(dataset, True, True) or b"")
    return dataset


@pytest.mark.parametrize(
    "command",
    [
        Command(C_STORE_RQ, 1, None, CT, Uid("1.2.3"), 0, None, "", True),
        Command(C_STORE_RSP, None, 1, CT, INSTANCE, None, 0xB000, "odd", False),
        Command(C_ECHO_RQ, 65535, None, Uid("1.2.840.10008.1.1")),
        Command(C_CANCEL_RQ, None, 3),
        Command(C_STORE_RSP, None, 1, status=0x0110, error_comment="x" * 64),
        Command(C_MOVE_RQ, 5, None, CT, priority=1, has_data_set=True, move_destination=AETitle("ODD")),
        Command(C_MOVE_RSP, None, 5, CT, status=0xFF00, remaining=1, completed=0, failed=65535, warning=2),
        Command(C_FIND_RSP, None, 5, CT, status=0xA900, offending_elements=(0x00080052, 0x0020000D)),
        Command(C_STORE_RQ, 1, move_originator_aet=AETitle("MOVER"), move_originator_message_id=5, has_data_set=True),
        Command(N_ACTION_RQ, 1, requested_sop_class_uid=CT, requested_sop_instance_uid=INSTANCE, action_type_id=1),
        Command(N_EVENT_REPORT_RQ, 1, None, CT, INSTANCE, event_type_id=2, has_data_set=True),
    ],
    ids=[
        "store",
        "store answer",
        "echo",
        "cancel",
        "comment",
        "move",
        "counters",
        "offending elements",
        "originator",
        "action",
        "event report",
    ],
)
def test_command_is_written_byte_for_byte_as_pynetdicom_writes_it(command):
    assert encode_command(command) == encode(as_dataset(command), True, True)
    assert decode_command(encode_command(command)) == command


def test_a_counter_that_a_peer_leaves_empty_is_absent():
    sent = encode_command(Command(C_MOVE_RSP, None, 5, CT, status=0, remaining=7, warning=2))
    empty = sent.replace(b"\x20\x10\2\0\0\0\7\0", b"\x20\x10\0\0\0\0").replace(sent[8:10], bytes((sent[8] - 2, 0)), 1)
    decoded = decode_command(empty)
    assert (decoded.remaining, decoded.warning) == (None, 2)


@pytest.mark.parametrize(
    ("element", "value"), [(0x1020, b"abc\0"), (0x0901, b"\x10\0"), (0x1031, b"\0\0\0\0"), (0x1002, b"1")]
)
def test_a_value_of_the_wrong_length_is_a_violation(element, value):
    body = b"\0\0\0\1\2\0\0\0\x20\x80\0\0\x20\1\2\0\0\0\1\0\0\0\0\x08\2\0\0\0\1\1"
    body += bytes((0, 0)) + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
    with pytest.raises(PeerError) as caught:
        decode_command(b"\0\0\0\0\4\0\0\0" + len(body).to_bytes(4, "little") + body)
    assert caught.value.abort_reason == 6


def test_error_comment_is_cut_to_64_characters_of_the_default_repertoire():
    sent = encode_command(Command(C_STORE_RSP, None, 1, status=0xC000, error_comment="é\\\n" + "x" * 100))
    assert decode_command(sent).error_comment == "???" + "x" * 61


def test_control_characters_in_the_comment_of_a_peer_do_not_reach_the_operator():
    sent = encode_command(Command(C_STORE_RSP, None, 1, status=0xC000, error_comment="red alert"))
    assert decode_command(sent.replace(b"red alert", b"\x1b[31m\r\nab")).error_comment == "?[31m??ab"


def test_uid_longer_than_64_characters_goes_through():
    uid = Uid("1." + "2" * 80)
    assert decode_command(encode_command(Command(C_STORE_RQ, 1, None, CT, uid))).affected_sop_instance_uid == uid


def test_uid_padded_with_a_space_is_trimmed():
    sent = encode_command(Command(C_STORE_RQ, 1, None, CT, Uid("1.2.3")))
    assert decode_command(sent.replace(b"1.2.3\0", b"1.2.3 ")).affected_sop_instance_uid == "1.2.3"


@pytest.mark.parametrize(("data_set_type", "follows"), [(0x0101, False), (0, True), (1, True), (0x0102, True)])
def test_any_data_set_type_but_0101_says_that_a_data_set_follows(data_set_type, follows):
    sent = encode_command(Command(C_STORE_RQ, 1, None, CT, INSTANCE, has_data_set=True))
    sent = sent.replace(
        b"\x00\x08\x02\x00\x00\x00\x02\x01", b"\x00\x08\x02\x00\x00\x00" + data_set_type.to_bytes(2, "little")
    )
    assert decode_command(sent).has_data_set is follows
