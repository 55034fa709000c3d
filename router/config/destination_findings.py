"""What is wrong with the destinations of router.toml: how they are reached, and the names that they have."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.document import Document
from router.config.finding import Finding, Keys
from router.config.forms import show
from router.config.model import (
    Config,
    Destination,
    DimseDestination,
    Mechanism,
    SendRsDestination,
    StoreReach,
    StowDestination,
    StowReach,
)
from router.config.reach_findings import credential_findings, is_our_dicom, is_our_web

BACK_TO_US = "is this router itself: what it sends would come back for ever"


def destination_findings(config: Config, document: Document) -> Iterator[Finding]:
    """Find all that is wrong with destinations."""
    yield from _urls_of_others(config)
    for name, destination in config.destinations.items():
        table = ("destinations", name)
        if _leads_back(config, destination):
            yield Finding(table, (), BACK_TO_US)
        if not isinstance(destination, SendRsDestination):
            yield from _mechanisms(destination, table)
        if not isinstance(destination, DimseDestination):
            yield from credential_findings(destination, table, (), document)
        yield from _second_reach(config, destination, table, document)


def _urls_of_others(config: Config) -> Iterator[Finding]:
    """A URL in a SEND-RS request must mean one destination."""
    owners: dict[str, str] = {}
    for name, destination in config.destinations.items():
        if url := _own_url(destination):
            owners.setdefault(url.lower(), name)
    for name, destination in config.destinations.items():
        for alias in destination.aliases:
            owner = owners.setdefault(alias.lower(), name)
            if owner != name:
                yield Finding(("destinations", name), ("aliases",), f"{alias} is a URL of [destinations.{owner}]")


def _own_url(destination: Destination) -> str:
    match destination:
        case StowDestination(url=url) | SendRsDestination(target=url) | DimseDestination(stow_rs=StowReach(url=url)):
            return url
        case _:
            return ""


def _mechanisms(destination: DimseDestination | StowDestination, table: Keys) -> Iterator[Finding]:
    """`deliver` and the tables of the mechanisms that it names must fit each other."""
    deliver = destination.deliver
    if not deliver:
        yield Finding(table, ("deliver",), "is empty", f"write deliver = [{show(_own_mechanism(destination))}]")
    if len(set(deliver)) < len(deliver):
        yield Finding(table, ("deliver",), "names a mechanism twice", "an instance is tried once by each")
    second, reach = _second(destination)
    key = second.replace("-", "_")
    if second in deliver and reach is None:
        header = f"[{'.'.join((*table, key))}]"
        yield Finding(table, ("deliver",), f"names {show(second)}, and there is no table {header}")
    if reach is not None and second not in deliver:
        problem = f"has no use, because deliver does not name {show(second)}"
        yield Finding((*table, key), (), problem, f"write deliver = [{', '.join(map(show, (*deliver, second)))}]")


def _own_mechanism(destination: DimseDestination | StowDestination) -> Mechanism:
    return "c-store" if isinstance(destination, DimseDestination) else "stow-rs"


def _second(destination: DimseDestination | StowDestination) -> tuple[Mechanism, StowReach | StoreReach | None]:
    """The mechanism that needs a table, and that table."""
    if isinstance(destination, DimseDestination):
        return "stow-rs", destination.stow_rs
    return "c-store", destination.c_store


def _second_reach(config: Config, destination: Destination, table: Keys, document: Document) -> Iterator[Finding]:
    match destination:
        case DimseDestination(stow_rs=StowReach() as reach):
            if is_our_web(config, reach.url):
                yield Finding((*table, "stow_rs"), (), BACK_TO_US)
            yield from credential_findings(reach, (*table, "stow_rs"), (), document)
        case StowDestination(c_store=StoreReach(host=host, port=port)):
            if is_our_dicom(config, host, port):
                yield Finding((*table, "c_store"), (), BACK_TO_US)


def _leads_back(config: Config, destination: Destination) -> bool:
    match destination:
        case DimseDestination(host=host, port=port):
            return is_our_dicom(config, host, port)
        case StowDestination(url=url) | SendRsDestination(url=url):
            return is_our_web(config, url)
