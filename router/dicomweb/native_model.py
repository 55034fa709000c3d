"""The Native DICOM Model (PS3.19 Annex A.1): XML read into the shape of DICOM JSON, for servers that know no JSON.

No document type, no entity of its own, no network: what carries a DOCTYPE is refused before anything of it is used.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from router.errors import PeerError

MAX_DEPTH = 64
"""Open XML elements; a Store Instances Response Module has seven."""

_NOTHING = "(nothing)"
_IGNORED = "(ignored)"


def decode(body: bytes) -> dict[str, Any]:
    """Read one NativeDicomModel: {tag: {"vr": …, "Value": […]}}; values are text, items such mappings. PeerError."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, UnicodeDecodeError, ValueError) as error:
        raise PeerError("the answer is not XML") from error
    if reader.model is None:
        raise PeerError("the answer is XML, but not a NativeDicomModel")
    return reader.model


class _Reader:
    """Expat's handlers. Names are matched without case and without prefix: the standard's own example varies both."""

    def __init__(self) -> None:
        self.model: dict[str, Any] | None = None
        self._open: list[str] = []
        self._data_sets: list[dict[str, Any]] = []
        self._elements: list[list[Any]] = []
        self._characters: list[str] = []

    def doctype(self, *_: object) -> None:
        raise PeerError("the answer is XML with a document type, which is never read")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2].lower()
        if len(self._open) >= MAX_DEPTH:
            raise PeerError(f"the answer nests more than {MAX_DEPTH} XML elements")
        parent = self._open[-1] if self._open else _NOTHING
        self._open.append(name)
        match parent, name:
            case "(nothing)", "nativedicommodel":
                self.model = {}
                self._data_sets.append(self.model)
            case "nativedicommodel" | "item", "dicomattribute":
                lower = {key.lower(): value for key, value in attributes.items()}
                values: list[Any] = []
                self._data_sets[-1][lower.get("tag", "").upper()] = {"vr": lower.get("vr", ""), "Value": values}
                self._elements.append(values)
            case "dicomattribute", "item":
                item: dict[str, Any] = {}
                self._elements[-1].append(item)
                self._data_sets.append(item)
            case "dicomattribute", "value":
                self._characters.clear()
            case _:
                self._open[-1] = _IGNORED  # nothing below it is taken for more

    def end(self, _name: str) -> None:
        match self._open.pop():
            case "nativedicommodel" | "item":
                self._data_sets.pop()
            case "dicomattribute":
                self._elements.pop()
            case "value":
                self._elements[-1].append("".join(self._characters))
                self._characters.clear()

    def text(self, characters: str) -> None:
        if self._open and self._open[-1] == "value":
            self._characters.append(characters)
