"""PS3.10 files as they lie in folders, as a courier sends them: `Delivery.file` is their path. Nothing is written.

Unlike the store's, these files are whoever's: no hash says what they should be, so they are sent as they are found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import anyio.to_thread

from router.dicom.part10 import PrefaceReader
from router.dicom.uids import Uid
from router.errors import Refused
from router.journal.records import Delivery
from router.store.files import DamagedFile
from router.store.stored import Located

CHUNK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 4096
_PREFIX_BYTES: Final = 132
_MEDIA_DIRECTORY: Final = Uid("1.2.840.10008.1.3.10")


def read_delivery(number: int, path: Path) -> Delivery:
    """Read what a file says it is; `number` is what it shall be called. Raises Refused, OSError."""
    reader = PrefaceReader()
    with path.open("rb") as file:
        while reader.meta is None:
            chunk = file.read(_HEAD_BYTES)
            if not chunk:
                if file.tell() < _PREFIX_BYTES:
                    raise Refused(0xC000, 'it is no PS3.10 file: "DICM" is missing')
                reader.finish()
            reader.feed(chunk)
        size = file.seek(0, 2)
    assert reader.declared is not None
    if reader.declared.sop_class_uid == _MEDIA_DIRECTORY:
        raise Refused(0x0122, "it is a DICOMDIR, the directory of a medium, which is not sent")
    if size <= reader.meta.size:
        raise Refused(0xC000, "it ends before its data set")
    offset = reader.meta.size
    return Delivery.of_file(number, reader.declared, str(path), offset=offset, size=size - offset)


class FileContents:
    """The data sets of files, read on threads."""

    def read_cached(self, located: Located, *, last: bool) -> None:
        """Give nothing: whose files these are, and on which network drive, nobody knows."""

    def read_small(self, located: Sequence[Located], *, last: bool) -> asyncio.Future[list[bytes | DamagedFile]]:
        """Begin to read whole data sets; one that cannot be read is given as a DamagedFile in its place."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, lambda: [_read_whole(one) for one in located])

    @asynccontextmanager
    async def open_data_set(self, located: Located, *, last: bool) -> AsyncIterator[FileChunks]:
        """Open a data set to read it in chunks. Raises DamagedFile."""
        try:
            file = await anyio.to_thread.run_sync(_open, located)
        except OSError as error:
            raise DamagedFile(located.file, error.strerror or str(error)) from error
        try:
            yield FileChunks(file, located)
        finally:
            file.close()


class FileChunks:
    """One data set, chunk by chunk."""

    def __init__(self, file: BinaryIO, located: Located):
        self._file, self._located, self._left = file, located, located.data_set_bytes

    async def next(self) -> bytes:
        """Give the next bytes, b"" after the last. Raises DamagedFile."""
        wanted = min(self._left, CHUNK_BYTES)
        try:
            chunk = await anyio.to_thread.run_sync(self._file.read, wanted)
        except OSError as error:
            raise DamagedFile(self._located.file, error.strerror or str(error)) from error
        if len(chunk) < wanted:
            raise DamagedFile(self._located.file, "it became shorter while it was sent")
        self._left -= len(chunk)
        return chunk


def _open(located: Located) -> BinaryIO:
    file = Path(located.file).open("rb")  # noqa: SIM115 its caller closes it
    file.seek(located.data_set_offset)
    return file


def _read_whole(located: Located) -> bytes | DamagedFile:
    try:
        with _open(located) as file:
            content = file.read(located.data_set_bytes)
    except OSError as error:
        return DamagedFile(located.file, error.strerror or str(error))
    if len(content) < located.data_set_bytes:
        return DamagedFile(located.file, "it became shorter while it was sent")
    return content
