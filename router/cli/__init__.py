"""The command `sendrs`. Commands give their exit code; `main` turns whatever goes wrong into one helpful line.

A command's module is imported when that command is asked for: `sendrs status` does not wait for what `serve` needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

import typer
from typer.exceptions import TyperException

from router.cli.exits import ExitCode, explain_failure

COMMANDS = {
    "demo": "router.cli.demo",
    "init": "router.cli.init",
    "serve": "router.cli.serve",
    "check": "router.cli.check",
    "explain": "router.cli.explain",
    "status": "router.cli.status",
    "jobs": "router.cli.jobs",
    "unrouted": "router.cli.jobs",
    "parked": "router.cli.jobs",
    "commitments": "router.cli.commitments",
    "retry": "router.cli.retry",
    "send": "router.cli.send",
    "echo": "router.cli.echo",
    "store": "router.cli.store",
    "find": "router.cli.find",
    "move": "router.cli.move",
    "peers": "router.cli.peers",
    "verify": "router.cli.verify",
    "completion": "router.cli.completion",
    "version": "router.cli.version",
}
"""In the order of `sendrs --help`: the module in which the function of that name is the command."""


def main() -> None:
    """Run the command line of this process and exit."""
    code = run(sys.argv[1:])
    _flush(sys.stdout)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit code. Never raises, and never shows a traceback unless SENDRS_DEBUG=1."""
    for stream in (sys.stdout, sys.stderr):
        _escape_what_cannot_be_shown(stream)
    if list(arguments) == ["--version"]:
        arguments = ["version"]
    try:
        app = make_app([arguments[0]] if arguments and arguments[0] in COMMANDS else list(COMMANDS))
        return int(app(args=list(arguments) or ["--help"], prog_name="sendrs", standalone_mode=False) or ExitCode.OK)
    except TyperException as error:
        print(_show_usage_error(error), file=sys.stderr)
        return ExitCode.USAGE
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.INTERNAL
    except BrokenPipeError:
        return ExitCode.FOUND_PROBLEMS
    except BaseException as error:  # noqa: BLE001 - the last resort: a person must not be shown a traceback
        code, text = explain_failure(error)
        if text:
            print(text, file=sys.stderr)
        return code


def make_app(names: Sequence[str]) -> typer.Typer:
    """Build the command line with the commands `names`."""
    app = typer.Typer(
        help="A DICOM router: takes instances in, keeps them safely, sends them on by rules or when asked.",
        epilog="Begin with: sendrs demo",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nothing)
    for name in names:
        app.command(name)(getattr(import_module(COMMANDS[name]), name))
    return app


def _nothing() -> None:
    """Make a command's name be asked for even when the app was built with a single one."""


def _show_usage_error(error: TyperException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sendrs"
    return f"{command}: {text} (see: {command} --help)"


def _escape_what_cannot_be_shown(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _flush(stream: TextIO) -> None:
    """Flush; when the reader has gone, leave the interpreter's own flush at exit nothing to complain of."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
