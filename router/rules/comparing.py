"""Values of the rule language as tests of one attribute: plain values, lists, bounds and regular expressions."""

from __future__ import annotations

import datetime
import math
from typing import Any

import re2

from router.dicom.attributes import vr_of
from router.dicom.matcher import DATE_VRS, NUMBER_VRS, InvalidKey, parse_key
from router.dicom.matcher_dates import read_age_days
from router.dicom.matcher_keys import DateTimeRange, Range, Universal
from router.dicom.sop_classes import STORAGE_SOP_CLASSES, name_of
from router.rules.conditions import AgeRange, AnyOf, NumberRange, Regex, Test
from router.rules.findings import Findings, Place

MAX_REGEX_CHARACTERS = 1000
"""A longer pattern is a mistake or an attack; RE2's own bound is on the memory of the compiled one (8 MiB)."""


def value_test(tag: int, value: Any, place: Place, findings: Findings) -> Test | None:
    """Compile a plain value, or a list of which any will do."""
    if not isinstance(value, list):
        return _plain_test(tag, value, place, findings)
    if not value:
        findings.error(place, "can never match: the list is empty")
        return None
    tests = [_plain_test(tag, one, (*place, index), findings) for index, one in enumerate(value)]
    good = tuple(test for test in tests if test is not None)
    return AnyOf(good) if len(good) == len(tests) else None


def _plain_test(tag: int, value: Any, place: Place, findings: Findings) -> Test | None:
    vr = vr_of(tag)
    try:
        key = parse_key((tag,), _text(value, vr), vr=_matched_as(vr, value))
    except InvalidKey as error:
        findings.error(place, str(error), hint=_hint(value, vr))
        return None
    if isinstance(key, Universal):
        hint = "use { present = true } for any value, { present = false } for none, or leave the line out"
        findings.error(place, "matches everything, also what is not there", hint=hint)
        return None
    if vr == "CS" and isinstance(value, str) and value != value.upper():
        findings.warn(place, "has lower-case letters: code strings are upper-case, and case counts", hint=value.upper())
    return key


def _text(value: Any, vr: str) -> str:
    """Write a TOML value as DICOM would. Raises InvalidKey."""
    match value:
        case str():
            if "\\" in value and vr not in ("ST", "LT", "UT", "UR"):
                raise InvalidKey("a backslash separates values in DICOM; write a list for any of several")
            return value
        case bool():
            raise InvalidKey("true and false are no values; DICOM writes text and numbers")
        case int():
            return str(value)
        case float() if math.isfinite(value) and (vr in NUMBER_VRS or vr == "UN"):
            return repr(value)
        case float():
            raise InvalidKey(f"a number with a fraction cannot be a value of this attribute ({vr})")
        case datetime.datetime() if vr == "DT":
            return f"{value.year:04}{value:%m%d%H%M%S}{_fraction(value)}{value:%z}"
        case datetime.date() if vr in ("DA", "DT") and not isinstance(value, datetime.datetime):
            return f"{value.year:04}{value.month:02}{value.day:02}"
        case datetime.time() if vr == "TM":
            return f"{value:%H%M%S}{_fraction(value)}"
        case datetime.date() | datetime.time():
            raise InvalidKey(f"a TOML date or time like this one is not a value of this attribute ({vr})")
        case _:
            raise InvalidKey("a list holds plain values only")


def _fraction(value: datetime.datetime | datetime.time) -> str:
    """Write the fraction of a second only if there is one: `max = 16:59:59` means to the end of that second."""
    return f".{value.microsecond:06}" if value.microsecond else ""


def _matched_as(vr: str, value: Any) -> str:
    """Give the VR to match by. What the dictionary does not know is text, or a number if the rule gives a number."""
    if vr != "UN":
        return vr
    return "LO" if isinstance(value, str) else "DS"


def _hint(value: Any, vr: str) -> str:
    if vr == "UI" and isinstance(value, str):
        wanted = _letters(value)
        for uid in STORAGE_SOP_CLASSES:
            if wanted and _letters(name_of(uid)) in (wanted, wanted + "storage"):
                return f"{name_of(uid)} is {uid}"
    if vr in NUMBER_VRS:
        return "for a range use { min = …, max = … }"
    if vr in DATE_VRS and isinstance(value, str) and ("*" in value or "?" in value):
        return 'dates take ranges, not wild cards: "20240101-20241231", "20240101-"'
    return ""


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def bounds_test(tag: int, low: Any, high: Any, place: Place, findings: Findings) -> Test | None:
    """Compile `min` and `max` (None where it is not given), for numbers, ages, dates and times."""
    vr = vr_of(tag)
    if vr in DATE_VRS:
        return _date_bounds_test(tag, low, high, place, findings)
    if vr not in NUMBER_VRS | {"AS", "UN"}:
        findings.error(
            place, f"min and max are for numbers, ages, dates and times; this is text ({vr})", hint="use regex"
        )
        return None
    kind = 'an age in quotes, such as "018Y", "006M" or "010D"' if vr == "AS" else "a number"
    least = _age_days(low, end=False) if vr == "AS" else _finite_number(low)
    most = _age_days(high, end=True) if vr == "AS" else _finite_number(high)
    for key, bound, number in (("min", low, least), ("max", high, most)):
        if bound is not None and number is None:
            findings.error((*place, key), "wrong type", allowed=kind)
            return None
    if least is not None and most is not None and least > most:
        findings.error(place, "can never match: min is greater than max")
        return None
    return AgeRange((tag,), least, most) if vr == "AS" else NumberRange((tag,), least, most)


def _finite_number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _age_days(value: Any, *, end: bool) -> float | None:
    return read_age_days(value, end=end) if isinstance(value, str) else None


def _date_bounds_test(tag: int, low: Any, high: Any, place: Place, findings: Findings) -> Test | None:
    """Compile bounds of DA, TM or DT: the matcher's own range from `low-` and `-high`."""
    vr, path = vr_of(tag), (tag,)
    bounds: dict[str, Any] = {}
    for key, value in (("min", low), ("max", high)):
        if value is None:
            continue
        try:
            text = _text(value, vr)
            bounds[key] = parse_key(path, f"{text}-" if key == "min" else f"-{text}")
        except InvalidKey as error:
            findings.error((*place, key), str(error))
    if len(bounds) < (low is not None) + (high is not None):
        return None
    first = bounds["min"].low if "min" in bounds else None
    last = bounds["max"].high if "max" in bounds else None
    if vr == "DT":
        is_empty = first is not None and last is not None and last.precedes(first)
    else:
        is_empty = first is not None and last is not None and last < first
    if is_empty:
        findings.error(place, "can never match: min is after max")
        return None
    if vr == "DT":
        return DateTimeRange(path, first, last)
    return Range(path, "DA" if vr == "DA" else "TM", first, last)


def regex_test(tag: int, pattern: Any, place: Place, findings: Findings) -> Test | None:
    """Compile a regular expression, to be found anywhere in a value."""
    if not isinstance(pattern, str) or not pattern:
        findings.error(place, "wrong type", allowed="a regular expression in quotes")
        return None
    if len(pattern) > MAX_REGEX_CHARACTERS:
        findings.error(
            place, f"{_shown(pattern[:40])}… has {len(pattern)} characters", allowed=f"at most {MAX_REGEX_CHARACTERS}"
        )
        return None
    if vr_of(tag) in NUMBER_VRS | {"AT"}:
        findings.warn(place, "a regular expression on a number sees it as text", hint="min and max compare numbers")
    options = re2.Options()
    options.log_errors = False
    try:
        return Regex((tag,), re2.compile(pattern, options))  # type: ignore[no-untyped-call]
    except (re2.error, UnicodeEncodeError) as error:
        findings.error(
            place, f"{_shown(pattern[:200])} is not a regular expression: {_words(error)}", hint=_regex_hint(pattern)
        )
        return None


def _shown(pattern: str) -> str:
    return f'"{pattern}"' if pattern.isprintable() else repr(pattern)


def _words(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(error)


def _regex_hint(pattern: str) -> str:
    if any(sign in pattern for sign in ("(?=", "(?!", "(?<=", "(?<!")):
        return "RE2 does not look ahead or behind (that could take for ever); ask with `not` or in two rules"
    if any(f"\\{digit}" in pattern for digit in range(1, 10)):
        return "RE2 has no back-references (they could take for ever)"
    return "the syntax is RE2's: https://github.com/google/re2/wiki/Syntax"
