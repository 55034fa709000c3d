"""Which SOP classes are storage."""

from __future__ import annotations

import pynetdicom.sop_class
import pytest

from router.dicom.sop_classes import NON_PATIENT_STORAGE, STORAGE_SOP_CLASSES, looks_like_service, name_of
from router.dicom.uids import Uid


def test_every_storage_class_that_pynetdicom_knows_is_storage() -> None:
    known = set(pynetdicom.sop_class._STORAGE_CLASSES.values())
    assert known - STORAGE_SOP_CLASSES == set()
    assert set(pynetdicom.sop_class._NON_PATIENT_OBJECT_CLASSES.values()) - NON_PATIENT_STORAGE == set()
    assert NON_PATIENT_STORAGE <= STORAGE_SOP_CLASSES


def test_no_service_of_the_standard_is_storage() -> None:
    services = {
        uid
        for name, classes in vars(pynetdicom.sop_class).items()
        if name.endswith("_CLASSES") and name not in ("_STORAGE_CLASSES", "_NON_PATIENT_OBJECT_CLASSES")
        if name.startswith("_") and name != "_SERVICE_CLASSES"
        for uid in classes.values()
    }
    assert len(services) > 60
    assert services & STORAGE_SOP_CLASSES == set()
    assert {uid for uid in services if not looks_like_service(uid)} == set()


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image, retired
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction, outside the storage tree
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
    ],
)
def test_storage_classes_old_new_and_without_patient_are_storage(uid: str) -> None:
    assert Uid(uid) in STORAGE_SOP_CLASSES
    assert not looks_like_service(Uid(uid))
    assert name_of(Uid(uid)).endswith("Storage") or "Storage" in name_of(Uid(uid))


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.1",
        "1.2.840.10008.1.20.1",
        "1.2.840.10008.1.3.10",
        "1.2.840.10008.3.1.2.3.3",
        "1.2.840.10008.5.1.4.1.2.2.1",
        "1.2.840.10008.5.1.4.1.1.200.4",
        "1.2.840.10008.5.1.4.1.1.201.6",
        "1.2.840.10008.5.1.4.31",
        "1.2.840.10008.1.2.1",
    ],
)
def test_services_are_not_taken_for_unknown_storage(uid: str) -> None:
    assert Uid(uid) not in STORAGE_SOP_CLASSES
    assert looks_like_service(Uid(uid))


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.999.1", "1.3.12.2.1107.5.9.1", "1.2.3"])
def test_unknown_and_private_classes_may_be_storage(uid: str) -> None:
    assert Uid(uid) not in STORAGE_SOP_CLASSES
    assert not looks_like_service(Uid(uid))
    assert name_of(Uid(uid)) == uid or uid.startswith("1.3.12")
