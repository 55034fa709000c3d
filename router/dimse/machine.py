"""Where one association stands: the tables of `transitions.py`, walked (PS3.8 §9.2)."""

from __future__ import annotations

from router.dimse.transitions import AS_ACCEPTOR, AS_REQUESTOR, Action, Input, State


class Machine:
    """The state of an association, in either role. `closed`: the driver is to close the connection."""

    def __init__(self, *, requestor: bool):
        self.state = State.IDLE if requestor else State.AWAIT_REQUEST
        self.table = AS_REQUESTOR if requestor else AS_ACCEPTOR
        self.artim_running = not requestor  # AE-5
        self.closed = False

    def step(self, event: Input) -> Action:
        """Take one step of the table; RuntimeError when it has none, for that is a mistake of ours."""
        transition = self.table.get((self.state, event))
        if transition is None:
            raise RuntimeError(f"{event.name} in {self.state.value} {self.state.name}")
        action, self.state = transition
        if action.artim is not None:
            self.artim_running = action.artim
        self.closed = self.closed or action.closes
        return action

    def connection_lost(self) -> None:
        """Note that the connection is gone."""
        self.step(Input.CONNECTION_LOST)

    def artim_expired(self) -> None:
        """Note that ARTIM ran out; the connection is to be closed."""
        if self.artim_running:
            self.step(Input.ARTIM_EXPIRED)
