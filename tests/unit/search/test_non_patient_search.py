"""Searching non-patient instances: each key of each table finds the right one of three, and what matches otherwise."""

from __future__ import annotations

import json
from typing import Any, cast

import npi_samples
import pytest
from filled_journal import new_journal
from npi_journal import JournalInMemory
from npi_samples import SOP_CLASSES, VARIANTS, query_value, uid_of

from router.dicom.attributes import AttributePath, attribute_path, path_name, vr_of
from router.dicom.matcher import MatchOptions
from router.dicom.non_patient import CATEGORIES, Usage
from router.dicom.uids import Uid
from router.journal import non_patient
from router.journal.journal import Journal
from router.search import Asked, BadKeys, TooMany
from router.search.non_patient import NonPatientIndex, plan_non_patient
from router.store.files import Store

HANGING = Uid("1.2.840.10008.5.1.4.38.1")
PROTOCOL = Uid("1.2.840.10008.5.1.4.1.1.200.1")
INVENTORY = Uid("1.2.840.10008.5.1.4.1.1.201.1")
APPROVAL = Uid("1.2.840.10008.5.1.4.1.1.200.3")
PALETTE = Uid("1.2.840.10008.5.1.4.39.1")
EVERY = (0x00080016, 0x00080018)

KEYS = [
    (category.name, sop_class, key.path)
    for category, sop_class in SOP_CLASSES
    for key in category.tables[sop_class]
    if key.usage is not Usage.RETURNED and key.path[0] not in EVERY
]


def index_of(journal: JournalInMemory) -> NonPatientIndex:
    return NonPatientIndex(cast(Journal, journal), cast(Store, None))


@pytest.fixture(scope="module")
def filled() -> NonPatientIndex:
    """All samples."""
    journal = JournalInMemory(new_journal())
    for _, sop_class in SOP_CLASSES:
        for variant in VARIANTS:
            journal.put(npi_samples.sample(sop_class, variant))
    return index_of(journal)


async def found(index: NonPatientIndex, npi_name: str, keys: dict[str, str], **options: Any) -> list[Uid]:
    asked = [Asked(attribute_path(name), value, name) for name, value in keys.items()]
    plan = plan_non_patient(npi_name, asked, options=MatchOptions(**options), strict=True)
    results = (await index.find(plan, limit=1000)).results
    sent = await index.match_set(plan, limit=None, offset=0, most=1000)
    assert len(sent.instance_ids) == len(results)  # REQ-087: what a search finds is what is sent
    return [cast(Uid, result.instance) for result in results]


def having(npi_name: str, path: AttributePath, variant: int) -> list[Uid]:
    tables = CATEGORIES[npi_name].tables
    return [uid_of(sop_class, variant) for sop_class in tables if path in CATEGORIES[npi_name].kept(sop_class)]


@pytest.mark.parametrize(("npi_name", "sop_class", "path"), KEYS, ids=[f"{a}-{b}-{path_name(c)}" for a, b, c in KEYS])
async def test_req_084_each_key_finds_the_right_one_of_three(
    filled: NonPatientIndex, npi_name: str, sop_class: Uid, path: AttributePath
) -> None:
    for variant in VARIANTS:
        asked = {path_name(path): query_value(path, variant)}
        assert await found(filled, npi_name, asked) == having(npi_name, path, variant)


@pytest.mark.parametrize(("npi_name", "sop_class", "path"), KEYS, ids=[f"{a}-{b}-{path_name(c)}" for a, b, c in KEYS])
async def test_req_087_a_value_stored_empty_meets_no_key(npi_name: str, sop_class: Uid, path: AttributePath) -> None:
    journal = JournalInMemory(new_journal())
    made = npi_samples.data_set(sop_class, 1)
    inner = made
    for tag in path[:-1]:
        del inner[tag].value[0]
        inner = inner[tag].value[0]
    inner[path[-1]].value = None
    journal.put(npi_samples.file_of(made, 0))
    index = index_of(journal)
    assert await found(index, npi_name, {path_name(path): query_value(path, 1)}) == []
    assert await found(index, npi_name, {path_name(path): ""}) == [uid_of(sop_class, 1)]
    if vr_of(path[-1]) in ("LO", "SH", "CS", "PN"):
        assert await found(index, npi_name, {path_name(path): "?*"}) == []
        assert await found(index, npi_name, {path_name(path): '""'}, empty_value=True) == [uid_of(sop_class, 1)]


@pytest.mark.parametrize("npi_name", CATEGORIES)
async def test_all_of_a_category_and_one_by_its_uids(filled: NonPatientIndex, npi_name: str) -> None:
    classes = list(CATEGORIES[npi_name].tables)
    everything = [uid_of(sop_class, variant) for sop_class in classes for variant in VARIANTS]
    assert await found(filled, npi_name, {}) == everything
    wanted = uid_of(classes[-1], 1)
    assert await found(filled, npi_name, {"SOPInstanceUID": wanted}) == [wanted]
    assert await found(filled, npi_name, {"SOPClassUID": classes[-1]}) == everything[-3:]
    of_another = uid_of(HANGING if npi_name != "hanging-protocols" else PROTOCOL, 0)
    assert await found(filled, npi_name, {"SOPInstanceUID": of_another}) == []


async def test_several_uids(filled: NonPatientIndex) -> None:
    path = attribute_path("SOPInstanceUID")
    asked = Asked(path, (uid_of(HANGING, 2), uid_of(HANGING, 0), "1.2.3"))
    plan = plan_non_patient("hanging-protocols", [asked], options=MatchOptions(), strict=True)
    results = (await filled.find(plan, limit=10)).results
    assert [result.instance for result in results] == [uid_of(HANGING, 0), uid_of(HANGING, 2)]


async def test_keys_of_one_sequence_must_meet_in_one_item(filled: NonPatientIndex) -> None:
    code = "HangingProtocolUserIdentificationCodeSequence"
    right = {f"{code}.CodeValue": "Ελλάδα beta", f"{code}.CodingSchemeDesignator": "Ελλάδα beta"}
    assert await found(filled, "hanging-protocols", right) == [uid_of(HANGING, 1)]
    mixed = {**right, f"{code}.CodingSchemeDesignator": "other"}  # of the first item
    assert await found(filled, "hanging-protocols", mixed) == []


@pytest.mark.parametrize(
    ("keys", "variants"),
    [
        ({"InstanceCreationDate": "20240101-20250202"}, [0, 1]),
        ({"InstanceCreationDate": "20240101-20260303", "InstanceCreationTime": "0200-2300"}, [1]),
        ({"InstanceCreationDate": "20240101-20250202", "InstanceCreationTime": "0200-1200"}, []),
        ({"InstanceCreationDate": "20250202", "InstanceCreationTime": "1200-1300"}, [1]),
    ],
)
async def test_dates_and_times_are_one_interval(
    filled: NonPatientIndex, keys: dict[str, str], variants: list[int]
) -> None:
    for npi_name, sop_class in (("protocol-approvals", APPROVAL),):
        assert await found(filled, npi_name, keys) == [uid_of(sop_class, variant) for variant in variants]


async def test_an_interval_reaches_over_the_times_of_the_days_between(filled: NonPatientIndex) -> None:
    keys = {"ContentDate": "20240101-20260303", "ContentTime": "0200-2300"}
    assert await found(filled, "inventories", keys) == [uid_of(INVENTORY, 1)]


async def test_the_offset_from_utc_of_the_data_set_holds_in_its_sequences() -> None:
    journal = JournalInMemory(new_journal())
    made = npi_samples.data_set(APPROVAL, 0)
    made.TimezoneOffsetFromUTC = "+0100"
    journal.put(npi_samples.file_of(made))
    index, key = index_of(journal), "ApprovalSequence.AssertionDateTime"
    assert await found(index, "protocol-approvals", {key: "20240101000203+0000"}) == [uid_of(APPROVAL, 0)]
    assert await found(index, "protocol-approvals", {key: "20240101010203+0000"}) == []


@pytest.mark.parametrize(
    ("npi_name", "name", "value", "why"),
    [
        ("hanging-protocols", "HangingProtocolDescription", "x", "is answered, but cannot be matched"),
        ("hanging-protocols", "ContentLabel", "x", "is no matching key of hanging-protocols"),
        ("color-palettes", "PatientID", "x", "is no matching key of color-palettes"),
        ("inventories", "ScopeOfInventorySequence.PatientID", "x", "is no matching key of inventories"),
    ],
)
async def test_req_084_o_30_what_is_no_key_is_ignored_by_a_search_and_refused_by_a_send(
    npi_name: str, name: str, value: str, why: str
) -> None:
    asked = [Asked(attribute_path(name), value, name)]
    with pytest.raises(BadKeys) as refused:
        plan_non_patient(npi_name, asked, options=MatchOptions(), strict=True)
    assert (refused.value.names, refused.value.problems) == ((name,), (why,))
    plan = plan_non_patient(npi_name, asked, options=MatchOptions(), strict=False)
    assert (plan.ignored, plan.keys) == ((name,), ())


@pytest.mark.parametrize(
    ("name", "value"), [("NumberOfScreens", "two"), ("SOPInstanceUID", "1.2.*"), ("HangingProtocolLevel", "A\\B")]
)
async def test_a_value_that_cannot_be_is_refused_by_both(name: str, value: str) -> None:
    for strict in (True, False):
        with pytest.raises(BadKeys):
            plan_non_patient(
                "hanging-protocols", [Asked(attribute_path(name), value, name)], options=MatchOptions(), strict=strict
            )


async def test_an_answer_has_all_of_its_table_and_nothing_of_another(filled: NonPatientIndex) -> None:
    plan = plan_non_patient("implant-templates", [], options=MatchOptions(), strict=False)
    results = (await filled.find(plan, limit=1000)).results
    for result in results:
        sop_class = Uid(result.data_set["00080016"]["Value"][0])
        tags = {f"{path[0]:08X}" for path in CATEGORIES["implant-templates"].kept(sop_class)}
        assert set(result.data_set) - {"00080005"} == tags - {"00080005", "00080201"}
        assert list(result.data_set) == sorted(result.data_set)
        assert result.data_set["00080005"]["Value"] == ["ISO_IR 192"]


async def test_what_is_absent_is_answered_empty() -> None:
    journal = JournalInMemory(new_journal())
    made = npi_samples.data_set(PALETTE, 0)
    del made.ContentDescription, made.AlternateContentDescriptionSequence
    journal.put(npi_samples.file_of(made))
    plan = plan_non_patient("color-palettes", [], options=MatchOptions(), strict=False)
    [result] = (await index_of(journal).find(plan, limit=10)).results
    assert result.data_set["00700081"] == {"vr": "LO"}
    assert result.data_set["00700087"] == {"vr": "SQ"}
    assert json.dumps(result.data_set["00700084"]["Value"], ensure_ascii=False) == '[{"Alphabetic": "Müller^Jürgen"}]'


async def test_pages_are_cut_from_a_stable_order(filled: NonPatientIndex) -> None:
    plan = plan_non_patient("implant-templates", [], options=MatchOptions(), strict=True)
    everything = [result.instance for result in (await filled.find(plan, limit=100)).results]
    pages = [await filled.find(plan, limit=2, offset=offset) for offset in (0, 2, 4, 6, 8, 10)]
    assert [result.instance for page in pages for result in page.results] == everything
    assert [page.remaining for page in pages] == [7, 5, 3, 1, 0, 0]
    sent = await filled.match_set(plan, limit=2, offset=4, most=2)
    assert (len(sent.instance_ids), sent.entities, sent.remaining) == (2, 2, 3)
    with pytest.raises(TooMany) as refused:
        await filled.match_set(plan, limit=None, offset=0, most=8)
    assert refused.value.count == 9


async def test_a_page_of_large_instances_is_shorter_and_says_what_remains(
    filled: NonPatientIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(non_patient, "MAX_PAGE_CHARACTERS", 1)
    plan = plan_non_patient("implant-templates", [], options=MatchOptions(), strict=True)
    found = await filled.find(plan, limit=100, offset=3)
    assert (len(found.results), found.remaining) == (1, 5)


async def test_a_superseded_instance_is_not_found() -> None:
    journal = JournalInMemory(new_journal())
    made = npi_samples.data_set(PALETTE, 0)
    journal.put(npi_samples.file_of(made))
    made.ContentLabel = "CHANGED"
    journal.put(npi_samples.file_of(made))
    index = index_of(journal)
    assert await found(index, "color-palettes", {"ContentLabel": "ALPHA"}) == []
    assert await found(index, "color-palettes", {"ContentLabel": "CHANGED"}) == [uid_of(PALETTE, 0)]


async def test_where_one_is_stored(filled: NonPatientIndex) -> None:
    stored = await filled.stored("color-palettes", uid_of(PALETTE, 1))
    assert stored is not None
    assert (stored.study, stored.series, stored.sop_class_uid) == ("", "", PALETTE)
    assert await filled.stored("color-palettes", uid_of(HANGING, 1)) is None
    assert await filled.stored("color-palettes", Uid("1.2.3")) is None
