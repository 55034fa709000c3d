"""What is journalled of non-patient instances, and what is refused of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import npi_samples
import pytest
from ingest_harness import SOURCE, Core, data_set, declared, open_core
from npi_samples import SOP_CLASSES, VARIANTS, sample, uid_of

from router.dicom.attributes import path_name
from router.dicom.json_attributes import JsonAttributes
from router.dicom.non_patient import Category
from router.dicom.part10 import PrefaceReader
from router.dicom.uids import Uid
from router.errors import Refused
from router.journal.acceptance import drop_instance

HANGING_PROTOCOL = Uid("1.2.840.10008.5.1.4.38.1")


async def receive(core: Core, file: bytes) -> None:
    reader = PrefaceReader()
    content = reader.feed(file)
    assert reader.declared is not None
    visit = core.ingest.open_visit(SOURCE)
    reception = visit.receive(reader.declared)
    await reception.write(content)
    await reception.accept()
    await visit.close()


def lose_journal(state: Path) -> None:
    for file in state.glob("journal*"):
        file.unlink()


async def keys_of(core: Core, uid: Uid) -> dict[str, Any]:
    [(text,)] = await core.rows(
        f"SELECT keys FROM non_patient JOIN instance ON id = instance_id WHERE sop_instance_uid = '{uid}'"
    )
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(("category", "sop_class"), SOP_CLASSES)
async def test_all_keys_of_the_table_are_kept(tmp_path: Path, category: Category, sop_class: Uid) -> None:
    async with open_core(tmp_path) as core:
        for variant in VARIANTS:
            await receive(core, sample(sop_class, variant))
            kept = JsonAttributes(await keys_of(core, uid_of(sop_class, variant)))
            for path in sorted(category.kept(sop_class)):
                if path[-1] in (0x00080005, 0x00080016, 0x00080018, 0x00080201):
                    continue
                value = npi_samples.value_of(path, variant)
                wanted = [f"{one:g}" for one in value] if isinstance(value, list) else [str(value)]
                assert set(wanted) <= set(kept.texts(path)), path_name(path)
        assert await core.rows("SELECT DISTINCT category FROM non_patient") == [(category.name,)]
        assert await core.rows("SELECT count(*) FROM study") == [(0,)]


async def test_a_data_set_of_another_sop_class_is_refused(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        reception = core.ingest.open_visit(SOURCE).receive(declared("1.2.9", HANGING_PROTOCOL))
        await reception.write(data_set("1.2.9"))
        with pytest.raises(Refused) as refused:
            await reception.accept()
        assert refused.value.status == 0xA900
        assert await core.rows("SELECT count(*) FROM instance") == [(0,)]


async def test_a_study_in_a_non_patient_instance_makes_it_no_patients(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        made = npi_samples.data_set(HANGING_PROTOCOL, 0)
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        await receive(core, npi_samples.file_of(made))
        assert await core.rows("SELECT series_id, note FROM instance") == [
            (None, "Study Instance UID in a non-patient instance")
        ]
        assert await core.rows("SELECT category FROM non_patient") == [("hanging-protocols",)]


async def test_the_keys_go_with_the_instance(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await receive(core, sample(HANGING_PROTOCOL, 0))
        [(file,)] = await core.rows("SELECT file FROM instance")
        await core.journal.write(partial(drop_instance, file=file))
        assert await core.rows("SELECT count(*) FROM non_patient") == [(0,)]


async def test_a_repeat_is_kept_once_and_a_lost_journal_is_made_again(tmp_path: Path) -> None:
    async with open_core(tmp_path) as core:
        await receive(core, sample(HANGING_PROTOCOL, 2))
        await receive(core, sample(HANGING_PROTOCOL, 2))
        before = await keys_of(core, uid_of(HANGING_PROTOCOL, 2))
    lose_journal(tmp_path)
    async with open_core(tmp_path) as core:
        assert await keys_of(core, uid_of(HANGING_PROTOCOL, 2)) == before
