"""The data sets of storage commitment: ours read by others, theirs read by us, and what is not one (PS3.4 §J.3)."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from router.dicom.commitment import Reference, Ruling
from router.dicom.commitment_information import (
    action_information,
    event_information,
    judged,
    read_action_information,
    read_event_information,
)
from router.dicom.uids import AETitle, Uid
from router.errors import Refused

IMPLICIT, EXPLICIT, BIG = (Uid(f"1.2.840.10008.1.2{end}") for end in ("", ".1", ".2"))
UID = Uid("1.2.826.1")
CT = Uid("1.2.840.10008.5.1.4.1.1.2")
REFERENCES = tuple(Reference(CT, Uid(f"1.2.9.{n}")) for n in (1, 2, 3))
SYNTAXES = pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])


def encode(data_set: Dataset, syntax: Uid = IMPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def decode(data: bytes, syntax: Uid) -> Dataset:
    data_set = dcmread(io.BytesIO(preamble(syntax) + data), force=True)
    data_set.pop("TransferSyntaxUID", None)
    return data_set


def preamble(syntax: Uid) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    meta = Dataset()
    meta.add_new(0x00020010, "UI", syntax)
    write_dataset(buffer, meta)
    return buffer.getvalue()


def item(uid: str = "1.2.9.1", sop_class: str = CT, **more: object) -> Dataset:
    data_set = Dataset()
    data_set.ReferencedSOPClassUID, data_set.ReferencedSOPInstanceUID = sop_class, uid
    for name, value in more.items():
        setattr(data_set, name, value)
    return data_set


def request(*items: Dataset, uid: str = UID) -> Dataset:
    data_set = Dataset()
    data_set.TransactionUID, data_set.ReferencedSOPSequence = uid, list(items)
    return data_set


@SYNTAXES
def test_a_request_is_written_as_pydicom_reads_it_and_read_as_it_was_written(syntax: Uid) -> None:
    data = action_information(UID, REFERENCES, syntax)
    seen = decode(data, syntax)
    assert seen.TransactionUID == UID
    assert [one.ReferencedSOPInstanceUID for one in seen.ReferencedSOPSequence] == ["1.2.9.1", "1.2.9.2", "1.2.9.3"]
    assert read_action_information(data, syntax) == (UID, REFERENCES)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_a_request_of_pydicom_is_understood(syntax: Uid) -> None:
    data = encode(request(item("1.2.9.1"), item("1.2.9.2"), item("1.2.9.3")), syntax)
    assert read_action_information(data, syntax) == (UID, REFERENCES)


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: Dataset(), 0x0115),
        (lambda: request(item(), uid=""), 0x0115),
        (lambda: request(item(), uid="1.2.x"), 0x0115),
        (lambda: request(), 0x0115),
        (lambda: request(item(uid="")), 0x0115),
        (lambda: request(item(sop_class="")), 0x0115),
        (lambda: request(item(uid="1..2")), 0x0115),
        (lambda: request(item(), item()), 0x0115),
    ],
)
@pytest.mark.filterwarnings("ignore:.*UI.*")
def test_a_request_that_is_none_is_refused_with_a_status(make: Callable[[], Dataset], status: int) -> None:
    with pytest.raises(Refused) as caught:
        read_action_information(encode(make()), IMPLICIT)
    assert caught.value.status == status


def test_bytes_that_are_no_data_set_are_refused() -> None:
    for data, status in ((b"", 0x0115), (b"\x08\x00\x95\x11\xff\xff", 0x0110)):
        with pytest.raises(Refused) as caught:
            read_action_information(data, IMPLICIT)
        assert caught.value.status == status


@SYNTAXES
def test_a_report_has_every_instance_in_one_list_and_says_whom_to_ask_for_it(syntax: Uid) -> None:
    rulings = [Ruling(REFERENCES[0]), Ruling(REFERENCES[1], 0x0112), Ruling(REFERENCES[2])]
    event_type, data = event_information(UID, rulings, AETitle("SENDRS"), syntax)
    seen = decode(data, syntax)
    assert (event_type, seen.RetrieveAETitle, seen.TransactionUID) == (2, "SENDRS", UID)
    assert [one.ReferencedSOPInstanceUID for one in seen.ReferencedSOPSequence] == ["1.2.9.1", "1.2.9.3"]
    assert [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in seen.FailedSOPSequence] == [("1.2.9.2", 0x112)]
    uid, read = read_event_information(data, syntax)
    assert uid == UID
    assert judged(REFERENCES, read) == tuple(rulings)


def test_a_report_without_failures_is_another_event_and_one_without_successes_names_nobody() -> None:
    event_type, data = event_information(UID, [Ruling(REFERENCES[0])], AETitle("SENDRS"), EXPLICIT)
    assert (event_type, "FailedSOPSequence" in decode(data, EXPLICIT)) == (1, False)
    event_type, data = event_information(UID, [Ruling(REFERENCES[0], 0x0110)], AETitle("SENDRS"), EXPLICIT)
    seen = decode(data, EXPLICIT)
    assert (event_type, "ReferencedSOPSequence" in seen, "RetrieveAETitle" in seen) == (2, False, False)


def test_the_report_of_another_scp_is_read_as_it_comes() -> None:
    data_set = request(item("1.2.9.1"), item("1.2.9.2", sop_class="1.2.3"))
    data_set.FailedSOPSequence = [item("1.2.9.1", FailureReason=0x0213), item("1.2.9.4")]
    uid, rulings = read_event_information(encode(data_set), IMPLICIT)
    assert uid == UID
    assert [one.failure_reason for one in judged(REFERENCES, rulings)] == [0x0213, 0x0119, 0x0110]
    assert [one.failure_reason for one in rulings if one.reference.sop_instance_uid == "1.2.9.4"] == [0x0110]
