"""The words of the SEND-RS draft (Supplement 248, April 2026) that may still change: in this one place (O-54)."""

from __future__ import annotations

from typing import Final

SEND_REQUESTS: Final = "send-requests"
"""The path segment before a Transaction UID (Table 10.X.1-1)."""
DESTINATION: Final = "destination"
"""The query parameter that names where to send (§10.X.1)."""
NAME: Final = "SEND-RS"


def target_path(resource: str, transaction_uid: str) -> str:
    """Write the path of a send request below the Base URI: `resource` is "studies", "studies/1.2/series", …"""
    return f"/{resource}/{SEND_REQUESTS}/{transaction_uid}"
