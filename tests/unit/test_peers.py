"""The harness of the interop tests: a missing peer skips for people and fails in CI; a test keeps its own settings."""

from __future__ import annotations

import tomllib

import pytest
from peers import require, with_defaults


def test_a_missing_peer_is_a_skip_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="sudo apt-get install dcmtk"):
        require("no-such-scu")


def test_a_missing_peer_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-scu is not on this machine"):
        require("no-such-scu")


def test_defaults_are_added_only_where_the_test_says_nothing() -> None:
    text = with_defaults(
        '    [dicom]\n    ae_title = "MINE"\n[destinations.a]\nkind = "dimse"\n',
        {"dicom": {"ae_title": '"OTHER"', "listen": '"127.0.0.1:1"'}, "sending": {"probe_s": "1"}},
    )
    assert tomllib.loads(text) == {
        "dicom": {"ae_title": "MINE", "listen": "127.0.0.1:1"},
        "destinations": {"a": {"kind": "dimse"}},
        "sending": {"probe_s": 1},
    }
