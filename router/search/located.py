"""Where the instances of a match set are, for who sends them itself instead of having a lane do so (C-GET)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from router.journal import search_rows
from router.journal.journal import Journal
from router.search.index import StoredInstance, stored_instance


async def located(journal: Journal, instance_ids: Sequence[int]) -> list[StoredInstance]:
    """Give instances by the row ids of a `MatchSet`, in their order; non-patient ones too. Raises StorageError."""
    rows = await journal.search(partial(search_rows.files_of, instance_ids=instance_ids))
    return [stored_instance(row) for row in rows]
