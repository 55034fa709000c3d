"""The DIMSE peer that a command talks to: found by its name in router.toml or by AET@host:port; and why it said no."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer

from router.cli.exits import ExitCode
from router.cli.options import seconds
from router.config import forms
from router.config.forms import Unfit
from router.config.load import load_config
from router.config.model import Config, DimseUpstream
from router.delivery.query import QueryFailed, QueryRefused
from router.dicom.uids import AETitle
from router.errors import ConfigErrors, DeliveryError
from router.net.nodes import DimseNode, node_of

_ADDRESS: Final = re.compile(
    r"(?P<title>[^@]*)@(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII
)
_ALLOWED: Final = "a destination or upstream of router.toml, or AET@host:port (an IPv6 address in brackets)"
_DEFAULT_TITLE: Final = "SENDRS"

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A destination or upstream of router.toml, or AET@host:port.")
]
TitleOption = Annotated[
    str,
    typer.Option("--aet", metavar="TITLE", help="Our AE title.", show_default="that of router.toml, or SENDRS"),
]


class Node(msgspec.Struct, frozen=True):
    """A peer and what a person calls it."""

    name: str
    dimse: DimseNode

    def __str__(self) -> str:
        host = f"[{self.dimse.host}]" if ":" in self.dimse.host else self.dimse.host
        address = f"{self.dimse.ae_title}@{host}:{self.dimse.port}"
        return address if self.name == address else f"{self.name} ({address})"


def find_node(text: str, config: Path, *, aet: str, timeout: str) -> Node:
    """Find the peer that NODE means. `aet` and `timeout` as given on the command line, "" when they were not.

    Raises typer.BadParameter, ConfigErrors.
    """
    named = _from_address(text, config) if "@" in text else _from_config(text, load_config(config))
    dimse = named.dimse
    if aet:
        dimse = msgspec.structs.replace(dimse, calling_aet=_title(aet, "--aet"))
    if timeout:
        dimse = msgspec.structs.replace(dimse, answer_s=seconds(timeout, "--timeout"))
    return Node(named.name, dimse)


def fail(node: Node, error: DeliveryError) -> ExitCode:
    """Say on stderr why nothing came of it and what to do next; give the exit code."""
    print(f"sendrs: {node}: {error.problem}", file=sys.stderr)
    for line in _advice(node, error):
        print(f"    {line}", file=sys.stderr)
    return ExitCode.UNAVAILABLE


def bad(option: str, problem: str) -> NoReturn:
    """Refuse what was typed."""
    raise typer.BadParameter(problem, param_hint=f"'{option}'")


def _from_address(text: str, config: Path) -> Node:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        bad("NODE", f"{text[:80]!r} has no host and port behind the @; allowed: {_ALLOWED}")
    title = _title(match["title"], "NODE")
    host, port = match["v6"] or match["host"], int(match["port"])
    try:
        host = forms.host(host)
    except Unfit as unfit:
        bad("NODE", f"{unfit.problem}; allowed: {unfit.allowed}")
    if not 1 <= port <= 65535:
        bad("NODE", f"port {port} does not exist; allowed: 1 to 65535")
    return Node(text, DimseNode(ae_title=title, host=host, port=port, calling_aet=AETitle(_our_title(config))))


def _our_title(config: Path) -> str:
    try:
        return load_config(config).dicom.ae_title
    except (ConfigErrors, OSError):
        return _DEFAULT_TITLE  # a peer that is named by its address needs no configuration


def _from_config(name: str, config: Config) -> Node:
    nodes = _nodes(config)
    if name in nodes:
        return Node(name, nodes[name])
    if name in config.destinations or name in config.proxies:
        bad("NODE", f"{name} is spoken to over the web and has no DIMSE address; allowed: {_ALLOWED}")
    close = difflib.get_close_matches(name, nodes, n=1)
    known = f"did you mean {close[0]}?" if close else f"it has: {', '.join(nodes) or 'no DIMSE peer'}"
    bad("NODE", f"{name[:80]!r} is not in {config.file}; {known}; allowed: {_ALLOWED}")


def _nodes(config: Config) -> dict[str, DimseNode]:
    """Give every DIMSE address in a configuration by the name that its table has; destinations before proxies."""
    upstreams = {proxy.name: proxy.upstream for proxy in config.proxies.values()}
    peers = {name: peer for name, peer in upstreams.items() if isinstance(peer, DimseUpstream)} | config.destinations
    nodes = {name: node_of(peer, config.dicom.ae_title) for name, peer in peers.items()}
    return {name: node for name, node in nodes.items() if node is not None}


def _title(text: str, option: str) -> AETitle:
    try:
        return AETitle(forms.ae_title(text))
    except Unfit as unfit:
        bad(option, f"the AE title {unfit.problem}; allowed: {unfit.allowed}")


def _advice(node: Node, error: DeliveryError) -> list[str]:
    """What to do next, by the words in which the layers below say what happened."""
    problem, dimse = error.problem, node.dimse
    if "calling AE title not recognised" in problem:
        return [
            f'register the AE title "{dimse.calling_aet}" and the address of this machine there,',
            "or say with --aet a title that it knows",
        ]
    if "called AE title not recognised" in problem:
        return [f'it does not go by "{dimse.ae_title}": see its own configuration for its AE title']
    if "no connection" in problem:
        return [f"is it running, and is {dimse.port} its DICOM port? A firewall between may say no, too"]
    if isinstance(error, QueryRefused | QueryFailed):
        return []
    if "association rejected" in problem or "aborted by the peer" in problem:
        return [f'its log says why; perhaps "{dimse.calling_aet}" is not registered there, or may not do this']
    if "did not answer within" in problem or "no answer to" in problem:
        return ["--timeout lets it take longer"]
    return []
