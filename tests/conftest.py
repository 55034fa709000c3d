"""Shared by all tests: asyncio is the only backend (house.md)."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
