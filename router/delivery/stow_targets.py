"""Where instances go below the URL of a STOW-RS destination: studies, or the resource of a category (O-08)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from router.dicom.non_patient import CATEGORIES, category_of
from router.journal.records import Delivery

STUDIES: Final = "studies"
_RESOURCES: Final = frozenset({STUDIES, *CATEGORIES})


def resource_url(url: str, resource: str) -> str:
    """Give the URL of a resource. `url` is a Base URI, or already that of one of the resources below one."""
    base, _, last = url.rpartition("/")
    return f"{base if last in _RESOURCES else url}/{resource}"


def resource_of(delivery: Delivery) -> str:
    """Name the resource that an instance is stored in."""
    category = category_of(delivery.declared.sop_class_uid)
    return STUDIES if category is None else category.name


def by_target(batch: Sequence[Delivery]) -> Iterator[tuple[Delivery, ...]]:
    """Cut a batch into requests, in its order: neighbours of patients together, each non-patient instance alone."""
    together: list[Delivery] = []
    for delivery in batch:
        if resource_of(delivery) == STUDIES:
            together.append(delivery)
            continue
        if together:
            yield tuple(together)
            together = []
        yield (delivery,)
    if together:
        yield tuple(together)
