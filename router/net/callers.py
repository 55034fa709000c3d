"""Who may call us: the registered peers, by address and AE title. Shared by both fronts; knows no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from router.config.model import Peer
from router.dicom.uids import AETitle


class Callers:
    """The peers of one configuration; a reload makes a new one. With no peer registered, callers on loopback only."""

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = [(peer.ae_title, ip_network(peer.address, strict=False)) for peer in peers.values()]

    def allows_association(self, calling_aet: AETitle, address: str) -> bool:
        """Say whether a peer of this AE title is registered for this address."""
        caller = _address(address)
        if caller is None:
            return False
        if not self._peers:
            return caller.is_loopback
        return any(title == calling_aet and caller in network for title, network in self._peers)

    def allows_request(self, address: str) -> bool:
        """Say whether an HTTP request may come from this address.

        HTTP has no AE title, so any peer's address will do; loopback always may, for there a reverse proxy stands.
        """
        caller = _address(address)
        return caller is not None and (caller.is_loopback or any(caller in network for _, network in self._peers))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The caller's address; an IPv4 address that came through an IPv6 socket counts as what it is."""
    try:
        address = ip_address(text)
    except ValueError:  # the peer was gone before it could be asked for
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
