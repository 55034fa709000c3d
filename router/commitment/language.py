"""What storage commitment is about, for both protocols: references, rulings, and who can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from router.dicom.commitment import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    Reference,
    Ruling,
)
from router.dicom.uids import Uid

__all__ = [
    "CLASS_INSTANCE_CONFLICT",
    "DUPLICATE_TRANSACTION_UID",
    "NO_SUCH_OBJECT_INSTANCE",
    "PROCESSING_FAILURE",
    "RESOURCE_LIMITATION",
    "SOP_CLASS_NOT_SUPPORTED",
    "Asker",
    "Reference",
    "Ruling",
]


class Forgotten(Exception):
    """Who was asked knows nothing of the Transaction UID, or no longer (404, 410): ask anew, under another."""


class Asker(Protocol):
    """Somebody who can be asked for storage commitment: a DIMSE SCP or a DICOMweb origin server."""

    async def ask(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """Ask; None when the answer comes later. Raises Transient or Misconfigured: nothing was asked."""
        ...

    async def check(self, transaction_uid: Uid, references: Sequence[Reference]) -> Sequence[Ruling] | None:
        """Look whether the answer is there (web); None when not, and always for DIMSE, which reports by itself.

        Raises Transient or Misconfigured (look again later), Forgotten.
        """
        ...

    @property
    def poll_s(self) -> float:
        """After how many seconds it is worth checking again."""
        ...
