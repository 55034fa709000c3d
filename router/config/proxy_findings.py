"""What is wrong with the proxies of router.toml: the name by which each is meant, and where it leads."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.document import Document
from router.config.finding import Finding
from router.config.model import Config, DimseUpstream, Proxy, WebUpstream
from router.config.reach_findings import credential_findings, is_our_dicom, is_our_web


def proxy_findings(config: Config, document: Document) -> Iterator[Finding]:
    """Find all that is wrong with proxies."""
    base_paths = {config.http.base_path: "[http]"}
    ae_titles = {config.dicom.ae_title: "[dicom]"}
    for name, proxy in config.proxies.items():
        table, header = ("proxies", name), f"[proxies.{name}]"
        match proxy.upstream:
            case DimseUpstream() as upstream:
                yield from _named_by_path(proxy, base_paths)
                if is_our_dicom(config, upstream.host, upstream.port):
                    yield Finding(table, ("upstream",), "is this router itself: it would ask itself for ever")
            case WebUpstream() as upstream:
                yield from _named_by_title(proxy, ae_titles)
                if is_our_web(config, upstream.url):
                    yield Finding(table, ("upstream",), "is this router itself: it would ask itself for ever")
                yield from credential_findings(upstream, table, ("upstream",), document)
        base_paths.setdefault(proxy.base_path, header)
        ae_titles.setdefault(proxy.ae_title, header)


def _named_by_path(proxy: Proxy, taken: dict[str, str]) -> Iterator[Finding]:
    table = ("proxies", proxy.name)
    if proxy.ae_title:
        yield Finding(table, ("ae_title",), "has no use with a DIMSE upstream", "it is meant by its base_path")
    if not proxy.base_path:
        yield Finding(table, (), "base_path is missing", f'write base_path = "/{proxy.name}"')
    elif owner := taken.get(proxy.base_path):
        yield Finding(table, ("base_path",), f"{proxy.base_path} is that of {owner}", "each needs a path of its own")


def _named_by_title(proxy: Proxy, taken: dict[str, str]) -> Iterator[Finding]:
    table = ("proxies", proxy.name)
    if proxy.base_path:
        yield Finding(table, ("base_path",), "has no use with a DICOMweb upstream", "it is meant by its ae_title")
    if not proxy.ae_title:
        yield Finding(table, (), "ae_title is missing", f'write ae_title = "{proxy.name.upper()[:16]}"')
    elif owner := taken.get(proxy.ae_title):
        yield Finding(table, ("ae_title",), f"{proxy.ae_title} is that of {owner}", "each needs a title of its own")
