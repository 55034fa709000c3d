"""What a C-FIND at another archive asks for, and whether its answers are what was meant (Sup 248 B.X3, O-30). Pure.

Baseline matching only: whatever else a key says is decided here, on the answers. An archive ignores a key that it does
not support, and finds more than was meant: that is never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from router.dicom.attributes import AttributePath, path_name, vr_of
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet, element, sequence
from router.dicom.matcher import Key
from router.dicom.matcher_combined import DateAndTime, Span
from router.dicom.matcher_keys import EmptyValue, EveryValue, SequenceKey
from router.dicom.uids import Uid, is_valid_uid
from router.errors import Transient
from router.search.plan import BadKeys

Value = str | tuple[str, ...]

_NOT_SUPPORTED: Final = "cannot be matched by the archive behind this proxy, which would send more than was meant"


def identifier(keys: Sequence[Key], asked: Mapping[AttributePath, Value], *, combined: bool) -> JsonDataSet:
    """Make matching keys of what was asked; `combined` when combined date-time matching was granted.

    What only we can decide is asked for without a value, so that it comes back.
    """
    data_set: JsonDataSet = {}
    for key in keys:
        match key:
            case DateAndTime():
                data_set |= _date_and_time(key, asked, combined=combined)
            case SequenceKey():
                data_set[f"{key.tag:08X}"] = _sequence(key, asked, (key.tag,))
            case EmptyValue() | EveryValue():
                data_set[f"{key.path[0]:08X}"] = element(key.path[0], [])
            case _:
                data_set[f"{key.path[0]:08X}"] = _element(key.path[0], asked[key.path])
    return data_set


def agrees(keys: Sequence[Key], answer: JsonDataSet) -> bool:
    """Say whether an answer meets all keys. Raises BadKeys when it lacks an attribute: the archive ignored that key."""
    missing = [tag for key in keys for tag in _tags(key) if f"{tag:08X}" not in answer]
    if missing:
        raise BadKeys([path_name((tag,)) for tag in missing], [_NOT_SUPPORTED] * len(missing))
    attributes = JsonAttributes(answer)
    return all(key.matches(attributes) for key in keys)


def is_within(answer: JsonDataSet, name: str, uid: Uid) -> bool:
    """Say whether an answer is of the study or series that was asked about, as far as it says so."""
    return _text(answer, name) in ("", uid)


def uid_of(answer: JsonDataSet, name: str) -> Uid:
    """Give a unique key of an answer. Raises Transient: without it nothing can be asked for."""
    text = _text(answer, name)
    if not is_valid_uid(text, odd=True):
        raise Transient(f"an answer to C-FIND has no usable {path_name((int(name, 16),))}")
    return Uid(text)


def _text(answer: JsonDataSet, name: str) -> str:
    values = JsonAttributes(answer).texts((int(name, 16),))
    return values[0].strip(" \0") if values else ""


def _tags(key: Key) -> Iterator[int]:
    if isinstance(key, DateAndTime):
        if key.dates is not None:
            yield key.date_path[0]
        if key.times is not None:
            yield key.time_path[0]
    else:
        yield key.path[0]


def _element(tag: int, value: Value) -> dict[str, Any]:
    texts = (value,) if isinstance(value, str) else value
    if vr_of(tag) == "UI":
        texts = tuple(text for one in texts for text in one.split("\\"))
    return element(tag, texts)


def _sequence(key: SequenceKey, asked: Mapping[AttributePath, Value], path: AttributePath) -> dict[str, Any]:
    item: JsonDataSet = {}
    for inner in key.keys:
        here = (*path, inner.path[0])
        if isinstance(inner, SequenceKey):
            item[f"{inner.tag:08X}"] = _sequence(inner, asked, here)
        elif isinstance(inner, EmptyValue | EveryValue):
            item[f"{inner.path[0]:08X}"] = element(inner.path[0], [])
        else:
            item[f"{inner.path[0]:08X}"] = _element(inner.path[0], asked[here])
    return sequence([item])


def _date_and_time(key: DateAndTime, asked: Mapping[AttributePath, Value], *, combined: bool) -> JsonDataSet:
    """Without combined matching an interval is asked for by its days; so is what is meant on the asker's clock."""
    day, time = key.date_path[0], key.time_path[0]
    if key.offset_min is not None:
        dates = [] if key.dates is None else [_day_wider(key.dates)]
        return {f"{day:08X}": element(day, dates), f"{time:08X}": element(time, [])}
    times = [asked[key.time_path]] if combined is key.is_interval else []
    return {
        f"{day:08X}": _element(day, asked[key.date_path]),
        f"{time:08X}": _element(time, times[0]) if times else element(time, []),
    }


def _day_wider(dates: Span) -> str:
    """Write a range of days with one more at each end, which a shift of the clock can reach; "" for all days."""
    low, high = _shifted(dates[0], -1), _shifted(dates[1], 1)
    return f"{low}-{high}" if low or high else ""


def _shifted(day: str | None, days: int) -> str:
    if day is None:
        return ""
    try:
        return (date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(days)).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return ""
