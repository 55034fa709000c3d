"""The value of one element as DICOM JSON (PS3.18 §F.2.3, PS3.5 §6.2): numbers, texts in Unicode, bytes in base64.

Total: whatever the bytes, there is an element. Bytes left over behind whole numbers are dropped.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct, unpack_from
from typing import Any, Final

from router.dicom.charset import decode
from router.dicom.explicit_vr import SWAP_UNIT, explicit_vr
from router.dicom.json_model import INLINE_VRS, inline_binary, shaped, valued
from router.dicom.values import NUMBERS

BINARY_VRS: Final = INLINE_VRS | frozenset({*NUMBERS, "AT"})
"""Value representations that are no text, in whatever encoding."""

_PADDING: Final = " \0"
_ONE_VALUE: Final = frozenset({"ST", "LT", "UT", "UR"})
_AS_TEXT: Final = frozenset({"PN", "IS", "DS"})
_LONG: Final = frozenset({"SV", "UV"})
_SIZES: Final = {vr: Struct("=" + code).size for vr, code in NUMBERS.items()}
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}


@lru_cache(maxsize=8192)
def vr_without_one(tag: int, signed: bool) -> str:
    """Give the VR of an element that came without one, the same as when the instance is sent with explicit VR."""
    return "UL" if not tag & 0xFFFF else explicit_vr(tag, signed).decode("ascii")


def json_element(vr: str, raw: bytes, *, big_endian: bool, charsets: Sequence[str]) -> dict[str, Any]:
    """Shape one value. `charsets`: the values of the Specific Character Set that applies to it."""
    if not raw:
        return {"vr": vr}
    if vr in NUMBERS:
        return _numbers(vr, raw, big_endian)
    if vr in INLINE_VRS:
        return inline_binary(vr, _swapped(vr, raw) if big_endian else raw)
    if vr == "AT":
        pairs = unpack_from(f"{'>' if big_endian else '<'}{len(raw) // 4 * 2}H", raw)
        return valued(vr, [f"{group:04X}{element:04X}" for group, element in zip(pairs[::2], pairs[1::2], strict=True)])
    text = decode(raw, vr, charsets)
    texts = [value.rstrip(_PADDING) for value in ([text] if vr in _ONE_VALUE else text.split("\\"))]
    return valued(vr, shaped(vr, texts) if vr in _AS_TEXT else [value or None for value in texts])


def _numbers(vr: str, raw: bytes, big_endian: bool) -> dict[str, Any]:
    values: Sequence[Any] = unpack_from(f"{'>' if big_endian else '<'}{len(raw) // _SIZES[vr]}{NUMBERS[vr]}", raw)
    if vr in _LONG or (vr in ("FL", "FD") and not all(map(math.isfinite, values))):
        values = shaped(vr, values)
    return valued(vr, list(values))


def _swapped(vr: str, raw: bytes) -> bytes:
    """Turn a value of words to little endian (PS3.5 §7.3)."""
    unit = SWAP_UNIT.get(vr.encode("ascii"), 1)
    if unit == 1:
        return raw
    whole = len(raw) - len(raw) % unit
    words = array(_ARRAY_CODES[unit])
    words.frombytes(raw[:whole])
    words.byteswap()
    return words.tobytes() + raw[whole:]
