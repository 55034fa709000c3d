"""The three ways to write an element's tag, VR and length (PS3.5 §7.1), as struct readers and tables of VR codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from router.dicom.transfer_syntax import is_big_endian, is_implicit
from router.dicom.uids import Uid

Unpack = Callable[[bytes, int], tuple[Any, ...]]

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

SHORT_VRS: Final = tuple(
    [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
"""VRs with a 16-bit length (PS3.5 Table 7.1-2); all others, also future ones, have a 32-bit length."""
LONG_VRS: Final = tuple(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})

SHORT_VR_CODES: Final = frozenset(vr.encode() for vr in SHORT_VRS)
LONG_VR_CODES: Final = frozenset(vr.encode() for vr in LONG_VRS)
"""The same as they stand in a file."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """`head` reads group, element, VR code, 16-bit length; `plain` reads group, element, 32-bit length."""

    implicit: bool
    big_endian: bool
    head: Unpack
    plain: Unpack
    length: Unpack
    short: dict[int, str]
    long: dict[int, str]


def _encoding(order: str, *, implicit: bool) -> Encoding:
    code = Struct(order + "H").unpack
    return Encoding(
        implicit=implicit,
        big_endian=order == ">",
        head=Struct(order + "HHHH").unpack_from,
        plain=Struct(order + "HHI").unpack_from,
        length=Struct(order + "I").unpack_from,
        short={code(vr.encode())[0]: vr for vr in SHORT_VRS},
        long={code(vr.encode())[0]: vr for vr in LONG_VRS},
    )


EXPLICIT_LITTLE: Final = _encoding("<", implicit=False)
EXPLICIT_BIG: Final = _encoding(">", implicit=False)
IMPLICIT_LITTLE: Final = _encoding("<", implicit=True)


def encoding_of(transfer_syntax_uid: Uid) -> Encoding:
    """Say how a data set of this transfer syntax is encoded; a deflated one once it is inflated."""
    if is_implicit(transfer_syntax_uid):
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if is_big_endian(transfer_syntax_uid) else EXPLICIT_LITTLE
