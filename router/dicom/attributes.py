"""Attributes by keyword, by tag and by sequence path, and the set of attributes that the index keeps.

Reads pydicom's copy of the data dictionary (PS3.6) and never a data set. Path syntax as in PS3.18 §8.3.1.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_keyword, dictionary_VR, keyword_dict

AttributePath = tuple[int, ...]
"""Tags from the outermost sequence to the attribute itself: (0x00400275, 0x00400009)."""

MAX_PATH_DEPTH: Final = 16
"""Deepest sequence path that may be asked for; real ones have two or three parts."""

_TAG: Final = re.compile(r"\(\s*([0-9A-Fa-f]{4})\s*,\s*([0-9A-Fa-f]{4})\s*\)|([0-9A-Fa-f]{8})", re.ASCII)

_ONE_OF_SEVERAL: Final = {
    "US or SS": "US",
    "US or OW": "OW",
    "US or SS or OW": "OW",
    "OB or OW": "OW",
    "NONE": "UN",
}
"""Where the dictionary leaves the choice to Pixel Representation or Bits Allocated, the one that reads every length."""


class UnknownAttribute(ValueError):
    """A text that names no attribute. `problem` says why, `nearest` is the keyword that it looks most like, or ""."""

    def __init__(self, text: str, problem: str, nearest: str = ""):
        self.text, self.problem, self.nearest = text, problem, nearest
        hint = f"; did you mean {nearest}?" if nearest else ""
        super().__init__(f"{text!r}: {problem}{hint}")


def attribute_path(text: str) -> AttributePath:
    """Read `Keyword`, `GGGGEEEE`, `(gggg,eeee)`, or several of them joined by dots, outermost sequence first.

    Raises UnknownAttribute.
    """
    parts = text.split(".")
    if len(parts) > MAX_PATH_DEPTH:
        raise UnknownAttribute(text, f"more than {MAX_PATH_DEPTH} levels of sequences")
    path = tuple(_tag(part.strip(), text) for part in parts)
    for tag, part in zip(path[:-1], parts, strict=False):
        if vr_of(tag) not in ("SQ", "UN"):
            raise UnknownAttribute(text, f"{part.strip()} is not a sequence")
    return path


def path_name(path: AttributePath) -> str:
    """Name a path for people: keywords where the dictionary has them, otherwise GGGGEEEE."""
    return ".".join(_name(tag) for tag in path)


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """Give the VR that the dictionary has for a tag: "LO" for private creators, "UN" if it has none."""
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group & 1:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return _ONE_OF_SEVERAL.get(vr, vr)


def _tag(part: str, text: str) -> int:
    known = keyword_dict.get(part)
    if known is not None and part:
        return known
    hexadecimal = _TAG.fullmatch(part)
    if hexadecimal is not None:
        return int("".join(digits for digits in hexadecimal.groups() if digits), 16)
    close = difflib.get_close_matches(part[:64], keyword_dict, n=1)
    raise UnknownAttribute(text, f"{part[:64]!r} is neither a keyword nor a tag", close[0] if close else "")


def _name(tag: int) -> str:
    try:
        keyword = dictionary_keyword(tag)
    except KeyError:
        keyword = ""
    return keyword or f"{tag:08X}"


_INDEXED: Final = (
    # study, with its patient (PS3.18 Tables 10.6.1-5 and 10.6.3-3)
    "StudyInstanceUID PatientID IssuerOfPatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime "
    "AccessionNumber ReferringPhysicianName StudyID StudyDescription TimezoneOffsetFromUTC "
    # series (Table 10.6.3-4)
    "SeriesInstanceUID Modality SeriesNumber SeriesDescription BodyPartExamined PerformedProcedureStepStartDate "
    "PerformedProcedureStepStartTime RequestAttributesSequence.ScheduledProcedureStepID "
    "RequestAttributesSequence.RequestedProcedureID "
    # instance (Table 10.6.3-5)
    "SOPClassUID SOPInstanceUID InstanceNumber NumberOfFrames Rows Columns BitsAllocated "
    # without it the texts cannot be read
    "SpecificCharacterSet"
)

INDEX_PATHS: Final[frozenset[AttributePath]] = frozenset(map(attribute_path, _INDEXED.split()))
"""What the journal's study, series and instance rows are made of."""
