"""The log: one line an event, whatever a peer put into it."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from router.cli.logs import MAX_VALUE, set_up_logging
from router.config.model import LogConfig


def logged(config: LogConfig) -> tuple[io.StringIO, structlog.typing.FilteringBoundLogger]:
    stream = io.StringIO()
    set_up_logging(config, stream)
    return stream, structlog.get_logger()


def test_an_event_is_one_line_of_time_level_event_and_fields() -> None:
    stream, log = logged(LogConfig())
    log.info("association accepted", peer="10.1.2.3", calling_aet="CT 1", contexts=3)
    [line] = stream.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'info    association accepted peer=10.1.2.3 calling_aet="CT 1" contexts=3'


def test_what_a_peer_sends_cannot_break_or_forge_a_line() -> None:
    stream, log = logged(LogConfig())
    log.warning("refused", reason='a\nb\x1b[31m "c"\\ \u202e\u2028 x=y')
    [line] = stream.getvalue().splitlines()
    assert line.endswith(r'refused reason="a\nb\u001b[31m \"c\"\\ \u202e\u2028 x=y"')


def test_a_value_is_cut_where_it_would_fill_the_log() -> None:
    stream, log = logged(LogConfig())
    log.info("peer said", words="x" * 1_000_000)
    assert len(stream.getvalue()) < MAX_VALUE + 100


def test_json_lines_begin_with_time_level_and_event() -> None:
    stream, log = logged(LogConfig(format="json"))
    log.error("delivery failed", status=0xA700, reason="a\nb", retried=True)
    [line] = stream.getvalue().splitlines()
    value = json.loads(line)
    assert list(value) == ["time", "level", "event", "status", "reason", "retried"]
    assert value["status"] == 0xA700
    assert value["reason"] == "a\nb"


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_leaves_out_what_is_below_it(level: str, said: int) -> None:
    stream, log = logged(LogConfig(level=level))  # type: ignore[arg-type]
    for method in (log.debug, log.info, log.warning, log.error):
        method("event")
    assert len(stream.getvalue().splitlines()) == said


def test_an_exception_stays_on_its_line() -> None:
    stream, log = logged(LogConfig())
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        log.exception("loop failed")
    [line] = stream.getvalue().splitlines()
    assert r"ValueError: bad\nnews" in line


def test_libraries_are_heard_through_the_same_lines_from_warning_on() -> None:
    stream, _ = logged(LogConfig())
    logging.getLogger("hypercorn.error").info("Running on http://127.0.0.1")
    logging.getLogger("hypercorn.error").warning("odd %s", "request")
    logging.getLogger("asyncio").error("broken %d", "not a number")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "warning odd request logger=hypercorn.error",
        "error   broken %d logger=asyncio",
    ]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    set_up_logging(LogConfig(), Full())
    structlog.get_logger().info("event")
    closed = io.StringIO()
    set_up_logging(LogConfig(), closed)
    closed.close()
    structlog.get_logger().info("event")
