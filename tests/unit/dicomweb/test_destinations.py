"""Which URL means which registered destination, and which means none (B73 to B83, B90; O-07 to O-11, O-13)."""

from __future__ import annotations

import socket

import pytest

from router.config.model import (
    DimseDestination,
    Listen,
    SendRsDestination,
    StoreReach,
    StowDestination,
    StowReach,
)
from router.dicomweb.destinations import (
    BadDestination,
    Directory,
    ForbiddenDestination,
    OwnAddresses,
    read_destination,
    read_url,
)

ARCHIVE = DimseDestination(name="archive", ae_title="MY ARCHIVE", host="PACS.example", port=11112)
CLOUD = StowDestination(name="cloud", url="https://Another.server/stow", aliases=["https://pacs/dicom-web/studies"])
CLOSED = StowDestination(name="closed", url="https://closed.example/dicom-web", send_rs=False)
PLAIN = StowDestination(name="plain", url="http://[2001:db8::7]:8042/dicom-web")
PROXY = SendRsDestination(name="proxy", url="https://old.example/dicom-web", target="https://far.example/stow")
BOTH = DimseDestination(
    name="both", ae_title="BOTH", host="both.example", stow_rs=StowReach(url="https://both.example/dicom-web")
)
GATE = StowDestination(name="gate", url="https://gate.example/dicom-web", c_store=StoreReach(host="gate.example"))
DIRECTORY = Directory({one.name: one for one in (ARCHIVE, CLOUD, CLOSED, PLAIN, PROXY, BOTH, GATE)})


def find(url: str) -> str:
    return DIRECTORY.find(read_url(url))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://another.server/stow", "cloud"),
        ("HTTPS://ANOTHER.server:443/stow/", "cloud"),
        ("https://another.server./stow", "cloud"),
        ("https://another.server/%73tow", "cloud"),
        ("https://another.server/stow/studies", "cloud"),
        ("https://pacs/dicom-web", "cloud"),
        ("https://pacs/dicom-web/studies/", "cloud"),
        ("dicom://pacs.example:11112/MY%20ARCHIVE", "archive"),
        ("http://[2001:db8::7]:8042/dicom-web", "plain"),
        ("https://far.example/stow", "proxy"),
        ("dicom://both.example:104/BOTH", "both"),
        ("https://both.example/dicom-web/studies", "both"),
        ("https://gate.example/dicom-web", "gate"),
        ("dicom://gate.example/GATE", "gate"),
    ],
)
def test_req_041_a_url_means_the_destination_that_has_it_however_it_is_written(url: str, name: str) -> None:
    """REQ-041, O-08, O-09: an alias or a URL stands for a registered destination, also one with an AE title."""
    assert find(url) == name


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        ("https://another.server/stow", "https://another.server/stow"),
        ("/stow",),
        ("//another.server/stow",),
        ("another.server/stow",),
        ("https://another.server/%zz",),
        ("https://another.server/" + "a" * 65_536,),
    ],
)
def test_req_017_018_b73_a_destination_is_exactly_one_absolute_url(values: tuple[str, ...]) -> None:
    """REQ-017, REQ-018."""
    with pytest.raises(BadDestination):
        read_destination(values)


@pytest.mark.parametrize("text", ["ARCHIVE", "archive", "cloud", "MY ARCHIVE"])
def test_b74_an_ae_title_or_a_registered_name_is_no_destination_and_none_is_told(text: str) -> None:
    with pytest.raises(BadDestination) as error:
        read_destination([text])
    assert "cloud" not in error.value.problem
    assert "archive" not in error.value.problem


def test_b75_what_is_not_registered_is_forbidden_without_any_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket, "gethostbyname", never)
    for url in ("https://evil.example/stow", "https://closed.example/dicom-web", "dicom://pacs.example:11112/OTHER"):
        with pytest.raises(ForbiddenDestination) as error:
            find(url)
        assert "cloud" not in error.value.problem


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://x/1", "ftp://pacs/x", "data:text/plain,x", "dicom:ARCHIVE", "pacs:104"]
)
def test_b76_other_schemes_are_no_destinations(url: str) -> None:
    with pytest.raises(BadDestination):
        read_url(url)


def test_b76_http_where_the_entry_says_https_is_forbidden() -> None:
    for url in ("http://another.server/stow", "http://another.server:443/stow"):
        with pytest.raises(ForbiddenDestination):
            find(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pw@pacs/dicom-web",
        "https://pacs#@evil/",
        "https://pacs\\@evil/",
        "https://evil%2f@pacs/",
        "https://pacs;@evil/",
        "https://pa\tcs/",
        "https://pacs/dicom\n-web",
        "https://pacs /",
        "https://pacs/\x00",
        "https:///pacs",
        "https://",
        "https%3A%2F%2Fpacs%2Fdicom-web",
        "https://pacs%2edomain/",
        "https:/pacs/dicom-web",
    ],
)
def test_b77_a_url_that_two_programs_may_read_differently_is_refused(url: str) -> None:
    with pytest.raises(BadDestination):
        read_url(url)


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "0x7f000001", "1.2.3.4.5", "256.1.1.1"),
        *("[fe80::1%25eth0]", "[pacs]", "[0:0:0:0:0:0:0:1]", "[::FFFF:0:0:1:2:3:4:5]", "[1.2.3.4]"),
        *("\uff50acs", "pacs\u3002example", "１２７.0.0.1", "-pacs", "pacs..example", "[", "]"),
    ],
)
def test_b78_a_host_is_a_name_or_a_canonical_address(host: str) -> None:
    with pytest.raises(BadDestination):
        read_url(f"https://{host}/dicom-web")


@pytest.mark.parametrize(
    "host",
    [
        *("[::]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "[fd00:ec2::254]"),
        *("localhost.", "xn--pacs-9na.example"),
    ],
)
def test_b78_what_is_canonical_but_not_registered_is_forbidden(host: str) -> None:
    with pytest.raises((ForbiddenDestination, BadDestination)):
        find(f"https://{host}/dicom-web")


@pytest.mark.parametrize("port", ["0", "00", "65536", "443x", "", "-1", "99999999999"])
def test_b81_a_port_that_does_not_exist_is_refused(port: str) -> None:
    with pytest.raises(BadDestination):
        read_url(f"https://pacs:{port}/dicom-web")


@pytest.mark.parametrize("url", ["https://pacs:22/dicom-web", "https://pacs:80/dicom-web", "http://pacs:443/dicom-web"])
def test_b81_another_port_than_the_registered_one_is_forbidden(url: str) -> None:
    with pytest.raises(ForbiddenDestination):
        find(url)


@pytest.mark.parametrize(
    "path",
    ["/stow/../admin", "/stow/%2e%2e/admin", "/stow/./", "//stow", "/stow//", "/stow;x", "/stow/more", "/STOW", ""],
)
def test_b82_only_the_registered_path_itself_is_allowed(path: str) -> None:
    with pytest.raises(ForbiddenDestination):
        find(f"https://another.server{path}")


@pytest.mark.parametrize("tail", ["?x=1", "?", "#top", "#"])
def test_b83_a_query_or_fragment_in_the_destination_is_refused(tail: str) -> None:
    with pytest.raises(BadDestination):
        read_url(f"https://another.server/stow{tail}")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8080/dicom-web", ""),
        ("http://localhost:8080/elsewhere", ""),
        ("http://[::1]:8080/dicom-web", ""),
        ("dicom://127.0.0.1:11112/SENDRS", ""),
        ("https://router.example/dicom-web", "router.example"),
        ("https://router.example:8443/dicom-web/studies", "Router.example:8443"),
        ("https://proxy.example/pacs/studies", "127.0.0.1:8080"),
    ],
)
def test_b90_this_router_is_known_by_its_listeners_and_by_the_name_it_was_reached_by(url: str, host: str) -> None:
    listeners = [Listen("0.0.0.0", 8080), Listen("127.0.0.1", 11112)]
    own = OwnAddresses(listeners, "/dicom-web", "https://proxy.example/pacs")
    assert own.has(read_url(url), host)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8042/dicom-web", "127.0.0.1:8080"),
        ("https://router.example/orthanc", "router.example"),
        ("https://router.example/dicom-web", "no host at all"),
        ("dicom://router.example:104/SENDRS", "router.example:104"),
    ],
)
def test_b90_a_neighbour_on_the_same_host_is_not_this_router(url: str, host: str) -> None:
    own = OwnAddresses([Listen("0.0.0.0", 8080), Listen("127.0.0.1", 11112)], "/dicom-web")
    assert not own.has(read_url(url), host)


def test_the_first_destination_in_the_file_has_a_url_that_two_have() -> None:
    twin = StowDestination(name="twin", url="https://another.server/stow")
    directory = Directory({"cloud": CLOUD, "twin": twin})
    assert directory.find(read_url("https://another.server/stow")) == "cloud"
