"""The Native DICOM Model (PS3.19 Annex A.1) written from DICOM JSON: one XML document for each data set.

Characters that XML 1.0 cannot hold (§2.2: most control characters) become U+FFFD, the replacement character.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from router.dicom.attributes import path_name
from router.dicom.json_model import NAMES_OF_GROUPS, JsonDataSet

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"

_HEAD: Final = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">\n'
_TAIL: Final = "</NativeDicomModel>\n"
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_ATTRIBUTE: Final = _IN_TEXT | str.maketrans({'"': "&quot;", "\t": "&#9;", "\n": "&#10;"})


def encode_xml(data_set: JsonDataSet) -> bytes:
    """Write one NativeDicomModel in UTF-8, in the order of `data_set`.

    A private attribute is named gggg00ee with its privateCreator (§A.1.5); one whose creator is missing keeps its tag.
    """
    parts = [_HEAD]
    _write_attributes(parts, data_set)
    parts.append(_TAIL)
    return "".join(parts).encode()


def _write_attributes(parts: list[str], data_set: JsonDataSet) -> None:
    for tag, element in data_set.items():
        parts.append(_start(tag, element["vr"], data_set))
        if "BulkDataURI" in element:
            parts.append(f'<BulkData uri="{_attribute(element["BulkDataURI"])}"/>')
        elif "InlineBinary" in element:
            parts.append(f"<InlineBinary>{element['InlineBinary']}</InlineBinary>")
        else:
            _write_values(parts, element["vr"], element.get("Value", ()))
        parts.append("</DicomAttribute>\n")


def _start(tag: str, vr: str, data_set: JsonDataSet) -> str:
    if int(tag[3], 16) & 1:
        creator = _creator_of(tag[:4], tag[4:6], data_set)
        if creator:
            written = tag if _is_second_block(tag, creator, data_set) else f"{tag[:4]}00{tag[6:]}"
            return f'<DicomAttribute tag="{written}" vr="{vr}" privateCreator="{_attribute(creator)}">'
    keyword = _keyword(tag)
    return f'<DicomAttribute tag="{tag}" vr="{vr}"' + (f' keyword="{keyword}">' if keyword else ">")


def _creator_of(group: str, block: str, data_set: JsonDataSet) -> str:
    """Give the value of the Private Creator that reserves a block, "" where there is none (PS3.5 §7.8.1)."""
    if block == "00":
        return ""
    values = data_set.get(f"{group}00{block}", {}).get("Value", ())
    return values[0] if values and isinstance(values[0], str) else ""


def _is_second_block(tag: str, creator: str, data_set: JsonDataSet) -> bool:
    """Say whether the creator has reserved an earlier block too: without its block the tag would be there twice."""
    earlier = range(0x10, int(tag[4:6], 16))
    return any(_creator_of(tag[:4], f"{block:02X}", data_set) == creator for block in earlier)


def _write_values(parts: list[str], vr: str, values: list[Any]) -> None:
    for number, value in enumerate(values, 1):
        if vr == "SQ":
            parts.append(f'<Item number="{number}">\n')
            _write_attributes(parts, value or {})
            parts.append("</Item>\n")
        elif vr == "PN":
            parts.append(f'<PersonName number="{number}">{_person_name(value)}</PersonName>')
        else:
            parts.append(f'<Value number="{number}">{_text(_plain(value))}</Value>')


def _person_name(value: dict[str, str] | str | None) -> str:
    """Write the component groups of a name; a name that is plain text is its alphabetic group."""
    groups = {NAMES_OF_GROUPS[0]: value} if isinstance(value, str) else value or {}
    parts = []
    for group in NAMES_OF_GROUPS:
        components = groups.get(group, "").split("^", len(_COMPONENTS) - 1)
        named = [f"<{name}>{_text(text)}</{name}>" for name, text in zip(_COMPONENTS, components, strict=False) if text]
        if named:
            parts.append(f"<{group}>{''.join(named)}</{group}>")
    return "".join(parts)


def _plain(value: str | float | None) -> str:
    if value is None:
        return ""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text).translate(_IN_TEXT)


def _attribute(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text).translate(_IN_ATTRIBUTE)


@lru_cache(maxsize=8192)
def _keyword(tag: str) -> str:
    name = path_name((int(tag, 16),))
    return "" if name == tag else name
