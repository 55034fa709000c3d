"""Searching the index: levels, keys, order, pages, what comes back (PS3.18 §10.6; dicom-facts A.3, A.4, B.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from search_archive import CT, Archive, instance, open_archive, plan_of, uids

from router.dicom.attributes import attribute_path
from router.dicom.matcher import MatchOptions
from router.dicom.uids import Uid
from router.journal import readers, search
from router.search import BadKeys, Level, QueryTooLong, Scope, TooMany

MR = "1.2.840.10008.5.1.4.1.1.4"
STUDY_1 = {
    "StudyDate": "20240105",
    "StudyTime": "1030",
    "AccessionNumber": "A1",
    "PatientID": "P1",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "StudyID": "S1",
    "ReferringPhysicianName": "House^Gregory",
}
STUDY_2 = {"StudyDate": "20240107", "StudyTime": "180000", "AccessionNumber": "A2", "PatientID": "P2"}
INSTANCES = (
    instance("1.2.1", "1.2.1.1", "1.2.1.1.1", SeriesNumber="2", InstanceNumber="2", Rows="10", **STUDY_1),
    instance("1.2.1", "1.2.1.1", "1.2.1.1.2", SeriesNumber="2", InstanceNumber="1", **STUDY_1),
    instance("1.2.1", "1.2.1.2", "1.2.1.2.1", SeriesNumber="1", **STUDY_1, Modality="MR", SOPClassUID=MR),
    instance(
        "1.2.2",
        "1.2.2.1",
        "1.2.2.1.1",
        SeriesNumber="1",
        RequestAttributesSequence=[
            {"ScheduledProcedureStepID": "STEP1", "RequestedProcedureID": "PROC1"},
            {"ScheduledProcedureStepID": "STEP2", "RequestedProcedureID": "PROC2"},
        ],
        **STUDY_2,
    ),
)


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with open_archive(tmp_path) as one:
        await one.put(*INSTANCES)
        yield one


async def test_studies_answer_all_of_table_10_6_3_3(archive: Archive) -> None:
    found = await archive.find(Level.STUDY, PatientID="P1")
    [result] = found.results
    assert (result.study, result.series, result.instance, found.remaining) == ("1.2.1", None, None, 0)
    assert result.data_set == {
        "00080020": {"vr": "DA", "Value": ["20240105"]},
        "00080030": {"vr": "TM", "Value": ["1030"]},
        "00080050": {"vr": "SH", "Value": ["A1"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "MR"]},
        "00080090": {"vr": "PN", "Value": [{"Alphabetic": "House^Gregory"}]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA", "Value": ["19700102"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
        "00200010": {"vr": "SH", "Value": ["S1"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [3]},
    }


async def test_required_attributes_come_back_empty_and_others_only_if_known(archive: Archive) -> None:
    [study] = (await archive.find(Level.STUDY, StudyInstanceUID="1.2.2")).results
    assert study.data_set["00100010"] == {"vr": "PN"}
    assert "00080201" not in study.data_set
    [one] = (await archive.find(Level.SERIES, Scope(study=Uid("1.2.2")))).results
    assert one.data_set == {
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.2.1"]},
        "00200011": {"vr": "IS", "Value": [1]},
        "00201209": {"vr": "IS", "Value": [1]},
        "00400275": {
            "vr": "SQ",
            "Value": [
                {"00400009": {"vr": "SH", "Value": ["STEP1"]}, "00401001": {"vr": "SH", "Value": ["PROC1"]}},
                {"00400009": {"vr": "SH", "Value": ["STEP2"]}, "00401001": {"vr": "SH", "Value": ["PROC2"]}},
            ],
        },
    }


async def test_instances_answer_with_the_uids_of_what_they_are_part_of(archive: Archive) -> None:
    scope = Scope(study=Uid("1.2.1"), series=Uid("1.2.1.1"))
    first, second = (await archive.find(Level.INSTANCE, scope)).results
    assert first.data_set == {
        "00080016": {"vr": "UI", "Value": [CT]},
        "00080018": {"vr": "UI", "Value": ["1.2.1.1.1"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.1.1"]},
        "00200013": {"vr": "IS", "Value": [2]},
        "00280010": {"vr": "US", "Value": [10]},
    }
    assert (second.study, second.series, second.instance) == ("1.2.1", "1.2.1.1", "1.2.1.1.2")


async def test_relational_searches_add_the_attributes_of_the_levels_above(archive: Archive) -> None:
    [series] = (await archive.find(Level.SERIES, PatientID="P2")).results
    assert {"00080020", "00100020", "00201208", "0020000E"} <= set(series.data_set)
    [one] = (await archive.find(Level.INSTANCE, Scope(study=Uid("1.2.2")))).results
    assert "00080060" in one.data_set
    assert "00100020" not in one.data_set
    [one] = (await archive.find(Level.INSTANCE, SOPInstanceUID="1.2.2.1.1")).results
    assert {"00100020", "00080060", "00080018"} <= set(one.data_set)


SEARCHES = [
    (Level.STUDY, Scope(), {"StudyDate": "20240101-20240106"}, ["1.2.1"]),
    (Level.STUDY, Scope(), {"StudyDate": "20240106-"}, ["1.2.2"]),
    (Level.STUDY, Scope(), {"StudyDate": "-20240106"}, ["1.2.1"]),
    (Level.STUDY, Scope(), {"StudyTime": "1030"}, ["1.2.1"]),
    (Level.STUDY, Scope(), {"AccessionNumber": "A2"}, ["1.2.2"]),
    (Level.STUDY, Scope(), {"AccessionNumber": "a2"}, []),
    (Level.STUDY, Scope(), {"AccessionNumber": "A*"}, ["1.2.1", "1.2.2"]),
    (Level.STUDY, Scope(), {"ModalitiesInStudy": "MR"}, ["1.2.1"]),
    (Level.STUDY, Scope(), {"ModalitiesInStudy": "PT"}, []),
    (Level.STUDY, Scope(), {"PatientName": "DOE^*", "PatientID": "P1"}, ["1.2.1"]),
    (Level.STUDY, Scope(), {"PatientName": "roe^*", "PatientID": "P1"}, []),
    (Level.STUDY, Scope(), {"StudyInstanceUID": ("1.2.1", "1.2.2", "1.2.3")}, ["1.2.1", "1.2.2"]),
    (Level.STUDY, Scope(), {"StudyID": "S?", "PatientID": "P1"}, ["1.2.1"]),
    (Level.SERIES, Scope(study=Uid("1.2.1")), {"Modality": "CT"}, ["1.2.1.1"]),
    (Level.SERIES, Scope(study=Uid("1.2.1")), {"SeriesNumber": "01"}, ["1.2.1.2"]),
    (Level.SERIES, Scope(study=Uid("1.2.1")), {"SeriesInstanceUID": "1.2.2.1"}, []),
    (Level.SERIES, Scope(study=Uid("1.2.1")), {"PatientID": "P1"}, ["1.2.1.1", "1.2.1.2"]),
    (Level.SERIES, Scope(study=Uid("1.2.1")), {"PatientID": "P2"}, []),
    (Level.SERIES, Scope(), {"Modality": "MR"}, ["1.2.1.2"]),
    (
        Level.SERIES,
        Scope(study=Uid("1.2.2")),
        {"RequestAttributesSequence__RequestedProcedureID": "PROC2"},
        ["1.2.2.1"],
    ),
    (
        Level.SERIES,
        Scope(study=Uid("1.2.2")),
        {
            "RequestAttributesSequence__RequestedProcedureID": "PROC2",
            "RequestAttributesSequence__ScheduledProcedureStepID": "STEP1",
        },
        [],
    ),
    (Level.INSTANCE, Scope(study=Uid("1.2.1")), {"Modality": "MR"}, ["1.2.1.2.1"]),
    (Level.INSTANCE, Scope(study=Uid("1.2.1")), {"SOPClassUID": MR}, ["1.2.1.2.1"]),
    (Level.INSTANCE, Scope(study=Uid("1.2.1"), series=Uid("1.2.1.1")), {"InstanceNumber": "1"}, ["1.2.1.1.2"]),
    (Level.INSTANCE, Scope(study=Uid("1.2.2"), series=Uid("1.2.1.1")), {}, []),
    (Level.INSTANCE, Scope(), {"SOPInstanceUID": ("1.2.1.1.1", "1.2.2.1.1")}, ["1.2.1.1.1", "1.2.2.1.1"]),
    (Level.INSTANCE, Scope(), {"SOPInstanceUID": ("1.2.1.1.1", "1.2.2.1.1"), "PatientID": "P2"}, ["1.2.2.1.1"]),
    (Level.INSTANCE, Scope(), {"PatientID": "P1", "Modality": "CT"}, ["1.2.1.1.1", "1.2.1.1.2"]),
]


@pytest.mark.parametrize(("level", "scope", "keys", "expected"), SEARCHES)
async def test_each_level_is_matched_by_its_keys_req_034(
    archive: Archive, level: Level, scope: Scope, keys: dict[str, Any], expected: list[str]
) -> None:
    """REQ-034: the required matching attributes of each level; the match set of a send request is the same."""
    assert uids(await archive.find(level, scope, **keys)) == expected
    chosen = await archive.index.match_set(plan_of(level, scope, strict=True, **keys), limit=None, offset=0, most=9)
    assert chosen.entities == len(expected)


async def test_what_is_stored_empty_meets_a_required_key_of_a_search_but_none_of_a_send(archive: Archive) -> None:
    assert uids(await archive.find(Level.STUDY, ReferringPhysicianName="house*")) == ["1.2.1", "1.2.2"]
    strict = plan_of(Level.STUDY, strict=True, ReferringPhysicianName="house*")
    assert (await archive.index.match_set(strict, limit=None, offset=0, most=9)).entities == 1


async def test_a_range_of_dates_and_a_range_of_times_are_one_interval(archive: Archive) -> None:
    between = await archive.find(Level.STUDY, StudyDate="20240105-20240107", StudyTime="1000-1100")
    assert uids(between) == ["1.2.1"]
    between = await archive.find(Level.STUDY, StudyDate="20240105-20240107", StudyTime="1100-1800")
    assert uids(between) == ["1.2.2"]
    between = await archive.find(Level.STUDY, StudyDate="20240104-20240106", StudyTime="1100-0100")
    assert uids(between) == ["1.2.1"]
    with pytest.raises(BadKeys, match="ends before it begins"):
        plan_of(Level.STUDY, StudyDate="20240104", StudyTime="1100-0100")


async def test_the_zone_of_the_asker_is_heeded_where_that_of_the_study_is_known(archive: Archive) -> None:
    zoned = {"StudyDate": "20240201", "StudyTime": "2330", "TimezoneOffsetFromUTC": "+0100"}
    await archive.put(instance("1.2.3", "1.2.3.1", "1.2.3.1.1", **zoned))
    for offset, expected in ((60, []), (120, ["1.2.3"]), (0, [])):
        keys = plan_of(Level.STUDY, options=MatchOptions(offset_min=offset), StudyDate="20240202")
        assert uids(await archive.index.find(keys, limit=9)) == expected
    # 23:30+0100 is 22:30 in UTC
    keys = plan_of(Level.STUDY, options=MatchOptions(offset_min=0), StudyDate="20240201-", StudyTime="2200-2300")
    assert uids(await archive.index.find(keys, limit=9)) == ["1.2.3"]


async def test_pages_follow_one_another_and_say_how_many_remain(archive: Archive) -> None:
    everything = plan_of(Level.INSTANCE)
    pages = [await archive.index.find(everything, limit=2, offset=offset) for offset in (0, 2, 4, 9)]
    assert [uid for page in pages for uid in uids(page)] == uids(await archive.index.find(everything, limit=100))
    assert [page.remaining for page in pages] == [2, 0, 0, 0]
    assert (await archive.index.find(everything, limit=0)).remaining == 4


async def test_superseded_instances_are_not_found_nor_what_has_only_them(archive: Archive) -> None:
    await archive.put(instance("1.2.1", "1.2.1.1", "1.2.2.1.1", **STUDY_1))  # the one instance of 1.2.2 goes elsewhere
    assert uids(await archive.find(Level.STUDY)) == ["1.2.1"]
    assert uids(await archive.find(Level.SERIES, PatientID="P2")) == []
    assert await archive.index.stored(Scope(study=Uid("1.2.2"))) == []
    [study] = (await archive.find(Level.STUDY, ModalitiesInStudy="CT")).results
    assert study.data_set["00201208"]["Value"] == [4]


async def test_what_is_matched_comes_back_even_if_it_is_empty(archive: Archive) -> None:
    [series] = (
        await archive.find(Level.SERIES, Scope(study=Uid("1.2.2")), PatientName="", SeriesDescription="")
    ).results
    assert series.data_set["00100010"] == {"vr": "PN"}
    assert series.data_set["0008103E"] == {"vr": "LO"}


async def test_texts_that_are_not_ascii_come_with_their_character_set(archive: Archive) -> None:
    name = instance("1.2.4", "1.2.4.1", "1.2.4.1.1", PatientName="M\xfcller", PatientID="P4")
    await archive.put({**name, "SpecificCharacterSet": "ISO_IR 100"})
    [study] = (await archive.find(Level.STUDY, PatientID="P4")).results
    assert study.data_set["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert study.data_set["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "M\xfcller"}]}
    assert uids(await archive.find(Level.STUDY, PatientName="m\xdcLL*", PatientID="P4")) == ["1.2.4"]


async def test_stored_gives_what_is_needed_to_read_in_reading_order(archive: Archive) -> None:
    stored = await archive.index.stored(Scope(study=Uid("1.2.1")))
    assert [one.sop_instance_uid for one in stored] == ["1.2.1.2.1", "1.2.1.1.2", "1.2.1.1.1"]
    assert stored[0].series == "1.2.1.2"
    assert stored[0].located.file == "1/2.dcm"
    assert stored[0].number_of_frames == 1
    assert await archive.index.stored(Scope(study=Uid("1.2.2"), series=Uid("1.2.1.1"))) == []
    [one] = await archive.index.stored(Scope(Uid("1.2.1"), Uid("1.2.1.1"), Uid("1.2.1.1.2")))
    assert one.sop_class_uid == CT


async def test_the_match_set_is_the_instances_of_the_page_in_order(archive: Archive) -> None:
    everything = plan_of(Level.STUDY)
    first = await archive.index.match_set(everything, limit=1, offset=0, most=9)
    assert (first.instance_ids, first.entities, first.remaining) == ((1, 2, 3), 1, 1)
    second = await archive.index.match_set(everything, limit=None, offset=1, most=9)
    assert (second.instance_ids, second.entities, second.remaining) == ((4,), 1, 0)
    nothing = await archive.index.match_set(everything, limit=0, offset=0, most=9)
    assert (nothing.instance_ids, nothing.entities, nothing.remaining) == ((), 0, 2)


@pytest.mark.parametrize("level", list(Level))
async def test_a_match_set_above_the_limit_is_refused(archive: Archive, level: Level) -> None:
    with pytest.raises(TooMany):
        await archive.index.match_set(plan_of(level), limit=None, offset=0, most=3)
    with pytest.raises(TooMany):
        await archive.index.match_set(plan_of(level), limit=None, offset=0, most=1)
    assert len((await archive.index.match_set(plan_of(level), limit=None, offset=0, most=4)).instance_ids) == 4


async def test_a_search_that_takes_too_long_says_so(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
    monkeypatch.setattr(search, "matches", lambda conn, question: (endless, {}))
    monkeypatch.setattr(readers, "READ_LIMIT_S", 0.05)
    with pytest.raises(QueryTooLong):
        await archive.find(Level.STUDY)


MISPLACED = [
    (Level.STUDY, Scope(), "SOPClassUID"),
    (Level.STUDY, Scope(), "Modality"),
    (Level.SERIES, Scope(study=Uid("1.2.1")), "StudyDate"),
    (Level.SERIES, Scope(), "SOPInstanceUID"),
    (Level.INSTANCE, Scope(Uid("1.2.1"), Uid("1.2.1.1")), "Modality"),
    (Level.INSTANCE, Scope(Uid("1.2.1")), "StudyID"),
    (Level.STUDY, Scope(), "SliceThickness"),
    (Level.INSTANCE, Scope(), "NumberOfStudyRelatedInstances"),
]


@pytest.mark.parametrize(("level", "scope", "keyword"), MISPLACED)
async def test_misplaced_and_unknown_keys_are_refused_when_sending_and_ignored_when_searching_req_032(
    archive: Archive, level: Level, scope: Scope, keyword: str
) -> None:
    """REQ-032, O-30."""
    key: dict[str, Any] = {keyword: "1"}
    with pytest.raises(BadKeys) as refused:
        plan_of(level, scope, strict=True, **key)
    assert refused.value.names == (keyword,)
    planned = plan_of(level, scope, **key)
    assert planned.ignored == (keyword,)
    everything = await archive.index.find(plan_of(level, scope), limit=9)
    assert await archive.index.find(planned, limit=9) == everything


@pytest.mark.parametrize("strict", [True, False])
def test_values_that_cannot_be_matched_are_refused_always(strict: bool) -> None:
    with pytest.raises(BadKeys) as refused:
        plan_of(Level.STUDY, strict=strict, StudyDate="yesterday", StudyInstanceUID="1.2.*", PatientID="P1")
    assert refused.value.names == ("StudyDate", "StudyInstanceUID")
    assert "yesterday" in refused.value.problems[0]


async def test_several_values_and_empty_values_are_matched_when_agreed(archive: Archive) -> None:
    both = plan_of(Level.STUDY, options=MatchOptions(multiple_value=True), ModalitiesInStudy="MR\\CT")
    assert uids(await archive.index.find(both, limit=9)) == ["1.2.1"]
    empty = plan_of(Level.STUDY, options=MatchOptions(empty_value=True), PatientName='""')
    assert uids(await archive.index.find(empty, limit=9)) == ["1.2.2"]
    with pytest.raises(BadKeys):
        plan_of(Level.STUDY, ModalitiesInStudy="MR\\CT")


async def test_one_of_several_stored_values_is_enough_and_all_come_back(archive: Archive) -> None:
    await archive.put(instance("1.2.5", "1.2.5.1", "1.2.5.1.1", PatientID="P5\\P6", AccessionNumber="A5\\A6"))
    keys: list[dict[str, Any]] = [{"PatientID": "P6"}, {"PatientID": "P5*"}, {"AccessionNumber": "A5"}]
    for key in keys:
        assert "1.2.5" in uids(await archive.find(Level.STUDY, **key))
    [study] = (await archive.find(Level.STUDY, StudyInstanceUID="1.2.5")).results
    assert study.data_set["00100020"]["Value"] == ["P5", "P6"]


async def test_included_attributes_of_this_level_and_above_come_from_the_index(archive: Archive) -> None:
    include = [attribute_path(one) for one in ("StudyDescription", "PatientName", "InstanceNumber")]
    found = await archive.index.find(plan_of(Level.SERIES, Scope(study=Uid("1.2.2"))), include=include, limit=9)
    [series] = found.results
    assert series.data_set["00081030"] == {"vr": "LO"}
    assert series.data_set["00100010"] == {"vr": "PN"}
    assert "00200013" not in series.data_set


async def test_the_zone_of_the_study_holds_for_the_dates_of_its_series(archive: Archive) -> None:
    step = {"PerformedProcedureStepStartDate": "20240201", "PerformedProcedureStepStartTime": "2330"}
    await archive.put(instance("1.2.6", "1.2.6.1", "1.2.6.1.1", PatientID="P6", TimezoneOffsetFromUTC="+0000", **step))
    keys = plan_of(
        Level.SERIES,
        Scope(study=Uid("1.2.6")),
        options=MatchOptions(offset_min=60),
        PerformedProcedureStepStartDate="20240202",
    )
    assert uids(await archive.index.find(keys, limit=9)) == ["1.2.6.1"]
    alone = plan_of(Level.SERIES, options=MatchOptions(offset_min=60), PerformedProcedureStepStartDate="20240202")
    assert "1.2.6.1" in uids(await archive.index.find(alone, limit=9))
