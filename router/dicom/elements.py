"""What was read of a data set's header: elements, what was odd about them, and their values as texts.

Values are decoded when they are asked for, and only then. Nothing here raises on what a peer sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from router.dicom.attributes import AttributePath
from router.dicom.charset import unknown_terms
from router.dicom.values import texts_of

SPECIFIC_CHARACTER_SET: Final = 0x00080005


class Flaw(Enum):
    """What was wrong with a data set. The value says so for people."""

    EMPTY = "the data set is empty"
    PART10 = "PS3.10 header in the data set"
    COMMAND_GROUP = "command elements (group 0000) in the data set"
    DEPTH = "sequences nested too deeply"
    STRUCTURE = "items and delimiters do not nest"
    UNDEFINED_LENGTH = "undefined length where none is allowed"
    PAST_END = "a length runs past the end"
    INFLATION = "deflated data out of bounds"
    ELEMENTS = "too many elements before the header ends"
    KEPT = "the attributes asked for are too large together"
    VALUE_TRUNCATED = "a value was cut at the limit"
    DUPLICATE = "an attribute occurs twice"
    ODD_LENGTH = "a value has an odd length"
    VR = "an element without a valid VR"
    CHARACTER_SET = "unknown Specific Character Set"

    @property
    def fatal(self) -> bool:
        """Whether the instance should be refused whatever else was found (B32, B40, B42)."""
        return self in _FATAL

    @property
    def stops(self) -> bool:
        """Whether attributes behind it could not be read, so that what is absent may only be unread."""
        return self in _STOPS or self in _FATAL


_FATAL: Final = frozenset({Flaw.EMPTY, Flaw.PART10, Flaw.COMMAND_GROUP, Flaw.DEPTH})
_STOPS: Final = frozenset(
    {Flaw.STRUCTURE, Flaw.UNDEFINED_LENGTH, Flaw.PAST_END, Flaw.INFLATION, Flaw.ELEMENTS, Flaw.KEPT}
)


class Element(msgspec.Struct, frozen=True, gc=False):
    """One attribute as it came. `items` of a sequence are there only if one of their attributes was wanted."""

    vr: str
    value: bytes
    items: tuple[Header, ...] = ()
    truncated: bool = False


class Header:
    """The wanted attributes of a data set, or of one item of a sequence in it.

    `flaw` is the gravest thing that was wrong, or None; `problem` tells it for people, without any value.
    """

    __slots__ = ("_big_endian", "_inherited", "_texts", "elements", "flaw", "problem")

    elements: Mapping[int, Element]
    flaw: Flaw | None
    problem: str | None

    def __init__(
        self,
        elements: Mapping[int, Element],
        *,
        big_endian: bool = False,
        flaw: Flaw | None = None,
        problem: str | None = None,
    ):
        self.elements, self.flaw, self.problem = elements, flaw, problem
        self._big_endian = big_endian
        self._inherited: tuple[str, ...] = ()
        self._texts: dict[AttributePath, tuple[str, ...]] = {}
        if SPECIFIC_CHARACTER_SET in elements and flaw is None:
            self._check_charsets()

    @property
    def fatal(self) -> bool:
        """Whether the instance should be refused because of `flaw`."""
        return self.flaw is not None and self.flaw.fatal

    @property
    def complete(self) -> bool:
        """Whether an attribute that is not here is really absent."""
        return self.flaw is None or not self.flaw.stops

    @property
    def charsets(self) -> tuple[str, ...]:
        """The values of Specific Character Set that hold here; an item without its own has its parent's."""
        if SPECIFIC_CHARACTER_SET in self.elements:
            return self.texts((SPECIFIC_CHARACTER_SET,))
        return self._inherited

    def texts(self, path: AttributePath) -> tuple[str, ...]:
        """Give all values of an attribute, through sequences those of all items; () if absent or empty."""
        found = self._texts.get(path)
        if found is None:
            found = self._texts[path] = self._read(path)
        return found

    def first(self, path: AttributePath) -> str:
        """Give the first value of an attribute, "" if absent or empty."""
        found = self.texts(path)
        return found[0] if found else ""

    def present(self, path: AttributePath) -> bool:
        """Say whether an attribute is there, if only empty; through sequences: in any item."""
        element = self.elements.get(path[0])
        if element is None or len(path) == 1:
            return element is not None
        return any(item.present(path[1:]) for item in element.items)

    def items(self, tag: int) -> tuple[Header, ...]:
        """Give the items of a sequence; () if it is absent, empty, not a sequence, or nothing in it was wanted."""
        element = self.elements.get(tag)
        return element.items if element is not None else ()

    def truncated(self, path: AttributePath) -> bool:
        """Say whether a value of this attribute was cut, so that no comparison with it is safe."""
        element = self.elements.get(path[0])
        if element is None or len(path) == 1:
            return element is not None and element.truncated
        return any(item.truncated(path[1:]) for item in element.items)

    def inherit_charsets(self) -> None:
        """Hand Specific Character Set down to all items (PS3.3 §C.12.1.1.2). Called once, by the scanner."""
        waiting = [self]
        while waiting:
            parent = waiting.pop()
            charsets: tuple[str, ...] | None = None
            for element in parent.elements.values():
                for item in element.items:
                    charsets = parent.charsets if charsets is None else charsets
                    item._inherited = charsets
                    waiting.append(item)

    def _read(self, path: AttributePath) -> tuple[str, ...]:
        element = self.elements.get(path[0])
        if element is None:
            return ()
        if len(path) > 1:
            return tuple([text for item in element.items for text in item.texts(path[1:])])
        # Specific Character Set is itself a CS: plain ASCII
        charsets = () if path[0] == SPECIFIC_CHARACTER_SET else self.charsets
        return texts_of(element.vr, element.value, big_endian=self._big_endian, charsets=charsets)

    def _check_charsets(self) -> None:
        if unknown_terms(self.charsets):
            self.flaw, self.problem = Flaw.CHARACTER_SET, Flaw.CHARACTER_SET.value
