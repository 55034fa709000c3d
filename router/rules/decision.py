"""What the rules say about one instance."""

from __future__ import annotations

from typing import Literal

import msgspec


class Route(msgspec.Struct, frozen=True):
    """A rule with when = "instance" fired."""

    rule: str
    destination: str


class UnitVote(msgspec.Struct, frozen=True):
    """A rule with when = "series" or "study" saw this instance.

    The series or study is sent whole when it is quiet, if one instance `matched` and none was `vetoed` (by `unless`).
    """

    rule: str
    level: Literal["series", "study"]
    destinations: tuple[str, ...]
    matched: bool
    vetoed: bool


class Decision(msgspec.Struct, frozen=True):
    """All routes of one instance; each destination stands once.

    `problem` when a rule could not be evaluated (it then did not fire): names rules and attributes, never values.
    """

    routes: tuple[Route, ...] = ()
    votes: tuple[UnitVote, ...] = ()
    problem: str = ""
