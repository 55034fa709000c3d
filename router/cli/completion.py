"""`sendrs completion`: what a shell needs to complete commands and options; a fixed script, no program asked at TAB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from router.cli.exits import ExitCode
from router.cli.tree import CommandHelp, command_help

_BASH = """\
_sendrs() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" command="" word words
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in -*) ;; *) command="$word"; break ;; esac
    done
    case "$command" in
{cases}
        *) words="" ;;
    esac
    if [[ -z "$command" || "$current" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}}
complete -o filenames -F _sendrs sendrs
"""


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)
    ],
) -> int:
    """Print what lets a shell complete commands and options.

    For example: sendrs completion bash > ~/.local/share/bash-completion/completions/sendrs
    """
    print(script_for(shell), end="")
    return ExitCode.OK


def script_for(shell: Literal["bash", "zsh", "fish"]) -> str:
    """Give the script for one shell; zsh reads that of bash."""
    commands = command_help()
    if shell == "fish":
        return _fish(commands)
    script = _BASH.format(cases="\n".join(_case(name, words) for name, words in _words(commands)))
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _words(commands: Sequence[CommandHelp]) -> list[tuple[str, list[str]]]:
    """Give for each command its options; for none, all commands."""
    first = ('""', [*(one.name for one in commands), "--help", "--version"])
    return [first, *((one.name, [name for option in one.parameters for name in option.names]) for one in commands)]


def _case(name: str, words: Sequence[str]) -> str:
    return f'        {name}) words="{" ".join(words)}" ;;'


def _fish(commands: Sequence[CommandHelp]) -> str:
    lines = []
    for command in commands:
        lines.append(f"complete -c sendrs -f -n __fish_use_subcommand -a {command.name} -d {_quoted(command.text[0])}")
        seen = f"'__fish_seen_subcommand_from {command.name}'"
        for option in command.parameters:
            for name in option.names:
                flag = f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                lines.append(f"complete -c sendrs -n {seen} {flag} -d {_quoted(option.help)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
