"""The one matcher of attributes (PS3.4 §C.2.2.2): QIDO-RS, C-FIND, SEND-RS and rules all get their keys from here.

Declared, where the standard leaves it open: PN without regard to case (accents count); DS and IS by number; the end
of a range that is not written out to the last digit means its whole span (`-1030` includes 10:30:59).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from router.dicom.attributes import AttributePath, vr_of
from router.dicom.encoding import BULK_VRS
from router.dicom.matcher_dates import read_date, read_date_time, read_time, split_date_time_range
from router.dicom.matcher_keys import (
    DateTimeRange,
    EmptyValue,
    EveryValue,
    Key,
    NumberValue,
    PersonName,
    Range,
    SequenceKey,
    SingleValue,
    UidList,
    Universal,
    WildCard,
    read_number,
)
from router.dicom.matcher_text import MAX_PATTERN_CHARACTERS, fold_name_groups, is_wild, whole_name
from router.dicom.uids import is_valid_uid

__all__ = ["InvalidKey", "Key", "MatchOptions", "join_sequence_keys", "parse_key"]

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
NUMBER_VRS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
DATE_VRS = frozenset({"DA", "TM", "DT"})
EMPTY_VALUE_VRS = frozenset({"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"})
MULTIPLE_VALUE_VRS = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
_ONE_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT"})
"""Of these a backslash is part of the one value, and a space at its front too (PS3.5 §6.2)."""

EMPTY_VALUE = '""'

_Read = TypeVar("_Read")


class InvalidKey(ValueError):
    """A value cannot be a matching key of its attribute. The text says why, for the person who asked."""


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """What was agreed besides baseline matching."""

    empty_value: bool = False
    """`""` asks for what is absent or empty (§C.2.2.2.7); else it is plain text."""
    multiple_value: bool = False
    """Several values ask for instances that have them all (§C.2.2.2.8)."""
    empty_matches: bool = False
    """A Required key matches what is stored empty (§C.2.2.1.2). Never for rules."""
    date_and_time: bool = False
    """A range of times may end before it begins, because a range of dates may go with it (`DateAndTime` decides)."""
    offset_min: int | None = None
    """The asker's offset from UTC (TimezoneOffsetFromUTC), for DT values that state none."""


def parse_key(
    path: AttributePath, value: str | Sequence[str], *, vr: str | None = None, options: MatchOptions = MatchOptions()
) -> Key:
    """Make the key that `value` asks for at `path`. In one text several values stand between backslashes.

    `vr` is needed only where the dictionary does not know the attribute. A path into sequences gives nested
    SequenceKeys; let `join_sequence_keys` unite those that mean the same item. Raises InvalidKey.
    """
    *sequences, tag = path
    key = _leaf_key((tag,), value, vr or vr_of(tag), options)
    if isinstance(key, Universal):
        return Universal(path)
    for sequence in reversed(sequences):
        key = SequenceKey(sequence, (key,), options.empty_matches)
    return key


def join_sequence_keys(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Unite the keys into one sequence, so that one and the same item has to meet them all. Order is kept."""
    joined: list[Key] = []
    inner: dict[int, list[Key]] = {}
    place: dict[int, int] = {}
    for key in keys:
        if not isinstance(key, SequenceKey):
            joined.append(key)
            continue
        if key.tag not in place:
            place[key.tag] = len(joined)
            joined.append(key)
        inner.setdefault(key.tag, []).extend(key.keys)
    for tag, at in place.items():
        first = joined[at]
        assert isinstance(first, SequenceKey)
        joined[at] = SequenceKey(tag, join_sequence_keys(inner[tag]), first.empty_matches)
    return tuple(joined)


def _leaf_key(path: AttributePath, value: str | Sequence[str], vr: str, options: MatchOptions) -> Key:
    values = _values(value, vr)
    if not any(values) or all(text and not text.strip("*") for text in values):
        return Universal(path)
    if vr == "SQ":
        raise InvalidKey("a sequence is matched by the attributes in its items, not by a value")
    if vr in BULK_VRS:
        raise InvalidKey(f"bulk data (VR {vr}) cannot be matched")
    if vr == "UI":
        return UidList(path, frozenset(_uid(text) for text in values if text), options.empty_matches)
    if len(values) > 1:
        return _every_value(path, values, vr, options)
    text = values[0]
    if options.empty_value and text == EMPTY_VALUE and vr in EMPTY_VALUE_VRS:
        return EmptyValue(path)
    if vr in DATE_VRS:
        return _range(path, text, vr, options)
    if vr in NUMBER_VRS:
        return NumberValue(path, _number(text), options.empty_matches)
    if vr == "PN":
        return _person_name(path, text, options)
    if is_wild(text) and (vr in WILDCARD_VRS or vr == "UN"):
        return WildCard(path, _pattern(text), options.empty_matches)
    if vr == "AT":
        text = text.strip("()").replace(",", "").upper()
    return SingleValue(path, text, options.empty_matches)


def _values(value: str | Sequence[str], vr: str) -> list[str]:
    texts = list(value) if not isinstance(value, str) else [value] if vr in _ONE_TEXT_VRS else value.split("\\")
    if vr in _ONE_TEXT_VRS or vr == "UC":
        return [text.rstrip(" \0") for text in texts]
    return [text.strip(" \0") for text in texts]


def _every_value(path: AttributePath, values: list[str], vr: str, options: MatchOptions) -> EveryValue:
    if not options.multiple_value or vr not in MULTIPLE_VALUE_VRS:
        raise InvalidKey(f"one value may be asked for here, not {len(values)}")
    if any(is_wild(text) for text in values):
        raise InvalidKey("several values that must all be there take no wild cards")
    wanted = [text for text in values if text]
    if vr == "PN":
        wanted = [whole_name(text) for text in wanted]
    return EveryValue(path, frozenset(wanted), vr == "PN", options.empty_matches)


def _uid(text: str) -> str:
    if not is_valid_uid(text, odd=True):
        raise InvalidKey(f"{text!r:.80} is not a UID: digits and dots, at most 64 characters, no wild cards")
    return text


def _number(text: str) -> int | float:
    number = read_number(text)
    if number is None:
        raise InvalidKey(f"{text!r:.80} is not a number")
    return number


def _pattern(text: str) -> str:
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise InvalidKey(
            f"a value with wild cards has at most {MAX_PATTERN_CHARACTERS} characters, this one {len(text)}"
        )
    return text


def _person_name(path: AttributePath, text: str, options: MatchOptions) -> Key:
    groups = fold_name_groups(_pattern(text) if is_wild(text) else text)
    while len(groups) > 1 and not groups[-1]:
        groups = groups[:-1]
    return PersonName(path, groups, options.empty_matches) if any(groups) else Universal(path)


def _range(path: AttributePath, text: str, vr: str, options: MatchOptions) -> Key:
    """Make a range of DA, TM or DT; one value becomes a range of one."""
    if vr == "DT":
        return _date_time_range(path, text, options)
    first, hyphen, last = text.partition("-")
    first, last = first.strip(), last.strip()
    if hyphen and not first and not last:
        raise InvalidKey("a range needs a beginning or an end")
    if vr == "DA":
        low = _required(read_date(first), first, "a date (YYYYMMDD)") if first else None
        high = _required(read_date(last), last, "a date (YYYYMMDD)") if last else None
        _check_order(low is not None and high is not None and low > high)
        return Range(path, "DA", low, high if hyphen else low, options.empty_matches)
    low = _required(read_time(first), first, "a time (HHMMSS)") if first else None
    high = _required(read_time(last, end=True), last, "a time (HHMMSS)") if last else None
    _check_order(not options.date_and_time and low is not None and high is not None and low > high)
    return Range(path, "TM", low, high if hyphen else low, options.empty_matches)


def _date_time_range(path: AttributePath, text: str, options: MatchOptions) -> DateTimeRange:
    kind = "a date and time (YYYYMMDDHHMMSS, with +HHMM or -HHMM for the offset from UTC)"
    ends = split_date_time_range(text)
    if ends is None:
        point = _required(read_date_time(text, offset_min=options.offset_min), text, kind)
        return DateTimeRange(path, point, point, options.empty_matches)
    first, last = ends[0].strip(), ends[1].strip()
    if not first and not last:
        raise InvalidKey("a range needs a beginning or an end")
    low = _required(read_date_time(first, offset_min=options.offset_min), first, kind) if first else None
    high = _required(read_date_time(last, end=True, offset_min=options.offset_min), last, kind) if last else None
    _check_order(low is not None and high is not None and high.precedes(low))
    return DateTimeRange(path, low, high, options.empty_matches)


def _required(value: _Read | None, text: str, kind: str) -> _Read:
    if value is None:
        raise InvalidKey(f"{text!r:.80} is not {kind}")
    return value


def _check_order(is_reversed: bool) -> None:
    if is_reversed:
        raise InvalidKey("the range ends before it begins, so nothing lies in it")
