"""All rules together: what becomes of one instance. Fast and never raising: asked once for each that arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from router.dicom.attributes import AttributePath, vr_of
from router.dicom.elements import SPECIFIC_CHARACTER_SET
from router.dicom.envelope import Source
from router.dicom.header import Header
from router.dicom.matcher_keys import TIMEZONE_OFFSET_FROM_UTC
from router.errors import ConfigError
from router.rules.decision import Decision, Route, UnitVote
from router.rules.rule import Rule

log = structlog.get_logger()

MAX_SOURCES_REMEMBERED = 1024
"""For so many senders it is remembered which rules listen to them; beyond, `from` is looked at each time."""
MAX_PROBLEMS_TOLD = 3
"""Rules named in one decision's problem. Hundreds that stumble over the same attribute say no more."""


class RuleBook:
    """The rules in order. `wanted` is what a header scan has to keep for them; `warnings` is for their author."""

    __slots__ = ("_listening", "rules", "wanted", "warnings")

    def __init__(self, rules: Sequence[Rule] = (), warnings: Sequence[ConfigError] = ()):
        self.rules = tuple(rules)
        self.warnings = tuple(warnings)
        self.wanted = _wanted(self.rules)
        self._listening: dict[Source, tuple[Rule, ...]] = {}

    def decide(self, source: Source, header: Header) -> Decision:
        """Say where the instance goes.

        What could not be read makes no rule fire: an unsure `match` does not hold, an unsure `unless` does (B37).
        """
        routes: list[Route] = []
        votes: list[UnitVote] = []
        problems: list[str] = []
        served: set[str] = set()
        for rule in self._rules_for(source):
            matched = _ask(rule, rule.is_matched, header, problems)
            if rule.when == "instance":
                if not matched or _ask(rule, rule.is_vetoed, header, problems) is not False:
                    continue
                for route in rule.routes:
                    if route.destination not in served:
                        served.add(route.destination)
                        routes.append(route)
            else:
                vetoed = _ask(rule, rule.is_vetoed, header, problems) is not False
                if matched or vetoed:
                    votes.append(rule.vote(matched=matched is True, vetoed=vetoed))
                if not matched or vetoed:
                    continue
            if rule.final:
                break
        return Decision(tuple(routes), tuple(votes), _told(problems))

    def _rules_for(self, source: Source) -> tuple[Rule, ...]:
        rules = self._listening.get(source)
        if rules is None:
            rules = tuple(rule for rule in self.rules if rule.sender.mismatch(source) is None)
            if len(self._listening) < MAX_SOURCES_REMEMBERED:
                self._listening[source] = rules
        return rules


def _ask(rule: Rule, question: Callable[[Header], bool | None], header: Header, problems: list[str]) -> bool | None:
    """Put one question to one rule; None, with its problem noted, when there is no answer."""
    try:
        answer = question(header)
    except Exception as error:  # noqa: BLE001 - the loop edge of one rule: no fault in it may keep an instance from being kept
        log.error("rule failed", rule=rule.name, error=type(error).__name__)
        problems.append(f'rule "{rule.name}" failed ({type(error).__name__})')
        return None
    if answer is None:
        problems.append(f'rule "{rule.name}": {rule.why_unsure(header)}')
    return answer


def _told(problems: list[str]) -> str:
    if not problems:
        return ""
    more = len(problems) - MAX_PROBLEMS_TOLD
    return "; ".join(problems[:MAX_PROBLEMS_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _wanted(rules: Sequence[Rule]) -> frozenset[AttributePath]:
    conditions = [condition for rule in rules for condition in (*rule.match, *rule.unless)]
    paths = {path for condition in conditions for path in condition.paths}
    if any(vr_of(path[-1]) == "DT" for path in paths):
        paths.add(TIMEZONE_OFFSET_FROM_UTC)
    # a scan keeps a sequence's items only if something in them is wanted
    return frozenset(paths | {(*path, SPECIFIC_CHARACTER_SET) for path in paths if vr_of(path[-1]) == "SQ"})
