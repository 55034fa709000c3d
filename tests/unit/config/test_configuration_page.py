"""docs/configuration.md: it is what the structs say, and all that router.toml shows is on it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from make_configuration import BEGIN, END, PAGE, SHIPPED, Table, comments_of, docstrings, make_page, tables_of

from router.app import _needs_restart
from router.config import forms, model


def test_the_page_is_up_to_date() -> None:
    assert make_page(PAGE.read_text(), SHIPPED.read_text()) == PAGE.read_text(), "run: make configuration"


def shipped_keys(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Give path, kind and name of each key, as the page has them: `destinations.<name>`, `dimse`, `port`."""
    for name, value in document.items():
        if not isinstance(value, dict) or name == "headers":
            yield path, document.get("kind", ""), name
        elif path in ("destinations", "proxies", "peers"):
            yield from shipped_keys(value, f"{path}.<name>")
        else:
            yield from shipped_keys(value, f"{path}.{name}" if path else name)


def test_each_key_of_the_shipped_file_is_on_the_page_in_its_table() -> None:
    everything = re.sub(r"^#(?=\[|[a-z_0-9]+ = )", "", SHIPPED.read_text(), flags=re.MULTILINE)
    wanted = set(shipped_keys(tomllib.loads(everything)))
    assert len(wanted) > 100
    page = PAGE.read_text()
    for path, kind, name in wanted:
        heading = f"### `[{path}]`" + (f', `kind = "{kind}"`' if kind else "") + "\n"
        assert page.count(heading) == 1, heading
        section = page.partition(heading)[2].partition("\n### ")[0]
        assert section.count(f"\n| `{name}` | ") == 1, f"{heading} {name}"


def tables() -> list[Table]:
    return list(tables_of(comments_of(SHIPPED.read_text())))


def test_each_row_says_form_default_and_purpose_without_numbers_of_our_lists() -> None:
    for table in tables():
        assert table.purpose, table.heading
        for key in table.keys:
            assert key.form, key
            assert key.default, key
            assert len(key.purpose) > 8, key
            assert not re.search(r"\b[BDO]-?[0-9]+\b|; no default|default:|\n", key.purpose), key


def test_a_default_as_it_is_written_is_the_default() -> None:
    """What the page shows can be copied into router.toml: read as the loader reads it, it is the struct's default."""
    by_path = {(table.path, table.kind): table for table in tables()}
    for struct, path, kind in (
        (model.DicomConfig, "dicom", ""),
        (model.HttpConfig, "http", ""),
        (model.StateConfig, "state", ""),
        (model.SendingConfig, "sending", ""),
        (model.CommitmentConfig, "commitment", ""),
        (model.StowDestination, "destinations.<name>", "stow-rs"),
    ):
        keys = {key.name: key for key in by_path[path, kind].keys}
        for field in msgspec.structs.fields(struct):
            if field.type in (int, float) or isinstance(field.default, int | float):
                shown: Any = tomllib.loads(f"v = {keys[field.name].default.strip('`')}")["v"]
                if isinstance(shown, str):
                    shown = (forms.size if field.name.endswith("_bytes") else forms.duration)(shown)
                assert shown == field.default, f"[{path}] {field.name}"


def test_a_key_that_nothing_explains_is_noticed() -> None:
    comments = comments_of(SHIPPED.read_text())
    assert "port" not in docstrings(model.DimseDestination)
    del comments["destinations.<name>", "dimse", "port"]
    with pytest.raises(ValueError, match=r"DimseDestination\.port has no docstring"):
        list(tables_of(comments))


def test_comments_are_read_with_their_table_kind_and_further_lines() -> None:
    text = '[a]\nx = 1   # one\n#y = "#" # two\n         # and more\n\n#[a.b]\n#kind = "k" # by k\n#z = 1 # three\n'
    assert comments_of(text) == {
        ("a", "", "x"): "one",
        ("a", "", "y"): "two and more",
        ("a.<name>", "k", "kind"): "by k",
        ("a.<name>", "k", "z"): "three",
    }


def test_what_is_written_by_hand_stays() -> None:
    made = make_page(f"before\n{BEGIN}old\n{END}after\n", SHIPPED.read_text())
    assert made.startswith(f"before\n{BEGIN}\n### `[dicom]`\n")
    assert made.endswith(f"{END}after\n")
    assert "old\n" not in made
    with pytest.raises(ValueError, match="lacks one of the lines"):
        make_page("without markers\n", SHIPPED.read_text())


def test_what_a_reload_does_not_take_over_is_on_the_page() -> None:
    before = model.Config(file=SHIPPED)
    anywhere = model.Listen("127.0.0.1", 0)
    upstream = model.WebUpstream(url="http://127.0.0.1")
    after = model.Config(
        file=SHIPPED,
        dicom=model.DicomConfig(listen=anywhere, max_pdu_bytes=4096, connections_per_s=1, connections_burst=1),
        http=model.HttpConfig(listen=anywhere),
        state=model.StateConfig(path=SHIPPED.parent),
        log=model.LogConfig(level="debug"),
        proxies={"far": model.Proxy(name="far", upstream=upstream)},
    )
    named = _needs_restart(before, after)
    assert len(named) == 8
    section = PAGE.read_text().partition("## What a reload takes over\n")[2].partition("\n## ")[0]
    assert [name for name in named if f"`{name}`" not in section] == []
