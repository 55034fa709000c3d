"""Frames and bulk values as parts, or one alone, read from the store in pieces (PS3.18 §10.4, §8.7.3.3).

Native values go out as little-endian bytes, compressed frames as their code streams; nothing is decoded. Their hash is
not compared: that would mean to read the whole file for each frame.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final, TypeVar

import structlog

from router.dicom.bulk import BulkPlace, NoSuchValue, locate_bulk, read_value
from router.dicom.conversion import inflate_into, is_uncompressed
from router.dicom.encoding import PIXEL_DATA
from router.dicom.frames import CannotSeparate, Frame, locate_frames, unpack
from router.dicom.metadata import read_metadata
from router.dicom.seeking import ByteRange
from router.dicom.transfer_syntax import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from router.dicomweb.accept import OCTET_STREAM
from router.dicomweb.multipart_writer import closing, part_head
from router.errors import PeerError
from router.search import StoredInstance
from router.store.files import DamagedFile, DataSetFile, Store
from router.web.metadata_parts import bulk_url
from router.web.urls import instance_url

log = structlog.get_logger()

T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
MAX_VALUES: Final = 200
"""Bulk values of one instance in an answer with all of them: each is looked for by itself."""
_PIXEL_POINTERS: Final = frozenset(f"{tag:08X}" for tag in PIXEL_DATA)


@dataclass(frozen=True, slots=True)
class Part:
    """A frame or value, where it is, and what it is called."""

    place: BulkPlace
    frame: Frame
    location: str

    @property
    def compressed(self) -> bool:
        """Whether it is a code stream."""
        return self.place.fragments is not None


async def find_frames(store: Store, instance: StoredInstance, numbers: Sequence[int] | None, base: str) -> list[Part]:
    """Find the frames of an instance, all for None. Raises as `locate_frames`, DamagedFile, StorageError."""
    return await _with_file(store, instance, partial(_frames, instance, numbers, base))


async def find_value(store: Store, instance: StoredInstance, pointer: str, base: str) -> list[Part]:
    """Find a bulk value: one part, or one for each frame. Raises as `locate_bulk` and `locate_frames` do, too."""
    return await _with_file(store, instance, partial(_value, instance, pointer, base))


async def send_parts(
    store: Store,
    instance: StoredInstance,
    parts: Sequence[Part],
    media_type: str,
    boundary: str | None,
    *,
    close: bool = True,
) -> AsyncGenerator[bytes, None]:
    """Give the parts of one instance, and what closes the body if `close`; its only one alone without a boundary.

    `media_type` is what code streams are called. Raises DamagedFile, PeerError, StorageError.
    """
    async with _open(store, instance) as file:
        for part in parts:
            content_type = label(instance, part, media_type)
            head = b"" if boundary is None else _head(part, content_type, boundary)
            for job in _jobs(part):
                yield head + await file.run(job)
                head = b""
            if head:
                yield head
    if close and boundary is not None:
        yield closing(boundary)


async def send_all(
    store: Store, wanted: Sequence[tuple[StoredInstance, str]], base: str, boundary: str, *, pixel_data_only: bool
) -> AsyncGenerator[bytes, None]:
    """Give a multipart body of the bulk values of several instances, each with the media type of its code streams.

    What is damaged, or cannot be taken apart, is left out and reported. Raises NoSuchValue when there is nothing,
    before any chunk; in a part as `send_parts` does.
    """
    find = _pixel_data if pixel_data_only else _all_values
    sent = 0
    for instance, media_type in wanted:
        try:
            parts = await _with_file(store, instance, partial(find, instance, base))
        except (PeerError, CannotSeparate, DamagedFile) as error:
            log.error("bulk data not readable", sop_instance_uid=instance.sop_instance_uid, problem=str(error))
            continue
        async with aclosing(send_parts(store, instance, parts, media_type, boundary, close=False)) as chunks:
            async for chunk in chunks:
                yield chunk
        sent += len(parts)
    if not sent:
        raise NoSuchValue("there is no bulk data, or none that can be read")
    yield closing(boundary)


def label(instance: StoredInstance, part: Part, media_type: str) -> str:
    """Write the Content-Type of a part; `media_type` is for code streams."""
    if part.compressed:
        return f"{media_type}; transfer-syntax={instance.transfer_syntax_uid}"
    return f"{OCTET_STREAM}; transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"


def _head(part: Part, content_type: str, boundary: str) -> bytes:
    return part_head(boundary, content_type, length=part.frame.length, location=part.location)


def _open(store: Store, instance: StoredInstance) -> AbstractAsyncContextManager[DataSetFile]:
    return store.open_file(instance.located, prepare=partial(_inflated, store) if _is_deflated(instance) else None)


def _is_deflated(instance: StoredInstance) -> bool:
    return instance.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


async def _with_file(store: Store, instance: StoredInstance, job: Callable[[BinaryIO], T]) -> T:
    async with _open(store, instance) as file:
        return await file.run(job)


# From here on everything runs on a thread of the store.


def _inflated(store: Store, deflated: BinaryIO) -> BinaryIO:
    """Make an inflated copy without a name, on the disk of the store: in memory there is no room for it."""
    with tempfile.TemporaryFile(dir=store.root.parent, prefix="inflated-") as copy:
        inflate_into(deflated, copy)
        copy.seek(0)
        return os.fdopen(os.dup(copy.fileno()), "rb")


def _frames(instance: StoredInstance, numbers: Sequence[int] | None, base: str, file: BinaryIO) -> list[Part]:
    found = locate_frames(file, instance.transfer_syntax_uid, numbers)
    _check_form(instance, found.place)
    url = instance_url(base, instance.study, instance.series, instance.sop_instance_uid)
    return [
        Part(found.place, frame, f"{url}/frames/{number}")
        for frame, number in zip(found.frames, numbers or range(1, found.count + 1), strict=False)
    ]


def _value(instance: StoredInstance, pointer: str, base: str, file: BinaryIO) -> list[Part]:
    start = file.tell()
    place = locate_bulk(file, instance.transfer_syntax_uid, pointer)
    uri = bulk_url(base, instance, pointer)
    if place.fragments is None:
        return [Part(place, Frame((ByteRange(place.offset, place.length),)), uri)]
    _check_form(instance, place)
    if pointer not in _PIXEL_POINTERS:  # an icon: one frame
        return [Part(place, Frame(place.fragments[:]), uri)]
    file.seek(start)
    return [Part(place, frame, uri) for frame in locate_frames(file, instance.transfer_syntax_uid, None).frames]


def _pixel_data(instance: StoredInstance, base: str, file: BinaryIO) -> list[Part]:
    start = file.tell()
    for pointer in sorted(_PIXEL_POINTERS):
        file.seek(start)
        try:
            return _value(instance, pointer, base, file)
        except NoSuchValue:
            continue
    return []


def _all_values(instance: StoredInstance, base: str, file: BinaryIO) -> list[Part]:
    """Find what the metadata would have a BulkDataURI for."""
    start, pointers = file.tell(), list[str]()

    def note(pointer: str) -> str:
        pointers.append(pointer)
        return ""

    inflated = EXPLICIT_VR_LITTLE_ENDIAN if _is_deflated(instance) else instance.transfer_syntax_uid
    read_metadata(file, inflated, bulk_uri=note)
    if len(pointers) > MAX_VALUES:
        raise CannotSeparate(f"{len(pointers)} bulk values: ask for each by its BulkDataURI")
    parts: list[Part] = []
    for pointer in pointers:
        file.seek(start)
        parts += _value(instance, pointer, base, file)
    return parts


def _check_form(instance: StoredInstance, place: BulkPlace) -> None:
    """Refuse pixel data that is not in the form of its transfer syntax: what it is, nobody could be told."""
    if (place.fragments is not None) == is_uncompressed(instance.transfer_syntax_uid):
        raise CannotSeparate("the pixel data are not in the form that the transfer syntax says")


def _jobs(part: Part) -> Iterator[Callable[[BinaryIO], bytes]]:
    """Cut a part into pieces that are read one after the other."""
    if part.frame.bits:
        [packed] = part.frame.ranges
        yield lambda file: unpack(read_value(file, part.place, packed), part.frame)
        return
    for one in part.frame.ranges:
        for offset in range(one.offset, one.offset + one.length, CHUNK_BYTES):
            piece = ByteRange(offset, min(CHUNK_BYTES, one.offset + one.length - offset))
            yield partial(_read, part.place, piece)


def _read(place: BulkPlace, piece: ByteRange, file: BinaryIO) -> bytes:
    return read_value(file, place, piece)
