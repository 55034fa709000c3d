"""The rule engine: load, match, decide, explain (docs/rules.md). No network, no store, no journal."""

from router.rules.book import RuleBook
from router.rules.decision import Decision, Route, UnitVote
from router.rules.explain import Explanation, explain
from router.rules.load import load_rules

__all__ = ["Decision", "Explanation", "Route", "RuleBook", "UnitVote", "explain", "load_rules"]
