"""What `sendrs find` shows: a table of what was found, its UIDs and what else was asked for on lines of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from router.cli.console import count_of, print_lines, print_table
from router.cli.nodes import Node
from router.dicom.attributes import AttributePath, attribute_path, path_name
from router.dicom.json_attributes import JsonAttributes
from router.dicom.json_model import JsonDataSet
from router.dicom.query_retrieve import QueryLevel
from router.dicom.sop_classes import name_of
from router.dicom.uids import Uid


class Column(NamedTuple):
    """A column of the table: its heading, what it shows, and how; "…" marks those that are cut in a narrow terminal."""

    heading: str
    keyword: str
    show: Callable[[Sequence[str]], object] = ", ".join


def _date(values: Sequence[str]) -> str:
    text = values[0] if values else ""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _number(values: Sequence[str]) -> object:
    return int(values[0]) if values and values[0].isdigit() and len(values[0]) < 10 else "".join(values[:1])


def _name(values: Sequence[str]) -> str:
    return values[0].partition("=")[0].rstrip("^") if values else ""


def _class(values: Sequence[str]) -> str:
    return name_of(Uid(values[0])).removesuffix(" Storage") if values else ""


COLUMNS: Final = {
    QueryLevel.PATIENT: (
        Column("PATIENT…", "PatientName", _name),
        Column("ID…", "PatientID"),
        Column("BORN", "PatientBirthDate", _date),
        Column("SEX", "PatientSex"),
        Column("STUDIES", "NumberOfPatientRelatedStudies", _number),
    ),
    QueryLevel.STUDY: (
        Column("PATIENT…", "PatientName", _name),
        Column("ID…", "PatientID"),
        Column("DATE", "StudyDate", _date),
        Column("MOD…", "ModalitiesInStudy"),
        Column("IMAGES", "NumberOfStudyRelatedInstances", _number),
        Column("DESCRIPTION…", "StudyDescription"),
    ),
    QueryLevel.SERIES: (
        Column("NO", "SeriesNumber", _number),
        Column("MOD", "Modality"),
        Column("IMAGES", "NumberOfSeriesRelatedInstances", _number),
        Column("DESCRIPTION…", "SeriesDescription"),
    ),
    QueryLevel.IMAGE: (
        Column("NO", "InstanceNumber", _number),
        Column("CLASS…", "SOPClassUID", _class),
        Column("FRAMES", "NumberOfFrames", _number),
    ),
}
"""What is asked back at each level without saying so."""
_WORDS: Final = {
    QueryLevel.PATIENT: ("patient", "patients"),
    QueryLevel.STUDY: ("study", "studies"),
    QueryLevel.SERIES: ("series", "series"),
    QueryLevel.IMAGE: ("instance", "instances"),
}


def show_found(level: QueryLevel, found: Sequence[JsonDataSet], more: Sequence[AttributePath]) -> None:
    """Print what was found; `more` are the attributes that were asked for by name."""
    columns = COLUMNS[level]
    paths = [attribute_path(column.keyword) for column in columns]
    used = [at for at, path in enumerate(paths) if any(JsonAttributes(one).texts(path) for one in found)]
    extra = [path for path in more if path not in paths and path != attribute_path(level.unique_keyword)]
    rows, below = [], []
    for one in found:
        attributes = JsonAttributes(one)
        rows.append([columns[at].show(attributes.texts(paths[at])) for at in used])
        lines = [] if level is QueryLevel.PATIENT else ["".join(attributes.texts(attribute_path(level.unique_keyword)))]
        lines += [f"{path_name(path)}: {_told(one, attributes, path)}" for path in extra]
        below.append([f"  {line}" for line in lines])
    print_table([columns[at].heading for at in used], rows, below=below)


def show_count(level: QueryLevel, node: Node, count: int, *, cut_short: bool, keys_ignored: bool) -> None:
    """Say how much was found, and what to make of it."""
    if not count:
        print_lines(f"Nothing found: {node} has no {_WORDS[level][0]} that matches.")
    else:
        print_lines("", f"{count_of(count, *_WORDS[level])} at {node}")
    if cut_short:
        print_lines("There are more; --limit shows more of them.")
    if keys_ignored:
        print_lines("It does not support one of the keys and ignored it: this may be more than was asked for.")


def _told(one: JsonDataSet, attributes: JsonAttributes, path: AttributePath) -> str:
    element: dict[str, Any] | None = one.get(f"{path[0]:08X}")
    if element is None:
        return "(not answered)"
    if element["vr"] == "SQ" and len(path) == 1:
        return count_of(len(element.get("Value", ())), "item", "items") + "; --json shows them"
    return ", ".join(attributes.texts(path)) or "(empty)"
