"""The Native DICOM Model (PS3.19 Annex A.1): XML read into the shape of DICOM JSON (PS3.18 Annex F).

Servers that know no JSON answer with it, and clients may store metadata in it. No document type, no entity of its own,
no network: what carries a DOCTYPE is refused before anything of it is used.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from router.dicomweb.private_blocks import place_private
from router.errors import PeerError

MAX_DEPTH = 136
"""Open XML elements: 64 sequences within each other have two each; a Store Instances Response Module has seven."""
MAX_ELEMENTS = 262_144
"""Attributes in one document; the functional groups of 5,000 frames have some 150,000."""
MAX_VALUES = 65_536
"""Values of one attribute: `number` may leave out empty ones, but not millions of them."""

_NOTHING = "(nothing)"
_IGNORED = "(ignored)"
_TEXTS = ("value", "inlinebinary")
_GROUPS = {"alphabetic": "Alphabetic", "ideographic": "Ideographic", "phonetic": "Phonetic"}
_COMPONENTS = ("familyname", "givenname", "middlename", "nameprefix", "namesuffix")


def decode(body: bytes, what: str = "the answer") -> dict[str, Any]:
    """Read one NativeDicomModel: {tag: {"vr": …, "Value": […]}}, or "InlineBinary" or "BulkDataURI" instead of "Value".

    Numbers are text, names and items mappings, private elements in their blocks with their creators. Raises PeerError,
    which calls the body `what`.
    """
    reader = _Reader(what)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, UnicodeDecodeError, ValueError, LookupError) as error:
        raise PeerError(f"{what} is not XML") from error
    if reader.model is None:
        raise PeerError(f"{what} is XML, but not a NativeDicomModel")
    return reader.model


class _Attribute:
    """The DicomAttribute that is being read."""

    def __init__(self, vr: str):
        self.element: dict[str, Any] = {"vr": vr, "Value": []}
        self.values: list[Any] = self.element["Value"]


class _DataSet:
    """A data set or item that is being read. `private` are the elements that name their creator instead of a block."""

    def __init__(self) -> None:
        self.elements: dict[str, Any] = {}
        self.private: list[tuple[str, str, dict[str, Any]]] = []


class _Reader:
    """Expat's handlers. Names are matched without case and without prefix: the standard's own example varies both."""

    def __init__(self, what: str) -> None:
        self.model: dict[str, Any] | None = None
        self._what = what
        self._open: list[str] = []
        self._data_sets: list[_DataSet] = []
        self._attributes: list[_Attribute] = []
        self._components: dict[str, str] = {}
        self._characters: list[str] = []
        self._count = 0

    def doctype(self, *_: object) -> None:
        raise PeerError(f"{self._what} is XML with a document type, which is never read")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2].lower()
        if len(self._open) >= MAX_DEPTH:
            raise PeerError(f"{self._what} nests more than {MAX_DEPTH} XML elements")
        parent = self._open[-1] if self._open else _NOTHING
        self._open.append(name)
        match parent, name:
            case "(nothing)", "nativedicommodel":
                self._data_sets.append(_DataSet())
                self.model = self._data_sets[-1].elements
            case "nativedicommodel" | "item", "dicomattribute":
                self._start_attribute(_lower(attributes))
            case "dicomattribute", "item":
                self._data_sets.append(_DataSet())
                self._add(attributes, self._data_sets[-1].elements)
            case "dicomattribute", "value":
                self._add(attributes, None)
                self._characters.clear()
            case "dicomattribute", "inlinebinary":
                self._characters.clear()
            case "dicomattribute", "bulkdata":
                lower = _lower(attributes)
                self._attributes[-1].element["BulkDataURI"] = lower.get("uri") or lower.get("uuid", "")
            case "dicomattribute", "personname":
                self._add(attributes, {})
            case "personname", "alphabetic" | "ideographic" | "phonetic":
                self._components = {}
            case "alphabetic" | "ideographic" | "phonetic", _ if name in _COMPONENTS:
                self._characters.clear()
            case _:
                self._open[-1] = _IGNORED  # nothing below it is taken for more

    def end(self, _name: str) -> None:
        match name := self._open.pop():
            case "nativedicommodel" | "item":
                data_set = self._data_sets.pop()
                place_private(data_set.elements, data_set.private)
            case "dicomattribute":
                attribute = self._attributes.pop()
                if len(attribute.element) > 2 and not attribute.values:
                    del attribute.element["Value"]
            case "value":
                self._attributes[-1].values[-1] = "".join(self._characters)
            case "inlinebinary":
                self._attributes[-1].element["InlineBinary"] = "".join(self._characters)
            case "alphabetic" | "ideographic" | "phonetic":
                name_of = self._components.get
                text = "^".join(name_of(part, "") for part in _COMPONENTS).rstrip("^")
                self._attributes[-1].values[-1][_GROUPS[name]] = text
            case _ if name in _COMPONENTS:
                self._components[name] = "".join(self._characters)

    def text(self, characters: str) -> None:
        if self._open and (self._open[-1] in _TEXTS or self._open[-1] in _COMPONENTS):
            self._characters.append(characters)

    def _start_attribute(self, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise PeerError(f"{self._what} has more than {MAX_ELEMENTS} attributes")
        tag, data_set = attributes.get("tag", "").upper(), self._data_sets[-1]
        attribute = _Attribute(attributes.get("vr", ""))
        self._attributes.append(attribute)
        if creator := attributes.get("privatecreator"):
            data_set.private.append((tag, creator, attribute.element))
        elif tag in data_set.elements:
            raise PeerError(f"{self._what} has an attribute twice in one data set")
        else:
            data_set.elements[tag] = attribute.element

    def _add(self, attributes: dict[str, str], value: Any) -> None:
        """Append a value of the attribute, at the place that its `number` says: those left out are empty."""
        values = self._attributes[-1].values
        number = _lower(attributes).get("number", "")
        place = int(number) if number.isdecimal() and number.isascii() and len(number) < 9 else 0
        if max(place, len(values)) >= MAX_VALUES:
            raise PeerError(f"{self._what} has more than {MAX_VALUES} values in one attribute")
        values.extend([None] * (place - 1 - len(values)))
        values.append(value)


def _lower(attributes: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in attributes.items()}
