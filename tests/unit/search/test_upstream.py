"""What a send request means at another archive: which C-FINDs are asked, and what of the answers is believed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.dicom.attributes import attribute_path
from router.dicom.identifier import write_identifier
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet, element
from router.dicom.matcher import MatchOptions, parse_key
from router.dicom.uids import Uid
from router.errors import Transient
from router.search import Asked, BadKeys, Level, Scope, TooMany, plan
from router.search.upstream import UpstreamMatches, is_relational, match_upstream

pytestmark = pytest.mark.anyio

EVERYTHING = Scope()
STUDY_1 = Scope(study=Uid("1.1"))
SERIES_1 = Scope(study=Uid("1.1"), series=Uid("1.1.1"))

INSTANCES = [
    # study, series, instance; name, date, time, modality, number
    ("1.1", "1.1.1", "1.1.1.1", "Doe^Jane", "20250101", "100000", "CT", 1),
    ("1.1", "1.1.1", "1.1.1.2", "Doe^Jane", "20250101", "100000", "CT", 2),
    ("1.1", "1.1.2", "1.1.2.1", "Doe^Jane", "20250101", "100000", "SR", 1),
    ("1.2", "1.2.1", "1.2.1.1", "Roe^Rick", "20250102", "230000", "CT", 1),
    ("1.3", "1.3.1", "1.3.1.1", "Doe^John", "20250103", "", "CT", 1),
]
NAMES = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientName", "StudyDate", "StudyTime"),
    *("Modality", "InstanceNumber"),
)
LEVELS = {"study": 1, "series": 2, "image": 3}


def tag(keyword: str) -> int:
    return attribute_path(keyword)[0]


def texts(keys: JsonDataSet) -> dict[str, str]:
    """An identifier, as a person would write it."""
    attributes = JsonAttributes(keys)
    return {name: "\\".join(attributes.texts((tag(name),))) for name in NAMES if f"{tag(name):08X}" in keys}


@dataclass
class FakeArchive:
    """Holds INSTANCES; matches as C-FIND does, each key for itself. `ignores` are keys that it does not know."""

    granted_relational: bool = False
    granted_date_time: bool = False
    ignores: frozenset[str] = frozenset()
    changed: Mapping[str, str] = field(default_factory=dict)
    cut_short: bool = False
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def open(self) -> None: ...

    async def find(
        self, level: str, keys: JsonDataSet, *, relational: bool = False, limit: int | None = None
    ) -> AsyncGenerator[JsonDataSet, None]:
        self.asked.append((f"{level} across" if relational else level, texts(keys)))
        unique = f"{tag(NAMES[LEVELS[level] - 1]):08X}"
        keys, told = {unique: {"vr": "UI"}, **keys}, set()
        for row in INSTANCES:
            whole = {f"{tag(name):08X}": element(tag(name), [value]) for name, value in zip(NAMES, row, strict=True)}
            uids = row[: LEVELS[level]]
            if uids not in told and self._matches(whole, keys):
                told.add(uids)
                answer = {name: whole[name] for name in keys if name in whole and not self._ignored(name)}
                yield {**answer, **{f"{tag(k):08X}": element(tag(k), [v]) for k, v in self.changed.items()}}

    def _ignored(self, name: str) -> bool:
        return any(name == f"{tag(keyword):08X}" for keyword in self.ignores)

    def _matches(self, whole: JsonDataSet, keys: JsonDataSet) -> bool:
        for name in keys:
            if name in whole and not self._ignored(name):
                value = "\\".join(JsonAttributes(keys).texts((int(name, 16),)))
                options = MatchOptions(empty_matches=True)
                if not parse_key((int(name, 16),), value, options=options).matches(JsonAttributes(whole)):
                    return False
        return True


async def match(
    archive: FakeArchive, level: Level, scope: Scope, keys: Mapping[str, str], *, most: int = 100, **how: Any
) -> UpstreamMatches:
    asked = [Asked(attribute_path(name), value, name) for name, value in keys.items()]
    options = MatchOptions(offset_min=how.pop("offset_min", None), empty_value=how.pop("empty_value", False))
    made = plan(level, scope, asked, options=options, strict=True)
    settings = {"limit": None, "offset": 0, **how}
    return await match_upstream(archive, made, asked, most=most, **settings)


async def found(archive: FakeArchive, level: Level, scope: Scope, keys: Mapping[str, str], **how: Any) -> list[str]:
    matches = await match(archive, level, scope, keys, **how)
    return [one.sop_instance_uid for one in matches.instances]


async def test_req_022_studies_are_searched_level_by_level() -> None:
    archive = FakeArchive()
    assert await found(archive, Level.STUDY, EVERYTHING, {"PatientName": "Doe*"}) == [
        "1.1.1.1",
        "1.1.1.2",
        "1.1.2.1",
        "1.3.1.1",
    ]
    assert archive.asked == [
        ("study", {"PatientName": "Doe*"}),
        ("series", {"StudyInstanceUID": "1.1"}),
        ("image", {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}),
        ("image", {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.2"}),
        ("series", {"StudyInstanceUID": "1.3"}),
        ("image", {"StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.3.1"}),
    ]


async def test_req_022_keys_are_asked_at_their_level_with_the_unique_keys_above() -> None:
    archive = FakeArchive()
    assert await found(archive, Level.SERIES, STUDY_1, {"Modality": "SR", "PatientName": "doe*"}) == ["1.1.2.1"]
    assert archive.asked[:2] == [
        ("study", {"StudyInstanceUID": "1.1", "PatientName": "doe*"}),
        ("series", {"StudyInstanceUID": "1.1", "Modality": "SR"}),
    ]
    archive = FakeArchive()
    assert await found(archive, Level.INSTANCE, SERIES_1, {"InstanceNumber": "2"}) == ["1.1.1.2"]
    assert archive.asked == [
        ("image", {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1", "InstanceNumber": "2"})
    ]
    assert await found(FakeArchive(), Level.SERIES, STUDY_1, {"PatientName": "Roe*"}) == []


async def test_req_022_the_others_are_one_query_across_levels() -> None:
    archive = FakeArchive(granted_relational=True)
    assert await found(archive, Level.INSTANCE, EVERYTHING, {"Modality": "CT", "InstanceNumber": "1"}) == [
        "1.1.1.1",
        "1.2.1.1",
        "1.3.1.1",
    ]
    [(level, keys)] = archive.asked
    assert (level, keys["Modality"], keys["StudyInstanceUID"]) == ("image across", "CT", "")
    assert await found(archive, Level.SERIES, EVERYTHING, {"Modality": "SR"}) == ["1.1.2.1"]
    assert await found(archive, Level.INSTANCE, STUDY_1, {"Modality": "CT"}) == ["1.1.1.1", "1.1.1.2"]


def test_req_021_which_resources_are_relational() -> None:
    assert not is_relational(Level.STUDY, EVERYTHING)
    assert not is_relational(Level.SERIES, STUDY_1)
    assert not is_relational(Level.INSTANCE, SERIES_1)
    assert is_relational(Level.SERIES, EVERYTHING)
    assert is_relational(Level.INSTANCE, EVERYTHING)
    assert is_relational(Level.INSTANCE, STUDY_1)


INTERVAL = {"StudyDate": "20250101-20250102", "StudyTime": "110000-233000"}
"""From the first at eleven to the second at half past eleven in the evening: each for itself, it would find less."""


async def test_an_interval_is_matched_here_when_the_archive_cannot() -> None:
    archive = FakeArchive()
    assert await found(archive, Level.STUDY, EVERYTHING, INTERVAL) == ["1.2.1.1"]
    assert archive.asked[0] == ("study", {"StudyDate": "20250101-20250102", "StudyTime": ""})
    night = {"StudyDate": "20250101-20250103", "StudyTime": "095959-000000"}
    assert await found(FakeArchive(), Level.STUDY, EVERYTHING, night) == ["1.1.1.1", "1.1.1.2", "1.1.2.1", "1.2.1.1"]


async def test_an_archive_that_was_granted_combined_matching_is_asked_for_the_interval() -> None:
    archive = FakeArchive(granted_date_time=True)
    await found(archive, Level.STUDY, EVERYTHING, INTERVAL)
    assert archive.asked[0] == ("study", INTERVAL)


async def test_dates_on_the_clock_of_who_asks_are_asked_for_a_day_wider() -> None:
    archive = FakeArchive()
    assert await found(archive, Level.STUDY, EVERYTHING, {"StudyDate": "20250102"}, offset_min=60) == ["1.2.1.1"]
    assert archive.asked[0] == ("study", {"StudyDate": "20250101-20250103", "StudyTime": ""})


async def test_o30_what_is_stored_empty_is_not_sent() -> None:
    """C-FIND lets an empty StudyTime match anything; a send request must not."""
    assert await found(FakeArchive(), Level.STUDY, EVERYTHING, {"StudyTime": "090000-110000"}) == [
        "1.1.1.1",
        "1.1.1.2",
        "1.1.2.1",
    ]


async def test_o30_a_key_that_the_archive_ignores_sends_nothing() -> None:
    """It answers with more than was meant, and without the attribute."""
    with pytest.raises(BadKeys) as caught:
        await found(FakeArchive(ignores=frozenset({"PatientName"})), Level.STUDY, EVERYTHING, {"PatientName": "Doe*"})
    assert caught.value.names == ("PatientName",)


async def test_a_value_that_cannot_be_written_is_refused() -> None:
    class Writing(FakeArchive):
        async def find(self, level: str, keys: JsonDataSet, **how: Any) -> AsyncGenerator[JsonDataSet, None]:
            write_identifier(keys, Uid("1.2.840.10008.1.2.1"))
            yield {}

    with pytest.raises(BadKeys) as caught:
        await found(Writing(), Level.INSTANCE, SERIES_1, {"Rows": "99999999"})
    assert caught.value.names == ("Rows",)


async def test_an_answer_about_another_study_is_not_believed() -> None:
    archive = FakeArchive(changed={"StudyInstanceUID": "1.9"})
    assert await found(archive, Level.SERIES, STUDY_1, {"Modality": "CT"}) == []


async def test_only_we_match_what_was_not_negotiated() -> None:
    archive = FakeArchive()
    assert await found(archive, Level.STUDY, EVERYTHING, {"StudyTime": '""'}, empty_value=True) == ["1.3.1.1"]
    assert archive.asked[0] == ("study", {"StudyTime": ""})


async def test_an_answer_without_its_uid_is_a_fault_of_the_archive() -> None:
    with pytest.raises(Transient):
        await found(FakeArchive(changed={"StudyInstanceUID": ""}), Level.STUDY, EVERYTHING, {"PatientName": "Doe*"})


async def test_o22_limit_and_offset_choose_among_what_the_resource_names() -> None:
    matches = await match(FakeArchive(), Level.STUDY, EVERYTHING, {}, limit=1, offset=1)
    assert ([one.study for one in matches.instances], matches.remaining) == (["1.2"], 1)
    beyond = await match(FakeArchive(), Level.STUDY, EVERYTHING, {}, limit=5, offset=3)
    assert (beyond.instances, beyond.remaining) == ((), 0)


async def test_o19_more_instances_than_may_be_sent_are_refused() -> None:
    with pytest.raises(TooMany) as caught:
        await match(FakeArchive(), Level.STUDY, EVERYTHING, {}, most=4)
    assert caught.value.count == 5
    assert len((await match(FakeArchive(), Level.STUDY, EVERYTHING, {}, most=5)).instances) == 5
    with pytest.raises(TooMany):
        await match(FakeArchive(cut_short=True), Level.STUDY, EVERYTHING, {}, most=5)
