"""How a command ends that cannot do what was asked: an exit code and lines a person can act on, never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum

from router.control.client import NoAnswer
from router.errors import ConfigError, ConfigErrors, RouterError, StorageError
from router.journal.connection import JournalTooNew
from router.journal.lock import StateInUse

DEBUG_VARIABLE = "SENDRS_DEBUG"


class ExitCode(IntEnum):
    """As in sysexits.h where it has one. Supervisors must not restart after CONFIG."""

    OK = 0
    FOUND_PROBLEMS = 1
    """The command did its work and has bad news (`verify`, `send`, `store`, `find`, `move`)."""
    USAGE = 2
    UNAVAILABLE = 69
    """A server refused what it was asked for, or could not be reached (`send`, `echo`, …)."""
    INTERNAL = 70
    STORAGE = 74
    IN_USE = 75
    """Another router has the state folder, the running one did not answer, or a send is not finished: try later."""
    CONFIG = 78
    INTERRUPTED = 130


def explain_failure(error: BaseException) -> tuple[ExitCode, str]:
    """Say what went wrong, for stderr, and the exit code. Of a group of errors the first that is ours is told."""
    ours = _first_of_ours(error)
    match ours:
        case ConfigErrors():
            return ExitCode.CONFIG, "\n".join(show_config_error(each) for each in ours.errors)
        case ConfigError():
            return ExitCode.CONFIG, show_config_error(ours)
        case JournalTooNew():
            return ExitCode.CONFIG, f"sendrs: {ours}"
        case StateInUse() | NoAnswer():
            return ExitCode.IN_USE, f"sendrs: {ours}"
        case StorageError():
            return ExitCode.STORAGE, f"sendrs: {ours}"
        case RouterError():
            return ExitCode.INTERNAL, f"sendrs: {ours}"
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, ""
        case OSError(filename=str() | bytes() as name):
            return ExitCode.STORAGE, f"sendrs: {os.fsdecode(name)}: {ours.strerror}"
        case _:
            return ExitCode.INTERNAL, _internal(ours)


def show_config_error(error: ConfigError) -> str:
    """Write one configuration error: place and problem on one line, what is allowed and what to do below it."""
    place = f"{error.file}:{error.line}" if error.line else error.file
    where = f"{error.where}: " if error.where else ""
    lines = [f"{place}: {where}{error.problem}"]
    if error.allowed:
        lines.append(f"    allowed: {error.allowed}")
    if error.hint:
        lines.append(f"    {error.hint}")
    return "\n".join(lines)


def _first_of_ours(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        leaves = [_first_of_ours(each) for each in error.exceptions]
        return next((leaf for leaf in leaves if isinstance(leaf, RouterError)), leaves[0])
    return error


def _internal(error: BaseException) -> str:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error, file=sys.stderr)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"sendrs: internal error: {what} (for the details to report: {DEBUG_VARIABLE}=1 and the same command again)"
