"""Matching keys as SQL conditions (PS3.4 §C.2.2.2). A condition selects exactly what `Key.matches` does.

SQL narrows down where it can, soundly; what it cannot say exactly the key itself decides, called from SQLite as
`key_matches`. A column holds the values of an attribute with backslashes between them. Knows no table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from router.dicom.attributes import AttributePath
from router.dicom.matcher import Key
from router.dicom.matcher_combined import DateAndTime
from router.dicom.matcher_keys import (
    TIMEZONE_OFFSET_FROM_UTC,
    EmptyValue,
    NumberValue,
    PersonName,
    Range,
    SequenceKey,
    SingleValue,
    UidList,
    Universal,
    WildCard,
)
from router.journal.connection import SearchConnection

Table = Literal["study", "series", "instance"]
Parameters = dict[str, Any]

_NUMBER_MARGIN: Final = 1e-9
"""SQLite and Python may read the same digits as neighbouring floating point numbers."""
_LAST_CHARACTER: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


class Column(msgspec.Struct, frozen=True):
    """Where an attribute is. `expression` gives its text; of a sequence a JSON list of items, each a list of texts.

    `index` names the column that has an index, which knows nothing of the rows that `odd` is true for ("": there are
    none). `items` are the attributes of a sequence's items, in the order of the lists. What `is_computed` is slow.
    """

    table: Table
    expression: str
    index: str = ""
    odd: str = ""
    items: tuple[AttributePath, ...] = ()
    is_computed: bool = False


class Way(msgspec.Struct, frozen=True):
    """A short way to the rows of `table` that can match: the ids that `sql` selects. The lowest `rank` is the best."""

    rank: int
    table: Table
    sql: str


class Condition(msgspec.Struct, frozen=True):
    """What one key asks: `sql` with its named parameters, the tables that it looks at, and a short way if there is."""

    sql: str
    parameters: Parameters
    tables: frozenset[Table]
    way: Way | None = None


def condition(number: int, key: Key, columns: Mapping[AttributePath, Column]) -> Condition:
    """Compile a key on one of these columns; `number` is its place among the keys given to `register`."""
    paths = [key.path]
    if isinstance(key, DateAndTime):
        paths = [key.date_path, key.time_path, TIMEZONE_OFFSET_FROM_UTC]
    texts = ", ".join(columns[path].expression for path in paths)
    made = _Made(number, key, columns[key.path], f"key_matches({number}, {texts})")
    return Condition(made.sql(), made.parameters, frozenset(columns[path].table for path in paths), made.way())


def register(conn: sqlite3.Connection, keys: Sequence[Key], columns: Mapping[AttributePath, Column]) -> None:
    """Have `key_matches(number, text …)` ask these keys, until the next ones are given."""
    assert isinstance(conn, SearchConnection)  # the journal opens no others
    conn.tests[:] = [_test(key, columns[key.path]) for key in keys]


def values_of(text: str) -> tuple[str, ...]:
    """Split the text of a column into the attribute's values; () if it is empty."""
    return tuple(text.split("\\")) if text else ()


class _Made:
    """One key being compiled."""

    def __init__(self, number: int, key: Key, column: Column, exact: str):
        self._number, self._key, self._column, self._exact = number, key, column, exact
        self.parameters: Parameters = {}

    def sql(self) -> str:
        """Say it all."""
        key, text = self._key, self._column.expression
        empty = getattr(key, "empty_matches", False)
        if self._column.is_computed:
            return self._exact
        match key:
            case Universal():
                return "1"
            case SingleValue():
                return self._if(f"instr({text}, '\\')", self._exact, self._is_one_of([key.value], empty))
            case UidList():
                return self._if(f"instr({text}, '\\')", self._exact, self._is_one_of(sorted(key.uids), empty))
            case EmptyValue():
                return self._if(f"instr({text}, '\\')", self._exact, f"{text} = ''")
            case SequenceKey():
                return self._if(self._narrow_items(key), self._exact, "0")
        narrow = self._narrow()
        if not narrow:
            return self._exact
        several = f" OR instr({text}, '\\')"
        return self._if(f"{narrow}{several}" + (f" OR {text} = ''" if empty else ""), self._exact, "0")

    def _narrow(self) -> str:
        """Say in SQL what holds for every single value that matches and is not empty; "" for nothing."""
        key, text = self._key, self._column.expression
        match key:
            case Range(vr="DA"):
                return f"{self._between(text, key.low, key.high)} OR length({text}) <> 8"
            case DateAndTime() if key.dates is not None:
                return f"{self._between(text, *_days_around(key))} OR length({text}) <> 8"
            case WildCard() if head := _head(key.pattern):
                return self._begins_with(text, head)
            case PersonName() if piece := _longest_piece(key):
                return f"instr(lower({text}), {self._put(piece)}) OR length({text}) <> length(CAST({text} AS BLOB))"
            case NumberValue() if abs(key.number) < 1e300:
                margin = abs(key.number) * _NUMBER_MARGIN
                low, high = self._put(key.number - margin), self._put(key.number + margin)
                return f"CAST({text} AS REAL) BETWEEN {low} AND {high}"
        return ""

    def _narrow_items(self, key: SequenceKey) -> str:
        """Say what holds for the JSON of the items: a value asked for stands in it, or something is empty."""
        text = self._column.expression
        some = f"{text} = '[]'" if key.empty_matches else ""
        for inner in key.keys:
            if isinstance(inner, SingleValue):
                quoted = self._put(msgspec.json.encode(inner.value).decode()[1:-1])
                empty = f" OR instr({text}, '\"\"') OR instr({text}, '\\')" if inner.empty_matches else ""
                found = f"instr({text}, {quoted}){empty}"
                return f"{found} OR {some}" if some else found
        return f"{text} <> '[]'" + (f" OR {some}" if some else "")

    def way(self) -> Way | None:
        """Use the column's index, if it has one and this key can."""
        key, index = self._key, self._column.index
        if not index:
            return None
        match key:
            case UidList():
                rank = ("instance", "series", "study").index(self._column.table)
                return self._way_by(rank, self._is_one_of(sorted(key.uids), key.empty_matches, index))
            case SingleValue():
                return self._way_by(3, self._is_one_of([key.value], key.empty_matches, index))
            case WildCard() if head := _head(key.pattern):
                return self._way_by(4, self._begins_with(index, head), empty=key.empty_matches)
            case Range(vr="DA"):
                rank = 6 if key.low is None or key.high is None else 5
                return self._way_by(rank, self._between(index, key.low, key.high), empty=key.empty_matches)
            case DateAndTime() if key.dates is not None:
                rank = 6 if None in key.dates else 5
                return self._way_by(rank, self._between(index, *_days_around(key)), empty=key.empty_matches)
        return None

    def _way_by(self, rank: int, where: str, *, empty: bool = False) -> Way:
        table = self._column.table
        choices = [where, *([f"{self._column.index} = ''"] if empty else []), self._column.odd]
        return Way(rank, table, " UNION ALL ".join(f"SELECT id FROM {table} WHERE {one}" for one in choices if one))

    def _if(self, when: str, then: str, otherwise: str) -> str:
        return f"CASE WHEN {when} THEN {then} ELSE {otherwise} END"

    def _is_one_of(self, values: Sequence[str], empty: bool, text: str = "") -> str:
        among = [*values, ""] if empty else list(values)
        if len(among) == 1:
            return f"{text or self._column.expression} = {self._put(among[0])}"
        listed = self._put(msgspec.json.encode(among).decode())
        return f"{text or self._column.expression} IN (SELECT value FROM json_each({listed}))"

    def _between(self, text: str, low: str | None, high: str | None) -> str:
        if high is None:
            return f"{text} >= {self._put(low)}"
        if low is None:
            return f"({text} <= {self._put(high)} AND {text} <> '')"
        return f"{text} BETWEEN {self._put(low)} AND {self._put(high)}"

    def _begins_with(self, text: str, head: str) -> str:
        after = _after_all_that_begin_with(head)
        return f"{text} >= {self._put(head)}" + (f" AND {text} < {self._put(after)}" if after else "")

    def _put(self, value: object) -> str:
        name = f"k{self._number}_{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


def _days_around(key: DateAndTime) -> tuple[str | None, str | None]:
    """Give the dates between which the stored one must lie; with zones it may be a day off, so months are taken."""
    assert key.dates is not None
    low, high = key.dates
    if key.offset_min is None:
        return low, high
    return low and _month(low, -1) + "00", high and _month(high, 1) + "99"


def _month(day: str, by: int) -> str:
    months = int(day[:4]) * 12 + int(day[4:6]) - 1 + by
    return f"{max(months, 0) // 12:04}{max(months, 0) % 12 + 1:02}" if months < 120_000 else "9999"


def _head(pattern: str) -> str:
    return pattern.replace("?", "*").partition("*")[0]


def _after_all_that_begin_with(head: str) -> str:
    """Give the first text behind those that begin with `head`, in the order of code points; "" if there is none."""
    while head:
        last = ord(head[-1]) + 1
        head = head[:-1]
        if last <= _LAST_CHARACTER:
            return head + chr(_SURROGATES.stop if last in _SURROGATES else last)
    return ""


def _longest_piece(key: PersonName) -> str:
    """Give the longest text that every name that fits has in it, once it is folded."""
    texts = "^".join(key.groups).replace("*", "^").replace("?", "^").split("^")
    return max((text.strip() for text in texts), key=len)


class _OneColumn:
    """The values of one attribute, for a key on it."""

    __slots__ = ("_texts",)

    def __init__(self, text: str):
        self._texts = tuple(text.split("\\")) if text else ()

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        return self._texts

    def items(self, tag: int) -> Sequence[_OneColumn]:
        return ()


class _Columns:
    """The values of some attributes, and the items of one sequence."""

    __slots__ = ("_items", "_texts")

    def __init__(self, texts: Mapping[AttributePath, str], items: Sequence[_Columns] = ()):
        self._texts, self._items = texts, items

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        return values_of(self._texts.get(path, ""))

    def items(self, tag: int) -> Sequence[_Columns]:
        return self._items


def _test(key: Key, column: Column) -> Callable[..., bool]:
    matches = key.matches
    if isinstance(key, DateAndTime):
        paths = (key.date_path, key.time_path, TIMEZONE_OFFSET_FROM_UTC)
        return lambda *texts: matches(_Columns(dict(zip(paths, texts, strict=True))))
    if isinstance(key, SequenceKey):
        return lambda text: matches(_Columns({}, _read_items(text, column.items)))
    return lambda text: matches(_OneColumn(text))


def _read_items(text: str, paths: Sequence[AttributePath]) -> list[_Columns]:
    items = msgspec.json.decode(text, type=list[list[str]])
    return [_Columns(dict(zip(paths, item, strict=True))) for item in items]
