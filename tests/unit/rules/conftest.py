"""Headers made by hand, and rules from a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import read_file_meta_info

from router.dicom.attributes import AttributePath, attribute_path, vr_of
from router.dicom.elements import Element
from router.dicom.header import Flaw, Header, HeaderScanner
from router.dicom.uids import Uid
from router.errors import ConfigError, ConfigErrors
from router.rules import RuleBook, load_rules

DESTINATIONS = ("ai", "archive", "cloud")


def make_header(flaw: Flaw | None = None, truncated: str = "", **values: Any) -> Header:
    """Make a header from text, raw bytes, or (for a sequence) a list of dicts, by keyword."""
    elements: dict[int, Element] = {}
    for keyword, value in values.items():
        (tag,) = attribute_path(keyword)
        if isinstance(value, list):
            elements[tag] = Element("SQ", b"", tuple(make_header(**item) for item in value))
        else:
            raw = value if isinstance(value, bytes) else value.encode("latin_1")
            vr = vr_of(tag)
            elements[tag] = Element("LO" if vr == "UN" else vr, raw, truncated=keyword == truncated)
    header = Header(elements, flaw=flaw, problem=flaw.value if flaw else None)
    header.inherit_charsets()
    return header


@pytest.fixture
def header() -> Callable[..., Header]:
    return make_header


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., RuleBook]:
    """Load the rules of a text."""

    def load(text: str) -> RuleBook:
        (tmp_path / "10-rules.toml").write_text(text, encoding="utf-8")
        return load_rules(tmp_path, DESTINATIONS)

    return load


@pytest.fixture
def errors(book: Callable[..., RuleBook]) -> Callable[[str], tuple[ConfigError, ...]]:
    """Load a text that must not load, and give all errors."""

    def load(text: str) -> tuple[ConfigError, ...]:
        with pytest.raises(ConfigErrors) as caught:
            book(text)
        return caught.value.errors

    return load


@pytest.fixture
def scan_file() -> Callable[[str, frozenset[AttributePath]], Header]:
    """Read the header of a file that comes with pydicom."""

    def scan(name: str, wanted: frozenset[AttributePath]) -> Header:
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str)
        meta = read_file_meta_info(path)
        scanner = HeaderScanner(Uid(str(meta.TransferSyntaxUID)), wanted)
        preface = 132 + 12 + meta.FileMetaInformationGroupLength
        scanner.feed(Path(path).read_bytes()[preface:])
        return scanner.finish()

    return scan
