"""The Prefer header field (RFC 7240): only `wait`, how many seconds a client would rather wait than come again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

MAX_CHARACTERS: Final = 1_024
"""One Prefer field; more is not looked at."""

_WAIT: Final = re.compile(r'\s*wait\s*=\s*(?:"([0-9]{1,9})"|([0-9]{1,9}))\s*(?:;.*)?', re.ASCII | re.IGNORECASE)
_NAMED_WAIT: Final = re.compile(r"\s*wait\s*(?:[=;].*)?", re.ASCII | re.IGNORECASE)


def read_wait(fields: Sequence[str]) -> int | None:
    """Give the seconds of the first `wait`; None when there is none, or none that makes sense: it is only a wish."""
    for field in fields:
        for preference in field[:MAX_CHARACTERS].split(","):
            if _NAMED_WAIT.fullmatch(preference):
                wait = _WAIT.fullmatch(preference)
                return int(wait[1] or wait[2]) if wait else None
    return None
