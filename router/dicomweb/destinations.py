"""Which registered destination the `destination` URL of a send request means (Sup 248 §10.X.1; O-07 to O-11).

A URL chooses among what the operator registered, it never makes a destination: no name is looked up, no connection
made. RFC 3986 is taken strictly, and a second parser must read the same (B73 to B83, B90).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from router.config.model import Destination, DimseDestination, Listen, SendRsDestination, StowDestination
from router.config.titles import ae_title_of
from router.dicom.non_patient import CATEGORIES

MAX_CHARACTERS: Final = 2_048
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "dicom": 104}
"""Schemes that a destination may have. `dicom://host:port/AETITLE` is ours: the alias of a C-STORE SCP."""
ALLOWED: Final = "one absolute URL, https://… or http://… (or dicom://host:port/AETITLE), percent-encoded"

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*)",
    re.ASCII,
)
_NUMERIC: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_RESOURCES: Final = frozenset({"studies", *CATEGORIES})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class BadDestination(ValueError):
    """The parameter is not what it must be (400). `problem` is the rest of a sentence about it."""

    def __init__(self, problem: str):
        self.problem = problem
        super().__init__(problem)


class ForbiddenDestination(ValueError):
    """Nothing is sent there (403). `problem` is a sentence; it names no destination that there is."""

    def __init__(self, problem: str):
        self.problem = problem
        super().__init__(problem)


class Address(NamedTuple):
    """Host in lower case, without the dot at its end and without brackets; port."""

    host: str
    port: int


class Target(NamedTuple):
    """A destination URL in the one form in which URLs are compared. `path` has no slash at its end."""

    scheme: str
    address: Address
    path: str


def read_destination(values: Collection[str]) -> Target:
    """Read the values of the destination parameter, decoded once. Raises BadDestination."""
    if len(values) > 1:
        raise BadDestination("is given more than once, or holds a comma that is not encoded (%2C)")
    text = next(iter(values), "")
    if not text:
        raise BadDestination("is missing")
    return read_url(text)


def read_url(text: str) -> Target:
    """Read one destination URL (RFC 3986, with no more than scheme, host, port and path). Raises BadDestination."""
    if len(text) > MAX_CHARACTERS:
        raise BadDestination(f"has more than {MAX_CHARACTERS} characters")
    if "?" in text or "#" in text:
        raise BadDestination("has a query or a fragment, which a destination has not")
    if "://" not in text:
        raise BadDestination("is not an absolute URL")
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise BadDestination("has a user name in it; what to log in with is the router's own business")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise BadDestination("is not a URL as RFC 3986 has it, or an ambiguous one")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise BadDestination(f"has the scheme {scheme[:20]!r}")
    port = int(parts["port"] or DEFAULT_PORTS[scheme])
    if port > 0xFFFF:
        raise BadDestination("has a port that does not exist")
    _check_second_opinion(text, scheme, parts["host"], parts["port"], parts["path"])
    return Target(scheme, Address(_host(parts["host"]), port), _path(scheme, parts["path"]))


def _check_second_opinion(text: str, scheme: str, host: str, port: str | None, path: str) -> None:
    """What two parsers read differently means different things to different programs (B77)."""
    try:
        other = urlsplit(text)
        same = (other.scheme, other.hostname, other.port, other.path, other.query, other.fragment) == (
            *(scheme, host.strip("[]").lower(), int(port) if port else None, path),
            *("", ""),
        )
    except ValueError:
        same = False
    if not same:
        raise BadDestination("is an ambiguous URL")


def _host(text: str) -> str:
    """Take IP addresses in their canonical form only: others (127.1, 0x7f.1) mean what a resolver makes of them."""
    if text.startswith("["):
        return _canonical(IPv6Address, text[1:-1].lower())
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _canonical(IPv4Address, host)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadDestination("has a host that is no name")
    return host


def _canonical(kind: type[IPv4Address | IPv6Address], text: str) -> str:
    try:
        if str(kind(text)) == text:
            return text
    except ValueError:
        pass
    raise BadDestination("has a host that is an IP address in another form than the canonical one")


def _path(scheme: str, path: str) -> str:
    """Undo percent-encoding that changes nothing (RFC 3986 §6.2.2.2). Dot segments stay: no registered URL has any."""
    if scheme == "dicom":
        return unquote(path)

    def undo(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if character in _UNRESERVED else f"%{escape[1].upper()}"

    return _base(_ESCAPE.sub(undo, path))


def _base(path: str) -> str:
    """Give the Base URI's path, also of the studies resource and of a category of non-patient instances (O-08)."""
    path = path.removesuffix("/")
    base, _, last = path.rpartition("/")
    return base if last in _RESOURCES else path


class Directory:
    """The registered destinations that may be asked for, by all URLs they have. A reload makes a new one."""

    def __init__(self, destinations: Mapping[str, Destination]):
        self._names: dict[Target, str] = {}
        for destination in destinations.values():
            if destination.send_rs:
                for url in _urls(destination):
                    self._names.setdefault(url, destination.name)

    def find(self, target: Target) -> str:
        """Give the registered name that `target` means. Raises ForbiddenDestination."""
        name = self._names.get(target)
        if name is None:
            raise ForbiddenDestination("The destination is not registered here for SEND-RS.")
        return name


class OwnAddresses:
    """Where this router itself is, as far as texts show it: what is sent there would come back (B90)."""

    def __init__(self, listeners: Collection[Listen], base_path: str, public_url: str = ""):
        self._addresses = {
            Address(host, listen.port) for listen in listeners if listen.port for host in _names_of(listen.host)
        }
        self._base_path = base_path
        self._public = read_url(public_url) if public_url else None

    def has(self, target: Target, reached_as: str) -> bool:
        """Say whether `target` is us; `reached_as` is the Host field of the request, by which a proxy knows us."""
        if target.address in self._addresses or target == self._public:
            return True
        is_ours = target.path == self._base_path or target.path.startswith(f"{self._base_path}/")
        if target.scheme == "dicom" or not is_ours:
            return False
        try:
            us = read_url(f"{target.scheme}://{reached_as}")
        except BadDestination:
            return False
        return target.address == us.address


def url_of(destination: Destination) -> str:
    """Give the URL by which somebody else is told of a destination: of a C-STORE SCP its first alias, if it has one."""
    match destination:
        case DimseDestination(aliases=aliases, host=host, port=port, ae_title=title):
            return aliases[0] if aliases else _dicom_alias(host, port, title)
        case StowDestination(url=url) | SendRsDestination(target=url):
            return url


def _names_of(host: str) -> set[str]:
    if host in ("0.0.0.0", "::"):
        return {*_LOOPBACK, host}
    return {host.lower()} | (_LOOPBACK if host.lower() in _LOOPBACK else set())


def _urls(destination: Destination) -> Iterator[Target]:
    """Give what means this destination; what the configuration calls a URL and this module does not, means nothing."""
    texts = list(destination.aliases)
    match destination:
        case DimseDestination(host=host, port=port, ae_title=title, stow_rs=reach):
            texts.append(_dicom_alias(host, port, title))
            texts.extend([reach.url] if reach is not None else [])
        case StowDestination(url=url, c_store=store):
            texts.append(url)
            texts.extend([_dicom_alias(store.host, store.port, ae_title_of(destination))] if store is not None else [])
        case SendRsDestination(target=url):
            texts.append(url)
    for text in texts:
        try:
            yield read_url(text)
        except BadDestination:
            continue


def _dicom_alias(host: str, port: int, ae_title: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"dicom://{shown}:{port}/{quote(ae_title, safe='')}"
