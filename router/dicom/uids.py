"""UIDs and AE titles as types, and their syntax (PS3.5 §9.1, PS3.18 Table 5.1-1)."""

from __future__ import annotations

import re
import uuid
from typing import NewType

Uid = NewType("Uid", str)
AETitle = NewType("AETitle", str)

MAX_UID_LENGTH = 64

IMPLEMENTATION_CLASS_UID = Uid("2.25.211283774193517936185104283517207451873")
IMPLEMENTATION_VERSION_NAME = "SENDRS_0_1"
APPLICATION_CONTEXT = Uid("1.2.840.10008.3.1.1.1")
VERIFICATION = Uid("1.2.840.10008.1.1")

_UID = re.compile(r"(?:0|1|2)(?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
_ODD_UID = re.compile(r"0*[012](?:\.[0-9]+)+", re.ASCII)


def is_valid_uid(text: str, *, odd: bool = False) -> bool:
    """Say whether `text` is a UID. `odd` also takes leading zeros in a component, which occur in the field."""
    pattern = _ODD_UID if odd else _UID
    return len(text) <= MAX_UID_LENGTH and pattern.fullmatch(text) is not None


def new_uid() -> Uid:
    """Make a UID of our own from a random UUID (PS3.5 §B.2)."""
    return Uid(f"2.25.{uuid.uuid4().int}")
