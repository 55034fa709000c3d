"""A bounded, iterative, push-fed reader of the attributes that the index and the rules need. CONTRACT STUB: see docs/architecture.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.dicom.uids import Uid

AttributePath = tuple[int, ...]
"""Tags from the outermost sequence to the attribute itself: (0x00400275, 0x00400009)."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    bytes: int = 16 * 1024 * 1024
    elements: int = 65_536
    depth: int = 64
    value_bytes: int = 64 * 1024
    inflated_bytes: int = 64 * 1024 * 1024
    inflate_ratio: int = 200


@dataclass(frozen=True, slots=True)
class Element:
    vr: str
    value: bytes
    items: tuple["Header", ...] = ()


class Header:
    elements: Mapping[int, Element]
    problem: str | None

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        raise NotImplementedError

    def first(self, path: AttributePath) -> str:
        raise NotImplementedError

    def present(self, path: AttributePath) -> bool:
        raise NotImplementedError


class HeaderScanner:
    done: bool

    def __init__(self, transfer_syntax_uid: Uid, wanted: frozenset[AttributePath], limits: ScanLimits = ScanLimits()):
        raise NotImplementedError

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    def finish(self) -> Header:
        raise NotImplementedError
