"""Heads of HTTP requests, judged as they came: B48 to B56, B71; and whose requests are ours: B55, B70."""

from __future__ import annotations

import pytest
from stow_harness import FakeDoor, ask, body_of, part10

from router.config.model import HttpConfig
from router.http_server import MAX_FIELD_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES, BadHead, check_head
from router.web.app import make_app
from router.web.hosts import our_names

GOOD = b"POST /dicom-web/studies HTTP/1.1\r\nHost: pacs\r\nContent-Length: 5\r\n\r\n"


def refusal(head: bytes) -> tuple[int, str]:
    try:
        check_head(head)
    except BadHead as bad:
        return bad.status, bad.detail
    return 0, ""


@pytest.mark.parametrize("end", range(1, len(GOOD) + 1))
def test_a_head_that_is_right_is_let_through_however_much_of_it_has_come(end: int) -> None:
    assert refusal(GOOD[:end]) == (0, "")


@pytest.mark.parametrize(
    "head",
    [
        GOOD + b"hello\n\x00\xff",
        b"\r\n" + GOOD,
        b"GET http://pacs/dicom-web/studies HTTP/1.1\r\nHost: pacs\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: pacs\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        GOOD.replace(b"Content-Length: 5", b"Transfer-Encoding: Chunked"),
        GOOD.replace(b"Host", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHost"),
    ],
)
def test_what_follows_a_head_and_what_is_odd_but_right_is_let_through(head: bytes) -> None:
    assert refusal(head) == (0, "")


def with_field(field: bytes) -> bytes:
    return GOOD.replace(b"Host: pacs", b"Host: pacs\r\n" + field)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (with_field(b"Transfer-Encoding: chunked"), 400),
        (with_field(b"Content-Length: 5"), 400),
        (with_field(b"content-length : 6"), 400),
        (GOOD.replace(b": 5", b": 5, 5"), 400),
        (GOOD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked, identity"), 400),
        (GOOD.replace(b"Content-Length: 5", b"Transfer-Encoding: \x0bchunked"), 400),
        (GOOD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
        (GOOD.replace(b"\r\n", b"\n"), 400),
        (with_field(b"A: b\nContent-Length: 9"), 400),
        (with_field(b"A: b\rC: d"), 400),
        (with_field(b"A: b\r\n c"), 400),
        (b"POST / HTTP/1.1\r\n Host: pacs\r\n\r\n", 400),
    ],
)
def test_b48_what_smugglers_use_is_400(head: bytes, status: int) -> None:
    assert refusal(head)[0] == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (with_field(b"\r\n".join(b"X-%d: y" % n for n in range(MAX_FIELDS + 1))), 431),
        (with_field(b"X: " + b"y" * MAX_FIELD_BYTES), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_FIELD_BYTES, 431),
        (
            b"GET / HTTP/1.1\r\n"
            + b"X: "
            + b"\r\nX: ".join([b"y" * 9000] * (MAX_HEAD_BYTES // 9000 + 1))
            + b"\r\n\r\n",
            431,
        ),
        (with_field(b"X: a\0b"), 400),
        (with_field(b"X: a\x01b"), 400),
        (with_field(b"X: caf\xe9"), 400),
        (with_field("X: \u202e".encode()), 400),
        (b"GET /" + b"x" * MAX_TARGET_BYTES, 414),
        (b"GET /" + b"x" * MAX_TARGET_BYTES + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_b51_b55_heads_that_are_too_long_or_no_text(head: bytes, status: int) -> None:
    assert refusal(head)[0] == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (with_field(b"Connection: Upgrade\r\nUpgrade: websocket"), 400),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GOOD, 400),
        (bytes.fromhex("16030100c8010000c40303"), 400),
        (bytes.fromhex("0100000000cd00010000"), 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/2\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET studies HTTP/1.1\r\n\r\n", 400),
        (b"GET ftp://pacs/ HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_b71_other_protocols_are_turned_away(head: bytes, status: int) -> None:
    assert refusal(head)[0] == status


@pytest.mark.parametrize("method", [b"post", b"Get", b"FOO", b"CONNECT"])
def test_b56_methods_that_nobody_knows_are_501(method: bytes) -> None:
    assert refusal(GOOD.replace(b"POST", method))[0] == 501


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("10.1.2.3:8080", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST:8080", 200),
        ("Router.Hospital.Example.", 200),
        ("evil.example", 421),
        ("router.hospital.example.evil.example", 421),
        ("pacs.example", 200),
        ("127.0.0.1.evil.example", 421),
        ("", 400),
        ("a b<script>", 400),
        ("user@router.hospital.example", 400),
        ("router.hospital.example/x", 400),
        ("[::1", 400),
    ],
)
async def test_b55_b70_only_requests_to_us_are_answered(host: str, status: int) -> None:
    app = make_app(
        HttpConfig(), FakeDoor(), is_our_host=our_names(["router.hospital.example"], "https://pacs.example/x")
    )
    headers = [("content-type", 'multipart/related; type="application/dicom"; boundary=xyz'), ("host", host)]
    assert (await ask(app, [body_of(part10("1.2.1"))], headers=headers)).status == status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://127.0.0.1/dicom-web/studies", 200),
        ("HTTP://localhost:8080/dicom-web/studies", 200),
        ("http://evil.example/dicom-web/studies", 421),
        ("http://127.0.0.1", 404),
        ("http://a b/dicom-web/studies", 400),
    ],
)
async def test_b55_the_absolute_form_is_the_same_request(target: str, status: int) -> None:
    app = make_app(HttpConfig(), FakeDoor(), is_our_host=our_names([]))
    headers = [("content-type", 'multipart/related; type="application/dicom"; boundary=xyz'), ("host", "127.0.0.1")]
    assert (await ask(app, [body_of(part10("1.2.1"))], path=target, headers=headers)).status == status
