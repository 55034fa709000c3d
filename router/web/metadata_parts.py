"""The metadata of instances as a body: a JSON array, or XML in parts, one instance after the other (PS3.18 §10.4.4).

Each is read from its file on a thread of the store; nothing of the whole is held.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import BinaryIO

import structlog

from router.dicom.json_model import JsonDataSet, encode_json
from router.dicom.metadata import read_metadata
from router.dicomweb.accept import DICOM_XML
from router.dicomweb.multipart_writer import closing, part_head
from router.dicomweb.native_model_writer import encode_xml
from router.errors import PeerError
from router.search import StoredInstance
from router.store.files import DamagedFile, Store
from router.web.instance_parts import NothingLeft
from router.web.urls import stored_url

log = structlog.get_logger()


class MetadataParts:
    """One body. `base` is the Base URI."""

    def __init__(self, store: Store, instances: Sequence[StoredInstance], base: str):
        self._store, self._instances, self._base = store, instances, base

    async def json(self) -> AsyncGenerator[bytes, None]:
        """Give a JSON array. Leaves out and raises as `parts` does."""
        before = b"["
        async for one in self._each(lambda data_set: encode_json([data_set])[1:-1]):
            yield before + one
            before = b","
        yield b"]"

    async def xml(self, boundary: str) -> AsyncGenerator[bytes, None]:
        """Give a multipart body. What is damaged or unreadable is left out and reported.

        Raises NothingLeft when that was all, before any chunk, and StorageError.
        """
        async for one in self._each(encode_xml):
            yield part_head(boundary, DICOM_XML, length=len(one)) + one
        yield closing(boundary)

    async def _each(self, encode: Callable[[JsonDataSet], bytes]) -> AsyncGenerator[bytes, None]:
        left_out = 0
        for instance in self._instances:
            try:
                yield await self._store.examine(instance.located, partial(_read, instance, self._base, encode))
            except (DamagedFile, PeerError) as error:
                left_out += 1
                log.error("metadata not readable", sop_instance_uid=instance.sop_instance_uid, problem=str(error))
        if left_out == len(self._instances):
            raise NothingLeft("all that was asked for is damaged or cannot be read")


def bulk_url(base: str, instance: StoredInstance, pointer: str) -> str:
    """Give the BulkDataURI of a value."""
    return f"{stored_url(base, instance)}/bulkdata/{pointer}"


def _read(instance: StoredInstance, base: str, encode: Callable[[JsonDataSet], bytes], file: BinaryIO) -> bytes:
    """Read and encode one instance's metadata. Runs on a thread."""
    uri = partial(bulk_url, base, instance)
    return encode(read_metadata(file, instance.transfer_syntax_uid, bulk_uri=uri))
