"""C-FIND of non-patient instances: each key of each table, by DIMSE; no level, the worklist's rule for empty values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import npi_samples
import pytest
from filled_journal import new_journal
from find_harness import TakenDown, find_raw
from npi_journal import JournalInMemory
from npi_samples import SOP_CLASSES, VARIANTS, query_value, uid_of
from search_archive import Archive

from router.dicom.attributes import AttributePath, attribute_path, vr_of
from router.dicom.identifier import write_identifier
from router.dicom.json_model import JsonDataSet, element, sequence
from router.dicom.non_patient import Usage
from router.dicom.non_patient_models import NON_PATIENT_MODELS
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.search.index import Index

EVERY = (0x00080016, 0x00080018)
MODELS = [(model.find, sop_class) for model in NON_PATIENT_MODELS for sop_class in model.sop_classes]
KEYS = [
    (model, sop_class, key.path)
    for model, sop_class in MODELS
    for category, one in SOP_CLASSES
    if one == sop_class
    for key in category.tables[sop_class]
    if key.usage is not Usage.RETURNED and key.path[0] not in EVERY
]
HANGING = Uid("1.2.840.10008.5.1.4.38.2")
PROTOCOL = Uid("1.2.840.10008.5.1.4.20.1")
GENERIC_TEMPLATE, ASSEMBLY_TEMPLATE = (Uid(f"1.2.840.10008.5.1.4.4{n}.2") for n in (3, 4))


@pytest.fixture(scope="module")
def archive() -> Archive:
    """All samples."""
    journal = JournalInMemory(new_journal())
    for _, sop_class in SOP_CLASSES:
        for variant in VARIANTS:
            journal.put(npi_samples.sample(sop_class, variant))
    return cast(Archive, SimpleNamespace(journal=journal, store=None, index=cast(Index, None)))


def asked(path: AttributePath, value: str) -> JsonDataSet:
    tag, *inner = path
    return {f"{tag:08X}": sequence([asked(tuple(inner), value)]) if inner else element(tag, [value], vr_of(tag))}


async def ask(archive: Archive, model: Uid, data_set: JsonDataSet, **options: Any) -> TakenDown:
    raw = write_identifier(data_set, EXPLICIT_VR_LITTLE_ENDIAN, character_set="ISO_IR 192")
    return await find_raw(archive, raw, model, **options)


@pytest.mark.parametrize(("model", "sop_class", "path"), KEYS)
async def test_each_key_of_each_table_finds_the_right_instance(
    archive: Archive, model: Uid, sop_class: Uid, path: AttributePath
) -> None:
    found = await ask(archive, model, asked(path, query_value(path, 1)))
    assert found.end.status == 0x0000
    assert uid_of(sop_class, 1) in found.values("SOPInstanceUID")
    assert uid_of(sop_class, 0) not in found.values("SOPInstanceUID")
    assert found.pending == {0xFF00}
    assert f"{path[0]:08X}" in found.answers[0]
    assert set(found.values("RetrieveAETitle")) == {"SENDRS"}
    assert found.values("QueryRetrieveLevel") == [""] * len(found.answers)


@pytest.mark.parametrize(("model", "sop_class"), MODELS)
async def test_a_model_finds_its_own_sop_classes_only(archive: Archive, model: Uid, sop_class: Uid) -> None:
    found = await ask(archive, model, asked((0x00080018,), ""))
    assert {uid_of(sop_class, variant) for variant in VARIANTS} <= set(found.values("SOPInstanceUID"))
    [of_model] = [one for one in NON_PATIENT_MODELS if one.find == model]
    assert set(found.values("SOPClassUID")) == set(of_model.sop_classes)


async def test_the_sop_class_of_another_model_finds_nothing(archive: Archive) -> None:
    found = await ask(archive, GENERIC_TEMPLATE, asked((0x00080016,), "1.2.840.10008.5.1.4.44.1"))
    assert found.answers == []
    found = await ask(archive, ASSEMBLY_TEMPLATE, asked((0x00080016,), "1.2.840.10008.5.1.4.44.1"))
    assert len(found.answers) == 3


async def test_a_level_or_a_value_that_cannot_be_matched_is_refused(archive: Archive) -> None:
    found = await ask(archive, HANGING, asked((0x00080052,), "STUDY"))
    assert (found.end.status, found.end.offending_elements) == (0xA900, (0x00080052,))
    found = await ask(archive, PROTOCOL, asked(attribute_path("InstanceCreationDate"), "someday"))
    assert (found.end.status, found.end.offending_elements) == (0xA900, attribute_path("InstanceCreationDate"))


async def test_what_is_no_key_is_ignored_and_told(archive: Archive) -> None:
    found = await ask(archive, HANGING, asked(attribute_path("PatientID"), "P1"))
    assert (len(found.answers), found.pending) == (3, {0xFF01})


async def test_non_patient_answers_are_limited_and_cancelled_too(archive: Archive) -> None:
    everything = asked((0x00080018,), "")
    found = await ask(archive, HANGING, everything, max_results=2)
    assert (len(found.answers), found.end.status) == (2, 0xA700)
    found = await ask(archive, HANGING, everything, cancel_after=1)
    assert (len(found.answers), found.end.status) == (1, 0xFE00)
