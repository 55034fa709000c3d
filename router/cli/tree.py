"""The commands with their options, as the command line has them: for shell completion and the manual pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import typer
import typer.main

from router.cli import COMMANDS, make_app

_KIND: Final = re.compile(r" *<[^>]+>(?:\.\.\.)?")
"""How a kind of value is shown where no better word was given."""


class Parameter(NamedTuple):
    """An option, or an argument, whose `names` are then empty. `shown` is how it is written in the help."""

    names: tuple[str, ...]
    shown: str
    help: str


class CommandHelp(NamedTuple):
    """One command. `text` are the paragraphs of its help; the first is what it does, in a sentence."""

    name: str
    text: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def arguments(self) -> str:
        """The arguments as in a line that shows how the command is used."""
        return " ".join(one.shown for one in self.parameters if not one.names)


def command_help() -> list[CommandHelp]:
    """Give all commands, in the order of the help."""
    group: Any = typer.main.get_command(make_app(list(COMMANDS)))
    return [_command(name, group.commands[name]) for name in COMMANDS]


def _command(name: str, command: Any) -> CommandHelp:
    context = typer.Context(command, info_name=f"sendrs {name}")
    parameters = [_parameter(one, context) for one in command.params if not one.hidden]
    help_option = Parameter(("-h", "--help"), "-h, --help", "Show the help and exit.")
    return CommandHelp(name, _paragraphs(command.help or ""), (*parameters, help_option))


def _parameter(parameter: Any, context: typer.Context) -> Parameter:
    shown, text = parameter.get_help_record(context)
    shown = _KIND.sub(lambda kind: " NUMBER" if "int" in kind[0] or "float" in kind[0] else "", shown).strip()
    if parameter.param_type_name != "argument":
        return Parameter((*parameter.opts, *parameter.secondary_opts), shown, text)
    shown += "..." if parameter.nargs == -1 and not shown.endswith("...") else ""
    return Parameter((), shown if parameter.required else f"[{shown}]", text)


def _paragraphs(text: str) -> tuple[str, ...]:
    blocks: Sequence[str] = text.strip().split("\n\n")
    return tuple(" ".join(block.split()) for block in blocks if block.strip())
