"""Which instances a Store resource takes: those of patients, or those of one category of non-patient instances.

The Studies service is about studies (PS3.18 §10.1), so a non-patient instance is refused there and told where to go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.dicom.envelope import Declared
from router.dicom.non_patient import Category, category_of
from router.dicom.uids import Uid
from router.errors import Refused
from router.ingest.door import Reception, Visit

SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
DOES_NOT_MATCH: Final = 0xA900
"""Failure Reasons (PS3.18 Table I.2-2)."""

Check = Callable[[Declared], None]
"""Raises Refused for an instance that the resource does not take."""


class CheckedVisit:
    """A `Visit` that begins no instance that `check` refuses."""

    def __init__(self, visit: Visit, check: Check):
        self._visit, self._check = visit, check

    def receive(self, declared: Declared) -> Reception:
        """Begin an instance. Raises Refused."""
        self._check(declared)
        return self._visit.receive(declared)

    async def close(self) -> None:
        """The request is over."""
        await self._visit.close()


def patients_only(declared: Declared) -> None:
    """Refuse non-patient instances: the check of /studies."""
    if (category := category_of(declared.sop_class_uid)) is not None:
        raise Refused(SOP_CLASS_NOT_SUPPORTED, f"a non-patient instance; POST it to /{category.name}")


def only_of(category: Category, uid: Uid | None) -> Check:
    """Make the check of a category: its SOP classes, and the UID of the path if there is one (§12.5)."""

    def check(declared: Declared) -> None:
        if declared.sop_class_uid not in category.tables:
            raise Refused(SOP_CLASS_NOT_SUPPORTED, f"its SOP class is none of {category.name}")
        if uid is not None and declared.sop_instance_uid != uid:
            raise Refused(DOES_NOT_MATCH, "its SOP Instance UID is not that of the request")

    return check
