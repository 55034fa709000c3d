"""Which SOP classes are storage (PS3.4 §B.5, §GG.3), and which UIDs certainly are some other service.

The list is pydicom's copy of PS3.6 Table A-1, retired classes included, plus what is newer. It never decides policy:
whether an unknown class is accepted is the configuration's.
"""

from __future__ import annotations

from typing import Final

from pydicom._uid_dict import UID_dictionary

from router.dicom.uids import Uid

NON_PATIENT_STORAGE: Final[frozenset[Uid]] = frozenset(
    map(
        Uid,
        (
            "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
            "1.2.840.10008.5.1.4.39.1",  # Color Palette
            "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
            "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
            "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
            "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
            "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
            "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
            "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
        ),
    )
)
"""Objects without a patient, study or series (PS3.4 Table GG.3-1; PS3.18 chapter 12)."""

_NEWER_STORAGE: Final = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}

_NOT_SENT: Final = frozenset(
    {
        "1.2.840.10008.1.3.10",  # DICOMDIR: on media only (PS3.4 §B.5 does not list it)
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    }
)


_STANDARD_ROOT: Final = "1.2.840.10008."
_STANDARD_STORAGE_TREE: Final = "1.2.840.10008.5.1.4.1.1."


def _is_listed_as_storage(uid: str) -> bool:
    name, kind = UID_dictionary[uid][:2]
    return kind == "SOP Class" and "Storage" in name and uid not in _NOT_SENT


STORAGE_SOP_CLASSES: Final[frozenset[Uid]] = (
    frozenset(Uid(uid) for uid in UID_dictionary if _is_listed_as_storage(uid))
    | frozenset(map(Uid, _NEWER_STORAGE))
    | NON_PATIENT_STORAGE
)

_NOT_STORAGE_IN_STORAGE_TREE: Final = frozenset(
    uid
    for uid, (name, *_) in UID_dictionary.items()
    if uid.startswith(_STANDARD_STORAGE_TREE) and name and uid not in STORAGE_SOP_CLASSES
)


def looks_like_service(uid: Uid) -> bool:
    """Say whether a UID is a service, not something to store, so that "accept unknown SOP classes" leaves it alone.

    Every UID of the standard's own root counts as a service, unless it is storage or lies where new storage classes
    are numbered. Nothing can be said about a private UID: it does not count.
    """
    if uid in STORAGE_SOP_CLASSES:
        return False
    if uid.startswith(_STANDARD_STORAGE_TREE):
        return uid in _NOT_STORAGE_IN_STORAGE_TREE
    return uid.startswith(_STANDARD_ROOT)


def name_of(uid: Uid) -> str:
    """Name a SOP class for people; the UID itself when it is not known."""
    known = UID_dictionary.get(uid)
    name = known[0] if known is not None else _NEWER_STORAGE.get(uid, "")
    return name or uid
