"""The router.toml that is shipped: it loads, names all that can be set, and no mutilation of it gives a traceback."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config.load import load_config
from router.config.model import (
    Config,
    DimseDestination,
    DimseUpstream,
    Listen,
    Peer,
    Proxy,
    SendRsDestination,
    StoreReach,
    StowDestination,
    StowReach,
    WebUpstream,
)
from router.errors import ConfigError, ConfigErrors

SHIPPED = Path(__file__).parents[3] / "router.toml"
MUTATIONS = 200
WITH_TABLES_OR_ELSEWHERE = {
    "destinations.archive": {"stow_rs"},
    "destinations.cloud": {"c_store"},
    "proxies.pacs": {"upstream", "ae_title"},
    "proxies.far": {"upstream", "base_path"},
}
"""Keys that are tables of their own, or have no use with that kind of upstream."""


def uncommented() -> str:
    """The shipped file with every key that stands in a comment taken out of it; files that it names are left out."""
    text = re.sub(r"^#(?=\[|[a-z_0-9]+ = )", "", SHIPPED.read_text(), flags=re.MULTILINE)
    return re.sub(r"^(bearer_token_file|ca_file) = .*$", r"", text, flags=re.MULTILINE)


def load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "router.toml"
    file.write_text(text)
    return load_config(file)


def test_the_shipped_file_loads_and_is_what_holds_without_it(tmp_path: Path) -> None:
    empty = load(tmp_path, "")
    shipped = load(tmp_path, SHIPPED.read_text())
    assert shipped == empty


def test_what_the_comments_show_are_the_defaults(tmp_path: Path) -> None:
    plain, full = load(tmp_path, ""), load(tmp_path, uncommented())
    for table in ("dicom", "http", "state", "rules", "sending", "log", "commitment"):
        assert getattr(full, table) == getattr(plain, table), table
    assert full.destinations == {
        "archive": DimseDestination(name="archive", ae_title="ARCHIVE", host="10.1.2.3"),
        "cloud": StowDestination(name="cloud", url="https://pacs.example/dicom-web", headers={"X-Site": "north"}),
        "regional": SendRsDestination(
            name="regional",
            url="https://vna.example/dicom-web",
            target="https://far.example/dicom-web",
            headers={"X-Site": "north"},
        ),
        "vna": DimseDestination(
            name="vna",
            ae_title="VNA",
            host="10.1.2.4",
            deliver=["c-store", "stow-rs"],
            stow_rs=StowReach(url="https://vna.example/dicom-web", headers={"X-Site": "north"}),
        ),
        "gate": StowDestination(
            name="gate",
            url="https://gate.example/dicom-web",
            ae_title="GATE",
            deliver=["stow-rs", "c-store"],
            c_store=StoreReach(host="10.1.2.5"),
        ),
    }
    assert full.proxies == {
        "pacs": Proxy(name="pacs", base_path="/pacs", upstream=DimseUpstream(ae_title="PACS", host="10.1.2.6")),
        "far": Proxy(
            name="far",
            ae_title="FAR",
            upstream=WebUpstream(url="https://far.example/dicom-web", headers={"X-Site": "north"}),
        ),
    }
    assert full.peers == {"ct1": Peer(name="ct1", ae_title="CT1", address="10.1.0.0/16")}


def errors_of(tmp_path: Path, text: str) -> tuple[ConfigError, ...]:
    try:
        load(tmp_path, text)
    except ConfigErrors as errors:
        return errors.errors
    return ()


def structs_and_tables() -> Iterator[tuple[type[msgspec.Struct], str]]:
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) and field.type is not Listen:
            yield field.type, field.name
    yield DimseDestination, "destinations.archive"
    yield StowDestination, "destinations.cloud"
    yield SendRsDestination, "destinations.regional"
    yield StowReach, "destinations.vna.stow_rs"
    yield StoreReach, "destinations.gate.c_store"
    yield Proxy, "proxies.pacs"
    yield DimseUpstream, "proxies.pacs.upstream"
    yield Proxy, "proxies.far"
    yield WebUpstream, "proxies.far.upstream"
    yield Peer, "peers.ct1"


@pytest.mark.parametrize(("struct", "table"), list(structs_and_tables()), ids=lambda value: str(value))
def test_every_key_that_can_be_set_stands_in_the_shipped_file_with_a_comment(
    struct: type[msgspec.Struct], table: str
) -> None:
    text = SHIPPED.read_text()
    header = re.search(rf"^#?\[{re.escape(table)}\]", text, re.MULTILINE)
    assert header, table
    following = re.split(r"^#?\[", text[header.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    for field in msgspec.structs.fields(struct):
        if field.name != "name" and field.name not in WITH_TABLES_OR_ELSEWHERE.get(table, ()):
            assert re.search(rf"^#?{field.name} = [^#\n]+# \S", following, re.MULTILINE), f"[{table}] {field.name}"


def mutate(text: str, chance: random.Random) -> tuple[str, int, str]:
    """Spoil one line as people do; gives the text, the line, and what was done."""
    lines = text.split("\n")
    keys = [number for number, line in enumerate(lines) if re.match(r"[a-z_0-9]+ = ", line)]
    tables = [number for number, line in enumerate(lines) if line.startswith("[")]
    kind = chance.choice(["key", "table", "number", "text", "bool", "list", "quote", "value", "range", "repeat"])
    number = chance.choice(tables if kind == "table" else keys)
    line = lines[number].split("#")[0].rstrip()
    key = line.split(" = ")[0]
    spoilt = {
        "key": lambda: line[: (at := chance.randrange(len(key)))] + chance.choice("xqz7") + line[at:],
        "table": lambda: line.replace(line[1:3], line[2:0:-1]) if line[1] != line[2] else "[x" + line[1:],
        "number": lambda: f"{key} = {chance.choice([-1, 10**9, 10**20, 0.5])}",
        "text": lambda: f'{key} = "{chance.choice(["yes", "", "10XB", "-3s", chr(92) * 2, "ä" * 20])}"',
        "bool": lambda: f"{key} = {chance.choice(['True', 'yes', 'on'])}",
        "list": lambda: f"{key} = [1, 2]",
        "quote": lambda: line.replace('"', "", 1) if '"' in line else line + '"',
        "value": lambda: f"{key} =",
        "range": lambda: f"{key} = {chance.choice(['nan', 'inf', '1e30', '0x'])}",
        "repeat": lambda: f"{line}\n{line}",
    }[kind]()
    lines[number] = spoilt
    return "\n".join(lines), number + 1 + (kind == "repeat"), f"{kind}: {spoilt}"


def test_of_200_mutilations_each_is_told_and_nearly_all_on_the_right_line(tmp_path: Path) -> None:
    chance = random.Random(20_111_112)
    text = uncommented()
    told: list[tuple[int | None, int, str]] = []
    while len(told) < MUTATIONS:
        spoilt, line, what = mutate(text, chance)
        errors = errors_of(tmp_path, spoilt)
        if errors:
            nearest = min(errors, key=lambda error: abs((error.line or 0) - line))
            told.append((nearest.line, line, f"{what} -> {nearest}"))
        else:
            assert is_still_meaningful(spoilt, what), what
    wrong = [what for found, line, what in told if found != line]
    assert len(wrong) <= MUTATIONS * 0.05, "\n".join(wrong)


def is_still_meaningful(text: str, what: str) -> bool:
    """Some mutilations give another valid value: a text where any text will do, a number within its range."""
    document: dict[str, Any] = tomllib.loads(text)
    return bool(document) and what.split(":")[0] in ("number", "text", "range")
