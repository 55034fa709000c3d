"""includefield (PS3.18 §8.3.4.3): what the index does not have is read from the file of one instance of each result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from search_archive import Archive, instance, open_archive, plan_of

from router.dicom.attributes import AttributePath, attribute_path
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid
from router.search import Asked, Level, Result, Scope, extra, plan

CREATOR, PRIVATE = (0x00090010,), (0x00091001,)
VALUES: dict[str, Any] = {
    "PatientID": "P1",
    "StudyDescription": "M\xfcnchen",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientAge": "054Y",
    "PatientComments": "calm",
    "Manufacturer": "Acme",
    "ProtocolName": "Thorax",
    "InstanceNumber": "7",
    "SliceThickness": "1.5",
    "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2.77"}],
    "EncapsulatedDocument": b"%PDF" * 1000,
    "PixelData": b"\1\2" * 50,
}


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with open_archive(tmp_path) as one:
        await one.put(
            instance("1.2.1", "1.2.1.1", "1.2.1.1.1", **VALUES),
            instance("1.2.2", "1.2.2.1", "1.2.2.1.1", **{**VALUES, "PatientID": "P2", "PatientAge": "012M"}),
            in_store=True,
        )
        yield one


async def found(archive: Archive, level: Level, *keywords: str, include_all: bool = False) -> tuple[Result, ...]:
    include = [attribute_path(keyword) for keyword in keywords]
    answer = await archive.index.find(plan_of(level), include=include, include_all=include_all, limit=9)
    return answer.results


async def test_an_attribute_that_is_not_indexed_comes_from_the_file_of_each_result(archive: Archive) -> None:
    first, second = await found(archive, Level.STUDY, "PatientAge")
    assert first.data_set["00101010"] == {"vr": "AS", "Value": ["054Y"]}
    assert second.data_set["00101010"] == {"vr": "AS", "Value": ["012M"]}
    assert list(first.data_set) == sorted(first.data_set)
    [series, _] = await found(archive, Level.SERIES, "ProtocolName", "PatientAge")
    assert series.data_set["00181030"]["Value"] == ["Thorax"]
    assert series.data_set["00101010"]["Value"] == ["054Y"]


async def test_a_sequence_comes_with_its_items(archive: Archive) -> None:
    [study, _] = await found(archive, Level.STUDY, "ReferencedStudySequence.ReferencedSOPInstanceUID")
    assert study.data_set["00081110"]["Value"] == [{"00081155": {"vr": "UI", "Value": ["1.2.77"]}}]


async def test_attributes_of_lower_levels_do_not_come(archive: Archive) -> None:
    plain = await found(archive, Level.STUDY)
    assert await found(archive, Level.STUDY, "SliceThickness", "ProtocolName", "InstanceNumber", "Modality") == plain
    [series, _] = await found(archive, Level.SERIES, "SliceThickness", "Manufacturer")
    assert "00180050" not in series.data_set
    assert series.data_set["00080070"]["Value"] == ["Acme"]


async def test_all_means_all_of_this_level_and_above_but_no_bulk_data(archive: Archive) -> None:
    [study, _] = await found(archive, Level.STUDY, include_all=True)
    assert {"00101010", "00104000", "00081110", "00081030", "00201208"} <= set(study.data_set)
    assert {"00080070", "00180050", "00200013", "00080060"}.isdisjoint(study.data_set)
    [one, _] = await found(archive, Level.INSTANCE, include_all=True)
    assert {"00101010", "00080070", "00180050", "00200013"} <= set(one.data_set)
    assert {"7FE00010", "00420011"}.isdisjoint(one.data_set)
    assert one.data_set["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert one.data_set["00081030"]["Value"] == ["M\xfcnchen"]


async def test_a_key_without_a_value_asks_for_the_attribute_back(archive: Archive) -> None:
    results = await archive.index.find(plan_of(Level.STUDY, PatientAge=""), limit=9)
    assert results.results[0].data_set["00101010"]["Value"] == ["054Y"]


@pytest.mark.parametrize("damage", ["missing", "shorter", "garbage"])
async def test_a_damaged_file_costs_only_its_extra_attributes(archive: Archive, damage: str) -> None:
    [stored] = await archive.index.stored(Scope(study=Uid("1.2.1")))
    path = archive.store.path_of(stored.located.file)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        path.write_bytes(content[:-10])
    else:
        path.write_bytes(content[: stored.located.data_set_offset].ljust(len(content), b"\xfe"))
    first, second = await found(archive, Level.STUDY, "PatientAge")
    assert first.data_set["00100020"]["Value"] == ["P1"]
    assert "00101010" not in first.data_set
    assert second.data_set["00101010"]["Value"] == ["012M"]


async def test_a_private_attribute_needs_its_creator(archive: Archive) -> None:
    async def ask(creator: str, include: AttributePath) -> Result:
        made = plan(Level.INSTANCE, Scope(), [Asked(CREATOR, creator)], options=MatchOptions(), strict=False)
        return (await archive.index.find(made, include=[include], limit=9)).results[-1]

    private: dict[str, Any] = {"00090010": "ACME", "00091001": b"hidden"}
    await archive.put(instance("1.2.3", "1.2.3.1", "1.2.3.1.1", **private), in_store=True)
    assert "00091001" in (await ask("ACME", PRIVATE)).data_set
    assert "00090010" in (await ask("ACME", PRIVATE)).data_set
    assert "00091001" not in (await ask("OTHER", PRIVATE)).data_set


async def test_the_extra_attributes_of_a_page_are_bounded(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "MAX_PAGE_BYTES", 10)
    monkeypatch.setattr(extra, "READERS", 1)
    first, second = await found(archive, Level.STUDY, "PatientAge")
    assert "00101010" in first.data_set
    assert "00101010" not in second.data_set


async def test_a_file_is_read_no_further_than_the_last_attribute_asked_for(archive: Archive) -> None:
    [stored] = await archive.index.stored(Scope(study=Uid("1.2.1")))
    path = archive.store.path_of(stored.located.file)
    content = path.read_bytes()
    behind = content.index(b"\x18\x00\x50\x00")
    path.write_bytes(content[:behind].ljust(len(content), b"\xfe"))
    [study, _] = await found(archive, Level.STUDY, "PatientAge")
    assert study.data_set["00101010"]["Value"] == ["054Y"]
    [series, _] = await found(archive, Level.SERIES, "ProtocolName")
    assert "00181030" not in series.data_set
