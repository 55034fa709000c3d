"""Why each rule did or did not fire, in the words of the rule file: never a value of the instance."""

from __future__ import annotations

from typing import Literal

import msgspec

from router.dicom.envelope import Source
from router.dicom.header import Header
from router.rules.book import RuleBook
from router.rules.conditions import Condition
from router.rules.rule import Rule

Outcome = Literal["fired", "voted", "vetoed", "did not fire", "not reached"]


class Explanation(msgspec.Struct, frozen=True):
    """What one rule said to one instance. `destinations` are those that no rule before it serves."""

    rule: str
    file: str
    line: int | None
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f'rule "{self.rule}": {self.outcome}'
        if self.destinations:
            told += f" → {', '.join(self.destinations)}"
        return f"{told}: {'; '.join(self.reasons)}" if self.reasons else told


def explain(book: RuleBook, source: Source, header: Header) -> tuple[Explanation, ...]:
    """Explain `book.decide(source, header)`, rule by rule in order. Raises what a faulty rule raises."""
    explanations = []
    final: Rule | None = None
    served: set[str] = set()
    for rule in book.rules:
        if final is not None:
            explanations.append(_said(rule, "not reached", f'rule "{final.name}" before it is final'))
            continue
        explanation = _explain_rule(rule, source, header)
        if explanation.outcome == "fired":
            again = served.intersection(rule.send)
            served.update(rule.send)
            explanation = _without(explanation, again)
        explanations.append(explanation)
        if rule.final and explanation.outcome in ("fired", "voted"):
            final = rule
    return tuple(explanations)


def _explain_rule(rule: Rule, source: Source, header: Header) -> Explanation:
    stranger = rule.sender.mismatch(source)
    if stranger is not None:
        return _said(rule, "did not fire", f"from.{stranger} does not fit the sender")
    matched, vetoed = rule.is_matched(header), rule.is_vetoed(header)
    if rule.when != "instance" and vetoed is not False:
        return _said(rule, "vetoed", *_objections(rule, header))
    if not matched:
        return _said(rule, "did not fire", *_failures(rule.match, header))
    if vetoed is not False:
        return _said(rule, "did not fire", *_objections(rule, header))
    return _said(rule, "fired" if rule.when == "instance" else "voted", sends=True)


def _failures(conditions: tuple[Condition, ...], header: Header) -> list[str]:
    told = {False: "does not hold", None: "is unsure"}
    answers = [(condition, condition.weigh(header)) for condition in conditions]
    return [
        f"match {condition.says} {told[answer]}" + (f": {condition.why_unsure(header)}" if answer is None else "")
        for condition, answer in answers
        if answer is not True
    ]


def _objections(rule: Rule, header: Header) -> list[str]:
    return [
        f"unless {condition.says} holds"
        if condition.weigh(header)
        else f"unless {condition.says} is unsure: {condition.why_unsure(header)}"
        for condition in rule.unless
    ]


def _without(explanation: Explanation, served: set[str]) -> Explanation:
    """Take out the destinations that an earlier rule serves already."""
    new = tuple(name for name in explanation.destinations if name not in served)
    told = tuple(f"{name} is served by an earlier rule" for name in explanation.destinations if name in served)
    return msgspec.structs.replace(explanation, destinations=new, reasons=(*explanation.reasons, *told))


def _said(rule: Rule, outcome: Outcome, *reasons: str, sends: bool = False) -> Explanation:
    destinations = rule.send if sends else ()
    return Explanation(rule.name, rule.file, rule.line, outcome, reasons, destinations)
