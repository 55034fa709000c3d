"""Whether the listen addresses can be had, found out before anything is started, so that the words are good (B105)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from router.config.document import read_document
from router.config.locate import locate
from router.config.model import Config, Listen
from router.errors import ConfigError

FIRST_FREE_PORT = 1024
"""Ports below are the superuser's, unless a capability says otherwise."""


def check_addresses(config: Config) -> list[ConfigError]:
    """Bind each listen address for an instant; [] when all can be had."""
    problems = []
    for table, listen in (("dicom", config.dicom.listen), ("http", config.http.listen)):
        for problem, hint in _problems(listen):
            line = locate(read_document(config.file).text, (table, "listen"))
            problems.append(ConfigError(str(config.file), f"[{table}] listen", problem, hint=hint, line=line))
    return problems


def _problems(listen: Listen) -> Iterator[tuple[str, str]]:
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        yield f"{listen.host} is not an address of this machine: {error.strerror}", ""
        return
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                yield _explain(listen, error)
                return


def _explain(listen: Listen, error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.EACCES if listen.port < FIRST_FREE_PORT:
            problem = (
                f"port {listen.port} is below {FIRST_FREE_PORT} and needs a permission that this process does not have"
            )
            return problem, "in the systemd unit: AmbientCapabilities=CAP_NET_BIND_SERVICE; or listen on 11112"
        case errno.EADDRINUSE:
            hint = f'see who has it with "ss -ltnp sport = :{listen.port}", and stop it or choose another port'
            return f"port {listen.port} is in use by another program", hint
        case errno.EADDRNOTAVAIL:
            return f"{listen.host} is not an address of this machine", '"0.0.0.0" stands for all of its addresses'
        case _:
            return f"{listen.host}:{listen.port} cannot be listened on: {error.strerror}", ""
