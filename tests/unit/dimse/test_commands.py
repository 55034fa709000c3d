"""Command sets, against pynetdicom's fixtures and its own encoder."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from pynetdicom.tests import encoded_dimse_msg as fixtures

from router.dicom.uids import Uid
from router.dimse.commands import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP, decode_command, encode_command
from router.dimse.events import Command

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
    ],
    ids=["store", "store answer", "echo", "cancel", "comment"],
)
def test_command_is_written_byte_for_byte_as_pynetdicom_writes_it(command):
    assert encode_command(command) == encode(as_dataset(command), True, True)
    assert decode_command(encode_command(command)) == command


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
