"""Options that several commands share, so that they are called the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HERE = Path("router.toml")
INSTALLED = Path("/etc/sendrs/router.toml")


def default_config() -> Path:
    """Give the configuration that is meant when none is named: router.toml here, otherwise the installed one."""
    return HERE if HERE.exists() else INSTALLED


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        default_factory=default_config,
        show_default=f"{HERE} here, or {INSTALLED}",
        help="The configuration file.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts; times are Unix seconds.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="List at most so many.")]
DestinationOption = Annotated[
    str | None, typer.Option("--destination", "-d", metavar="NAME", help="Only this destination.")
]
