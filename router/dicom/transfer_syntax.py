"""How a data set is encoded, told by its transfer syntax UID (PS3.5 §10, Annex A).

Answers questions only; it never decodes. A UID that nobody knows counts as Explicit VR Little Endian, because all
that the standard added since 1993 is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary

from router.dicom.uids import Uid

IMPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2")
EXPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2.1")
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2.1.99")
EXPLICIT_VR_BIG_ENDIAN: Final = Uid("1.2.840.10008.1.2.2")

_PAPYRUS_3: Final = Uid("1.2.840.10008.1.20")
_IMPLICIT: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, _PAPYRUS_3})
_DEFLATED: Final = frozenset(
    {
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        Uid("1.2.840.10008.1.2.4.95"),  # JPIP Referenced Deflate
        Uid("1.2.840.10008.1.2.4.205"),  # JPIP HTJ2K Referenced Deflate
    }
)

_NEWER_NAMES: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
"""Known in the field but not to the pydicom release in use."""


def is_implicit(uid: Uid) -> bool:
    """Say whether the data set carries no value representations."""
    return uid in _IMPLICIT


def is_big_endian(uid: Uid) -> bool:
    """Say whether numbers stand with their most significant byte first (retired in 2006)."""
    return uid == EXPLICIT_VR_BIG_ENDIAN


def is_deflated(uid: Uid) -> bool:
    """Say whether the whole data set is one raw deflate stream (PS3.5 §A.5); deflated frames (…1.2.8.1) are not."""
    return uid in _DEFLATED


def is_web_transferable(uid: Uid) -> bool:
    """Say whether web services allow it: all but Implicit VR and Big Endian (PS3.18 §8.7.3)."""
    return uid not in _IMPLICIT and uid != EXPLICIT_VR_BIG_ENDIAN


@lru_cache(maxsize=256)
def name_of(uid: Uid) -> str:
    """Name a transfer syntax for people; the UID itself when it is not known."""
    known = UID_dictionary.get(uid)
    if known is not None and known[1] == "Transfer Syntax":
        return known[0]
    return _NEWER_NAMES.get(uid, uid)
