"""Private elements of a Native DICOM Model, which name their creator, into the blocks of a data set (PS3.5 §7.8.1).

The model writes gggg00ee and the creator (PS3.19 §A.1.5); a data set has ggggbbee, and gggg00bb names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from router.errors import PeerError

_PRIVATE = re.compile(r"([0-9A-F]{3}[13579BDF])([0-9A-F]{2})([0-9A-F]{2})", re.ASCII)


def place_private(elements: dict[str, Any], private: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    """Put `private` (tag as written, creator, element) into `elements`; creators that are missing are added.

    Raises PeerError for a tag that is not private, a group without room, and an element that is there twice.
    """
    for tag, creator, element in private:
        parts = _PRIVATE.fullmatch(tag)
        if parts is None:
            raise PeerError("an attribute with a private creator has no private tag")
        group, block, low = parts.groups()
        if block == "00":
            block = _block_of(elements, group, creator)
        elements.setdefault(f"{group}00{block}", _creator(creator))
        placed = f"{group}{block}{low}"
        if placed in elements:
            raise PeerError("an attribute is there twice in one data set")
        elements[placed] = element


def _block_of(elements: dict[str, Any], group: str, creator: str) -> str:
    """Find the creator's block in a group, or the first that is free."""
    free = ""
    for number in range(0x10, 0x100):
        block = f"{number:02X}"
        owner = elements.get(f"{group}00{block}")
        if owner is None:
            free = free or block
        elif [text.strip(" ") for text in owner.get("Value", ()) if isinstance(text, str)] == [creator.strip(" ")]:
            return block
    if not free:
        raise PeerError("a private group has no free block")
    return free


def _creator(name: str) -> dict[str, Any]:
    return {"vr": "LO", "Value": [name]}
