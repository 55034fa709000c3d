"""The Base URI as a client reached us; nothing of a Host header that is no host gets into an answer."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from stow_harness import FakeDoor

from router.config.model import HttpConfig
from router.dicom.uids import Uid
from router.web.app import make_app
from router.web.urls import base_reference, base_url, instance_url, series_url, study_url


def request(host: str | None, *, scheme: str = "http", server: tuple[str, int] | None = ("127.0.0.1", 8080)) -> Request:
    headers = [] if host is None else [(b"host", host.encode())]
    return Request({"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": server})


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("pacs.example.org:8443", "http://pacs.example.org:8443/dicom-web"),
        ("192.0.2.1", "http://192.0.2.1/dicom-web"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/dicom-web"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/dicom-web"),
    ],
)
def test_the_base_uri_is_where_the_client_asked(host: str, base: str) -> None:
    assert base_url(request(host), "/dicom-web") == base
    assert base_url(request(host, scheme="https"), "") == base.replace("http:", "https:").removesuffix("/dicom-web")


def test_behind_a_proxy_it_is_what_the_configuration_says() -> None:
    app = make_app(HttpConfig(public_url="https://pacs.example/dicom"), FakeDoor())
    asked = Request({**request("127.0.0.1:8080").scope, "app": app})
    assert base_url(asked, "/dicom-web") == "https://pacs.example/dicom"


@pytest.mark.parametrize(
    "host", [None, "", 'evil"', "a b", "user@pacs", "pacs/x", "pacs:99999999", "[::1", "pacs\r\nX: y"]
)
def test_b55_a_host_that_is_none_gives_paths_only(host: str | None) -> None:
    assert base_url(request(host), "/dicom-web") == ""
    assert base_reference(request(host), "/dicom-web") == "/dicom-web"


@pytest.mark.parametrize(
    ("host", "server", "base"),
    [
        ("127.0.0.1", ("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("localhost", ("127.0.0.1", 8080), "http://localhost:8080"),
        ("[::1]", ("::1", 8080), "http://[::1]:8080"),
        ("127.0.0.1", ("127.0.0.1", 80), "http://127.0.0.1"),
        ("pacs", ("127.0.0.1", 8080), "http://pacs"),
        ("localhost", ("192.0.2.1", 8080), "http://localhost"),
        ("127.0.0.1", None, "http://127.0.0.1"),
    ],
)
def test_a_client_that_forgets_our_port_gets_it_back(host: str, server: tuple[str, int] | None, base: str) -> None:
    assert base_url(request(host, server=server), "") == base


def test_resources_hang_below_the_base_uri() -> None:
    study, series, instance = Uid("1.2"), Uid("1.2.3"), Uid("1.2.3.4")
    assert study_url("http://x", study) == "http://x/studies/1.2"
    assert series_url("http://x", study, series) == "http://x/studies/1.2/series/1.2.3"
    assert instance_url("http://x", study, series, instance) == "http://x/studies/1.2/series/1.2.3/instances/1.2.3.4"
