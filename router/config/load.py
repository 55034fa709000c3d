"""Load router.toml: the one way from the file to a `Config`. All problems are found in one pass (B91-B104).

Reads the files that the configuration names, touches nothing else: the state folder is `state_folder.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import inspect

from router.config.document import Document, read_document
from router.config.model import Config, Destination, DimseDestination, Listen, SendRsDestination, StowDestination
from router.config.named_files import ca_file_problem, secret_file_problem
from router.config.tables import Keys, TableReader
from router.errors import ConfigErrors

WORLD_READABLE = 0o004
SECRET_HEADER_WORDS = ("auth", "cookie", "key", "password", "secret", "token")
"""A header whose name holds one of these carries a secret."""


class Finding(NamedTuple):
    """Something wrong between values that are each right."""

    table: Keys
    key: Keys
    problem: str
    hint: str = ""


def load_config(path: Path) -> Config:
    """Read and check the configuration file at `path`. Raises ConfigErrors with everything that is wrong in it."""
    document = read_document(path.absolute())
    reader = TableReader(document.file, document.text)
    kind = inspect.type_info(Config)
    assert isinstance(kind, inspect.StructType)
    config = reader.read_struct(kind, document.table, (), file=document.file)
    assert isinstance(config, Config)  # every table has defaults
    for finding in _findings(config, document):
        reader.report(finding.table, finding.key, finding.problem, hint=finding.hint)
    if reader.errors:
        raise ConfigErrors(sorted(reader.errors, key=lambda error: error.line or 0))
    return config


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() in ("localhost", "ip6-localhost")


def _findings(config: Config, document: Document) -> Iterator[Finding]:
    yield from _listening(config)
    yield from _sending(config)
    yield from _peers(config)
    yield from _aliases(config)
    for name, destination in config.destinations.items():
        table = ("destinations", name)
        if _leads_back(config, destination):
            yield Finding(table, (), "is this router itself: what it sends would come back for ever")
        if not isinstance(destination, DimseDestination):
            yield from _web(destination, table, document)


def _listening(config: Config) -> Iterator[Finding]:
    if not is_loopback(config.http.listen.host) and not config.http.insecure_http:
        yield Finding(
            ("http",),
            ("listen",),
            f"{config.http.listen.host} can be reached from other machines, and HTTP is not encrypted",
            "listen on 127.0.0.1 behind a reverse proxy with TLS, or set insecure_http = true",
        )
    if config.http.listen == config.dicom.listen and config.http.listen.port:
        yield Finding(("http",), ("listen",), f"port {config.http.listen.port} is taken by [dicom] listen")


def _sending(config: Config) -> Iterator[Finding]:
    sending, http = config.sending, config.http
    if http.max_sync_s < http.sync_budget_s:
        yield Finding(("http",), ("max_sync_s",), f"is shorter than sync_budget_s ({http.sync_budget_s:g} s)")
    if sending.backoff_cap_s < sending.backoff_first_s:
        yield Finding(
            ("sending",), ("backoff_cap_s",), f"is shorter than backoff_first_s ({sending.backoff_first_s:g} s)"
        )
    if sending.lifetime_s < sending.backoff_first_s:
        yield Finding(("sending",), ("lifetime_s",), "is over before the first retry (backoff_first_s)")


def _peers(config: Config) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for name, peer in config.peers.items():
        identity = (peer.ae_title, str(ip_network(peer.address)))
        if identity in seen:
            yield Finding(("peers", name), (), f"is the same AE title and address as [peers.{seen[identity]}]")
        seen.setdefault(identity, name)


def _aliases(config: Config) -> Iterator[Finding]:
    """A URL in a SEND-RS request must mean one destination."""
    owners: dict[str, str] = {}
    for name, destination in config.destinations.items():
        if isinstance(destination, StowDestination):
            owners.setdefault(destination.url.lower(), name)
        elif isinstance(destination, SendRsDestination):
            owners.setdefault(destination.target.lower(), name)
    for name, destination in config.destinations.items():
        for alias in destination.aliases:
            owner = owners.setdefault(alias.lower(), name)
            if owner != name:
                yield Finding(("destinations", name), ("aliases",), f"{alias} is a URL of [destinations.{owner}]")


def _web(destination: StowDestination | SendRsDestination, table: Keys, document: Document) -> Iterator[Finding]:
    secrets = [name for name in destination.headers if any(word in name.lower() for word in SECRET_HEADER_WORDS)]
    if secrets and document.mode & WORLD_READABLE:
        key = ("headers", secrets[0])
        yield Finding(table, key, "is a secret in a file that everybody can read", f"chmod o= {document.file}")
    if destination.bearer_token_file is not None:
        if any(name.lower() == "authorization" for name in destination.headers):
            yield Finding(table, ("bearer_token_file",), "and headers.Authorization exclude each other")
        problem, hint = secret_file_problem(destination.bearer_token_file)
        if problem:
            yield Finding(table, ("bearer_token_file",), problem, hint)
    if destination.ca_file is not None:
        problem = ca_file_problem(destination.ca_file)
        if destination.url.lower().startswith("http:"):
            problem = "has no use, because the url is http and not https"
        if problem:
            yield Finding(table, ("ca_file",), problem)


def _leads_back(config: Config, destination: Destination) -> bool:
    """Say whether a destination is one of our own listeners, as far as the text shows it."""
    match destination:
        case DimseDestination(host=host, port=port):
            return _is_same(config.dicom.listen, host, port)
        case StowDestination(url=url) | SendRsDestination(url=url):
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
            return parts.path == config.http.base_path and _is_same(config.http.listen, parts.hostname or "", port)


def _is_same(listen: Listen, host: str, port: int) -> bool:
    if listen.port != port or not port:
        return False
    listens_on_all = listen.host in ("0.0.0.0", "::")
    return host == listen.host or (is_loopback(host) and (listens_on_all or is_loopback(listen.host)))
