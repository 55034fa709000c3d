"""The data sets of the Storage Commitment Push Model SOP Class (PS3.4 §J.3.2, §J.3.3): Action and Event Information.

A request is read strictly, as what is not understood would not be committed to; the report of another SCP is read as
it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.dicom.commitment import (
    CLASS_INSTANCE_CONFLICT,
    MAX_REFERENCES,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    Reference,
    Ruling,
)
from router.dicom.identifier import BadIdentifier, read_identifier
from router.dicom.identifier_writer import write_identifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet, element, in_order, sequence
from router.dicom.uids import AETitle, Uid, is_valid_uid
from router.errors import Refused

PUSH_MODEL: Final = Uid("1.2.840.10008.1.20.1")
PUSH_MODEL_INSTANCE: Final = Uid("1.2.840.10008.1.20.1.1")
"""The SOP class, and its one well-known SOP Instance (PS3.4 §J.3.1)."""
REQUEST_STORAGE_COMMITMENT: Final = 1
"""The Action Type ID."""
ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""The Event Type IDs."""

INVALID_ARGUMENT_VALUE: Final = 0x0115
"""Status (PS3.7 §10.1.1.1.8, §10.1.4.1.10)."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of one data set: MAX_REFERENCES take some 8 MB, and twice that with the longest UIDs."""
MAX_ELEMENTS: Final = 1024 * 1024
"""Of one data set: an item and two elements each, with or without further ones."""

_TRANSACTION_UID: Final = 0x0008_1195
_REFERENCED: Final = 0x0008_1199
_FAILED: Final = 0x0008_1198
_CLASS_UID: Final = 0x0008_1150
_INSTANCE_UID: Final = 0x0008_1155
_FAILURE_REASON: Final = 0x0008_1197
_RETRIEVE_AE_TITLE: Final = 0x0008_0054


def read_action_information(data: bytes, transfer_syntax_uid: Uid) -> tuple[Uid, tuple[Reference, ...]]:
    """Read the Action Information of an N-ACTION: its Transaction UID, and the references in their order, each once.

    Raises Refused with the status to answer.
    """
    attributes = _read(data, transfer_syntax_uid)
    transaction_uid = _uid(attributes, _TRANSACTION_UID, "Transaction UID")
    items = attributes.items(_REFERENCED)
    if not items:
        raise Refused(INVALID_ARGUMENT_VALUE, "no Referenced SOP Sequence, or it has no item")
    if len(items) > MAX_REFERENCES:
        raise Refused(RESOURCE_LIMITATION, f"more than {MAX_REFERENCES} instances")
    references: dict[Uid, Reference] = {}
    for item in items:
        uid = _uid(item, _INSTANCE_UID, "Referenced SOP Instance UID")
        if uid in references:
            raise Refused(INVALID_ARGUMENT_VALUE, f"referenced twice: {uid}")
        references[uid] = Reference(_uid(item, _CLASS_UID, "Referenced SOP Class UID"), uid)
    return transaction_uid, tuple(references.values())


def action_information(transaction_uid: Uid, references: Sequence[Reference], transfer_syntax_uid: Uid) -> bytes:
    """Write the Action Information of an N-ACTION."""
    data_set = {
        _name(_TRANSACTION_UID): element(_TRANSACTION_UID, [transaction_uid]),
        _name(_REFERENCED): sequence(map(_reference, references)),
    }
    return write_identifier(in_order(data_set), transfer_syntax_uid)


def event_information(
    transaction_uid: Uid, rulings: Sequence[Ruling], retrieve_aet: AETitle, transfer_syntax_uid: Uid
) -> tuple[int, bytes]:
    """Write the Event Information of an N-EVENT-REPORT, and give its Event Type ID with it.

    Each instance is in one of the two lists; a list without instances is left out (PS3.4 Table J.3-2). `retrieve_aet`
    is whom they can be retrieved from; it is left out when nothing is committed, or it is "".
    """
    committed = [_reference(ruling.reference) for ruling in rulings if ruling.failure_reason is None]
    failed = [
        {**_reference(ruling.reference), _name(_FAILURE_REASON): element(_FAILURE_REASON, [ruling.failure_reason])}
        for ruling in rulings
        if ruling.failure_reason is not None
    ]
    data_set: JsonDataSet = {_name(_TRANSACTION_UID): element(_TRANSACTION_UID, [transaction_uid])}
    if committed:
        data_set[_name(_REFERENCED)] = sequence(committed)
        if retrieve_aet:
            data_set[_name(_RETRIEVE_AE_TITLE)] = element(_RETRIEVE_AE_TITLE, [retrieve_aet])
    if failed:
        data_set[_name(_FAILED)] = sequence(failed)
    event_type = FAILURES_EXIST if failed else ALL_COMMITTED
    return event_type, write_identifier(in_order(data_set), transfer_syntax_uid)


def read_event_information(data: bytes, transfer_syntax_uid: Uid) -> tuple[Uid, tuple[Ruling, ...]]:
    """Read the Event Information of an N-EVENT-REPORT: its Transaction UID, and what became of each instance.

    One in both lists has failed; one that failed without saying why has failed with 0110H. Raises Refused with the
    status to answer.
    """
    attributes = _read(data, transfer_syntax_uid)
    transaction_uid = _uid(attributes, _TRANSACTION_UID, "Transaction UID")
    rulings: dict[str, Ruling] = {}
    for tag in (_REFERENCED, _FAILED):
        for item in attributes.items(tag):
            reference = Reference(Uid(_text(item, _CLASS_UID)), Uid(_text(item, _INSTANCE_UID)))
            reason = None if tag == _REFERENCED else _number(_text(item, _FAILURE_REASON))
            rulings[reference.sop_instance_uid] = Ruling(reference, reason)
    return transaction_uid, tuple(rulings.values())


def judged(references: Sequence[Reference], rulings: Sequence[Ruling]) -> tuple[Ruling, ...]:
    """Give a ruling for each reference, in their order: what a report does not name has failed (0110H), and what it
    commits to under another SOP class (0119H).
    """
    said = {ruling.reference.sop_instance_uid: ruling for ruling in rulings}
    return tuple(
        Ruling(reference, _reason(reference, said.get(reference.sop_instance_uid))) for reference in references
    )


def _reason(reference: Reference, ruling: Ruling | None) -> int | None:
    if ruling is None:
        return PROCESSING_FAILURE
    if ruling.failure_reason is None and ruling.reference.sop_class_uid not in ("", reference.sop_class_uid):
        return CLASS_INSTANCE_CONFLICT
    return ruling.failure_reason


def _read(data: bytes, transfer_syntax_uid: Uid) -> JsonAttributes:
    if not data:
        raise Refused(INVALID_ARGUMENT_VALUE, "no data set")
    try:
        return JsonAttributes(
            read_identifier(data, transfer_syntax_uid, max_bytes=MAX_BYTES, max_elements=MAX_ELEMENTS)
        )
    except BadIdentifier as error:
        raise Refused(PROCESSING_FAILURE, f"the data set cannot be read: {error.problem}") from error


def _uid(attributes: JsonAttributes, tag: int, what: str) -> Uid:
    """Give a UID of type 1. Raises Refused."""
    text = _text(attributes, tag)
    if not text:
        raise Refused(INVALID_ARGUMENT_VALUE, f"no {what}")
    if not is_valid_uid(text, odd=True):
        raise Refused(INVALID_ARGUMENT_VALUE, f"{what} is not a UID")
    return Uid(text)


def _text(attributes: JsonAttributes, tag: int) -> str:
    """Give the value of an attribute, "" when there is none; several come with backslashes, and are no UID."""
    return "\\".join(text.strip(" \0") for text in attributes.texts((tag,)))


def _number(text: str) -> int:
    return int(text) if len(text) <= 5 and text.isascii() and text.isdigit() and int(text) else PROCESSING_FAILURE


def _reference(reference: Reference) -> JsonDataSet:
    return {
        _name(_CLASS_UID): element(_CLASS_UID, [reference.sop_class_uid]),
        _name(_INSTANCE_UID): element(_INSTANCE_UID, [reference.sop_instance_uid]),
    }


def _name(tag: int) -> str:
    return f"{tag:08X}"
