"""What the code stream of a compressed frame is called when it is sent (PS3.18 §8.7.3, Table 8.7.3-5)."""

from __future__ import annotations

from typing import Final

from router.dicom.uids import Uid
from router.dicomweb.accept import OCTET_STREAM

_STILL: Final = {
    "image/jpeg": ("50", "51", "57", "70"),
    "image/jls": ("80", "81"),
    "image/jp2": ("90", "91"),
    "image/jpx": ("92", "93"),
    "image/jphc": ("201", "202", "203"),
    "image/jxl": ("110", "111", "112"),
}
_MOVING: Final = {
    "video/mpeg2": ("100", "100.1", "101", "101.1"),
    "video/mp4": ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1"),
    "video/H265": ("107", "108"),
}
_MEDIA_TYPES: Final = {
    f"1.2.840.10008.1.2.4.{ending}": name for name, endings in (_STILL | _MOVING).items() for ending in endings
} | {"1.2.840.10008.1.2.5": "image/dicom-rle"}


def code_stream_type(transfer_syntax_uid: Uid) -> str:
    """Give the media type of a frame's code stream; application/octet-stream when the table has none."""
    return _MEDIA_TYPES.get(transfer_syntax_uid, OCTET_STREAM)
