"""What a person asks for on the command line, KEYWORD=VALUE, as the Identifier of a C-FIND or C-MOVE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from router.cli.nodes import bad
from router.dicom.attributes import AttributePath, UnknownAttribute, attribute_path, path_name, vr_of
from router.dicom.json_model import JsonDataSet, element
from router.dicom.matcher import InvalidKey, MatchOptions, parse_key
from router.dicom.matcher_keys import Universal

KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        "-k",
        metavar="KEYWORD=VALUE",
        help="Only what matches; also a tag, or Sequence.Keyword; may be repeated.",
    ),
]
_OPTION = "--key"


def read_keys(texts: Sequence[str]) -> JsonDataSet:
    """Read KEYWORD=VALUE; without a value it is only asked back. Several UIDs stand between commas, or are repeated.

    Raises typer.BadParameter.
    """
    found: dict[AttributePath, tuple[str, ...]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        path = _path(name, _OPTION)
        is_uid = vr_of(path[-1]) == "UI"
        values = tuple(value.replace("\\", ",").split(",")) if is_uid else (value,)
        if path in found and not is_uid:
            bad(_OPTION, f"{path_name(path)} is given twice, and only UIDs can be several")
        found[path] = found.get(path, ()) + values
    data_set: JsonDataSet = {}
    for path, values in found.items():
        _put(data_set, path, _checked(path, values))
    return data_set


def add_returned(data_set: JsonDataSet, names: Iterable[str]) -> list[AttributePath]:
    """Ask back what `names` name (each may be several, with commas) besides what is there; give their paths."""
    paths = [_path(name.strip(), "--return") for text in names for name in text.split(",") if name.strip()]
    for path in paths:
        if not _has(data_set, path):
            _put(data_set, path, ())
    return paths


def _path(name: str, option: str) -> AttributePath:
    try:
        path = attribute_path(name.strip())
    except UnknownAttribute as error:
        bad(option, str(error))
    if path[0] == 0x00080052:
        bad(option, "the level has an option of its own: --level")
    return path


def _checked(path: AttributePath, values: tuple[str, ...]) -> tuple[str, ...]:
    """Give the values to be sent, none for a key that matches everything."""
    vr = vr_of(path[-1])
    if vr in ("SQ", "UN"):
        return tuple(filter(None, values))
    try:
        key = parse_key(path, values if len(values) > 1 else values[0], options=MatchOptions(date_and_time=True))
    except InvalidKey as error:
        bad(_OPTION, f"{path_name(path)} has a value that cannot be matched: {error}")
    return () if isinstance(key, Universal) else tuple(filter(None, values))


def _has(data_set: JsonDataSet, path: AttributePath) -> bool:
    here = data_set.get(f"{path[0]:08X}")
    return here is not None and (len(path) == 1 or any(_has(item, path[1:]) for item in here.get("Value", ())))


def _put(data_set: JsonDataSet, path: AttributePath, values: Sequence[str]) -> None:
    """Put a key where it belongs: those of one sequence into one item of it."""
    name = f"{path[0]:08X}"
    if len(path) > 1:
        item = data_set.setdefault(name, {"vr": "SQ", "Value": [{}]}).setdefault("Value", [{}])[0]
        _put(item, path[1:], values)
    elif vr_of(path[0]) == "SQ":
        data_set.setdefault(name, {"vr": "SQ"})
    else:
        data_set[name] = element(path[0], values)
