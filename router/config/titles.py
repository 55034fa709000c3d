"""The AE title of each destination, whatever its kind: the name that C-MOVE knows it by (PS3.4 §C.4.2.1.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.config.model import Destination

MAX_AE_TITLE_CHARACTERS = 16


def ae_title_of(destination: Destination) -> str:
    """Give the AE title of a destination: as configured, or its name in upper case, cut to what fits."""
    return destination.ae_title or destination.name.upper()[:MAX_AE_TITLE_CHARACTERS]


def with_ae_title(destinations: Mapping[str, Destination], ae_title: str) -> Destination | None:
    """Give the destination that C-MOVE means by an AE title: the first in the file that has it; None if none has."""
    return next((one for one in destinations.values() if ae_title_of(one) == ae_title), None)


def shared_titles(destinations: Mapping[str, Destination]) -> Iterator[tuple[str, str, str]]:
    """Give each destination that C-MOVE cannot name, as another above it has its AE title: the title, its name, the
    other's.
    """
    owners: dict[str, str] = {}
    for name, destination in destinations.items():
        title = ae_title_of(destination)
        owner = owners.setdefault(title, name)
        if owner != name:
            yield title, name, owner
