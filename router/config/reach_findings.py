"""What is wrong with a way out that router.toml names, whoever uses it: secrets that others read, ways back to us."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from router.config.document import Document
from router.config.finding import Finding, Keys
from router.config.model import Config, Listen, SendRsDestination, StowDestination, StowReach, WebUpstream
from router.config.named_files import ca_file_problem, secret_file_problem

WORLD_READABLE = 0o004
SECRET_HEADER_WORDS = ("auth", "cookie", "key", "password", "secret", "token")
"""A header whose name holds one of these carries a secret."""

WebReach = StowDestination | SendRsDestination | StowReach | WebUpstream
"""What is reached by HTTP, with headers, a token and certificates of its own."""


def credential_findings(web: WebReach, table: Keys, key: Keys, document: Document) -> Iterator[Finding]:
    """Find what is wrong with headers, token and certificates of `web`, which stands at `key` in `table` (B102)."""
    secrets = [name for name in web.headers if any(word in name.lower() for word in SECRET_HEADER_WORDS)]
    if secrets and document.mode & WORLD_READABLE:
        place = (*key, "headers", secrets[0])
        yield Finding(table, place, "is a secret in a file that everybody can read", f"chmod o= {document.file}")
    if web.bearer_token_file is not None:
        if any(name.lower() == "authorization" for name in web.headers):
            yield Finding(table, (*key, "bearer_token_file"), "and headers.Authorization exclude each other")
        problem, hint = secret_file_problem(web.bearer_token_file)
        if problem:
            yield Finding(table, (*key, "bearer_token_file"), problem, hint)
    if web.ca_file is not None:
        problem = ca_file_problem(web.ca_file)
        if web.url.lower().startswith("http:"):
            problem = "has no use, because the url is http and not https"
        if problem:
            yield Finding(table, (*key, "ca_file"), problem)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() in ("localhost", "ip6-localhost")


def is_our_dicom(config: Config, host: str, port: int) -> bool:
    """Say whether this is our own DIMSE listener, as far as the text shows it."""
    return _is_same(config.dicom.listen, host, port)


def is_our_web(config: Config, url: str) -> bool:
    """Say whether this URL is that of our own services, as far as the text shows it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return parts.path == config.http.base_path and _is_same(config.http.listen, parts.hostname or "", port)


def _is_same(listen: Listen, host: str, port: int) -> bool:
    if listen.port != port or not port:
        return False
    listens_on_all = listen.host in ("0.0.0.0", "::")
    return host == listen.host or (is_loopback(host) and (listens_on_all or is_loopback(listen.host)))
