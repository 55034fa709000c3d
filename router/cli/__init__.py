"""The command `sendrs`. Commands give their exit code; `main` turns whatever goes wrong into one helpful line.

What a command needs besides is imported when it runs, so that `sendrs status` does not wait for the web server's code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import TextIO

import typer
from typer.exceptions import TyperException

from router.cli.check import check
from router.cli.exits import ExitCode, explain_failure
from router.cli.explain import explain
from router.cli.jobs import jobs, parked, unrouted
from router.cli.serve import serve
from router.cli.status import status

app = typer.Typer(
    name="sendrs",
    help="A DICOM router: takes instances in by C-STORE and STOW-RS, keeps them safely, sends them on by rules.",
    epilog="Begin with: sendrs demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (serve, check, status, jobs, unrouted, parked, explain):
    app.command()(command)


@app.command()
def version() -> int:
    """Print the version."""
    print(f"sendrs {version_of('sendrs')}")
    return ExitCode.OK


def main() -> None:
    """Run the command line of this process and exit."""
    code = run(sys.argv[1:])
    _flush(sys.stdout)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit code. Never raises, and never shows a traceback unless SENDRS_DEBUG=1."""
    for stream in (sys.stdout, sys.stderr):
        _escape_what_cannot_be_shown(stream)
    try:
        return int(app(args=list(arguments) or ["--help"], prog_name="sendrs", standalone_mode=False) or ExitCode.OK)
    except TyperException as error:
        print(_show_usage_error(error), file=sys.stderr)
        return ExitCode.USAGE
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.INTERNAL
    except BrokenPipeError:
        return ExitCode.FOUND_PROBLEMS
    except BaseException as error:  # noqa: BLE001  the last resort: a person must not be shown a traceback
        code, text = explain_failure(error)
        if text:
            print(text, file=sys.stderr)
        return code


def _show_usage_error(error: TyperException) -> str:
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sendrs"
    return f"{command}: {text.rstrip('.')} (see: {command} --help)" if text else f"see: {command} --help"


def _escape_what_cannot_be_shown(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _flush(stream: TextIO) -> None:
    """Flush, and let the interpreter's own flush at exit have nothing to complain of when the reader has gone."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
