"""Where a data set is in the store: the shape that writing gives and that reading takes."""

from __future__ import annotations

from typing import Protocol

import msgspec


class StoredFile(msgspec.Struct, frozen=True):
    """A finished file. `file` is relative to the store; offset and size of the data set in bytes; its SHA-256 (32
    bytes).
    """

    file: str
    data_set_offset: int
    data_set_bytes: int
    data_set_sha256: bytes


class Located(Protocol):
    """Anything that says where a data set is and what it must hash to, such as a `StoredFile` or a `Delivery`."""

    @property
    def file(self) -> str: ...

    @property
    def data_set_offset(self) -> int: ...

    @property
    def data_set_bytes(self) -> int: ...

    @property
    def data_set_sha256(self) -> bytes: ...
