"""Turn one TOML value into what a field of a struct holds, by the type, range and form that its annotation gives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec import inspect

from router.config import forms
from router.config.forms import Unfit, show


def read_value(kind: inspect.Type, name: str, raw: object, folder: Path) -> object:
    """Turn one TOML value into what a field of type `kind` holds. Raises Unfit. Paths are taken from `folder`."""
    match kind:
        case inspect.BoolType():
            if not isinstance(raw, bool):
                raise Unfit(f"{show(raw)} is not a yes or no", "true or false, without quotes")
            return raw
        case inspect.IntType() | inspect.FloatType():
            return _read_number(kind, name, raw)
        case inspect.LiteralType(values=values):
            if raw not in values:
                raise Unfit(f"{show(raw)} is not known", " or ".join(show(value) for value in values))
            return raw
        case inspect.ListType(item_type=item):
            if not isinstance(raw, list):
                raise Unfit(f"{show(raw)} is not a list", hint=f"write it in brackets: {name} = [{show(raw)}]")
            return [read_value(item, name, value, folder) for value in raw]
        case inspect.UnionType(types=types):
            return read_value(next(t for t in types if not isinstance(t, inspect.NoneType)), name, raw, folder)
        case _:
            if not isinstance(raw, str):
                quoted = isinstance(raw, int | float) and not isinstance(raw, bool)
                raise Unfit(
                    f"{show(raw)} is not a text", hint=f'write it in quotes: {name} = "{raw}"' if quoted else ""
                )
            return _read_text(kind, raw, folder)


def _read_text(kind: inspect.Type, raw: str, folder: Path) -> object:
    match kind:
        case inspect.Metadata(extra={"form": form}):
            return forms.FORMS[form](raw)
        case inspect.StructType():
            return forms.listen(raw)
        case inspect.CustomType():
            return _read_path(raw, folder)
        case _:
            return raw


def _read_path(raw: str, folder: Path) -> Path:
    if not raw or not raw.isprintable():
        raise Unfit("is empty" if not raw else f"{show(raw)} holds control characters", "the path of a file or folder")
    if raw.startswith("~"):
        raise Unfit(f"{show(raw)} begins with ~, which means another folder for each user", hint="write the whole path")
    return (folder / raw).absolute()


def _read_number(kind: inspect.IntType | inspect.FloatType, name: str, raw: object) -> int | float:
    unit = _unit_of(name)
    allowed = _range(kind, unit)
    value = raw
    if isinstance(raw, str) and unit is not None:
        value = unit.read(raw)
    is_whole = isinstance(kind, inspect.IntType)
    if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float) or not math.isfinite(value):
        digits = isinstance(raw, str) and re.fullmatch(r"[0-9]+", raw, re.ASCII)
        hint = f"write it without quotes: {name} = {raw}" if digits else ""
        raise Unfit(f"{show(raw)} is not a {'whole ' * is_whole}number", allowed, hint)
    if (kind.ge is not None and value < kind.ge) or (kind.le is not None and value > kind.le):
        raise Unfit(f"{show(raw)} is out of range", allowed)
    return int(value) if is_whole else float(value)


class _Unit(NamedTuple):
    read: Callable[[str], float]
    show: Callable[[float], str]
    examples: str


_TIME = _Unit(forms.duration, forms.show_duration, 'in seconds, or as a text such as "30s" or "5m"')
_SIZE = _Unit(forms.size, forms.show_size, 'in bytes, or as a text such as "64MiB"')


def _unit_of(name: str) -> _Unit | None:
    if name.endswith("_bytes"):
        return _SIZE
    return _TIME if name.endswith("_s") and not name.endswith("_per_s") else None


def _range(kind: inspect.IntType | inspect.FloatType, unit: _Unit | None) -> str:
    show_end = unit.show if unit else "{:g}".format
    if kind.ge is None or kind.le is None:
        return unit.examples if unit else ""
    text = f"{show_end(kind.ge)} to {show_end(kind.le)}"
    return f"{text}, {unit.examples}" if unit else text
