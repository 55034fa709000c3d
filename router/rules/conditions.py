"""What a rule can ask of an instance besides a plain value (that is the matcher's), and how answers are weighed.

An answer is yes, no, or None: the attribute could not be read, so nobody knows. A rule never fires on None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from router.dicom.attributes import AttributePath, path_name
from router.dicom.header import Header
from router.dicom.matcher_dates import read_age_days
from router.dicom.matcher_keys import read_number

UNREADABLE = "\ufffd"
"""Stands in a text for bytes that its character set does not have."""


class Test(Protocol):
    """A question that a header, or one item of a sequence, answers with yes or no."""

    def matches(self, header: Header, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the tests holds."""

    tests: tuple[Test, ...]

    def matches(self, header: Header) -> bool:
        return any(test.matches(header) for test in self.tests)


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of the tests hold, each perhaps by another value."""

    tests: tuple[Test, ...]

    def matches(self, header: Header) -> bool:
        return all(test.matches(header) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Not:
    """The test does not hold: no value meets it."""

    test: Test

    def matches(self, header: Header) -> bool:
        return not self.test.matches(header)


@dataclass(frozen=True, slots=True)
class InOneItem:
    """One and the same item of the sequence meets all tests."""

    tag: int
    tests: tuple[Test, ...]

    def matches(self, header: Header) -> bool:
        return any(all(test.matches(item) for test in self.tests) for item in header.items(self.tag))


@dataclass(frozen=True, slots=True)
class NumberRange:
    """One of the values is a number from `low` to `high`, both included."""

    path: AttributePath
    low: float | None
    high: float | None

    def matches(self, header: Header) -> bool:
        return any(_lies_within(read_number(text), self.low, self.high) for text in header.texts(self.path))


@dataclass(frozen=True, slots=True)
class AgeRange:
    """One of the ages (AS) is from `low` to `high` days, both included."""

    path: AttributePath
    low: float | None
    high: float | None

    def matches(self, header: Header) -> bool:
        return any(_lies_within(read_age_days(text), self.low, self.high) for text in header.texts(self.path))


@dataclass(frozen=True, slots=True)
class Regex:
    """The pattern is found somewhere in one of the values, in time that grows with the value only (RE2)."""

    path: AttributePath
    compiled: Any
    """An RE2 expression; google-re2 has no types."""

    def matches(self, header: Header) -> bool:
        return any(
            self.compiled.search(text.encode("utf-8", "replace")) is not None for text in header.texts(self.path)
        )


@dataclass(frozen=True, slots=True)
class HasValue:
    """The attribute is there and not empty."""

    path: AttributePath

    def matches(self, header: Header) -> bool:
        return any(header.texts(self.path))


@dataclass(frozen=True, slots=True)
class HasItems:
    """The sequence is there and has an item."""

    tag: int

    def matches(self, header: Header) -> bool:
        return bool(header.items(self.tag))


@dataclass(frozen=True, slots=True)
class IsThere:
    """The attribute is there. Of bulk data the header keeps no value to look at."""

    path: AttributePath

    def matches(self, header: Header) -> bool:
        return header.present(self.path)


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a rule asks, in the words of its author."""

    says: str
    test: Test
    paths: tuple[AttributePath, ...]
    """All that the test reads, from the data set itself."""
    is_negated: bool = False

    def weigh(self, header: Header) -> bool | None:
        """Answer yes, no, or None when the answer would hang on what could not be read."""
        if header.flaw is not None and any(map(header.truncated, self.paths)):
            return None
        if self.test.matches(header):
            return not self.is_negated
        return self.is_negated if self._unread(header) is None else None

    def why_unsure(self, header: Header) -> str:
        """Name the attribute that could not be read."""
        path = self._unread(header)
        return f"{path_name(path or self.paths[0])} could not be read"

    def _unread(self, header: Header) -> AttributePath | None:
        """Give the first path at which a value may stand that could not be read, or not to its end."""
        for path in self.paths:
            texts = header.texts(path)
            for text in texts:
                if UNREADABLE in text:
                    return path
            if header.flaw is not None and (header.truncated(path) or not (header.complete or any(texts))):
                return path
        return None


def weigh_all(conditions: Iterable[Condition], header: Header) -> bool | None:
    """Answer whether all conditions hold: one no is enough for no, whatever could not be read."""
    answer: bool | None = True
    for condition in conditions:
        one = condition.weigh(header)
        if one is False:
            return False
        if one is None:
            answer = None
    return answer


def _lies_within(number: float | None, low: float | None, high: float | None) -> bool:
    return number is not None and (low is None or low <= number) and (high is None or number <= high)
