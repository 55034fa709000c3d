"""Bytes are taken and skipped from front to back, and never more read than are needed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pytest

from router.dicom import source as source_module
from router.dicom.source import InflatedSource, Source, Unreadable

CONTENT = bytes(range(256)) * 1000


def plain(content: bytes) -> Source:
    file = io.BytesIO(b"meta" + content)
    file.seek(4)
    return Source(file)


def inflated(content: bytes) -> Source:
    deflate = zlib.compressobj(wbits=-15)
    return InflatedSource(io.BytesIO(deflate.compress(content) + deflate.flush()))


@pytest.mark.parametrize("make", [plain, inflated])
def test_what_is_taken_between_skips_is_what_stands_there(make: Callable[[bytes], Source]) -> None:
    source = make(CONTENT)
    position = 0
    for taken, skipped in [(8, 0), (5, 300), (700, 100_000), (1, 3), (70_000, 20_000), (12, 0)]:
        assert source.position == position
        assert source.peek(4) == CONTENT[position : position + 4]
        assert source.take(taken) == CONTENT[position : position + taken]
        assert source.skip(skipped)
        position += taken + skipped
    assert source.position == position


@pytest.mark.parametrize("make", [plain, inflated])
def test_there_is_no_more_than_there_is(make: Callable[[bytes], Source]) -> None:
    source = make(b"abcdef")
    assert source.take(2) == b"ab"
    assert source.peek(10) == b"cdef"
    with pytest.raises(Unreadable, match="at byte 2"):
        source.take(5)
    assert source.take(4) == b"cdef"
    assert source.peek(1) == b""
    assert source.skip(0)
    assert not source.skip(1)
    assert not make(b"abcdef").skip(7)


def test_no_more_is_inflated_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_INFLATED_BYTES", 1_000_000)
    source = inflated(bytes(50_000_000))
    assert not source.skip(40_000_000)
    assert source.position <= 1_100_000
