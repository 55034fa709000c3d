"""What a compressed frame is, read from its first bytes, when its media type leaves it open (PS3.5 §8.2, §A.4).

JPEG and JPEG-LS (ISO 10918-1, 14495-1): frame and scan header. JPEG 2000 (ISO 15444-1): the wavelet of its COD marker,
and where the code stream begins in a JP2 file, for PS3.5 §A.4.4 leaves the file's boxes out. Nothing is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from router.dicom.uids import Uid

ReadAt = Callable[[int, int], bytes]
"""Gives so many bytes from an offset, fewer at the end."""

HEAD_BYTES: Final = 64 * 1024
"""Looked at from the beginning of a frame: quantisation tables, colour profiles and comments come before its header."""
MAX_BOXES: Final = 64

JPEG_BASELINE: Final = Uid("1.2.840.10008.1.2.4.50")
JPEG_EXTENDED: Final = Uid("1.2.840.10008.1.2.4.51")
JPEG_LOSSLESS: Final = Uid("1.2.840.10008.1.2.4.57")
JPEG_LOSSLESS_FIRST_ORDER: Final = Uid("1.2.840.10008.1.2.4.70")
JPEG_LS_LOSSLESS: Final = Uid("1.2.840.10008.1.2.4.80")
JPEG_LS_NEAR_LOSSLESS: Final = Uid("1.2.840.10008.1.2.4.81")

_SOI: Final = b"\xff\xd8"
_SOS: Final = 0xDA
_SOF_LOSSLESS, _SOF_LS = 0xC3, 0xF7
_FRAME_KINDS: Final = {0xC0: JPEG_BASELINE, 0xC1: JPEG_EXTENDED}
_J2K_START: Final = b"\xff\x4f\xff\x51"
_COD, _SOT = 0x52, 0x90
_TRANSFORMATION: Final = 13
"""Where the COD segment names the wavelet, from its marker on."""
_JP2_SIGNATURE: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"


def jpeg_transfer_syntax(head: bytes) -> Uid | None:
    """Name the transfer syntax of a JPEG or JPEG-LS stream; None when it is no such, or of a process DICOM retired."""
    if not head.startswith(_SOI):
        return None
    frame, at = 0, 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _FRAME_KINDS:
            return _FRAME_KINDS[marker]
        if marker in (_SOF_LOSSLESS, _SOF_LS):
            frame = marker
        elif marker == _SOS:
            return _of_scan(frame, head, at)
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _of_scan(frame: int, head: bytes, at: int) -> Uid | None:
    """Tell by the byte after the components: the predictor of lossless JPEG, the permitted error of JPEG-LS."""
    if at + 5 > len(head) or (parameter_at := at + 5 + 2 * head[at + 4]) >= len(head):
        return None
    parameter = head[parameter_at]
    if frame == _SOF_LOSSLESS:
        return JPEG_LOSSLESS_FIRST_ORDER if parameter == 1 else JPEG_LOSSLESS
    if frame == _SOF_LS:
        return JPEG_LS_NEAR_LOSSLESS if parameter else JPEG_LS_LOSSLESS
    return None


def is_reversible(head: bytes) -> bool | None:
    """Say whether a JPEG 2000 code stream uses the reversible wavelet; None when it is none, or does not tell early."""
    if not head.startswith(_J2K_START):
        return None
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] != _SOT:
        if head[at + 1] == _COD:
            return head[at + _TRANSFORMATION] == 1 if at + _TRANSFORMATION < len(head) else None
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def find_codestream(read: ReadAt, offset: int, length: int) -> tuple[int, int] | None:
    """Give offset and length of the code stream in a JP2 file; as given when it is no such file, None when it has none.

    Every box length is checked against what is there.
    """
    if read(offset, len(_JP2_SIGNATURE)) != _JP2_SIGNATURE:
        return offset, length
    at, end = offset, offset + length
    for _ in range(MAX_BOXES):
        box = read(at, 16) if at + 8 <= end else b""
        if len(box) < 8:
            return None
        size, kind = struct.unpack_from(">I4s", box)
        head = 8
        if size == 1 and len(box) == 16:
            size, head = struct.unpack_from(">Q", box, 8)[0], 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            return None
        if kind == b"jp2c":
            return at + head, size - head
        at += size
    return None
