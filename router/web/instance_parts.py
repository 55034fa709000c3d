"""Instances from the store as PS3.10 files, one a part, or one alone: the body of Retrieve (PS3.18 §10.4, §8.7.3).

Small ones are read several in one go, large ones in chunks, all with their hash compared before the last byte goes out.
A File Meta of its own stands before each: our envelope (addresses, AE titles) stays here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from anyio import to_thread

from router.dicom.conversion import Converter, converter
from router.dicom.envelope import Declared
from router.dicom.file_meta import encode_file_meta
from router.dicom.reencode import CannotReencode
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.dicomweb.media_types import DICOM
from router.dicomweb.multipart_writer import closing, part_head
from router.errors import StorageError
from router.search import StoredInstance
from router.store.converting import converted
from router.store.files import DamagedFile, Store
from router.store.workers import forget
from router.web.urls import stored_url

log = structlog.get_logger()

GROUP_BYTES: Final = 1024 * 1024
"""Data sets up to this size are read whole, so many of them at once as are no larger together."""
GROUPS_AHEAD: Final = 2
"""So many groups are being read, each on a thread, while the one before them goes out."""

Reading = asyncio.Future[list[bytes | DamagedFile]]


class NothingLeft(StorageError):
    """None of what was asked for could be sent."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance and the transfer syntax that it goes out in, one of its `web_transfer_syntaxes`."""

    instance: StoredInstance
    transfer_syntax_uid: Uid

    @property
    def content_type(self) -> str:
        """What the part or the body is."""
        return f"{DICOM}; transfer-syntax={self.transfer_syntax_uid}"

    def location(self, base: str) -> str:
        """Give its URL below the Base URI."""
        return stored_url(base, self.instance)

    def preface(self) -> bytes:
        """Write what stands before the data set."""
        one = self.instance
        return encode_file_meta(Declared(one.sop_class_uid, one.sop_instance_uid, self.transfer_syntax_uid))

    def length(self) -> int | None:
        """Say how many bytes it has as a file; None when only the conversion tells."""
        if self.instance.transfer_syntax_uid != self.transfer_syntax_uid:
            return None
        return len(self.preface()) + self.instance.located.data_set_bytes


class InstanceParts:
    """One multipart body, or one instance alone. `base` is the Base URI."""

    def __init__(self, store: Store, outgoing: Sequence[Outgoing], base: str):
        self._store, self._outgoing, self._base = store, tuple(outgoing), base
        self._left_out = 0

    async def alone(self) -> AsyncGenerator[bytes, None]:
        """Give the only instance as a file. Raises DamagedFile, CannotReencode, StorageError."""
        [one] = self._outgoing
        async with contextlib.aclosing(self._data_set(one)) as data_set:
            yield one.preface() + await anext(data_set)
            async for chunk in data_set:
                yield chunk

    async def parts(self, boundary: str) -> AsyncGenerator[bytes, None]:
        """Give a multipart body. What is found damaged before its part began is left out and reported.

        Raises NothingLeft when that was all, before any chunk; DamagedFile and CannotReencode within a part;
        StorageError.
        """
        with contextlib.closing(self._read_ahead()) as groups:
            for group, contents in groups:
                if contents is None:
                    async with contextlib.aclosing(self._large(group[0], boundary)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                elif chunk := await self._small(group, contents, boundary):
                    yield chunk
        if self._left_out == len(self._outgoing):
            raise NothingLeft("all that was asked for is damaged")
        yield closing(boundary)

    def _read_ahead(self) -> Generator[tuple[list[Outgoing], Reading | None]]:
        """Give group after group with what is being read for it, None for a large instance."""
        begun: deque[tuple[list[Outgoing], Reading | None]] = deque()
        try:
            for group in _groups(self._outgoing):
                located = [one.instance.located for one in group]
                begun.append((group, self._store.read_small(located) if _is_small(group[0]) else None))
                if len(begun) > GROUPS_AHEAD:
                    yield begun.popleft()
            while begun:
                yield begun.popleft()
        finally:
            for _, contents in begun:
                if contents is not None:
                    forget(contents)

    async def _small(self, group: Sequence[Outgoing], reading: Reading, boundary: str) -> bytes:
        contents: Sequence[bytes | DamagedFile | CannotReencode]
        contents = stored = await reading
        if any(map(_is_converted, group)):
            contents = await to_thread.run_sync(_convert_all, group, stored)
        pieces: list[bytes] = []
        for one, content in zip(group, contents, strict=True):
            if isinstance(content, bytes):
                preface = one.preface()
                pieces += (self._head(one, boundary, len(preface) + len(content)), preface, content)
            else:
                self._leave_out(one, content)
        return b"".join(pieces)

    async def _large(self, one: Outgoing, boundary: str) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self._data_set(one)) as data_set:
            try:
                first = await anext(data_set)
            except (DamagedFile, CannotReencode) as error:
                self._leave_out(one, error)
                return
            yield self._head(one, boundary, one.length()) + one.preface() + first
            async for chunk in data_set:
                yield chunk

    async def _data_set(self, one: Outgoing) -> AsyncGenerator[bytes, None]:
        async with (
            self._store.open_data_set(one.instance.located) as reader,
            contextlib.aclosing(converted(reader, _conversion(one))) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    def _head(self, one: Outgoing, boundary: str, length: int | None) -> bytes:
        return part_head(boundary, one.content_type, length=length, location=one.location(self._base))

    def _leave_out(self, one: Outgoing, error: Exception) -> None:
        self._left_out += 1
        log.error("instance not retrievable", sop_instance_uid=one.instance.sop_instance_uid, problem=str(error))


def _groups(outgoing: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Put small neighbours together that are read in one go; a large one is a group of its own."""
    group: list[Outgoing] = []
    size = 0
    for one in outgoing:
        one_bytes = one.instance.located.data_set_bytes
        if group and (size + one_bytes > GROUP_BYTES or not _is_small(one)):
            yield group
            group, size = [], 0
        group.append(one)
        size += one_bytes
        if not _is_small(one):
            yield group
            group, size = [], 0
    if group:
        yield group


def _is_small(one: Outgoing) -> bool:
    """Say whether it may be held as a whole, also when it is converted."""
    inflated = _is_converted(one) and is_deflated(one.instance.transfer_syntax_uid)
    return one.instance.located.data_set_bytes <= GROUP_BYTES and not inflated


def _is_converted(one: Outgoing) -> bool:
    return one.instance.transfer_syntax_uid != one.transfer_syntax_uid


def _conversion(one: Outgoing) -> Converter | None:
    return converter(one.instance.transfer_syntax_uid, one.transfer_syntax_uid)


def _convert_all(
    group: Sequence[Outgoing], contents: Sequence[bytes | DamagedFile]
) -> list[bytes | DamagedFile | CannotReencode]:
    """Convert what wants it. Runs on a thread."""
    converted: list[bytes | DamagedFile | CannotReencode] = []
    for one, content in zip(group, contents, strict=True):
        conversion = _conversion(one)
        if conversion is None or not isinstance(content, bytes):
            converted.append(content)
            continue
        try:
            converted.append(b"".join((*conversion.feed(content), conversion.finish())))
        except CannotReencode as error:
            converted.append(error)
    return converted
