"""Index rows are remembered by the bytes they were read from; a remembered row is the row that reading again gives."""

from __future__ import annotations

import itertools

import pytest
from ingest_harness import EXPLICIT, data_set, declared, element

from router.dicom.attributes import INDEX_PATHS
from router.dicom.header import Header, HeaderScanner
from router.dicom.uids import Uid
from router.ingest import facts
from router.ingest.facts import RowMemory, read_facts


def scanned(content: bytes) -> Header:
    scanner = HeaderScanner(Uid(EXPLICIT), INDEX_PATHS)
    scanner.feed(content)
    return scanner.finish()


def test_a_remembered_row_is_what_reading_again_gives() -> None:
    memory = RowMemory()
    charsets = [b"", element(0x00080005, "CS", "ISO_IR 100"), element(0x00080005, "CS", "ISO_IR 144")]
    changes = [{}, {"patient": "P\xc4"}, {"study": "1.2.4"}, {"series": "1.2.3.9"}, {"description": "\xd6L"}]
    for charset, change in [*itertools.product(charsets, changes)] * 2:
        header = scanned(charset + data_set("1.2.9.1", **change))
        assert read_facts(declared("1.2.9.1"), header, memory=memory) == read_facts(declared("1.2.9.1"), header)


def test_the_request_attributes_are_indexed_as_pairs() -> None:
    item = element(0x00400009, "SH", "STEP1") + element(0x00401001, "SH", "PROC1")
    sequence = element(0x00400275, "SQ", b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item)
    content = data_set("1.2.9.1", without=[0x7FE00010]) + sequence
    found = read_facts(declared("1.2.9.1"), scanned(content), memory=RowMemory())
    assert found.series is not None
    assert found.series.request_attributes == '[["STEP1","PROC1"]]'


def test_all_values_are_indexed_between_backslashes() -> None:
    content = data_set("1.2.9.1", patient="P1 \\P2", description="A\\")
    found = read_facts(declared("1.2.9.1"), scanned(content))
    assert found.study is not None
    assert (found.study.patient_id, found.study.study_description) == ("P1\\P2", "A\\")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "REMEMBERED", 3)
    memory = RowMemory()
    for number in range(9):
        header = scanned(data_set("1.2.9.1", study=f"1.2.{number}"))
        read_facts(declared("1.2.9.1"), header, memory=memory)
    assert len(memory.studies) == 3
