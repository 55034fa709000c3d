"""A stored data set on its way out in another transfer syntax, chunk by chunk (`dicom.conversion`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from anyio import to_thread

from router.dicom.conversion import Converter
from router.store.reading import DataSetReader


async def converted(reader: DataSetReader, conversion: Converter | None) -> AsyncGenerator[bytes, None]:
    """Give the chunks of a data set, as they are without a `conversion`. Raises DamagedFile, CannotReencode."""
    while chunk := await reader.next():
        if conversion is None:
            yield chunk
            continue
        pieces = conversion.feed(chunk)
        while (piece := await to_thread.run_sync(next, pieces, None)) is not None:
            yield piece
    if conversion is not None:
        yield conversion.finish()
