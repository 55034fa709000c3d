"""`this_command`: how the program is started once more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from router.cli.this_command import this_command


def test_an_installed_program_starts_itself_by_its_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "sendrs"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(launcher), "demo"])
    assert this_command() == [str(launcher)]


@pytest.mark.parametrize("called", ["/checkout/router/cli/__main__.py", "/usr/bin/pytest", "/no/such/sendrs", ""])
def test_a_checkout_starts_itself_by_its_python(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert this_command() == [sys.executable, "-m", "router.cli"]


def test_a_frozen_program_is_its_own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert this_command() == [sys.executable]
