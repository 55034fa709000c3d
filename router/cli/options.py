"""Options that several commands share, so that they are called the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.config import forms
from router.config.forms import Unfit

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
TimeoutOption = Annotated[
    str,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help='Wait so long for each answer: seconds, or "10m".',
        show_default="as configured, or 60 s",
    ),
]


def seconds(text: str, option: str) -> float:
    """Read a time from the command line, seconds or "10m", "2h". Raises typer.BadParameter."""
    try:
        return max(float(text) if text.replace(".", "", 1).isdigit() else forms.duration(text), 0.0)
    except Unfit as unfit:
        raise typer.BadParameter(f"{unfit.problem}; {unfit.allowed}", param_hint=f"'{option}'") from None
