"""Whatever bytes come as Action or Event Information, they are read or refused; and what we write reads back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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

SYNTAXES = st.sampled_from([Uid(f"1.2.840.10008.1.2{end}") for end in ("", ".1", ".2")])
UIDS = st.integers(0, 10**30).map(lambda n: Uid(f"2.25.{n}"))
REASONS = st.none() | st.integers(1, 0xFFFF)
READERS = st.sampled_from([read_action_information, read_event_information])


@st.composite
def references(draw: st.DrawFn) -> list[Reference]:
    found = draw(st.dictionaries(UIDS, UIDS, min_size=1, max_size=8))
    return [Reference(sop_class, uid) for uid, sop_class in found.items()]


@given(UIDS, references(), SYNTAXES)
def test_a_request_reads_as_it_was_written(uid: Uid, asked: list[Reference], syntax: Uid) -> None:
    assert read_action_information(action_information(uid, asked, syntax), syntax) == (uid, tuple(asked))


@given(UIDS, references(), SYNTAXES, st.data())
def test_a_report_reads_as_it_was_written(uid: Uid, asked: list[Reference], syntax: Uid, data: st.DataObject) -> None:
    rulings = tuple(Ruling(one, data.draw(REASONS)) for one in asked)
    event_type, written = event_information(uid, rulings, AETitle("SENDRS"), syntax)
    read_uid, read = read_event_information(written, syntax)
    assert (read_uid, judged(asked, read)) == (uid, rulings)
    assert event_type == (1 if all(one.failure_reason is None for one in rulings) else 2)


@given(READERS, st.binary(max_size=200), SYNTAXES)
def test_any_bytes_are_read_or_refused(read: Callable[[bytes, Uid], Any], data: bytes, syntax: Uid) -> None:
    with suppress(Refused):
        read(data, syntax)


@given(READERS, references(), SYNTAXES, st.data())
def test_a_broken_data_set_is_read_or_refused(
    read: Callable[[bytes, Uid], Any], asked: list[Reference], syntax: Uid, data: st.DataObject
) -> None:
    written = bytearray(event_information(Uid("1.2"), [Ruling(one) for one in asked], AETitle("US"), syntax)[1])
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    test_any_bytes_are_read_or_refused.hypothesis.inner_test(read, bytes(written), syntax)
