"""Which value representation an element gets when it is written with explicit VR (PS3.5 §6.2, §A.2), and its header.

Where the dictionary leaves a choice, the VR that holds every length is taken: OW for pixel, waveform and LUT data.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR

from router.dicom.encoding import LONG_VR_CODES

MAX_SHORT_LENGTH: Final = 0xFFFE
"""Most bytes that the even 16-bit length of a short VR can tell; longer values become UN (PS3.5 §6.2.2 note 2)."""

SWAP_UNIT: Final = dict.fromkeys(b"AT OW SS US".split(), 2) | dict.fromkeys(b"FL OF OL SL UL".split(), 4)
SWAP_UNIT.update(dict.fromkeys(b"FD OD OV SV UV".split(), 8))
"""Bytes of one number in a value of a VR; what is not here has no byte order (PS3.5 §7.3).

OW is 16-bit words also where Bits Allocated is 32, as DCMTK has it."""

_SHORT_HEADER: Final = struct.Struct("<HH2sH")
_LONG_HEADER: Final = struct.Struct("<HH2sHL")
_TAG_AND_LENGTH: Final = struct.Struct("<HHL")

_CHOICES: Final = {"OB or OW": b"OW", "US or OW": b"OW", "US or SS or OW": b"OW", "NONE": b"UN"}
_SIGN_DEPENDENT: Final = "US or SS"


@lru_cache(maxsize=8192)
def explicit_vr(tag: int, signed: bool) -> bytes:
    """Give the VR of an element that came without one. `signed` is the Pixel Representation that applies to it."""
    group, element = tag >> 16, tag & 0xFFFF
    if group & 1:
        return b"LO" if 0x10 <= element <= 0xFF else b"UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return b"UN"
    if vr == _SIGN_DEPENDENT:
        return b"SS" if signed else b"US"
    return _CHOICES.get(vr) or vr.encode("ascii")


def element_header(tag: int, vr: bytes, length: int) -> bytes:
    """Write tag, VR and length; a short VR whose value is too long for it becomes UN."""
    if vr in LONG_VR_CODES:
        return _LONG_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, 0, length)
    if length > MAX_SHORT_LENGTH:
        return _LONG_HEADER.pack(tag >> 16, tag & 0xFFFF, b"UN", 0, length)
    return _SHORT_HEADER.pack(tag >> 16, tag & 0xFFFF, vr, length)


def bare_header(tag: int, length: int) -> bytes:
    """Write tag and length of an item or a delimiter, or of an element of Implicit VR."""
    return _TAG_AND_LENGTH.pack(tag >> 16, tag & 0xFFFF, length)
