"""What the journal keeps of a non-patient instance: the keys of its category, as DICOM JSON (PS3.18 chapter 12).

The announced SOP class alone says that an instance is one: it then belongs to no study, whatever its data set says.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath, vr_of
from router.dicom.elements import Header
from router.dicom.envelope import Declared
from router.dicom.json_model import JsonDataSet, element, sequence
from router.dicom.non_patient import category_of
from router.dicom.uids import Uid
from router.errors import Refused
from router.journal.records import NonPatientRow

DOES_NOT_MATCH: Final = 0xA900

_SOP_CLASS_UID: Final = (0x00080016,)
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_NOTHING: Final[frozenset[AttributePath]] = frozenset()

_Tree = dict[int, "_Tree"]


@cache
def wanted_of(sop_class_uid: Uid) -> frozenset[AttributePath]:
    """Give what a scan must keep for the index of a non-patient SOP class; nothing more for any other."""
    category = category_of(sop_class_uid)
    return category.kept(sop_class_uid) if category else _NOTHING


def read_non_patient(declared: Declared, header: Header) -> NonPatientRow | None:
    """Read the row of a non-patient instance from its header; None for an instance of a patient.

    Raises Refused A900H when the data set is of another SOP class (PS3.4 §GG.4.2).
    """
    category = category_of(declared.sop_class_uid)
    if category is None:
        return None
    if header.texts(_SOP_CLASS_UID) != (declared.sop_class_uid,):
        raise Refused(DOES_NOT_MATCH, "SOP Class UID of the data set is not the one announced")
    keys = _data_set(header, _tree(wanted_of(declared.sop_class_uid)))
    return NonPatientRow(category.name, msgspec.json.encode(keys).decode())


@cache
def _tree(paths: frozenset[AttributePath]) -> _Tree:
    root: _Tree = {}
    for path in _ascending(paths):
        branch = root
        for tag in path:
            branch = branch.setdefault(tag, {})
    return root


def _ascending(paths: Iterable[AttributePath]) -> list[AttributePath]:
    """Leave Specific Character Set out: JSON is UTF-8, whatever the file is."""
    return sorted(path for path in paths if path[-1] != _SPECIFIC_CHARACTER_SET)


def _data_set(header: Header, tree: _Tree) -> JsonDataSet:
    """Take what is wanted of a header, or of an item, in ascending order of the tags."""
    data_set = {}
    for tag, inner in tree.items():
        if tag not in header.elements:
            continue
        if inner:
            data_set[f"{tag:08X}"] = sequence(_data_set(item, inner) for item in header.items(tag))
        else:
            data_set[f"{tag:08X}"] = element(tag, header.texts((tag,)), vr_of(tag))
    return data_set
