"""The log: one line an event on stderr, UTC, control characters escaped; text for people or JSON for machines.

Set up once by `serve`. What libraries log through the standard library comes out as the same lines.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from router.config.model import LogConfig

MAX_VALUE = 1000
"""Characters of one field: what a peer sends must not fill the log."""
MAX_TRACEBACK = 20_000

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logging(config: LogConfig, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr) as `config` says. Libraries are heard from "warning" on, all at "debug"."""
    level = _LEVELS[config.level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            render_json if config.format == "json" else render_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LineWriter(stream or sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _ToStructlog()
    logging.basicConfig(
        level=level if config.level == "debug" else max(level, logging.WARNING), handlers=[handler], force=True
    )
    logging.captureWarnings(True)


class LineWriter:
    """Writes each line whole. A log that cannot be written (full disk, closed pipe) must not stop the router."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return

    debug = info = warning = error = critical = exception = fatal = log = msg


def render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Write `time level event key=value …`; values are quoted where they need it."""
    time, level, what = event.pop("time"), event.pop("level"), event.pop("event")
    fields = "".join(f" {_quoted(key)}={_quoted(value, _limit(key))}" for key, value in event.items())
    return f"{time} {level:<7} {_plain(str(what))}{fields}"


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Write one JSON object; `time`, `level` and `event` come first."""
    head = {key: event.pop(key) for key in ("time", "level", "event")}
    fields = {key: _json_value(value, _limit(key)) for key, value in event.items()}
    return json.dumps({**head, "event": _cut(str(head["event"]), MAX_VALUE), **fields}, default=str)


class _ToStructlog(logging.Handler):
    """Takes what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        log: FilteringBoundLogger = structlog.get_logger()
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's format string and arguments disagree
            message = str(record.msg)
        log.log(record.levelno, message, logger=record.name, exc_info=record.exc_info)


def _limit(key: str) -> int:
    return MAX_TRACEBACK if key == "exception" else MAX_VALUE


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _plain(text: str) -> str:
    cut = _cut(text, MAX_VALUE)
    return cut if cut.isprintable() else json.dumps(cut)[1:-1]


def _quoted(value: object, limit: int = MAX_VALUE) -> str:
    text = _cut(str(value), limit)
    if text and text.isprintable() and not any(c in ' "=\\' for c in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _json_value(value: object, limit: int) -> object:
    return value if isinstance(value, bool | int | float) or value is None else _cut(str(value), limit)
