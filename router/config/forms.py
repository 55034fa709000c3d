"""The forms a text in router.toml can have, each a function from what was written to what is kept.

A form that is not met raises `Unfit`, which says what is wrong and what is allowed; the caller adds the place.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from router.config.model import Listen

MAX_SHOWN = 60
"""Characters of a wrong value that an error repeats."""

_AE_TITLE_RULE = "1 to 16 ASCII characters, no backslash, no control character, no space at either end (PS3.5 §6.2)"
_LISTEN_RULE = '"address:port" such as "127.0.0.1:11112", "0.0.0.0:104" or "[::]:104"'
_DURATION_RULE = 'seconds as a number, or a text such as "500ms", "30s", "5m", "2h", "14d"'
_SIZE_RULE = 'bytes as a whole number, or a text such as "512KiB", "64MiB", "16GiB", "2TiB" (or kB, MB, GB, TB)'
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"b": 1} | {
    unit.lower(): factor**power
    for power, units in enumerate((("kB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")), start=1)
    for unit, factor in zip(units, (1000, 1024), strict=True)
}
_QUANTITY = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", re.ASCII)
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", re.ASCII)
_URL_USER = re.compile(r"[^/?#]*//[^/?#]*@")
_URL_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_OWN_HEADERS = {"accept", "connection", "content-length", "content-type", "expect", "host", "transfer-encoding"}


class Unfit(Exception):
    """A value that cannot be taken, in the parts of a ConfigError."""

    def __init__(self, problem: str, allowed: str = "", hint: str = ""):
        self.problem, self.allowed, self.hint = problem, allowed, hint
        super().__init__(problem)


def show(value: object) -> str:
    """Write a value as it stands in TOML, bounded and without control characters."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list"
        case str():
            text = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…"
            return json.dumps(text, ensure_ascii=not text.isprintable())
        case bool():
            return str(value).lower()
        case _:
            return str(value)[:MAX_SHOWN]


def ae_title(text: str) -> str:
    """Check an AE title. Lower case is taken: PS3.5 allows it and many archives have such titles (B93)."""
    if not text:
        raise Unfit("is empty", _AE_TITLE_RULE)
    if len(text) > 16:
        raise Unfit(f"{show(text)} has {len(text)} characters", _AE_TITLE_RULE)
    if text != text.strip(" "):
        raise Unfit(f"{show(text)} has a space at an end, which does not count in an AE title", _AE_TITLE_RULE)
    if "\\" in text or not (text.isascii() and text.isprintable()):
        what = "a backslash" if "\\" in text else "a character that DICOM does not allow"
        raise Unfit(f"{show(text)} holds {what}", _AE_TITLE_RULE)
    return text


def optional_ae_title(text: str) -> str:
    """Check an AE title that may be left empty."""
    return ae_title(text) if text else ""


def host(text: str) -> str:
    """Check a host name or an IP address; IPv6 without brackets."""
    problem = _host_problem(text)
    if problem:
        hint = "write an IPv6 address without brackets" if text.startswith("[") else ""
        if "://" in text:
            hint = "write the host alone, without http://"
        elif _host_problem(text.rpartition(":")[0]) == "":
            hint = "the port has a key of its own: port = …"
        raise Unfit(problem, 'a host name or an IP address, such as "pacs.example" or "10.1.2.3"', hint)
    return text


def _host_problem(text: str) -> str:
    if not text:
        return "is empty"
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            return f"{show(text)} is neither a host name nor an IP address"
    return ""


def listen(text: str) -> Listen:
    """Read "address:port"; port 0 takes any free one."""
    address, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,6}", port, re.ASCII):
        raise Unfit(f"{show(text)} has no port at its end", _LISTEN_RULE)
    if not address:
        raise Unfit(f"{show(text)} has no address", _LISTEN_RULE, f'for all addresses write "0.0.0.0:{port}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise Unfit(f"{show(text)} has an IPv6 address without brackets", _LISTEN_RULE)
    if address == "*":
        raise Unfit(f"{show(text)} has no address", _LISTEN_RULE, f'for all addresses write "0.0.0.0:{port}"')
    if problem := _host_problem(address):
        raise Unfit(problem, _LISTEN_RULE)
    if int(port) > 65_535:
        raise Unfit(f"port {int(port)} does not exist", "a port from 1 to 65535, or 0 for any free one")
    return Listen(address, int(port))


def optional_url(text: str) -> str:
    """Check a URL that may be left empty."""
    return url(text) if text else ""


def url(text: str) -> str:
    """Check the base URI of a web service, strictly, and drop slashes at its end."""
    rule = 'an http or https URL such as "https://pacs.example/dicom-web"'
    if _URL_USER.match(text):
        raise Unfit("holds a user name or password", rule, "secrets come from a file: bearer_token_file")
    if any(character in text for character in "\\ ") or not (text.isascii() and text.isprintable()):
        raise Unfit(f"{show(text)} holds a space, a backslash or a character that no URL has", rule)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise Unfit(f"{show(text)} is not a URL: {error}", rule) from None
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise Unfit(f"{show(text)} is not an http or https URL", rule)
    if "?" in text or "#" in text:
        raise Unfit(f"{show(text)} has a query or a fragment", rule, "write the base of the service alone")
    if parts.netloc.endswith(":") or port == 0:
        raise Unfit(f"{show(text)} has no usable port after its host", rule)
    if problem := _host_problem(parts.hostname or ""):
        raise Unfit(f"has no usable host: {problem}", rule)
    if not _URL_PATH.fullmatch(parts.path):
        raise Unfit(f"{show(text)} has a path with characters that must be escaped", rule)
    return text.rstrip("/")


def network(text: str) -> str:
    """Check an IP address or a network in CIDR form."""
    rule = 'an IP address or a network such as "10.1.2.3", "10.1.0.0/16" or "fd00::/8"'
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise Unfit(f"{show(text)} is not an address or network", rule) from None
        bare = text.partition("/")[0]
        raise Unfit(f"{show(text)} has bits beyond its mask", rule, f'write "{meant}" or "{bare}"') from None
    return text


def base_path(text: str) -> str:
    """Check the path under which the web services stand; "/" is the root, kept as ""."""
    if not _BASE_PATH.fullmatch(text):
        rule = 'a path such as "/dicom-web", or "/"'
        hint = f"write {show('/' + text)}" if _BASE_PATH.fullmatch("/" + text) else ""
        raise Unfit(f"{show(text)} is not a path", rule, hint)
    return text.rstrip("/")


def header_name(text: str) -> str:
    """Check the name of an HTTP header that may be added to requests."""
    if not _TOKEN.fullmatch(text):
        raise Unfit("is not a header name (RFC 9110 §5.1)", "letters, digits and hyphens")
    if text.lower() in _OWN_HEADERS:
        raise Unfit("is set by the router itself", "other headers, such as Authorization or X-Api-Key")
    return text


def header_value(text: str) -> str:
    """Check the value of an HTTP header. It may be a secret: the error does not repeat it."""
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise Unfit("has a value with line breaks, control or non-ASCII characters, or spaces at its ends")
    return text


def duration(text: str) -> float:
    """Read a time such as "5m" into seconds (B100)."""
    return _quantity(text, _SECONDS, _DURATION_RULE)


def size(text: str) -> int:
    """Read a size such as "64MiB" into bytes (B100)."""
    amount = _quantity(text, _BYTES, _SIZE_RULE)
    if amount != int(amount):
        raise Unfit(f"{show(text)} is not a whole number of bytes", _SIZE_RULE)
    return int(amount)


def show_duration(seconds: float) -> str:
    """Write a time in the largest unit that divides it."""
    return _in_largest(seconds, (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)))


def show_size(count: float) -> str:
    """Write a number of bytes in the largest unit that divides it."""
    return _in_largest(count, (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024), ("bytes", 1)))


def _in_largest(amount: float, units: tuple[tuple[str, int], ...]) -> str:
    name, factor = next((unit for unit in units if amount >= unit[1] and amount % unit[1] == 0), units[-1])
    return f"{amount / factor:g} {name}"


def _quantity(text: str, units: Mapping[str, float], rule: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or len(text) > 30:
        raise Unfit(f"{show(text)} is not a number with a unit", rule)
    number, unit = found.groups()
    factor = units.get(unit.lower())
    if factor is None:
        raise Unfit(
            f"{show(text)} has no unit" if not unit else f"{show(text)} has the unknown unit {show(unit)}", rule
        )
    return float(number) * factor


FORMS: dict[str, Callable[[str], str]] = {
    form.__name__: form
    for form in (ae_title, optional_ae_title, host, url, optional_url, network, base_path, header_name, header_value)
}
"""By the name that `config/model.py` gives in `Meta(extra={"form": …})`."""
