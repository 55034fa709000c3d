"""Reading on the spot: only what the system has in memory, only what is right; damage is left to who reports it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from router.store import cached
from router.store.cached import MAX_BYTES, read_cached
from router.store.stored import StoredFile

CONTENT = bytes(range(256)) * 16
HEAD = b"file meta "


def stored(path: Path, content: bytes = CONTENT) -> StoredFile:
    path.write_bytes(HEAD + content)
    return StoredFile(path.name, len(HEAD), len(content), hashlib.sha256(content).digest())


@pytest.mark.skipif(cached._open is None, reason="this system cannot be asked what it holds in memory")
def test_what_was_just_written_is_read_without_its_head(tmp_path: Path) -> None:
    located = stored(tmp_path / "a")
    assert read_cached(str(tmp_path / "a"), located) == CONTENT


@pytest.mark.skipif(cached._open is None, reason="this system cannot be asked what it holds in memory")
def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    located = stored(tmp_path / "a")
    read_cached(str(tmp_path / "a"), located)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        read_cached(str(tmp_path / "a"), located)
        read_cached(str(tmp_path / "b"), located)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_whatever_is_not_as_it_was_received_is_left_to_a_thread_that_reports_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    located = stored(path)
    for damaged in (HEAD + CONTENT + b"x", HEAD + CONTENT[:-1], HEAD + CONTENT[:-1] + b"?", b""):
        path.write_bytes(damaged)
        assert read_cached(str(path), located) is None
    path.unlink()
    assert read_cached(str(path), located) is None
    path.mkdir()
    assert read_cached(str(path), located) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    located = stored(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_cached(str(tmp_path / "link"), located) is None


def test_a_large_one_is_left_to_a_thread(tmp_path: Path) -> None:
    located = stored(tmp_path / "a", bytes(MAX_BYTES + 2))
    assert read_cached(str(tmp_path / "a"), located) is None


def test_a_system_that_cannot_be_asked_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "_open", None)
    assert read_cached(str(tmp_path / "a"), stored(tmp_path / "a")) is None
