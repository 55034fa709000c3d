"""Media types of bulk data parts in a Store request: what they say about the bytes (PS3.18 §8.7.3, Table 10.5.2-1).

Code streams stay as they are and are encapsulated. What would have to be transformed (GIF, PNG) is refused: no pixel is
decoded here.
"""

from __future__ import annotations

from typing import Final

from router.dicom.codestream import (
    HEAD_BYTES,
    JPEG_LOSSLESS_FIRST_ORDER,
    JPEG_LS_LOSSLESS,
    ReadAt,
    find_codestream,
    is_reversible,
    jpeg_transfer_syntax,
)
from router.dicom.compose import CANNOT_UNDERSTAND, TRANSFER_SYNTAX, Bulk, Extent
from router.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicom.uids import Uid
from router.dicomweb.accept import OCTET_STREAM
from router.dicomweb.media_types import MediaType
from router.errors import Refused


def _family(*endings: str) -> tuple[Uid, ...]:
    return tuple(Uid(f"1.2.840.10008.1.2.4.{ending}") for ending in endings)


_JPEG: Final = _family("70", "50", "51", "57")
_JPEG_LS: Final = _family("80", "81")
_JPEG_2000: Final = _family("90", "91")
_JPEG_2000_PART_2: Final = _family("92", "93")
_HTJ2K: Final = _family("201", "203", "202")
_MPEG_2: Final = _family("100", "101", "100.1", "101.1")
_MPEG_4: Final = _family("102", "103", "104", "105", "106", "102.1", "103.1", "104.1", "105.1", "106.1")
_HEVC: Final = _family("107", "108")
_RLE: Final = (Uid("1.2.840.10008.1.2.5"),)

_SYNTAXES: Final = {
    "image/jpeg": _JPEG,
    "image/jls": _JPEG_LS,
    "image/x-jls": _JPEG_LS,
    "image/jp2": _JPEG_2000,
    "image/j2c": _JPEG_2000,
    "image/jpx": _JPEG_2000_PART_2,
    "image/jph": _HTJ2K,
    "image/jphc": _HTJ2K,
    "image/jxl": _family("110", "111", "112"),
    "image/dicom-rle": _RLE,
    "image/x-dicom-rle": _RLE,
    "video/mpeg": _MPEG_2,
    "video/mpeg2": _MPEG_2,
    "video/mp4": _MPEG_4,
    "video/h265": _HEVC,
}
"""Transfer syntaxes that a media type may stand for; the first is meant where neither a parameter nor the stream tells
(PS3.18 Table 8.7.3-5)."""
_ANY: Final = frozenset(uid for syntaxes in _SYNTAXES.values() for uid in syntaxes)
_VIDEO: Final = frozenset((*_MPEG_2, *_MPEG_4, *_HEVC))
_NATIVE: Final = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN})
"""Little endian both, which is all that matters to the bytes of one value."""
_TRANSFORM: Final = frozenset({"image/gif", "image/png"})
_WAVELETS: Final = frozenset((_JPEG_2000, _JPEG_2000_PART_2, _HTJ2K))


def pixel_data(media_type: MediaType, extents: tuple[Extent, ...], read: ReadAt) -> Bulk:
    """Say how the parts of one pixel data are compressed, if they are. Raises Refused (C122H, C000H)."""
    name = media_type.name
    asked = media_type.parameters.get("transfer-syntax", "").strip()
    if name in _TRANSFORM:
        raise Refused(TRANSFER_SYNTAX, f"{name} would have to be transformed; send it uncompressed or as a JPEG family")
    if name == OCTET_STREAM:
        if not asked or asked in _NATIVE:
            return Bulk(extents)
        if asked not in _ANY:
            raise Refused(TRANSFER_SYNTAX, "bulk data in a transfer syntax that is not known here")
        return _compressed(Uid(asked), extents, read)
    syntaxes = _SYNTAXES.get(name)
    if syntaxes is None:
        raise Refused(TRANSFER_SYNTAX, f"pixel data as {name[:60]} is not taken")
    if asked and asked not in syntaxes:
        raise Refused(TRANSFER_SYNTAX, f"{name} in that transfer syntax does not exist")
    extents = tuple(_bare(extent, read) for extent in extents) if syntaxes in _WAVELETS else extents
    return _compressed(Uid(asked) if asked else _sniffed(syntaxes, extents, read), extents, read)


def other_bulk(media_type: MediaType, extents: tuple[Extent, ...], *, is_document: bool) -> Bulk:
    """Take parts as the bytes of any other value: an encapsulated document has a type of its own. Raises Refused."""
    asked = media_type.parameters.get("transfer-syntax", "").strip()
    if asked and asked not in _NATIVE:
        raise Refused(
            TRANSFER_SYNTAX, "only pixel data may be in another transfer syntax than Explicit VR Little Endian"
        )
    if media_type.name != OCTET_STREAM and not is_document:
        raise Refused(CANNOT_UNDERSTAND, f"{media_type.name[:60]} is for pixel data and encapsulated documents")
    return Bulk(extents)


def _compressed(uid: Uid, extents: tuple[Extent, ...], read: ReadAt) -> Bulk:
    return Bulk(extents, uid, is_stream=uid in _VIDEO)


def _bare(extent: Extent, read: ReadAt) -> Extent:
    """Leave out the boxes of a JP2 file (PS3.5 §A.4.4)."""
    found = find_codestream(read, extent.offset, extent.length)
    if found is None:
        raise Refused(CANNOT_UNDERSTAND, "a JP2 file without a code stream")
    return Extent(*found)


def _sniffed(syntaxes: tuple[Uid, ...], extents: tuple[Extent, ...], read: ReadAt) -> Uid:
    """Tell the transfer syntax from the first frame. Raises Refused."""
    head = read(extents[0].offset, min(HEAD_BYTES, extents[0].length)) if extents else b""
    if syntaxes[0] in (JPEG_LOSSLESS_FIRST_ORDER, JPEG_LS_LOSSLESS):
        found = jpeg_transfer_syntax(head)
        if found not in syntaxes:
            raise Refused(
                TRANSFER_SYNTAX, "the stream is of no JPEG process that DICOM knows; name its transfer-syntax"
            )
        return found
    if syntaxes in _WAVELETS:
        reversible = is_reversible(head)
        if reversible is None:
            raise Refused(TRANSFER_SYNTAX, "the stream is no JPEG 2000 code stream")
        return syntaxes[0] if reversible else syntaxes[1]
    return syntaxes[0]
