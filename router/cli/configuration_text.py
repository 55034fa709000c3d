"""The shipped router.toml and a first rule with a person's values put in, all their comments kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Keys = Mapping[str, str | int]

COMMENT_COLUMN = 42
"""Where comments begin in the shipped file."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One to begin with: by DIMSE, or by STOW-RS when `url` is given."""

    url: str = ""
    ae_title: str = ""
    host: str = ""
    port: int = 0

    @property
    def name(self) -> str:
        """Which destination of the shipped file becomes it."""
        return "cloud" if self.url else "archive"


@dataclass(frozen=True, slots=True)
class Sender:
    ae_title: str
    address: str
    """Or the network it is in."""


@dataclass(frozen=True, slots=True)
class Values:
    """What is asked for, all of it checked."""

    ae_title: str
    listen: str
    state: str
    destination: Destination
    senders: Sequence[Sender]


def configuration_text(shipped: str, values: Values) -> str:
    """Put `values` into the text of the shipped router.toml."""
    lines = shipped.splitlines()
    _set(lines, "dicom", {"ae_title": values.ae_title, "listen": values.listen})
    _set(lines, "state", {"path": values.state})
    where = values.destination
    if where.url:
        _set(lines, f"destinations.{where.name}", {"kind": "stow-rs", "url": where.url})
    else:
        reach: Keys = {"kind": "dimse", "ae_title": where.ae_title, "host": where.host, "port": where.port}
        _set(lines, f"destinations.{where.name}", reach)
    for number, sender in enumerate(values.senders, start=1):
        keys: Keys = {"ae_title": sender.ae_title, "address": sender.address}
        if number == 1:
            _set(lines, "peers.ct1", keys, name="peers.sender1")
        else:
            written = (f"{key} = {_toml(value)}" for key, value in keys.items())
            lines += ["", f"[peers.sender{number}]", *written]
    return "\n".join(lines) + "\n"


def rule_text(shipped: str, values: Values) -> str:
    """Put the destination into the text of the shipped rule that sends everything to the archive."""
    name = values.destination.name
    return re.sub(r"(?m)^send = \[.*\]$", f'send = ["{name}"]', shipped).replace("the archive", f"the {name}")


def _set(lines: list[str], table: str, keys: Keys, *, name: str = "") -> None:
    """Set `keys` of a table, given as it stands or behind "#", which is taken away; keep what is said behind them."""
    at = next(at for at, line in enumerate(lines) if re.match(rf"#?\[{re.escape(table)}\]", line))
    lines[at] = lines[at].removeprefix("#").replace(f"[{table}]", f"[{name or table}]")
    for key, value in keys.items():
        found = next(n for n in range(at + 1, len(lines)) if re.match(rf"#?{key} = ", lines[n]))
        comment = re.search(r"(?<= )# .*$", lines[found])
        written = f"{key} = {_toml(value)}"
        lines[found] = f"{written:<{COMMENT_COLUMN - 1}} {comment[0]}" if comment else written


def _toml(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)
