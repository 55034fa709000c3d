"""The `from` table of a rule: who handed the instance to us."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from router.dicom.envelope import Source
from router.dicom.matcher_text import wildcard_test

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a rule listens to. An empty tuple means anybody."""

    calling_aets: tuple[str, ...] = ()
    called_aets: tuple[str, ...] = ()
    addresses: tuple[Network, ...] = ()
    protocols: tuple[str, ...] = ()

    def mismatch(self, source: Source) -> str | None:
        """Give the first key of `from` that `source` does not meet, or None if it meets all."""
        if self.protocols and source.protocol not in self.protocols:
            return "protocol"
        if self.calling_aets and not _fits(self.calling_aets, source.calling_aet):
            return "calling_aet"
        if self.called_aets and not _fits(self.called_aets, source.called_aet):
            return "called_aet"
        if self.addresses and not _lies_in(self.addresses, source.address):
            return "address"
        return None


def _fits(patterns: tuple[str, ...], aet: str) -> bool:
    aet = aet.strip()
    tests: list[Callable[[str], bool]] = [wildcard_test(pattern) for pattern in patterns]
    return any(test(aet) for test in tests)


def _lies_in(networks: tuple[Network, ...], text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
