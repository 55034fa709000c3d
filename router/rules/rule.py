"""One rule, compiled: who it listens to, what it asks, where it sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from router.dicom.header import Header
from router.rules.conditions import Condition, weigh_all
from router.rules.decision import Route, UnitVote
from router.rules.sender import Sender

When = Literal["instance", "series", "study"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A `[[rule]]`. `file` and `line` say where it stands."""

    name: str
    when: When
    sender: Sender
    match: tuple[Condition, ...]
    unless: tuple[Condition, ...]
    """Empty: nothing to object to."""
    send: tuple[str, ...]
    final: bool
    file: str
    line: int | None
    routes: tuple[Route, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", tuple(Route(self.name, destination) for destination in self.send))

    def is_matched(self, header: Header) -> bool | None:
        """Answer whether `match` holds, or None: what it asks could not be read."""
        return weigh_all(self.match, header)

    def is_vetoed(self, header: Header) -> bool | None:
        """Answer whether `unless` holds, or None."""
        return weigh_all(self.unless, header) if self.unless else False

    def why_unsure(self, header: Header) -> str:
        """Name an attribute that could not be read, though `match` or `unless` hangs on it."""
        for condition in (*self.match, *self.unless):
            if condition.weigh(header) is None:
                return condition.why_unsure(header)
        return "it could not be read"

    def vote(self, *, matched: bool, vetoed: bool) -> UnitVote:
        """Make the vote of a rule with when = "series" or "study"."""
        assert self.when != "instance"
        return UnitVote(self.name, self.when, self.send, matched, vetoed)

    def asks_nothing(self) -> bool:
        """Say whether every instance from everybody matches."""
        return not (self.match or self.unless) and self.sender == Sender()
