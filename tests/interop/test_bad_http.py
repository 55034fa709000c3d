"""The bad-input catalogue, HTTP rows B48 to B72, over raw sockets against the daemon as a process."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from peers import Daemon, wait_until

ANSWER_S = 60.0
STUDIES = b"/dicom-web/studies"
EMPTY = b"--xyz--\r\n"
LENGTH = b"Content-Length: 9\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FILES = b'Content-Type: multipart/related; type="application/dicom"; boundary=xyz\r\n'
METADATA = b'Content-Type: multipart/related; type="application/dicom+json"; boundary=xyz\r\n'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("bad-http"), '[http]\nnames = ["pacs.example"]\n') as running:
        yield running
        assert "Traceback" not in running.log()
        assert re.search(r"[^\n -~]", running.log()) is None, "the log holds more than printable ASCII"
        assert running.stop() == 0


def head(
    fields: bytes = LENGTH,
    *,
    target: bytes = STUDIES,
    method: bytes = b"POST",
    host: bytes = b"Host: 127.0.0.1\r\n",
    content_type: bytes = FILES,
    version: bytes = b"HTTP/1.1",
) -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + host + content_type + fields + b"\r\n"


class Heard:
    """What came back: status, header fields in lower case, body; and whether the router closed."""

    def __init__(self, raw: bytes, closed: bool):
        self.raw, self.closed = raw, closed
        self.told_to_go_on = raw.startswith(b"HTTP/1.1 100 ")
        if self.told_to_go_on:
            raw = raw.partition(b"\r\n\r\n")[2]
        start, _, self.body = raw.partition(b"\r\n\r\n")
        lines = start.split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1]) if raw else 0
        pairs = (line.partition(b": ")[::2] for line in lines[1:])
        self.fields = {name.decode().lower(): value.decode() for name, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def hear(connection: socket.socket) -> Heard:
    """Read one answer; whether the connection is closed after it is told by its Connection field, or seen."""
    raw = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            piece = b""
        raw += piece
        found = Heard(raw, not piece)
        if "content-length" in found.fields and len(found.body) >= int(found.fields["content-length"]):
            found.closed = found.fields.get("connection") == "close"
            return found
        if not piece:
            return found


def ask(daemon: Daemon, sent: bytes) -> Heard:
    with closing(socket.create_connection(("127.0.0.1", daemon.http_port), timeout=ANSWER_S)) as connection:
        with suppress(ConnectionError):  # refused before all of it was taken
            connection.sendall(sent)
        return hear(connection)


def is_served(daemon: Daemon) -> bool:
    """Whether a well-behaved request is answered as it should be."""
    return ask(daemon, head() + EMPTY).json["detail"].startswith("The body has no part")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def part10(uid: bytes, study: bytes = b"1.2.3", start: bytes = bytes(128)) -> bytes:
    sop_class = b"1.2.840.10008.5.1.4.1.1.2"
    meta = element(0x00020002, b"UI", sop_class) + element(0x00020003, b"UI", uid)
    meta += element(0x00020010, b"UI", b"1.2.840.10008.1.2.1")
    data = element(0x00080016, b"UI", sop_class) + element(0x00080018, b"UI", uid)
    data += element(0x0020000D, b"UI", study) + element(0x0020000E, b"UI", b"1.2.3.4")
    return start + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta + data


def body(*parts: bytes, kind: bytes = b"application/dicom") -> bytes:
    return b"".join(b"--xyz\r\nContent-Type: " + kind + b"\r\n\r\n" + part + b"\r\n" for part in parts) + EMPTY


def store(daemon: Daemon, content: bytes, *, target: bytes = STUDIES, content_type: bytes = FILES) -> Heard:
    fields = b"Accept: application/dicom+json\r\nContent-Length: %d\r\n" % len(content)
    return ask(daemon, head(fields, target=target, content_type=content_type) + content)


@pytest.mark.parametrize(
    "sent",
    [
        head(LENGTH + CHUNKED) + b"0\r\n\r\n",
        head(LENGTH + b"Content-Length: 8\r\n") + EMPTY,
        head(LENGTH + LENGTH) + EMPTY,
        head(b"Content-Length: 9, 9\r\n") + EMPTY,
        head(b"Transfer-Encoding: chunked, identity\r\n") + b"0\r\n\r\n",
        head(b"Transfer-Encoding: \x0bchunked\r\n") + b"0\r\n\r\n",
        head(CHUNKED + CHUNKED) + b"0\r\n\r\n",
        head().replace(b"\r\n", b"\n") + EMPTY,
        head(b"X: a\nY: b\r\n" + LENGTH) + EMPTY,
        head(b"Content-Length : 9\r\n") + EMPTY,
        head(b"X: a\r\n b\r\n" + LENGTH) + EMPTY,
    ],
)
def test_b48_what_smugglers_use_is_400_and_closes(daemon: Daemon, sent: bytes) -> None:
    heard = ask(daemon, sent + head() + EMPTY)
    assert (heard.status, heard.closed, heard.json["where"]) == (400, True, "request head")
    assert len(re.findall(rb"HTTP/1\.1 \d", heard.raw)) == 1, "what follows a bad head is never read as a request"


def test_b48_a_bad_head_behind_a_good_request_is_refused_as_well(daemon: Daemon) -> None:
    with closing(socket.create_connection(("127.0.0.1", daemon.http_port), timeout=ANSWER_S)) as connection:
        connection.sendall(head() + EMPTY + head(LENGTH + CHUNKED) + b"0\r\n\r\n")
        raw = b""
        while piece := connection.recv(65_536):
            raw += piece
    assert [line for line in raw.split(b"\r\n") if b"HTTP/1.1" in line] != []
    assert b"has no part" in raw
    assert b"length of the body more than once" in raw


@pytest.mark.parametrize("size", [b"-1", b"0x10", b"+9", b"", b"F" * 30, b"9;" + b"x" * 100_000, b"9 9"])
def test_b49_chunk_sizes_that_are_none_are_400(daemon: Daemon, size: bytes) -> None:
    heard = ask(daemon, head(CHUNKED) + size + b"\r\n" + EMPTY + b"XX0\r\n\r\n")
    assert (heard.status, heard.closed) == (400, True)


def test_b49_a_chunk_that_is_told_to_be_huge_costs_nothing(daemon: Daemon) -> None:
    before = resident_kib(daemon.pid)
    with closing(socket.create_connection(("127.0.0.1", daemon.http_port), timeout=ANSWER_S)) as connection:
        connection.sendall(head(CHUNKED) + b"FFFFFFFFFFFFFFFFF\r\n--xyz\r\n")
        assert is_served(daemon)
        assert resident_kib(daemon.pid) - before < 16 * 1024


def test_b49_a_body_in_chunks_of_one_byte_is_read_and_keeps_nobody_waiting(daemon: Daemon) -> None:
    content = body(part10(b"1.2.49"), b"no dicom" + bytes(20_000))
    sent = b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", daemon.http_port), timeout=ANSWER_S)) as connection:
        connection.sendall(head(b"Accept: */*\r\n" + CHUNKED) + sent[:-5])
        assert is_served(daemon)
        connection.sendall(sent[-5:])
        assert hear(connection).status == 202


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"9223372036854775808", 413),
        (b"9223372036854775807", 413),
        (b"1152921504606846976", 413),
        (b"-1", 400),
        (b"1e9", 400),
        (b"+5", 400),
        (b"9" * 30, 400),
        (b"0x9", 400),
    ],
)
def test_b50_absurd_lengths_are_told_at_once(daemon: Daemon, length: bytes, status: int) -> None:
    heard = ask(daemon, head(b"Content-Length: " + length + b"\r\n"))
    assert (heard.status, heard.closed) == (status, True)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"".join(b"X-%d: y\r\n" % n for n in range(200)), 431),
        (b"X: " + b"y" * 65_536 + b"\r\n", 431),
        (b"X: a\0b\r\n", 400),
        (b"X: a\rb\r\n", 400),
        (b"X: caf\xe9\r\n", 400),
    ],
)
def test_b51_headers_too_many_too_long_or_no_text(daemon: Daemon, fields: bytes, status: int) -> None:
    heard = ask(daemon, head(fields + LENGTH) + EMPTY)
    assert (heard.status, heard.closed) == (status, True)


def test_b53_a_compressed_body_is_415_and_never_inflated(daemon: Daemon) -> None:
    heard = ask(daemon, head(b"Content-Encoding: gzip\r\n" + LENGTH) + EMPTY)
    assert (heard.status, heard.fields["accept-encoding"]) == (415, "identity")


def test_b54_who_announces_too_much_is_not_told_to_go_on(daemon: Daemon) -> None:
    heard = ask(daemon, head(b"Expect: 100-continue\r\nContent-Length: 9223372036854775807\r\n"))
    assert (heard.status, heard.told_to_go_on) == (413, False)
    waiting = ask(daemon, head(b"Expect: 100-continue\r\nAccept: */*\r\n" + LENGTH) + EMPTY)
    assert (waiting.status, waiting.told_to_go_on) == (400, True)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (STUDIES + b"?x=" + b"y" * 65_536, 414),
        (b"//studies", 404),
        (b"/dicom-web//studies", 404),
        (STUDIES + b"/..%2f..%2f..%2fetc%2fpasswd", 404),
        (b"/dicom-web/%2e%2e/dicom-web/studies", 404),
        (b"/dicom-web/../dicom-web/studies", 404),
        (STUDIES + b"/1.2%00", 400),
        (STUDIES + b"/%c0%ae%c0%ae", 400),
        (STUDIES + b"/%zz", 400),
        (b"dicom-web/studies", 400),
        (b"http://evil.example" + STUDIES, 421),
        (b"http://127.0.0.1@evil.example" + STUDIES, 400),
    ],
)
def test_b55_paths_that_are_none_or_lead_elsewhere(daemon: Daemon, target: bytes, status: int) -> None:
    assert ask(daemon, head(target=target) + EMPTY).status == status


def test_b55_the_absolute_form_of_our_own_url_is_the_same_request(daemon: Daemon) -> None:
    heard = store(daemon, body(part10(b"1.2.55")), target=b"http://pacs.example" + STUDIES + b"/1.2.3")
    assert (heard.status, heard.json["00081190"]["Value"]) == (200, ["http://pacs.example/dicom-web/studies/1.2.3"])


@pytest.mark.parametrize(
    ("method", "status"), [(b"TRACE", 405), (b"PUT", 405), (b"CONNECT", 501), (b"post", 501), (b"BREW", 501)]
)
def test_b56_methods_that_are_not_for_this_resource(daemon: Daemon, method: bytes, status: int) -> None:
    heard = ask(daemon, head(b"", method=method, content_type=b""))
    assert heard.status == status
    assert status != 405 or "POST" in heard.fields["allow"]


@pytest.mark.parametrize(
    "content",
    [
        b"--abc--",
        b"--xyz\r\nX: " + b"y" * 1_000_000,
        b"p" * 1_000_000,
        b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + part10(b"1.2.57"),
    ],
)
def test_b57_bodies_that_break_are_400_with_the_reason(daemon: Daemon, content: bytes) -> None:
    heard = store(daemon, content)
    assert (heard.status, heard.json["where"]) == (400, "body")
    assert is_served(daemon)


def test_b57_what_came_before_the_break_is_stored_and_listed(daemon: Daemon) -> None:
    whole = body(part10(b"1.2.57.1"), part10(b"1.2.57.2"))
    heard = store(daemon, whole[:-100])
    assert heard.status == 202
    assert [item["00081155"]["Value"] for item in heard.json["00081199"]["Value"]] == [["1.2.57.1"]]


def test_b57_100_000_parts_end_at_the_limit(daemon: Daemon) -> None:
    heard = store(daemon, b"--xyz\r\n\r\n\r\n" * 100_000)
    assert heard.status in (400, 409)
    assert is_served(daemon)


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"Content-Type: application/dicom\r\n",
        b"Content-Type: multipart/related; boundary=xyz\r\n",
        b"Content-Type: application/zip\r\n",
        b"Content-Type: application/dicom+json\r\n",
        b'Content-Type: multipart/related; type="application/zip"; boundary=xyz\r\n',
    ],
)
def test_b58_b64_other_content_types_are_415_archives_too(daemon: Daemon, content_type: bytes) -> None:
    heard = ask(daemon, head(content_type=content_type) + EMPTY)
    assert heard.status == 415
    assert 'type="application/dicom+xml"' in heard.fields["accept-post"]


def test_b58_xml_with_a_document_type_is_never_expanded(daemon: Daemon) -> None:
    document = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><NativeDicomModel>&e;</NativeDicomModel>'
    kind = b"application/dicom+xml"
    heard = store(daemon, body(document, kind=kind), content_type=METADATA.replace(b"+json", b"+xml"))
    assert (heard.status, "document type" in heard.json["detail"], b"root:" in heard.raw) == (400, True, False)


@pytest.mark.parametrize(
    "content", [b"hello", b"", bytes(128) + b"DICX" + bytes(50), part10(b"1.2.59.9")[:150], bytes(132) + b"DICM"]
)
def test_b59_what_is_no_dicom_file_fails_and_the_others_are_stored(daemon: Daemon, content: bytes) -> None:
    heard = store(daemon, body(content, part10(b"1.2.59")))
    assert (heard.status, heard.json["0008119A"]["Value"][0]["00081197"]["Value"]) == (202, [0xC000])
    assert store(daemon, body(content)).status == 409


def test_b60_an_instance_of_another_study_fails_with_a900(daemon: Daemon) -> None:
    heard = store(daemon, body(part10(b"1.2.60")), target=STUDIES + b"/1.2.99")
    assert (heard.status, heard.json["00081198"]["Value"][0]["00081197"]["Value"]) == (409, [0xA900])


@pytest.mark.parametrize("magic", [b"MZ", b"\x7fELF", b"#!/bin/sh\n", b"\xcf\xfa\xed\xfe", b"II*\0"])
def test_b61_what_a_preamble_hides_does_not_reach_the_disk(daemon: Daemon, magic: bytes) -> None:
    assert (
        store(daemon, body(part10(b"1.2.61." + str(len(magic)).encode(), start=magic.ljust(128, b"\x90")))).status
        == 200
    )
    for file in daemon.state_folder.glob("store/*/*.dcm"):
        assert file.read_bytes()[:128] in (bytes(128), b"")


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "http://169.254.169.254/", "http://127.0.0.1:%d/"])
def test_b62_a_bulk_data_uri_is_never_fetched(daemon: Daemon, uri: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        uri = uri.replace("%d", str(trap.getsockname()[1]))
        metadata = {
            "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
            "00080018": {"vr": "UI", "Value": ["1.2.62"]},
            "7FE00010": {"vr": "OW", "BulkDataURI": uri},
        }
        content = body(json.dumps([metadata]).encode(), kind=b"application/dicom+json")
        heard = store(daemon, content, content_type=METADATA)
        assert (heard.status, heard.json["00081198"]["Value"][0]["00081197"]["Value"]) == (409, [0xC000])
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 10_000,
        b'[{"a":' * 10_000,
        b'[{"00280010":{"vr":"FD","Value":[1e400]}}]',
        b'[{"00280010":{"vr":"FD","Value":[NaN]}}]',
        b'[{"00280010":{"vr":"US"},"00280010":{"vr":"US"}}]',
        b'[{"00100020":{"vr":"LO","Value":["\\ud800"]}}]',
        b'[{"00280010":{"vr":"UV","Value":[9007199254740993]}}]',
    ],
)
def test_b63_json_that_programs_read_differently_is_400(daemon: Daemon, document: bytes) -> None:
    heard = store(daemon, body(document, kind=b"application/dicom+json"), content_type=METADATA)
    assert (heard.status, "metadata" in heard.json["detail"]) == (400, True)
    assert is_served(daemon)


def test_b70_nothing_says_that_pages_of_others_may_ask(daemon: Daemon) -> None:
    fields = b"Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"
    heard = ask(daemon, head(fields, method=b"OPTIONS", content_type=b""))
    assert heard.status >= 400
    form = ask(daemon, head(fields + LENGTH, content_type=b"Content-Type: text/plain\r\n") + EMPTY)
    assert form.status == 415
    for answer in (heard, form):
        assert not [name for name in answer.fields if name.startswith(("access-control-", "set-cookie"))]


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example:8080", b"localhost.evil"])
def test_b70_b55_a_host_that_is_not_ours_is_421(daemon: Daemon, host: bytes) -> None:
    heard = ask(daemon, head(host=b"Host: " + host + b"\r\n") + EMPTY)
    assert (heard.status, heard.closed) == (421, True)


@pytest.mark.parametrize("host", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a b<script>\r\n", b"Host:\r\n"])
def test_b55_a_host_that_is_none_is_400(daemon: Daemon, host: bytes) -> None:
    assert ask(daemon, head(host=host) + EMPTY).status == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
        head(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", method=b"GET"),
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + head() + EMPTY,
        bytes.fromhex("0d0a0d0a000d0a515549540a21110000"),  # PROXY protocol, version 2
        bytes.fromhex("16030100c8010000c40303") + bytes(194),  # TLS
        bytes.fromhex("0100000000cd00010000") + bytes(200),  # DICOM
    ],
)
def test_b71_other_protocols_are_400_and_closed(daemon: Daemon, sent: bytes) -> None:
    heard = ask(daemon, sent)
    assert (heard.status, heard.closed) == (400, True)
    assert is_served(daemon)


def test_b71_an_offer_of_http_2_is_not_taken_up(daemon: Daemon) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    assert ask(daemon, head(offer, method=b"PUT", content_type=b"")).status == 405


def test_b72_who_claims_to_be_another_address_is_not_believed(tmp_path: Path) -> None:
    claims = b"X-Forwarded-For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\nX-Real-IP: 10.9.9.9\r\n"
    with Daemon(tmp_path) as daemon:
        content = body(b"no dicom")
        heard = ask(daemon, head(claims + b"Content-Length: %d\r\n" % len(content)) + content)
        assert heard.status == 409
        wait_until(lambda: "instance refused" in daemon.log(), 5.0, "the refusal in the log")
        assert "10.9.9.9" not in daemon.log()
        assert "peer=127.0.0.1" in daemon.log()


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]
