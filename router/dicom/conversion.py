"""What a stored data set can be sent as over the web, and its way there, streamed (PS3.18 §8.7.3).

Between uncompressed syntaxes only: no pixel is decoded or encoded here. Implicit VR and Big Endian never leave.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from router.dicom.reencode import CannotReencode, Reencoder
from router.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_web_transferable,
)
from router.dicom.uids import Uid
from router.errors import PeerError

PIECE_BYTES: Final = 256 * 1024
"""What comes out of the inflater at once."""
MAX_INFLATED_BYTES: Final = 1024**3
"""Of an inflated copy, made on the disk to look for a frame in it."""

_REENCODED: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})


def web_transfer_syntaxes(stored: Uid) -> tuple[Uid, ...]:
    """Name the transfer syntaxes that a data set can be sent in, the best first; () when there is none."""
    if stored in _REENCODED:
        return (EXPLICIT_VR_LITTLE_ENDIAN,)
    if stored == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return EXPLICIT_VR_LITTLE_ENDIAN, stored
    return (stored,) if is_web_transferable(stored) else ()


def is_uncompressed(stored: Uid) -> bool:
    """Say whether pixel data are native in this transfer syntax, once it is inflated."""
    return web_transfer_syntaxes(stored)[:1] == (EXPLICIT_VR_LITTLE_ENDIAN,)


class Converter(Protocol):
    """Push the data set in, take what it becomes out: `feed` … `feed`, `finish`. Both raise CannotReencode."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` becomes, in pieces. Run it to its end before the next call."""
        ...

    def finish(self) -> bytes:
        """Say that no more comes, take the rest."""
        ...


def converter(stored: Uid, wanted: Uid) -> Converter | None:
    """Make what turns a data set into one of its `web_transfer_syntaxes`; None when it goes out as it is."""
    if stored == wanted:
        return None
    if stored in _REENCODED:
        return _Reencoding(stored)
    assert stored == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, stored
    return _Inflating()


class _Reencoding:
    def __init__(self, stored: Uid):
        self._reencoder = Reencoder(stored)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield self._reencoder.feed(chunk)

    def finish(self) -> bytes:
        return self._reencoder.finish()


class _Inflating:
    """Raw deflate to what it holds (PS3.5 §A.5)."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk and not self._zlib.eof:
            before = len(chunk)
            try:
                piece = self._zlib.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise CannotReencode("the deflated data set cannot be inflated", self._taken) from error
            chunk = self._zlib.unconsumed_tail
            self._taken += before - len(chunk)
            if piece:
                yield piece

    def finish(self) -> bytes:
        rest = self._zlib.flush()
        if not self._zlib.eof:
            raise CannotReencode("the deflated data set does not end", self._taken)
        return rest


def inflate_into(deflated: BinaryIO, copy: BinaryIO) -> None:
    """Inflate a data set into another file. Blocks. Raises PeerError: broken, or more than MAX_INFLATED_BYTES."""
    inflating, size = _Inflating(), 0
    try:
        while chunk := deflated.read(PIECE_BYTES):
            for piece in inflating.feed(chunk):
                size += copy.write(piece)
                if size > MAX_INFLATED_BYTES:
                    raise PeerError(f"it inflates to more than {MAX_INFLATED_BYTES} bytes")
        copy.write(inflating.finish())
    except CannotReencode as error:
        raise PeerError(error.problem) from error
