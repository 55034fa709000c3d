"""The data set of one instance as a C-STORE sub-operation of a C-GET sends it: checked before, streamed, converted
between uncompressed transfer syntaxes where its presentation context wants that.

A message that has begun can only be finished: so what is damaged, or cannot be converted, is found before the first
byte goes out. Small data sets are read whole; large ones are read twice, in chunks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from anyio import to_thread

from router.dicom.conversion import converter, web_transfer_syntaxes
from router.dicom.reencode import CannotReencode
from router.dicom.transfer_syntax import is_deflated
from router.dicom.uids import Uid
from router.errors import PeerError, StorageError
from router.search import StoredInstance
from router.store.converting import converted
from router.store.files import DamagedFile, Store

SMALL_BYTES: Final = 1024 * 1024
"""Data sets up to this size are held whole, unless they inflate."""


class NotSendable(Exception):
    """This instance cannot go out; the words say why."""


def can_go_as(stored: Uid, wanted: Uid) -> bool:
    """Say whether a data set can be sent in a transfer syntax."""
    return stored == wanted or wanted in web_transfer_syntaxes(stored)


async def content_of(store: Store, instance: StoredInstance, wanted: Uid) -> bytes | AsyncIterator[bytes]:
    """Give the data set, whole or in chunks of even length but for the last. Raises NotSendable, and PeerError from the
    chunks when the store fails while they are read: the association cannot go on then.
    """
    try:
        if instance.located.data_set_bytes <= SMALL_BYTES and not _inflates(instance, wanted):
            return await _whole(store, instance, wanted)
        async with aclosing(_chunks(store, instance, wanted)) as rehearsal:
            async for _ in rehearsal:
                pass
    except (StorageError, CannotReencode) as error:
        raise NotSendable(str(error)) from error
    return _even(_surely(_chunks(store, instance, wanted)))


async def _whole(store: Store, instance: StoredInstance, wanted: Uid) -> bytes:
    [content] = await store.read_small([instance.located])
    if isinstance(content, DamagedFile):
        raise content
    conversion = converter(instance.transfer_syntax_uid, wanted)
    if conversion is None:
        return content
    return await to_thread.run_sync(lambda: b"".join((*conversion.feed(content), conversion.finish())))


async def _chunks(store: Store, instance: StoredInstance, wanted: Uid) -> AsyncGenerator[bytes, None]:
    conversion = converter(instance.transfer_syntax_uid, wanted)
    async with store.open_data_set(instance.located) as reader, aclosing(converted(reader, conversion)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _surely(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        except (StorageError, CannotReencode) as error:
            raise PeerError(f"an instance that was whole cannot be read any more: {error}") from error


async def _even(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    odd = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            joined = odd + chunk if odd else chunk
            end = len(joined) & ~1
            odd = joined[end:]
            if end:
                yield joined[:end] if odd else joined
    if odd:
        yield odd


def _inflates(instance: StoredInstance, wanted: Uid) -> bool:
    return is_deflated(instance.transfer_syntax_uid) and wanted != instance.transfer_syntax_uid
