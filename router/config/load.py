"""Load router.toml: the one way from the file to a `Config`. All problems are found in one pass (B91-B104).

Reads the files that the configuration names, touches nothing else: the state folder is `state_folder.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

from msgspec import inspect

from router.config.destination_findings import destination_findings
from router.config.document import Document, read_document
from router.config.finding import Finding
from router.config.model import Config
from router.config.proxy_findings import proxy_findings
from router.config.reach_findings import is_loopback
from router.config.tables import TableReader
from router.errors import ConfigErrors


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


def _findings(config: Config, document: Document) -> Iterator[Finding]:
    yield from _listening(config)
    yield from _sending(config)
    yield from _peers(config)
    yield from destination_findings(config, document)
    yield from proxy_findings(config, document)


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
