"""`sendrs status`: is it running, what does it hold, how is each destination."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from rich.text import Text

from router.cli.console import count_of, print_json, print_lines, print_table, show_age, show_bytes
from router.cli.options import ConfigOption, JsonOption
from router.cli.reading import read_journal
from router.config.load import load_config
from router.config.model import Config
from router.config.state_folder import UNSAFE_FILESYSTEMS, filesystem_of
from router.journal import proxied
from router.journal.lock import holder_of
from router.journal.overview import DestinationOverview, Totals, destinations, totals
from router.journal.proxied import ProxyOverview

_PROXY_COLUMNS = ("PROXY", "REQUESTS", "WAITING", "DELIVERED", "WARNINGS", "FAILED", "NOTE…")
_COLUMNS = ("DESTINATION", "STATE", "WAITING", "SENDING", "DELIVERED", "WARNINGS", "PARKED", "OLDEST", "NOTE…")
READY = "ready"
_COLOURS = {"ready": "green", "waiting": "yellow", "misconfigured": "red"}


class Status(msgspec.Struct, frozen=True):
    """What `--json` prints. `process` is None when the router is not running, 0 when its number cannot be read."""

    config: str
    state_folder: str
    filesystem: str
    process: int | None
    totals: Totals
    destinations: list[DestinationOverview]
    proxies: list[ProxyOverview]


def status(config: ConfigOption, as_json: JsonOption = False) -> int:
    """Show how the router and its destinations are.

    For example: sendrs status --json
    """
    loaded = load_config(config)
    found = _read(loaded)
    if as_json:
        print_json(found)
    else:
        _print(found, loaded)
    return 0


def _read(config: Config) -> Status:
    def query(conn: Any) -> tuple[Totals, list[DestinationOverview], list[ProxyOverview]]:
        return totals(conn), destinations(conn), proxied.overview(conn)

    counted, known, proxies = read_journal(config.state.path, query)
    rows = {row.name: msgspec.structs.replace(row, state=row.state or READY) for row in known}
    for name in config.destinations:
        rows.setdefault(name, _unused(name))
    return Status(
        config=str(config.file),
        state_folder=str(config.state.path),
        filesystem=filesystem_of(config.state.path),
        process=holder_of(config.state.path),
        totals=counted,
        destinations=[rows[name] for name in sorted(rows)],
        proxies=proxies,
    )


def _unused(name: str) -> DestinationOverview:
    """A destination for which there was nothing to do yet."""
    return DestinationOverview(
        name=name,
        state=READY,
        reason="",
        since=None,
        retry_at=None,
        remaining=0,
        in_flight=0,
        completed=0,
        warning=0,
        failed=0,
        oldest_created_at=None,
        next_due_at=None,
    )


def _print(found: Status, config: Config) -> None:
    running = Text("not running", style="bold red")
    if found.process is not None:
        running = Text(f"running (process {found.process})" if found.process else "running", style="bold green")
    sums = found.totals
    print_lines(
        Text.assemble("sendrs is ", running, f", state in {found.state_folder}"),
        f"{count_of(sums.instances, 'instance', 'instances')} kept ({show_bytes(sums.bytes)}), "
        f"{sums.unrouted:,} unrouted, {sums.remaining:,} on the way, {sums.parked:,} parked",
    )
    if found.filesystem in UNSAFE_FILESYSTEMS:
        risk = f"unsafe: the state folder is on {found.filesystem}, which {UNSAFE_FILESYSTEMS[found.filesystem]}"
        print_lines(Text(risk, style="yellow"))
    if found.destinations:
        print_lines("")
        now = time.time()
        print_table(_COLUMNS, (_row(row, config, now) for row in found.destinations))
    if found.proxies:
        print_lines("")
        print_table(_PROXY_COLUMNS, map(_proxy_row, found.proxies))
    places = (
        (sums.unrouted, "sendrs unrouted"),
        (sums.parked, "sendrs parked"),
        (sums.failed - sums.parked, "sendrs jobs (what was asked for and failed)"),
    )
    hints = [place for number, place in places if number]
    if hints:
        print_lines("", f"See also: {', '.join(hints)}")


def _proxy_row(row: ProxyOverview) -> list[object]:
    return [row.name, row.requests, row.remaining, row.completed, row.warning, row.failed, row.reason]


def _row(row: DestinationOverview, config: Config, now: float) -> list[object]:
    notes: list[str] = []
    if row.confirming:
        notes.append(f"{count_of(row.confirming, 'instance', 'instances')} waiting for commitment")
    if row.name not in config.destinations:
        notes.append("no longer in the configuration")
    if row.reason and row.state != READY:
        notes.append(row.reason)
    if row.retry_at is not None and row.state != READY:
        notes.append(f"asked again in {show_age(row.retry_at - now)}" if row.retry_at > now else "being asked again")
    return [
        row.name,
        Text(row.state, style=_COLOURS.get(row.state, "")),
        row.remaining - row.in_flight - row.confirming,
        row.in_flight,
        row.completed,
        row.warning,
        row.failed,
        show_age(now - row.oldest_created_at) if row.oldest_created_at is not None else None,
        "; ".join(notes),
    ]
