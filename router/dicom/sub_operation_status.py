"""What the counters of sub-operations mean as one status (PS3.4 §C.4.2.1.5, §C.4.2.3.1): C-MOVE, C-GET, SEND-RS."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
WARNING: Final = 0xB000
"""Sub-operations complete, one or more failures or warnings."""
FAILURE: Final = 0xA702
"""Unable to perform sub-operations: the one failure of Table C.4-2 whose counters are given (O-03)."""
PENDING_STATUSES: Final = frozenset({0xFF00, 0xFF01})


def final_status(*, completed: int, warning: int, failed: int) -> int:
    """Give the status of a job in which nothing remains; Success when there was nothing to do.

    A warning is a stored instance, so one is enough for it not to have failed as a whole (O-37).
    """
    if warning or (completed and failed):
        return WARNING
    return FAILURE if failed else SUCCESS
