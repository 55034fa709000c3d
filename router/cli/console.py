"""What commands print: tables that read well in a terminal and through a pipe, JSON for scripts, times and sizes.

Facts go to stdout, complaints to stderr. UIDs are never cut or wrapped, however narrow the terminal is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from router.config.forms import show_size

UNBOUNDED = 100_000
"""Columns of a console that never wraps: what a pipe gets."""
LEAST_WRAPPED = 36
"""A column of prose is never made narrower than this; in a narrow terminal the lines then run over its edge."""
LEAST_CUT = 12
"""Nor is a column that is cut."""
_GAP = 2


def print_lines(*lines: str | Text) -> None:
    """Print lines as they are: no markup, no wrapping."""
    console = Console(highlight=False)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print structs, lists and dicts as indented JSON. Times in it are Unix seconds."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, below: Sequence[Sequence[str]] | None = None
) -> None:
    """Print rows under headings. Numbers stand to the right; a column whose heading ends in "…" may wrap in a terminal.

    A cell is a text, a number, None (empty) or a rich Text for colour. With `below` there are lines of its own under
    each row, and a column that would wrap is cut instead.
    """
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    cells = [list(row) for row in rows]
    console = Console(highlight=False)
    if below is not None and console.is_terminal:
        _cut(columns, cells, console.width)
    for at, heading in enumerate(columns):
        wraps = below is None and heading.endswith("…")
        justify: Any = "right" if any(isinstance(row[at], int) for row in cells) else "left"
        longest = max((len(str(row[at])) for row in cells), default=0)
        least = min(longest, LEAST_WRAPPED) if wraps else None
        table.add_column(heading.rstrip("…"), justify=justify, no_wrap=not wraps, min_width=least, overflow="fold")
    for row in cells:
        table.add_row(*map(_cell, row))
    needed = Measurement.get(console, console.options.update(width=UNBOUNDED), table)
    console.width = max(console.width, needed.minimum) if console.is_terminal else needed.maximum
    with console.capture() as captured:
        console.print(table, crop=False)
    for at, line in enumerate(captured.get().splitlines()):
        sys.stdout.write((line if console.is_terminal else line.rstrip()) + "\n")
        if below is not None and at:
            print_lines(*below[at - 1])


def _cut(columns: Sequence[str], cells: list[list[object]], width: int) -> None:
    """Cut the cells of columns whose heading ends in "…", the widest first, until rows fit into `width`."""
    widths = [
        max([cell_len(heading.rstrip("…")), *(cell_len(_shown(row[at])) for row in cells)])
        for at, heading in enumerate(columns)
    ]
    for _ in range(sum(widths) + _GAP * (len(widths) - 1) - width):
        at = max(
            (at for at, heading in enumerate(columns) if heading.endswith("…")), key=widths.__getitem__, default=-1
        )
        if at < 0 or widths[at] <= LEAST_CUT:
            break
        widths[at] -= 1
    for row in cells:
        for at, heading in enumerate(columns):
            if heading.endswith("…") and cell_len(_shown(row[at])) > widths[at]:
                row[at] = set_cell_size(_shown(row[at]), widths[at] - 1).rstrip() + "…"


def show_time(moment: float | None) -> str:
    """Write a Unix time as local date and time, "" when there is none."""
    return "" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def show_age(seconds: float | None) -> str:
    """Write a length of time in its two largest units: "3 d 4 h", "12 s"."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    parts: list[str] = []
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length} {name}")
            left %= length
    return " ".join(parts[:2])


def show_bytes(count: float) -> str:
    """Write a number of bytes with three digits and the fitting unit."""
    for name, factor in (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor:
            return f"{count / factor:.3g} {name}" if count / factor < 1000 else f"{count / factor:.0f} {name}"
    return show_size(count)


def count_of(number: int, one: str, many: str) -> str:
    """Write "1 rule", "3 rules"."""
    return f"{number:,} {one if number == 1 else many}"


def _cell(value: object) -> str | Text:
    match value:
        case None:
            return ""
        case Text():
            return value
        case int():
            return f"{value:,}"
        case _:
            return Text(_shown(value))


def _shown(value: object) -> str:
    """Write a cell without control characters."""
    return "" if value is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
