"""Which PDUs are read at all: judged by their header, before a byte of the body is kept (B1, B2, B5, B6, B16, B17)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.dimse.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    FIXED_BODY_BYTES,
    INVALID_PARAMETER,
    MAX_ASSOCIATE_BYTES,
    NAMES,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNISED_PDU,
    name_stranger,
)
from router.dimse.transitions import Action, Input, State
from router.errors import PeerError

INPUTS: Final[Mapping[int, Input]] = {
    ASSOCIATE_RQ: Input.REQUESTING_PDU,
    ASSOCIATE_AC: Input.ACCEPTING_PDU,
    ASSOCIATE_RJ: Input.REJECTING_PDU,
    P_DATA_TF: Input.DATA_PDU,
    RELEASE_RQ: Input.RELEASE_PDU,
    RELEASE_RP: Input.RELEASED_PDU,
    ABORT: Input.ABORT_PDU,
}
"""What a PDU type is to the state machine."""
RECEIVING: Final = (State.ESTABLISHED, State.AWAIT_RELEASE_REPLY)
"""Where P-DATA-TF is expected."""

_UNACQUAINTED = (State.IDLE, State.AWAIT_REQUEST, State.AWAIT_ANSWER)


class Stranger(PeerError):
    """What speaks there is no DICOM at all."""


def check_pdu(
    kind: int, length: int, header: bytes, state: State, table: Mapping[tuple[State, Input], tuple[Action, State]]
) -> None:
    """Judge a PDU, other than P-DATA-TF in `RECEIVING`, on an association that is not over.

    Raises PeerError with the reason of the A-ABORT, Stranger.
    """
    event = INPUTS.get(kind, Input.INVALID_PDU)
    if state in _UNACQUAINTED:
        mistake = name_stranger(header)
        if mistake is not None:
            raise Stranger(mistake)
    if event is Input.INVALID_PDU:
        raise PeerError(f"unrecognised PDU type {kind:02X}H", UNRECOGNISED_PDU)
    if table[state, event][0] in (Action.AA_1, Action.AA_8):
        raise PeerError(f"unexpected {NAMES[kind]} in {state.value}", UNEXPECTED_PDU)
    if length > MAX_ASSOCIATE_BYTES if kind in (ASSOCIATE_RQ, ASSOCIATE_AC) else length != FIXED_BODY_BYTES:
        raise PeerError(f"{NAMES[kind]} of {length} bytes", INVALID_PARAMETER)
