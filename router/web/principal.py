"""Who a request is from (O-28): as long as nobody proves an identity, the address it comes from."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from router.sending.requests import OPERATOR


def principal_of(request: Request) -> str:
    """Give the caller's address, canonical; OPERATOR for callers on this machine, who may see every job.

    A reverse proxy on this machine makes all its clients one principal.
    """
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = mapped or address
    return OPERATOR if address.is_loopback else str(address)
