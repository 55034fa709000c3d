"""The table against pynetdicom's, which was written from PS3.8 Table 9-10 by others."""

from __future__ import annotations

import pytest
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE

from router.dimse.transitions import AS_ACCEPTOR, AS_REQUESTOR, Action, Input, State

EVENTS = {
    "Evt2": Input.REQUEST,
    "Evt3": Input.ACCEPTING_PDU,
    "Evt4": Input.REJECTING_PDU,
    "Evt6": Input.REQUESTING_PDU,
    "Evt7": Input.ACCEPT,
    "Evt8": Input.REJECT,
    "Evt9": Input.SEND,
    "Evt10": Input.DATA_PDU,
    "Evt11": Input.RELEASE,
    "Evt12": Input.RELEASE_PDU,
    "Evt13": Input.RELEASED_PDU,
    "Evt14": Input.CONFIRM_RELEASE,
    "Evt15": Input.ABORT,
    "Evt16": Input.ABORT_PDU,
    "Evt17": Input.CONNECTION_LOST,
    "Evt18": Input.ARTIM_EXPIRED,
    "Evt19": Input.INVALID_PDU,
}
STATES = {state.value: state for state in State}
ROWS = sorted((event, state) for event, state in TRANSITION_TABLE if event in EVENTS)


@pytest.mark.parametrize(("event", "state"), ROWS)
@pytest.mark.parametrize("table", [AS_ACCEPTOR, AS_REQUESTOR], ids=["acceptor", "requestor"])
def test_each_transition_is_the_standards(table, event, state):
    action, following = table[STATES[state], EVENTS[event]]
    assert action.clause == TRANSITION_TABLE[event, state]
    theirs = ACTIONS[action.clause][2]
    assert following.value in ((theirs,) if isinstance(theirs, str) else theirs)


def test_what_the_standard_does_not_say_is_only_what_we_need():
    theirs = {(STATES[state], EVENTS[event]) for event, state in ROWS}
    ours = {key: action for key, (action, _) in AS_ACCEPTOR.items() if key not in theirs}
    early = {key for key in ours if key[0] in (State.IDLE, State.AWAIT_REQUEST)}
    assert {ours[key] for key in ours.keys() - early} == {Action.LATE}
    assert {ours[key] for key in early} <= {Action.AA_1, Action.AA_2, Action.AA_8, Action.AE_6_REJECT}


@pytest.mark.parametrize("table", [AS_ACCEPTOR, AS_REQUESTOR], ids=["acceptor", "requestor"])
def test_the_connection_closes_exactly_when_the_association_is_over(table):
    for (state, _), (action, following) in table.items():
        if state is not State.CLOSED:
            assert action.closes == (following is State.CLOSED)


@pytest.mark.parametrize("table", [AS_ACCEPTOR, AS_REQUESTOR], ids=["acceptor", "requestor"])
def test_every_state_answers_every_pdu_and_the_loss_of_the_connection(table):
    pdus = [event for event in Input if event.name.endswith("_PDU") and event is not Input.UNACCEPTABLE_PDU]
    for state in State:
        assert (state, Input.CONNECTION_LOST) in table
        if state is not State.CLOSED:
            assert all((state, event) in table for event in pdus)


def test_the_two_roles_differ_only_in_a_release_collision():
    assert {key for key in AS_ACCEPTOR if AS_ACCEPTOR[key] != AS_REQUESTOR[key]} == {
        (State.AWAIT_RELEASE_REPLY, Input.RELEASE_PDU)
    }
