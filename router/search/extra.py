"""Attributes that the index does not have, from the files behind a page of results (includefield, PS3.18 §8.3.4.3).

One file for each result, on the store's reading threads, no further than the last attribute that is asked for. A file
that cannot be read costs its result these attributes and nothing else; what has a big value is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Final

import anyio
import msgspec
import structlog

from router.dicom.json_model import JsonDataSet
from router.dicom.metadata import read_metadata
from router.dicom.uids import Uid
from router.errors import PeerError, StorageError
from router.journal.search_rows import FileRow
from router.search.levels import ENTITY_OF, Entity, Level, entity_of, last_tag_of
from router.store.files import Store

log = structlog.get_logger()

MAX_VALUE_BYTES: Final = 1024
"""Longer values of binary data and long texts are not answered; Retrieve Metadata has them."""
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
"""Of all extra attributes on a page, as JSON; results after that are answered without them."""
READERS: Final = 2
"""Files being read at once for one search."""


async def read_extra(
    store: Store, files: Sequence[FileRow], level: Level, wanted: frozenset[int] | None, creators: Mapping[int, str]
) -> list[JsonDataSet]:
    """Give, for each file, the wanted attributes of `level` and above that it has; of None all.

    A private attribute comes only if its block belongs to the creator that was asked for with it.
    """
    found: list[JsonDataSet] = [{} for _ in files]
    waiting = list(enumerate(files))[::-1]
    room = MAX_PAGE_BYTES

    async def read() -> None:
        nonlocal room
        while waiting and room > 0:
            place, file = waiting.pop()
            try:
                job = partial(_read, ts=file.transfer_syntax_uid, level=level, wanted=wanted, creators=dict(creators))
                found[place], size = await store.examine(file, job)
            except (PeerError, StorageError) as error:
                log.warning("a search answers less: file cannot be read", file=file.file, problem=str(error))
            else:
                room -= size

    async with anyio.create_task_group() as tasks:
        for _ in range(min(READERS, len(files))):
            tasks.start_soon(read)
    return found


def _read(
    file: BinaryIO, *, ts: Uid, level: Level, wanted: frozenset[int] | None, creators: Mapping[int, str]
) -> tuple[JsonDataSet, int]:
    """Give the attributes and how many bytes of JSON they are. Runs on a thread."""
    lowest = ENTITY_OF[level]
    last_tag = last_tag_of(e for e in Entity if e <= lowest) if wanted is None else max(wanted)
    everything = read_metadata(file, ts, bulk_uri=str, bulk_above_bytes=MAX_VALUE_BYTES, last_tag=last_tag)
    chosen = {}
    for name, element in everything.items():
        tag = int(name, 16)
        is_wanted = entity_of(tag) <= lowest if wanted is None else tag in wanted
        if is_wanted and (wanted is None or _is_of_creator(tag, everything, creators)):
            chosen[name] = _without_bulk_data(element)
    return _with_creators({name: one for name, one in chosen.items() if one is not None}, everything)


def _block(tag: int) -> int | None:
    """Give the tag of a private attribute's creator; None for a standard one, or a creator itself."""
    return tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8 if tag >> 16 & 1 and tag & 0xFFFF >= 0x1000 else None


def _is_of_creator(tag: int, everything: JsonDataSet, creators: Mapping[int, str]) -> bool:
    block = _block(tag)
    return block is None or everything.get(f"{block:08X}", {}).get("Value") == [creators.get(block)]


def _with_creators(chosen: JsonDataSet, everything: JsonDataSet) -> tuple[JsonDataSet, int]:
    for name in list(chosen):
        block = _block(int(name, 16))
        if block is not None and f"{block:08X}" in everything:
            chosen[f"{block:08X}"] = everything[f"{block:08X}"]
    return chosen, len(msgspec.json.encode(chosen))


def _without_bulk_data(element: dict[str, Any]) -> dict[str, Any] | None:
    """Leave out what was not read; None if it is the whole element."""
    if "BulkDataURI" in element:
        return None
    if element["vr"] != "SQ" or "Value" not in element:
        return element
    items = [
        item and {tag: kept for tag, one in item.items() if (kept := _without_bulk_data(one)) is not None}
        for item in element["Value"]
    ]
    return {**element, "Value": items}
