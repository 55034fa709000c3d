"""The body of one STOW-RS request: instances from the store as parts of a multipart/related, streamed (PS3.18 §10.5.1).

Each part is a PS3.10 file with a File Meta of its own: our envelope (addresses, AE titles) stays here. What the web
forbids is re-encoded on the way. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from router.delivery.contents import DataSets
from router.dicom.file_meta import encode_file_meta
from router.dicom.reencode import CannotReencode, Reencoder
from router.dicom.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from router.dicomweb.media_types import DICOM, multipart_related
from router.dicomweb.multipart_writer import closing, new_boundary, part_opening
from router.errors import RouterError
from router.journal.records import Delivery
from router.store.files import DamagedFile

SMALL_BYTES = 256 * 1024
"""Data sets up to this size are read several in one go."""
GROUP_BYTES = 1024 * 1024
"""So much of small ones at most: what one request holds in memory."""

_REENCODED = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)


class Unsendable(RouterError):
    """`delivery` is damaged or cannot be re-encoded: the request broke off before its end, nothing of it counts."""

    def __init__(self, delivery: Delivery, reason: str):
        self.delivery, self.reason = delivery, reason
        super().__init__(reason)


class StowBody:
    """One request's body. `content_type` and `length` for its head; `length` is None when something is re-encoded."""

    def __init__(self, batch: Sequence[Delivery], data_sets: DataSets):
        self._batch, self._data_sets = batch, data_sets
        self._boundary = new_boundary()
        self.content_type = multipart_related(DICOM, self._boundary)
        self.length = self._length()
        self.sending: Delivery | None = None
        """The delivery whose bytes are on their way."""

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        """Give the body. Raises Unsendable in time for the peer not to get a whole request, StorageError."""
        for group in _groups(self._batch):
            if len(group) == 1 and group[0].data_set_bytes > SMALL_BYTES:
                async for chunk in self._large(group[0]):
                    yield chunk
            else:
                last = all(delivery.last for delivery in group)
                for delivery, content in zip(group, await self._data_sets.read_small(group, last=last), strict=True):
                    self.sending = delivery
                    if isinstance(content, DamagedFile):
                        raise _damaged(delivery, content)
                    yield self._head(delivery) + _whole(delivery, content)
        yield closing(self._boundary)

    async def _large(self, delivery: Delivery) -> AsyncIterator[bytes | memoryview]:
        self.sending = delivery
        reencoder = _reencoder(delivery)
        try:
            async with self._data_sets.open_data_set(delivery, last=delivery.last) as reader:
                yield self._head(delivery)
                while chunk := await reader.next():
                    out = chunk if reencoder is None else reencoder.feed(chunk)
                    if out:
                        yield out
                if reencoder is not None:
                    yield reencoder.finish()
        except DamagedFile as error:
            raise _damaged(delivery, error) from error
        except CannotReencode as error:
            raise _not_reencodable(delivery, error) from error

    def _head(self, delivery: Delivery) -> bytes:
        preface = _preface(delivery)
        headers = {"Content-Type": DICOM}
        if not _is_reencoded(delivery):
            headers["Content-Length"] = str(len(preface) + delivery.data_set_bytes)
        return part_opening(self._boundary, headers) + preface

    def _length(self) -> int | None:
        if any(map(_is_reencoded, self._batch)):
            return None
        parts = sum(len(self._head(delivery)) + delivery.data_set_bytes for delivery in self._batch)
        return parts + len(closing(self._boundary))


def _whole(delivery: Delivery, content: bytes) -> bytes:
    reencoder = _reencoder(delivery)
    if reencoder is None:
        return content
    try:
        return reencoder.feed(content) + reencoder.finish()
    except CannotReencode as error:
        raise _not_reencodable(delivery, error) from error


def _groups(batch: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Put neighbours together that are read in one go."""
    group: list[Delivery] = []
    size = 0
    for delivery in batch:
        if group and size + delivery.data_set_bytes > GROUP_BYTES:
            yield group
            group, size = [], 0
        if delivery.data_set_bytes > SMALL_BYTES:
            if group:
                yield group
            yield [delivery]
            group, size = [], 0
        else:
            group.append(delivery)
            size += delivery.data_set_bytes
    if group:
        yield group


def _is_reencoded(delivery: Delivery) -> bool:
    return delivery.declared.transfer_syntax_uid in _REENCODED


def _reencoder(delivery: Delivery) -> Reencoder | None:
    return Reencoder(delivery.declared.transfer_syntax_uid) if _is_reencoded(delivery) else None


def _preface(delivery: Delivery) -> bytes:
    declared = delivery.declared
    if _is_reencoded(delivery):
        declared = msgspec.structs.replace(declared, transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN)
    return encode_file_meta(declared)


def _damaged(delivery: Delivery, error: DamagedFile) -> Unsendable:
    return Unsendable(delivery, f"content damaged: {error.problem}")


def _not_reencodable(delivery: Delivery, error: CannotReencode) -> Unsendable:
    return Unsendable(delivery, f"cannot be re-encoded for the web: {error}")
