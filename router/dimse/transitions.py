"""The upper layer's state machine as data: PS3.8 Tables 9-6 to 9-10, one for each role.

Says what happens and which state follows; `upper_layer.py` carries it out. Opening the connection is the driver's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class State(Enum):
    """Where an association is (PS3.8 Tables 9-1 to 9-5)."""

    IDLE = "Sta4"  # requestor, connected, nothing asked yet
    AWAIT_REQUEST = "Sta2"
    AWAIT_LOCAL_ANSWER = "Sta3"
    AWAIT_ANSWER = "Sta5"
    ESTABLISHED = "Sta6"
    AWAIT_RELEASE_REPLY = "Sta7"
    AWAIT_LOCAL_RELEASE = "Sta8"
    COLLISION_REQUESTOR_LOCAL = "Sta9"
    COLLISION_ACCEPTOR_REPLY = "Sta10"
    COLLISION_REQUESTOR_REPLY = "Sta11"
    COLLISION_ACCEPTOR_LOCAL = "Sta12"
    AWAIT_CLOSE = "Sta13"
    CLOSED = "Sta1"


class Input(Enum):
    """What can happen to an association; the comment is the event of PS3.8 Table 9-10."""

    REQUEST = auto()  # Evt2, with the A-ASSOCIATE request (Evt1) in hand
    ACCEPTING_PDU = auto()  # Evt3
    REJECTING_PDU = auto()  # Evt4
    REQUESTING_PDU = auto()  # Evt6
    UNACCEPTABLE_PDU = auto()  # Evt6 with a request that the provider itself rejects
    ACCEPT = auto()  # Evt7
    REJECT = auto()  # Evt8
    SEND = auto()  # Evt9
    DATA_PDU = auto()  # Evt10
    RELEASE = auto()  # Evt11
    RELEASE_PDU = auto()  # Evt12
    RELEASED_PDU = auto()  # Evt13
    CONFIRM_RELEASE = auto()  # Evt14
    ABORT = auto()  # Evt15
    ABORT_PDU = auto()  # Evt16
    CONNECTION_LOST = auto()  # Evt17
    ARTIM_EXPIRED = auto()  # Evt18
    INVALID_PDU = auto()  # Evt19


class Action(Enum):
    """What is done (PS3.8 Tables 9-6 to 9-9): its name, whether ARTIM runs then (None: as before), whether we close."""

    AE_2 = ("AE-2", None, False)  # send A-ASSOCIATE-RQ
    AE_3 = ("AE-3", None, False)  # say: accepted
    AE_4 = ("AE-4", None, True)  # say: rejected
    AE_6 = ("AE-6", False, False)  # say: requested
    AE_6_REJECT = ("AE-6 otherwise", True, False)  # send A-ASSOCIATE-RJ
    AE_7 = ("AE-7", None, False)  # send A-ASSOCIATE-AC
    AE_8 = ("AE-8", True, False)  # send A-ASSOCIATE-RJ
    DT_1 = ("DT-1", None, False)  # send P-DATA-TF
    DT_2 = ("DT-2", None, False)  # say: data
    AR_1 = ("AR-1", None, False)  # send A-RELEASE-RQ
    AR_2 = ("AR-2", None, False)  # say: release requested
    AR_3 = ("AR-3", None, True)  # say: released
    AR_4 = ("AR-4", True, False)  # send A-RELEASE-RP
    AR_5 = ("AR-5", False, True)  # the peer closed, as it should
    AR_6 = ("AR-6", None, False)  # say: data
    AR_7 = ("AR-7", None, False)  # send P-DATA-TF
    AR_8 = ("AR-8", None, False)  # say: release requested, both at once
    AR_9 = ("AR-9", None, False)  # send A-RELEASE-RP
    AR_10 = ("AR-10", None, False)  # say: released
    AA_1 = ("AA-1", True, False)  # send A-ABORT
    AA_2 = ("AA-2", False, True)  # nothing but to close
    AA_3 = ("AA-3", False, True)  # say: aborted
    AA_4 = ("AA-4", False, True)  # the connection is gone
    AA_5 = ("AA-5", False, True)  # the connection is gone before a request
    AA_6 = ("AA-6", None, False)  # ignore
    AA_7 = ("AA-7", None, False)  # send A-ABORT once more
    AA_8 = ("AA-8", True, False)  # send A-ABORT, say so
    LATE = ("late", None, False)  # ours: the user speaks on an association that ended meanwhile; nothing to do

    def __init__(self, clause: str, artim: bool | None, closes: bool):
        self.clause, self.artim, self.closes = clause, artim, closes


Transitions = Mapping[tuple[State, Input], tuple[Action, State]]

_PDUS = (
    Input.ACCEPTING_PDU,
    Input.REJECTING_PDU,
    Input.REQUESTING_PDU,
    Input.DATA_PDU,
    Input.RELEASE_PDU,
    Input.RELEASED_PDU,
    Input.INVALID_PDU,
)
_USER = (
    Input.REQUEST,
    Input.ACCEPT,
    Input.REJECT,
    Input.SEND,
    Input.RELEASE,
    Input.CONFIRM_RELEASE,
    Input.ABORT,
)
_UNDER_WAY = (
    State.AWAIT_LOCAL_ANSWER,
    State.AWAIT_ANSWER,
    State.ESTABLISHED,
    State.AWAIT_RELEASE_REPLY,
    State.AWAIT_LOCAL_RELEASE,
    State.COLLISION_REQUESTOR_LOCAL,
    State.COLLISION_ACCEPTOR_REPLY,
    State.COLLISION_REQUESTOR_REPLY,
    State.COLLISION_ACCEPTOR_LOCAL,
)


def _build(*, requestor: bool) -> Transitions:
    table: dict[tuple[State, Input], tuple[Action, State]] = {}
    for pdu in _PDUS:
        table[State.AWAIT_REQUEST, pdu] = (Action.AA_1, State.AWAIT_CLOSE)
        table[State.IDLE, pdu] = (Action.AA_8, State.AWAIT_CLOSE)
        for state in _UNDER_WAY:
            table[state, pdu] = (Action.AA_8, State.AWAIT_CLOSE)
        table[State.AWAIT_CLOSE, pdu] = (Action.AA_6, State.AWAIT_CLOSE)
    for state in _UNDER_WAY:
        table[state, Input.ABORT] = (Action.AA_1, State.AWAIT_CLOSE)
        table[state, Input.ABORT_PDU] = (Action.AA_3, State.CLOSED)
        table[state, Input.CONNECTION_LOST] = (Action.AA_4, State.CLOSED)
    for primitive in _USER:
        table[State.AWAIT_CLOSE, primitive] = (Action.LATE, State.AWAIT_CLOSE)
        table[State.CLOSED, primitive] = (Action.LATE, State.CLOSED)
    # The peer asked to release before we could: its request is already on the way to our user.
    table[State.AWAIT_LOCAL_RELEASE, Input.RELEASE] = (Action.LATE, State.AWAIT_LOCAL_RELEASE)
    table |= {
        # connected, nothing asked
        (State.IDLE, Input.ABORT): (Action.AA_2, State.CLOSED),
        (State.IDLE, Input.ABORT_PDU): (Action.AA_2, State.CLOSED),
        (State.IDLE, Input.CONNECTION_LOST): (Action.AA_4, State.CLOSED),
        (State.IDLE, Input.REQUEST): (Action.AE_2, State.AWAIT_ANSWER),
        (State.AWAIT_REQUEST, Input.REQUESTING_PDU): (Action.AE_6, State.AWAIT_LOCAL_ANSWER),
        (State.AWAIT_REQUEST, Input.UNACCEPTABLE_PDU): (Action.AE_6_REJECT, State.AWAIT_CLOSE),
        (State.AWAIT_REQUEST, Input.ABORT): (Action.AA_1, State.AWAIT_CLOSE),
        (State.AWAIT_REQUEST, Input.ABORT_PDU): (Action.AA_2, State.CLOSED),
        (State.AWAIT_REQUEST, Input.CONNECTION_LOST): (Action.AA_5, State.CLOSED),
        (State.AWAIT_REQUEST, Input.ARTIM_EXPIRED): (Action.AA_2, State.CLOSED),
        # asked
        (State.AWAIT_LOCAL_ANSWER, Input.ACCEPT): (Action.AE_7, State.ESTABLISHED),
        (State.AWAIT_LOCAL_ANSWER, Input.REJECT): (Action.AE_8, State.AWAIT_CLOSE),
        (State.AWAIT_ANSWER, Input.ACCEPTING_PDU): (Action.AE_3, State.ESTABLISHED),
        (State.AWAIT_ANSWER, Input.REJECTING_PDU): (Action.AE_4, State.CLOSED),
        # data
        (State.ESTABLISHED, Input.SEND): (Action.DT_1, State.ESTABLISHED),
        (State.ESTABLISHED, Input.DATA_PDU): (Action.DT_2, State.ESTABLISHED),
        (State.AWAIT_RELEASE_REPLY, Input.DATA_PDU): (Action.AR_6, State.AWAIT_RELEASE_REPLY),
        (State.AWAIT_LOCAL_RELEASE, Input.SEND): (Action.AR_7, State.AWAIT_LOCAL_RELEASE),
        # release
        (State.ESTABLISHED, Input.RELEASE): (Action.AR_1, State.AWAIT_RELEASE_REPLY),
        (State.ESTABLISHED, Input.RELEASE_PDU): (Action.AR_2, State.AWAIT_LOCAL_RELEASE),
        (State.AWAIT_RELEASE_REPLY, Input.RELEASED_PDU): (Action.AR_3, State.CLOSED),
        (State.AWAIT_LOCAL_RELEASE, Input.CONFIRM_RELEASE): (Action.AR_4, State.AWAIT_CLOSE),
        # both ask to release at once
        (State.AWAIT_RELEASE_REPLY, Input.RELEASE_PDU): (
            Action.AR_8,
            State.COLLISION_REQUESTOR_LOCAL if requestor else State.COLLISION_ACCEPTOR_REPLY,
        ),
        (State.COLLISION_REQUESTOR_LOCAL, Input.CONFIRM_RELEASE): (Action.AR_9, State.COLLISION_REQUESTOR_REPLY),
        (State.COLLISION_REQUESTOR_REPLY, Input.RELEASED_PDU): (Action.AR_3, State.CLOSED),
        (State.COLLISION_ACCEPTOR_REPLY, Input.RELEASED_PDU): (Action.AR_10, State.COLLISION_ACCEPTOR_LOCAL),
        (State.COLLISION_ACCEPTOR_LOCAL, Input.CONFIRM_RELEASE): (Action.AR_4, State.AWAIT_CLOSE),
        # ended, the connection not yet closed
        (State.AWAIT_CLOSE, Input.REQUESTING_PDU): (Action.AA_7, State.AWAIT_CLOSE),
        (State.AWAIT_CLOSE, Input.INVALID_PDU): (Action.AA_7, State.AWAIT_CLOSE),
        (State.AWAIT_CLOSE, Input.ABORT_PDU): (Action.AA_2, State.CLOSED),
        (State.AWAIT_CLOSE, Input.CONNECTION_LOST): (Action.AR_5, State.CLOSED),
        (State.AWAIT_CLOSE, Input.ARTIM_EXPIRED): (Action.AA_2, State.CLOSED),
        (State.CLOSED, Input.CONNECTION_LOST): (Action.LATE, State.CLOSED),
    }
    return MappingProxyType(table)


AS_REQUESTOR = _build(requestor=True)
AS_ACCEPTOR = _build(requestor=False)
