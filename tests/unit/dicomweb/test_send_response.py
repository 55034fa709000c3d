"""The Send Request Response Module as written and as read (Sup 248 Annex @)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.dicom.json_model import encode_json
from router.dicom.sub_operation_status import FAILURE, PENDING, SUCCESS, WARNING, final_status
from router.dicom.uids import Uid
from router.dicomweb.native_model_writer import encode_xml
from router.dicomweb.send_response import SendResult, module, read_module
from router.errors import PeerError

JSON = "application/dicom+json"
XML = "application/dicom+xml"
RUNNING = SendResult(status=PENDING, remaining=5, completed=0, failed=0, warning=0)
ENDED = SendResult(status=SUCCESS, remaining=None, completed=5, failed=0, warning=0)
MIXED = SendResult(WARNING, None, completed=2, failed=2, warning=1, failed_uids=(Uid("1.2.3"), Uid("1.2.4")))
EXAMPLE_RUNNING = """[ { "00000900": { "vr": "US", "Value": [ 65280 ] }
  , "00001020": { "vr": "US", "Value": [ 5 ] }
  , "00001021": { "vr": "US", "Value": [ 0 ] }
  , "00001022": { "vr": "US", "Value": [ 0 ] }
  , "00001023": { "vr": "US", "Value": [ 0 ] }
} ]"""
EXAMPLE_ENDED = """[ { "00000900": { "vr": "US", "Value": [ 0 ] }
  , "00001021": { "vr": "US", "Value": [ 5 ] }
  , "00001022": { "vr": "US", "Value": [ 0 ] }
  , "00001023": { "vr": "US", "Value": [ 0 ] }
} ]"""


@pytest.mark.parametrize(
    ("completed", "warning", "failed", "status"),
    [
        (5, 0, 0, SUCCESS),
        (1, 0, 1, WARNING),
        (1, 1, 0, WARNING),
        (1, 1, 1, WARNING),
        (0, 5, 0, WARNING),
        (0, 1, 4, WARNING),
        (0, 0, 5, FAILURE),
        (0, 0, 0, SUCCESS),
    ],
)
def test_req_097_the_final_status_follows_from_the_counters(
    completed: int, warning: int, failed: int, status: int
) -> None:
    """REQ-097: the truth table of PS3.4 C.4.2.3.1, with A702H for "all failed" (O-03) and never Cancel (O-37)."""
    assert final_status(completed=completed, warning=warning, failed=failed) == status
    assert (SUCCESS, WARNING, FAILURE, PENDING) == (0x0000, 0xB000, 0xA702, 0xFF00)


@pytest.mark.parametrize(("result", "example"), [(RUNNING, EXAMPLE_RUNNING), (ENDED, EXAMPLE_ENDED)])
def test_req_104_the_modules_of_the_worked_example_are_written_and_read(result: SendResult, example: str) -> None:
    """REQ-104: an array with one object, as Annex B.X1 shows it."""
    written = encode_json([module(result)])
    assert json.loads(written) == json.loads(example)
    assert list(json.loads(written)[0]) == list(json.loads(example)[0])
    assert read_module(JSON + "; charset=utf-8", example.encode()) == result


@pytest.mark.parametrize("result", [RUNNING, ENDED, MIXED])
def test_req_098_remaining_is_there_while_pending_and_only_then(result: SendResult) -> None:
    """REQ-098."""
    assert ("00001020" in module(result)) == result.is_pending


@pytest.mark.parametrize("result", [RUNNING, ENDED, MIXED])
def test_req_099_100_101_completed_failed_and_warning_are_always_there(result: SendResult) -> None:
    """REQ-099, REQ-100, REQ-101."""
    assert {"00001021", "00001022", "00001023"} <= module(result).keys()


def test_req_102_the_failed_uids_are_there_at_the_end_and_only_if_any_failed() -> None:
    """REQ-102, O-04."""
    assert module(MIXED)["00080058"] == {"vr": "UI", "Value": ["1.2.3", "1.2.4"]}
    assert "00080058" not in module(ENDED)
    early = SendResult(PENDING, 1, completed=0, failed=1, warning=0, failed_uids=(Uid("1.2.3"),))
    assert "00080058" not in module(early)


@pytest.mark.parametrize("result", [RUNNING, ENDED, MIXED])
def test_req_103_group_0000_goes_through_json_and_xml_and_back(result: SendResult) -> None:
    """REQ-103: both writers take group 0000, and what is read is what was written."""
    data_set = module(result)
    assert read_module(JSON, encode_json([data_set])) == result
    assert read_module(JSON, encode_json([data_set])[1:-1]) == result  # a bare object (O-16)
    document = encode_xml(data_set)
    assert read_module(XML, document) == result
    parts = b"\r\n".join((b"--x", b"Content-Type: application/dicom+xml", b"", document, b"--x--", b""))
    assert read_module('multipart/related; type="application/dicom+xml"; boundary=x', parts) == result


def test_numbers_may_be_written_as_text_and_uids_padded() -> None:
    loose: dict[str, Any] = {
        "00000900": {"vr": "US", "Value": ["45056"]},
        "00001022": {"vr": "US", "Value": [1.0]},
        "00080058": {"vr": "UI", "Value": ["1.2.3\0", None, "no uid", "1.2.3"]},
    }
    assert read_module("", json.dumps(loose).encode()) == SendResult(
        0xB000, None, completed=0, failed=1, warning=0, failed_uids=(Uid("1.2.3"),)
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b"{}",
        b"[]",
        b"[1]",
        b"[{}, {}]",
        b'{"00000900": {"vr": "US", "Value": [65536]}}',
        b'{"00000900": {"vr": "US", "Value": [true]}}',
        b'{"00000900": 5}',
        b"<html/>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><NativeDicomModel/>",
        b"[" * 100_000,
        b"x" * (16 * 1024**2 + 1),
    ],
)
def test_what_holds_no_module_is_an_error_of_the_peer(body: bytes) -> None:
    for content_type in (JSON, "multipart/related; boundary=x", "multipart/related", "\x00"):
        with pytest.raises(PeerError):
            read_module(content_type, body)
