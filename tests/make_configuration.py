"""Write the reference part of docs/configuration.md: each table and key of router.toml, from `router/config/model.py`.

Forms, ranges and defaults are those that the loader checks. What a key is for stands in one place: in the docstring
behind it in model.py, and only where there is none in its comment in the shipped router.toml. Everything outside of the
two markers in the page is written by hand and stays. `make configuration` runs this.
"""

from __future__ import annotations

import ast
import inspect as python_inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from router.config import forms
from router.config.model import Config, Listen

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
SHIPPED = ROOT / "router.toml"
BEGIN = "<!-- Made by `make configuration` from router/config/model.py and router.toml. Change those. -->\n"
END = "<!-- The end of what `make configuration` makes. -->\n"

FORMS = {
    "ae_title": "AE title",
    "optional_ae_title": 'AE title, or `""`',
    "host": "name or address",
    "url": "http(s) URL",
    "optional_url": 'http(s) URL, or `""`',
    "network": "address or network",
    "base_path": 'path of a URL, or `""`',
    "header_name": "Name",
    "header_value": "text",
}
"""The forms of `config/forms.py` in a few words; a form that is not here is an error."""

FINE = {"name", "file"}
"""Fields that are no keys: the name stands in the table's header, the file is the one that is read."""

MUST = "**must be given**"

_OUR_NUMBERS = re.compile(r",? ?\b(?:B[0-9]+|O-[0-9]+|D[0-9]+)\b")
"""Numbers of our own lists, which say nothing to who configures."""

_DEFAULT = re.compile(r"; (?:no default|default: (.+))$")
"""How a comment of router.toml ends that tells of a default; here the default has a column of its own."""

_HEADER = re.compile(r"#?\[([a-z0-9_.]+)\]")
_KEY = re.compile(r"#?([a-z_0-9]+) = (.+?)\s+# (\S.*)")
_CONTINUED = re.compile(r"#?\s+# (\S.*)")


@dataclass(frozen=True)
class Key:
    """A row of the page: everything is Markdown."""

    name: str
    form: str
    default: str
    purpose: str


@dataclass(frozen=True)
class Table:
    """A section of the page. `path` is as in `[destinations.<name>]`; `kind` is "" where there is only one."""

    path: str
    kind: str
    purpose: str
    keys: tuple[Key, ...]

    @property
    def heading(self) -> str:
        return f"`[{self.path}]`" + (f', `kind = "{self.kind}"`' if self.kind else "")


def make_page(page: str, shipped: str) -> str:
    """Give `page` with what stands between its markers made anew; `shipped` is the text of router.toml."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page lacks one of the lines\n{BEGIN}{END}")
    tables = list(tables_of(comments_of(shipped)))
    return before + BEGIN + "\n" + "\n".join(map(_write_table, tables)) + "\n" + END + after


def tables_of(comments: Mapping[tuple[str, str, str], str]) -> Iterator[Table]:
    """Give all tables in the order of the structs. Raises ValueError for a key of which nothing says what it is for."""
    yield from _tables(_struct(Config), "", comments)


def comments_of(shipped: str) -> dict[tuple[str, str, str], str]:
    """Read the comments of router.toml: (path of the table, its kind or "", key) to what stands behind the key."""
    found: dict[tuple[str, str, str], str] = {}
    path, kind, last = "", "", None
    for line in shipped.splitlines():
        if header := _HEADER.match(line):
            path, kind, last = _generic(header[1]), "", None
        elif key := _KEY.match(line):
            if key[1] == "kind":
                kind = key[2].strip('"')
            last = (path, kind, key[1])
            if last in found:
                last = None
            else:
                found[last] = key[3]
        elif last and (more := _CONTINUED.fullmatch(line)):
            found[last] += " " + more[1]
        else:
            last = None
    return found


def _generic(path: str) -> str:
    """Write `destinations.archive.c_store` as `destinations.<name>.c_store`."""
    top, *below = path.split(".")
    return ".".join([top, "<name>", *below[1:]]) if below else top


def _tables(struct: inspect.StructType, path: str, comments: Mapping[tuple[str, str, str], str]) -> Iterator[Table]:
    kind = str(struct.tag) if struct.tag_field else ""
    own, below = [], []
    for field in struct.fields:
        at = f"{path}.{field.name}" if path else field.name
        if field.name in FINE:
            continue
        if isinstance(field.type, inspect.DictType) and (entries := _structs(field.type.value_type)):
            below += [(entry, f"{at}.<name>") for entry in entries]
        elif tables := _structs(field.type):
            below += [(table, at) for table in tables]
        else:
            own.append(_key(struct.cls, field, comments.get((path, kind, field.name), "")))
    if kind:
        own.insert(0, Key("kind", f'`"{kind}"`', MUST, _sentence(comments[path, kind, "kind"])))
    if path:
        yield Table(path, kind, _class_purpose(struct.cls), tuple(own))
    for table, at in below:
        yield from _tables(table, at, comments)


def _struct(cls: type) -> inspect.StructType:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return kind


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """The tables that a field of type `kind` may hold; `Listen` is written as one text."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [one for one in kinds if isinstance(one, inspect.StructType) and one.cls is not Listen]


def _key(cls: type, field: inspect.Field, comment: str) -> Key:
    told = _DEFAULT.search(comment)
    purpose = docstrings(cls).get(field.name) or _DEFAULT.sub("", comment)
    if not purpose:
        raise ValueError(f"{cls.__name__}.{field.name} has no docstring, and no comment in router.toml")
    default = _default(field)
    if default == "none" and told:
        default = told[1]
    return Key(field.name, _form(field.type, cls, field.name), default, _sentence(purpose))


def docstrings(cls: type) -> dict[str, str]:
    """Read the docstrings of a struct's attributes, inherited ones too: the text that stands behind each annotation."""
    found = docstrings(cls.__base__) if cls.__base__ not in (None, msgspec.Struct) else {}
    [tree] = ast.parse(python_inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = python_inspect.cleandoc(below.value.value)
    return found


def _class_purpose(cls: type) -> str:
    """Give the class docstring without the table that it begins with, which is the heading."""
    text = python_inspect.cleandoc(cls.__doc__ or "")
    if text.startswith("`"):
        text = text.partition(": ")[2]
    return _sentence(text, "\n")


def _sentence(text: str, between: str = " ") -> str:
    text = _OUR_NUMBERS.sub("", text).replace(" ()", "")
    text = between.join(line.strip() for line in text.splitlines())
    text = text.rstrip(".") + "." if not text.endswith(("...", ":")) else text
    return text[:1].upper() + text[1:]


def _form(kind: inspect.Type, cls: type, name: str) -> str:
    match kind:
        case inspect.BoolType():
            return "`true` or `false`"
        case inspect.IntType() | inspect.FloatType():
            return _number(kind, name)
        case inspect.LiteralType():
            *most, last = [f"`{json.dumps(value)}`" for value in _choices(cls, name)]
            return f"{', '.join(most)} or {last}"
        case inspect.ListType(item_type=item):
            return f"list of: {_form(item, cls, name)}"
        case inspect.DictType(key_type=key, value_type=value):
            return f'`{{ {_form(key, cls, name)} = "{_form(value, cls, name)}", … }}`'
        case inspect.UnionType(types=types):
            [one] = [one for one in types if not isinstance(one, inspect.NoneType)]
            return _form(one, cls, name)
        case inspect.Metadata(extra={"form": form}):
            return FORMS[form]
        case inspect.StructType():
            return "`address:port`"
        case inspect.CustomType():
            return "path"
    raise ValueError(f"no words for {kind}, the type of {name}")


def _choices(cls: type, name: str) -> tuple[str, ...]:
    """Give the values of a Literal in the order in which they are written; msgspec sorts them."""
    hint = get_type_hints(cls)[name]
    while get_origin(hint) is not Literal:
        hint = get_args(hint)[0]
    return get_args(hint)


def _number(kind: inspect.IntType | inspect.FloatType, name: str) -> str:
    what, show = ("whole number" if isinstance(kind, inspect.IntType) else "number"), "{:,.12g}".format
    if name.endswith("_bytes"):
        what, show = "size", forms.show_size
    elif name.endswith("_s") and not name.endswith("_per_s"):
        what, show = "time", forms.show_duration
    if kind.ge is None or kind.le is None:
        raise ValueError(f"{name} has no range")
    return f"{what}, {show(kind.ge)} to {show(kind.le)}"


def _default(field: inspect.Field) -> str:
    if field.required:
        return MUST
    if field.default_factory is not msgspec.NODEFAULT:
        return _toml(field.default_factory(), field.name)
    return _toml(field.default, field.name)


def _toml(value: object, name: str) -> str:
    """Write a default as it would stand in router.toml."""
    match value:
        case None:
            return "none"
        case Listen(host=host, port=port):
            return f'`"{host}:{port}"`'
        case bool():
            return f"`{str(value).lower()}`"
        case Path():
            return f'`"{value}"`'
        case int() | float() if value and name.endswith("_bytes"):
            return f'`"{forms.show_size(value).replace(" ", "")}"`'
        case int() | float() if value and name.endswith("_s") and not name.endswith("_per_s"):
            return f'`"{forms.show_duration(value).replace(" min", "m").replace(" ", "")}"`'
        case int() | float():
            return f"`{value:.12g}`"
        case _:
            return f"`{json.dumps(value)}`"


def _write_table(table: Table) -> str:
    lines = [f"### {table.heading}", ""]
    if table.purpose:
        lines += [table.purpose, ""]
    if table.keys:
        lines += ["| key | what it takes | default | what it is for |", "|---|---|---|---|"]
        lines += [f"| `{key.name}` | {key.form} | {key.default} | {_cell(key.purpose)} |" for key in table.keys]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """What has a `<` or a `|` would be read as something else by Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(make_page(PAGE.read_text(), SHIPPED.read_text()))
