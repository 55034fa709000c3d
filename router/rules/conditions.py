"""What a rule can ask of an instance besides a plain value (that is the matcher's), and how answers are weighed.

An answer is yes, no, or None: the attribute could not be read, so nobody knows. A rule never fires on None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from router.dicom.attributes import AttributePath, path_name
from router.dicom.matcher_dates import read_age_days
from router.dicom.matcher_keys import read_number
from router.rules.reading import Reading


class Test(Protocol):
    """A question that a header, or one item of a sequence, answers with yes or no."""

    def matches(self, header: Reading, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the tests holds."""

    tests: tuple[Test, ...]

    def matches(self, header: Reading) -> bool:
        for test in self.tests:
            if test.matches(header):
                return True
        return False


@dataclass(frozen=True, slots=True)
class InOneItem:
    """One and the same item of the sequence meets all tests."""

    tag: int
    tests: tuple[Test, ...]

    def matches(self, header: Reading) -> bool:
        return any(all(test.matches(item) for test in self.tests) for item in header.items(self.tag))


@dataclass(frozen=True, slots=True)
class NumberRange:
    """One of the values is a number from `low` to `high`, both included."""

    path: AttributePath
    low: float | None
    high: float | None

    def matches(self, header: Reading) -> bool:
        return any(_lies_within(read_number(text), self.low, self.high) for text in header.texts(self.path))


@dataclass(frozen=True, slots=True)
class AgeRange:
    """One of the ages (AS) is from `low` to `high` days, both included."""

    path: AttributePath
    low: float | None
    high: float | None

    def matches(self, header: Reading) -> bool:
        return any(_lies_within(read_age_days(text), self.low, self.high) for text in header.texts(self.path))


@dataclass(frozen=True, slots=True)
class Regex:
    """The pattern is found somewhere in one of the values, in time that grows with the value only (RE2)."""

    path: AttributePath
    compiled: Any
    """An RE2 expression; google-re2 has no types."""

    def matches(self, header: Reading) -> bool:
        return any(
            self.compiled.search(text.encode("utf-8", "replace")) is not None for text in header.texts(self.path)
        )


@dataclass(frozen=True, slots=True)
class HasValue:
    """The attribute is there and not empty."""

    path: AttributePath

    def matches(self, header: Reading) -> bool:
        return any(header.texts(self.path))


@dataclass(frozen=True, slots=True)
class HasItems:
    """The sequence is there and has an item."""

    tag: int

    def matches(self, header: Reading) -> bool:
        return bool(header.items(self.tag))


@dataclass(frozen=True, slots=True)
class IsThere:
    """The attribute is there. Of bulk data the header keeps no value to look at."""

    path: AttributePath

    def matches(self, header: Reading) -> bool:
        return header.present(self.path)


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a rule asks, in the words of its author."""

    says: str
    test: Test
    paths: tuple[AttributePath, ...]
    """All that the test reads, from the data set itself."""
    is_negated: bool = False

    def weigh(self, reading: Reading) -> bool | None:
        """Answer yes, no, or None when the answer would hang on what could not be read."""
        if self.test.matches(reading):
            return not self.is_negated
        if reading.is_suspect and reading.doubts(self.paths) is not None:
            return None
        return self.is_negated

    def why_unsure(self, reading: Reading) -> str:
        """Name the attribute that could not be read."""
        path = reading.doubts(self.paths)
        return f"{path_name(path)} could not be read" if path else "it could not be read"


def weigh_all(conditions: Iterable[Condition], reading: Reading) -> bool | None:
    """Answer whether all conditions hold: one no is enough for no, whatever could not be read."""
    answer: bool | None = True
    for condition in conditions:
        one = condition.weigh(reading)
        if one is False:
            return False
        if one is None:
            answer = None
    return answer


def _lies_within(number: float | None, low: float | None, high: float | None) -> bool:
    return number is not None and (low is None or low <= number) and (high is None or number <= high)
