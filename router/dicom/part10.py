"""PS3.10 files of ours: the preface (preamble, "DICM", File Meta with our envelope) that a data set is stored behind.

The data set itself is never touched. The envelope is Private Information (0002,0102) of fixed size; size and hash of
the data set are filled in last, so an unfinished file shows itself. `PrefaceReader` reads the files of others.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Final

import msgspec

from router.dicom.envelope import Declared, Protocol, Source
from router.dicom.file_meta import PrefaceReader, meta_element
from router.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, AETitle, Uid
from router.errors import Refused, RouterError

__all__ = [
    "MAX_PREFACE_BYTES",
    "ForeignFile",
    "Preface",
    "PrefaceReader",
    "StoredPreface",
    "encode_preface",
    "read_preface",
]

ENVELOPE_CREATOR_UID: Final = Uid("2.25.90074294002456264279337750453539768205")
"""(0002,0100): says that (0002,0102) is the envelope of this router."""

MAX_PREFACE_BYTES: Final = 4096
"""No preface of ours is longer: with the longest UIDs and AE titles it has some 800 bytes. Read so much to read one."""

_PREAMBLE: Final = bytes(128) + b"DICM"
_GROUP_LENGTH: Final = struct.Struct("<HH2sHI")
_SIZE_AND_HASH: Final = struct.Struct("<Q32s")
_ENVELOPE: Final = struct.Struct("<6sHdBB6xQ32s64s")
"""Magic, version, received at (Unix seconds), protocol, bytes of the address, data set bytes, SHA-256, address."""
_MAGIC: Final = b"SENDRS"
_VERSION: Final = 1
_MAX_ADDRESS_BYTES: Final = 64
"""Room for an IPv6 address with its zone."""
_SIZE_OFFSET: Final = 24
_UNFINISHED_HASH: Final = bytes(32)
_MAX_DATA_SET_BYTES: Final = 2**63 - 1
"""What a file system and the journal can count."""
_PROTOCOLS: Final[tuple[Protocol, ...]] = ("C-STORE", "STOW-RS")

_SOURCE_AE, _SENDING_AE, _RECEIVING_AE = 0x0016, 0x0017, 0x0018
_CREATOR, _INFORMATION = 0x0100, 0x0102


class ForeignFile(RouterError, ValueError):
    """A file in the store that does not begin with a preface of ours."""


class Preface(msgspec.Struct, frozen=True):
    """What to write before the data set. `seal` says what to put where once the data set is complete."""

    data: bytes
    digest_offset: int
    length_offset: int

    def seal(self, data_set_bytes: int, sha256: bytes) -> tuple[int, bytes]:
        """Give the offset in the file and the bytes to write there (one pwrite) to finish it. `sha256`: 32 bytes."""
        if len(sha256) != 32:
            raise ValueError("a SHA-256 has 32 bytes")
        return self.length_offset, _SIZE_AND_HASH.pack(data_set_bytes, sha256)


class StoredPreface(msgspec.Struct, frozen=True):
    """What a stored file says of itself. `sha256` is None, and `data_set_bytes` 0, when it was never finished."""

    declared: Declared
    source: Source
    received_at: float
    data_set_offset: int
    data_set_bytes: int
    sha256: bytes | None


def encode_preface(declared: Declared, source: Source, received_at: float) -> Preface:
    """Write the preface of an instance; `received_at` in Unix seconds.

    Raises ValueError when a UID is not ASCII; check UIDs first. AE titles and the address are cut to their room.
    """
    sop_class, syntax_and_writer = _class_and_syntax(declared.sop_class_uid, declared.transfer_syntax_uid)
    titles, address = _origin(source)
    meta = b"".join(
        (
            sop_class,
            meta_element(0x0003, b"UI", declared.sop_instance_uid.encode("ascii")),
            syntax_and_writer,
            titles,
            _ENVELOPE.pack(
                _MAGIC,
                _VERSION,
                received_at,
                _PROTOCOLS.index(source.protocol),
                len(address),
                0,
                _UNFINISHED_HASH,
                address,
            ),
        )
    )
    data = b"".join((_PREAMBLE, _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(meta)), meta))
    length_offset = len(data) - _ENVELOPE.size + _SIZE_OFFSET
    return Preface(data, length_offset + 8, length_offset)


def read_preface(data: bytes) -> StoredPreface:
    """Read the preface back from the first bytes of a file (MAX_PREFACE_BYTES, or all if it is shorter).

    Raises ForeignFile for anything that `encode_preface` did not write.
    """
    reader = PrefaceReader()
    try:
        reader.feed(data[:MAX_PREFACE_BYTES])
        reader.finish()
    except Refused as error:
        raise ForeignFile(error.reason) from error
    meta = reader.meta
    if reader.declared is None or meta is None:
        raise ForeignFile("its File Meta Information does not end")
    if meta.text(_CREATOR) != ENVELOPE_CREATOR_UID:
        raise ForeignFile("it was not written by this router")
    envelope = meta.elements.get(_INFORMATION, b"")
    if len(envelope) != _ENVELOPE.size:
        raise ForeignFile(f"its envelope has {len(envelope)} bytes instead of {_ENVELOPE.size}")
    magic, version, received_at, protocol, address_bytes, data_set_bytes, sha256, address = _ENVELOPE.unpack(envelope)
    if magic != _MAGIC or version != _VERSION or protocol >= len(_PROTOCOLS) or address_bytes > _MAX_ADDRESS_BYTES:
        raise ForeignFile("its envelope is not of a version that is known here")
    if not math.isfinite(received_at) or data_set_bytes > _MAX_DATA_SET_BYTES:
        raise ForeignFile("its envelope holds values that were never written")
    return StoredPreface(
        declared=reader.declared,
        source=Source(
            _PROTOCOLS[protocol],
            address[:address_bytes].decode("utf-8", "replace"),
            AETitle(meta.text(_SENDING_AE)),
            AETitle(meta.text(_RECEIVING_AE)),
        ),
        received_at=received_at,
        data_set_offset=meta.size,
        data_set_bytes=data_set_bytes,
        sha256=None if sha256 == _UNFINISHED_HASH else sha256,
    )


@lru_cache(maxsize=1024)
def _class_and_syntax(sop_class_uid: Uid, transfer_syntax_uid: Uid) -> tuple[bytes, bytes]:
    """Write what comes before and behind the SOP Instance UID; the same for many instances."""
    before = meta_element(0x0001, b"OB", b"\x00\x01") + meta_element(0x0002, b"UI", sop_class_uid.encode("ascii"))
    behind = (
        meta_element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"))
        + meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )
    return before, behind


@lru_cache(maxsize=1024)
def _origin(source: Source) -> tuple[bytes, bytes]:
    """Write the elements from the AE titles to the head of the envelope, and the address that goes into it."""
    calling, called = (title.encode("latin_1", "replace")[:16] for title in (source.calling_aet, source.called_aet))
    titles = b""
    if calling:
        titles += meta_element(_SOURCE_AE, b"AE", calling) + meta_element(_SENDING_AE, b"AE", calling)
    if called:
        titles += meta_element(_RECEIVING_AE, b"AE", called)
    titles += meta_element(_CREATOR, b"UI", ENVELOPE_CREATOR_UID.encode("ascii"))
    titles += meta_element(_INFORMATION, b"OB", bytes(_ENVELOPE.size))[: -_ENVELOPE.size]
    return titles, source.address.encode("utf-8", "replace")[:_MAX_ADDRESS_BYTES]
