"""Searching what is stored, for QIDO-RS, SEND-RS, C-FIND and C-MOVE: what may be asked, what is answered."""

from router.journal.readers import QueryTooLong
from router.search.index import Found, Index, MatchSet, Result, StoredInstance, TooMany
from router.search.levels import Level, Scope
from router.search.plan import Asked, BadKeys, Plan, plan

__all__ = [
    "Asked",
    "BadKeys",
    "Found",
    "Index",
    "Level",
    "MatchSet",
    "Plan",
    "QueryTooLong",
    "Result",
    "Scope",
    "StoredInstance",
    "TooMany",
    "plan",
]
