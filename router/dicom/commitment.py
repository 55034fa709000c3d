"""What storage commitment speaks of (PS3.3 §C.14, PS3.4 Annex J): references to instances, and rulings on them."""

from __future__ import annotations

from typing import Final

import msgspec

from router.dicom.uids import Uid

PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE_TRANSACTION_UID: Final = 0x0131
RESOURCE_LIMITATION: Final = 0x0213
"""Failure Reasons (PS3.3 §C.14.1.1)."""

MAX_REFERENCES: Final = 65_535
"""Instances in one request: as many as in a send request."""


class Reference(msgspec.Struct, frozen=True):
    """An instance that somebody wants us, or we want somebody, to be responsible for. `study` and `series` are "" where
    the request did not say them.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    study: Uid = Uid("")
    series: Uid = Uid("")


class Ruling(msgspec.Struct, frozen=True):
    """What was decided about one instance; `failure_reason` None: committed."""

    reference: Reference
    failure_reason: int | None = None
