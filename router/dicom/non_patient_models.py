"""The Query/Retrieve information models of non-patient instances (PS3.4 X.6, U.6, BB.6, HH.6, JJ.2, II.6): SOP classes.

They have one level and no Query/Retrieve Level (0008,0052). Pure data.
"""

from __future__ import annotations

from typing import Final

import msgspec

from router.dicom.non_patient import CATEGORIES, Category
from router.dicom.uids import Uid


class NonPatientModel(msgspec.Struct, frozen=True):
    """One model: what it finds (`sop_classes`, all of one category) and its three SOP classes."""

    name: str
    category: Category
    sop_classes: tuple[Uid, ...]
    find: Uid
    move: Uid
    get: Uid


def _model(name: str, category: str, stored: str, first: str) -> NonPatientModel:
    """`stored` are the last parts of the storage SOP classes; `first` is the FIND SOP class, MOVE and GET come next."""
    root, _, number = first.rpartition(".")
    find, move, get = (Uid(f"1.2.840.10008.5.1.4.{root}.{int(number) + more}") for more in range(3))
    sop_classes = tuple(Uid(f"1.2.840.10008.5.1.4.{one}") for one in stored.split())
    return NonPatientModel(name, CATEGORIES[category], sop_classes, find, move, get)


NON_PATIENT_MODELS: Final = (
    _model("Hanging Protocol", "hanging-protocols", "38.1", "38.2"),
    _model("Color Palette", "color-palettes", "39.1", "39.2"),
    _model("Generic Implant Template", "implant-templates", "43.1", "43.2"),
    _model("Implant Assembly Template", "implant-templates", "44.1", "44.2"),
    _model("Implant Template Group", "implant-templates", "45.1", "45.2"),
    _model("Defined Procedure Protocol", "defined-procedure-protocols", "1.1.200.1 1.1.200.7", "20.1"),
    _model("Protocol Approval", "protocol-approvals", "1.1.200.3", "1.1.200.4"),
    _model("Inventory", "inventories", "1.1.201.1", "1.1.201.2"),
)
