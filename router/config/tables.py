"""Turn parsed TOML tables into the structs of `model.py`, reporting every problem instead of the first.

Generic over the struct's fields: types, ranges and forms are read from their annotations. No key is known by name here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import inspect

from router.config.forms import Unfit, show
from router.config.locate import KeyLines, nearest, show_place
from router.config.model import Listen
from router.config.values import read_value
from router.errors import ConfigError

Keys = tuple[str, ...]

_ENTRY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ENTRY_RULE = "1 to 64 letters, digits, hyphens and underscores"


class TableReader:
    """Reads the tables of one file. `errors` grows; what could be read is given, so that one mistake hides no other."""

    def __init__(self, file: Path, text: str):
        self.errors: list[ConfigError] = []
        self._file = file
        self._text = text
        self._lines: KeyLines | None = None

    def report(self, table: Keys, key: Keys, problem: str, allowed: str = "", hint: str = "") -> None:
        """Note a problem of `key` in `table`, or of the table itself when `key` is ()."""
        self._lines = self._lines or KeyLines(self._text)
        path = (*table, *key)
        place = show_place(path, len(table))
        self.errors.append(ConfigError(str(self._file), place, problem, allowed, hint, self._lines.locate(path)))

    def read_struct(self, kind: inspect.StructType, raw: object, at: Keys, **given: object) -> Any | None:
        """Read one table. `given` are fields that do not stand in it. None when a required key is missing or wrong."""
        if not isinstance(raw, Mapping):
            self.report(
                at[:-1], at[-1:], f"is {show(raw)}, not a table", hint=f"it begins with a line [{'.'.join(at)}]"
            )
            return None
        fields = {field.name: field for field in kind.fields if field.name not in given}
        known = [*fields, kind.tag_field] if kind.tag_field else [*fields]
        for name in raw:
            if name not in known:
                self._report_unknown(kind, at, name, known, is_table=isinstance(raw[name], Mapping))
        values = dict(given)
        is_whole = True
        for name, field in fields.items():
            value = (
                self._read_field(field, raw[name], (*at, name)) if name in raw else self._default(field, (*at, name))
            )
            if name not in raw and field.required:
                self.report(at, (), f"{name} is missing")
            if value is not None:
                values[name] = value
            elif field.required:
                is_whole = False
        return kind.cls(**values) if is_whole else None

    def _default(self, field: inspect.Field, at: Keys) -> object | None:
        """Give what holds when a key or table is not there. Paths among it are taken from the file's folder as well."""
        if isinstance(field.type, inspect.StructType) and field.type.cls is not Listen:
            return self.read_struct(field.type, {}, at)
        return self._file.parent / field.default if isinstance(field.default, Path) else None

    def _report_unknown(
        self, kind: inspect.StructType, at: Keys, name: str, known: Iterable[str], *, is_table: bool
    ) -> None:
        likely = nearest(name, known)
        homes = [field.name for field in kind.fields if any(name in _names(struct) for struct in _structs(field.type))]
        if homes:
            hint = f"it belongs into {' or '.join(f'[{show_place((*at, home), 0)}]' for home in homes)}"
        else:
            hint = f"did you mean {likely}?" if likely else ""
        allowed = "" if hint else ", ".join(sorted(known))
        self.report((*at, name) if is_table else at, () if is_table else (name,), "is not known here", allowed, hint)

    def _read_field(self, field: inspect.Field, raw: object, at: Keys) -> object | None:
        match field.type:
            case inspect.StructType(cls=cls) as kind if cls is not Listen:
                return self.read_struct(kind, raw, at)
            case inspect.DictType(value_type=inspect.StructType() | inspect.UnionType()) as kind:
                return self._read_entries(kind.value_type, raw, at)
            case inspect.DictType() as kind:
                return self._read_texts(kind, raw, at)
            case inspect.UnionType() as kind if _structs(kind):
                return self._read_one_of(kind, raw, at)
            case kind:
                try:
                    return read_value(kind, at[-1], raw, self._file.parent)
                except Unfit as unfit:
                    self.report(at[:-1], at[-1:], unfit.problem, unfit.allowed, unfit.hint)
                    return None

    def _read_entries(self, kind: inspect.Type, raw: object, at: Keys) -> dict[str, Any]:
        """Read `[destinations.<name>]` tables."""
        entries: dict[str, Any] = {}
        if not isinstance(raw, Mapping):
            self.report((), at, f"is {show(raw)}, not a table", hint=f"write a table [{'.'.join(at)}.NAME] for each")
            return entries
        for name, table in raw.items():
            place = (*at, name)
            if not _ENTRY_NAME.fullmatch(name):
                self.report(place, (), f"{show(name)} is not a usable name", _ENTRY_RULE)
            if not isinstance(table, Mapping):
                hint = f"write a table [{'.'.join(at)}.NAME] for each"
                self.report(at, (name,), f"is {show(table)}, not a table", hint=hint)
                continue
            struct = self._choose(kind, table, place)
            entry = self.read_struct(struct, table, place, name=name) if struct else None
            if entry is not None:
                entries[name] = entry
        return entries

    def _read_one_of(self, kind: inspect.UnionType, raw: object, at: Keys) -> Any | None:
        """Read a table that stands in a table: one that may be missing, or one of several that its tag tells apart."""
        struct = self._choose(kind, raw, at) if isinstance(raw, Mapping) else _structs(kind)[0]
        return self.read_struct(struct, raw, at) if struct else None

    def _choose(self, kind: inspect.Type, table: Mapping[str, object], at: Keys) -> inspect.StructType | None:
        """Give the struct of this entry: the only one, or the one that its tag names."""
        structs = _structs(kind)
        if len(structs) == 1:
            return structs[0]
        by_tag = {str(struct.tag): struct for struct in structs}
        tag_field = str(structs[0].tag_field)
        allowed = " or ".join(map(show, by_tag))
        if tag_field not in table:
            misspelt = nearest(tag_field, set(table) - {name for struct in structs for name in _names(struct)})
            if misspelt:
                self.report(at, (misspelt,), "is not known here", hint=f"did you mean {tag_field}?")
            else:
                self.report(at, (), f"{tag_field} is missing", allowed)
            return None
        tag = table[tag_field]
        struct = by_tag.get(tag) if isinstance(tag, str) else None
        if struct is None:
            likely = nearest(tag, by_tag) if isinstance(tag, str) else None
            hint = f"did you mean {show(likely)}?" if likely else ""
            self.report(at, (tag_field,), f"{show(tag)} is not known", allowed, hint)
        return struct

    def _read_texts(self, kind: inspect.DictType, raw: object, at: Keys) -> dict[str, object] | None:
        """Read a table of free names, such as `headers`. A value may be a secret: it is not repeated."""
        if not isinstance(raw, Mapping):
            self.report(at[:-1], at[-1:], f"is {show(raw)}, not a table", hint=f'write {at[-1]} = {{ Name = "value" }}')
            return None
        texts = {}
        for name, text in raw.items():
            try:
                if not isinstance(text, str):
                    raise Unfit("is not a text")
                name_read = read_value(kind.key_type, name, name, self._file.parent)
                texts[str(name_read)] = read_value(kind.value_type, name, text, self._file.parent)
            except Unfit as unfit:
                self.report(at[:-1], (at[-1], name), unfit.problem, unfit.allowed, unfit.hint)
        return texts


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """The structs that a field of type `kind` may hold."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [one for one in kinds if isinstance(one, inspect.StructType)]


def _names(kind: inspect.StructType) -> tuple[str, ...]:
    return tuple(field.name for field in kind.fields)
