"""Something wrong between values of router.toml that are each right: the shape of it, for all who look for it."""

from __future__ import annotations

from typing import NamedTuple

Keys = tuple[str, ...]


class Finding(NamedTuple):
    """`table` and the `key` in it (() for the table itself), what is wrong, and what would mend it."""

    table: Keys
    key: Keys
    problem: str
    hint: str = ""
