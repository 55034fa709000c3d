"""C-FIND and QIDO-RS select the same studies, series and instances, whatever is stored and whatever is asked."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote, urlencode

import anyio
from filled_journal import new_journal
from find_harness import find_raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from npi_journal import JournalInMemory
from search_archive import Archive, put, uids
from test_search_properties import INSTANCE, SERIES, STUDY, archives, keys_of

from router.dicom.attributes import attribute_path, vr_of
from router.dicom.charset import TEXT_VRS
from router.dicom.identifier import write_identifier
from router.dicom.json_model import element
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dicomweb.query_string import BadQuery, read_search
from router.journal.journal import Journal
from router.search import BadKeys, Index, Level, Scope
from router.store.files import Store
from router.web.search import make_plan

GRANTED = bytes((1, 1, 0, 0, 0, 1, 1))
LEVELS = {Level.STUDY: "STUDY", Level.SERIES: "SERIES", Level.INSTANCE: "IMAGE"}
POOLS = {
    Level.STUDY: {**STUDY, "ModalitiesInStudy": ["CT", "MR", "", "PT"]},
    Level.SERIES: {**STUDY, **SERIES},
    Level.INSTANCE: {**STUDY, **SERIES, **INSTANCE},
}
UID_OF = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.INSTANCE: "SOPInstanceUID"}


@st.composite
def questions(draw: st.DrawFn) -> tuple[Level, dict[str, str]]:
    """A level and keys of it, each with one value."""
    level = draw(st.sampled_from(sorted(LEVELS)))
    pools = {name: pool for name, pool in POOLS[level].items() if name != "TimezoneOffsetFromUTC"}
    names = draw(st.lists(st.sampled_from(sorted(pools)), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        names = list(dict.fromkeys([*names, "StudyDate", "StudyTime"]))
    return level, {name: draw(keys_of(pools[name]).filter(partial(can_be_written, name))) for name in names}


def can_be_written(name: str, value: str | tuple[str, ...]) -> bool:
    """Say whether both sides have a way to write it: one value, in letters that its VR can have."""
    [tag] = attribute_path(name)
    return isinstance(value, str) and "\\" not in value and (value.isascii() or vr_of(tag) in TEXT_VRS)


@given(archives(), st.lists(questions(), min_size=1, max_size=4), st.booleans())
@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
def test_c_find_selects_what_qido_selects(
    instances: list[dict[str, Any]], asked: list[tuple[Level, dict[str, str]]], is_implicit: bool
) -> None:
    journal = JournalInMemory(new_journal())
    for one in instances:
        put(journal.conn, one)
    index = Index(cast(Journal, journal), cast(Store, None))
    archive = cast(Archive, SimpleNamespace(journal=journal, store=None, index=index))
    syntax = IMPLICIT_VR_LITTLE_ENDIAN if is_implicit else EXPLICIT_VR_LITTLE_ENDIAN

    async def compare() -> None:
        for level, keys in asked:
            assert await c_find(archive, level, keys, syntax) == await qido(index, level, keys), (level, keys)

    anyio.run(compare)
    journal.conn.close()


async def c_find(archive: Archive, level: Level, keys: dict[str, str], syntax: Uid) -> list[str] | None:
    """Give the UIDs in order; None for a refusal."""
    data_set = {f"{tag:08X}": element(tag, [value]) for name, value in keys.items() for tag in attribute_path(name)}
    data_set["00080052"] = element(0x00080052, [LEVELS[level]])
    raw = write_identifier(data_set, syntax, character_set="ISO_IR 192")
    found = await find_raw(archive, raw, granted=GRANTED, syntax=syntax)
    if found.end.status == 0xA900:
        return None
    assert found.end.status == 0x0000
    return found.values(UID_OF[level])


async def qido(index: Index, level: Level, keys: dict[str, str]) -> list[str] | None:
    flags = {"emptyvaluematching": "true", "multiplevaluematching": "true"}
    query = urlencode({**keys, **flags}, quote_via=quote).encode()  # a plus is a plus there, not a space
    try:
        planned = make_plan(level, Scope(), read_search(query), strict=False)
    except (BadQuery, BadKeys):
        return None
    return uids(await index.find(planned, limit=1000))
