"""How many connections an address may open (B46): a token bucket for each address. Pure: the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_ADDRESSES = 4096
"""Buckets kept at once, about 1 MiB. After that the address that was quiet for longest begins anew with a full one."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    refused: int = 0


class ConnectionRate:
    """A bucket of `burst` connections for each address, refilled by `per_s` every second."""

    def __init__(self, *, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, float(burst), clock
        self._buckets: dict[str, _Bucket] = {}

    def refusals(self, address: str) -> int:
        """Take one connection from the bucket of `address`: 0 lets it in.

        Otherwise it is the number refused since the bucket was last full.
        """
        now = self._clock()
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            if len(self._buckets) >= MAX_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
            bucket = _Bucket(self._burst, now)
        self._buckets[address] = bucket
        bucket.tokens += (now - bucket.filled_at) * self._per_s
        bucket.filled_at = now
        if bucket.tokens >= self._burst:
            bucket.tokens, bucket.refused = self._burst, 0
        if bucket.tokens < 1.0:
            bucket.refused += 1
            return bucket.refused
        bucket.tokens -= 1.0
        return 0
