"""The Storage Commitment Request and Response Modules (PS3.18 Tables J.1-1 and J.2-1): read and written.

References come flat (Referenced SOP Sequence) or by study and series (Referenced Study Sequence); an answer has the
form of its question. A request is read strictly, as what is not understood would not be committed to; the answer of
another server is read as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from router.dicom.attributes import path_name
from router.dicom.commitment import MAX_REFERENCES, PROCESSING_FAILURE, Reference, Ruling
from router.dicom.commitment_information import judged
from router.dicom.json_model import JsonDataSet, sequence
from router.dicom.uids import Uid, is_valid_uid
from router.dicomweb import lenient

COMMITMENT_REQUESTS: Final = "commitment-requests"
"""The resource (Table 13.1.1-1)."""
MAX_BYTES: Final = 32 * 1024**2
"""Of one module: MAX_REFERENCES take 25 MB of XML, and half of that as JSON."""

SOPS: Final = "00081199"
FAILED_SOPS: Final = "00081198"
STUDIES: Final = "00081110"
FAILED_STUDIES: Final = "0008119B"
_SERIES: Final = "00081115"
_CLASSES: Final = "00081112"
_INSTANCES: Final = "0008114A"
_STUDY_UID: Final = "0020000D"
_SERIES_UID: Final = "0020000E"
_CLASS_UID: Final = "00081150"
_INSTANCE_UID: Final = "00081155"
_REASON: Final = "00081197"

_MAX_SHOWN: Final = 80


class BadModule(ValueError):
    """A data set that is no request for commitment. `where` is the place, `problem` a clause; `too_many`: 413."""

    def __init__(self, where: str, problem: str, *, too_many: bool = False):
        self.where, self.problem, self.too_many = where, problem, too_many
        super().__init__(f"{where}: {problem}")


def read_request(data_set: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Read a request (Table J.1-1) in the shape of DICOM JSON: its references, in their order, each instance once.

    Attributes that the module does not have are ignored. Raises BadModule.
    """
    module = _Place(data_set, "")
    has_flat, has_studies = module.has(SOPS), module.has(STUDIES)
    if has_flat == has_studies:
        wrong = "both are there, one was expected" if has_flat else "neither is there, or it has no item"
        raise BadModule(f"{_name(SOPS)} and {_name(STUDIES)}", wrong)
    found = _flat_references(module) if has_flat else _references_by_study(module)
    references: dict[Uid, Reference] = {}
    for where, reference in found:
        if reference.sop_instance_uid in references:
            raise BadModule(where, f"the instance {reference.sop_instance_uid} is referenced a second time")
        if len(references) == MAX_REFERENCES:
            raise BadModule(where, f"more than {MAX_REFERENCES} instances", too_many=True)
        references[reference.sop_instance_uid] = reference
    return tuple(references.values())


def request_module(references: Sequence[Reference]) -> JsonDataSet:
    """Write a request (Table J.1-1): by study and series if every reference says them, flat otherwise."""
    rulings = [Ruling(reference) for reference in references]
    return {STUDIES: _by_study(rulings)} if _says_studies(references) else {SOPS: _flat(rulings)}


def response_module(rulings: Sequence[Ruling]) -> JsonDataSet:
    """Write a response (Table J.2-1) in the form of its request. A sequence that would have no item is left out."""
    by_study = _says_studies([ruling.reference for ruling in rulings])
    committed = [ruling for ruling in rulings if ruling.failure_reason is None]
    failed = [ruling for ruling in rulings if ruling.failure_reason is not None]
    write = _by_study if by_study else _flat
    parts = {STUDIES if by_study else SOPS: committed, FAILED_STUDIES if by_study else FAILED_SOPS: failed}
    return {tag: write(some) for tag, some in parts.items() if some}


def read_response(data_set: Mapping[str, Any], references: Sequence[Reference]) -> tuple[Ruling, ...] | None:
    """Read the response to a request for `references`, in either form: one ruling for each, in their order.

    What it does not name has failed (0110H), also what it names as committed and failed. None when it is no response:
    it names nothing at all.
    """
    committed = [Ruling(reference) for reference, _ in _named(data_set, SOPS, STUDIES)]
    failed = [
        Ruling(reference, reason or PROCESSING_FAILURE)
        for reference, reason in _named(data_set, FAILED_SOPS, FAILED_STUDIES)
    ]
    return judged(references, [*committed, *failed]) if committed or failed else None


def _named(data_set: Mapping[str, Any], flat: str, studies: str) -> Iterator[tuple[Reference, int | None]]:
    """Give what one of the lists of a response names, with Failure Reasons."""
    for item in lenient.items_of(data_set, flat):
        yield _named_by(item, item)
    for study in lenient.items_of(data_set, studies):
        for series in lenient.items_of(study, _SERIES):
            for of_class in lenient.items_of(series, _CLASSES):
                for item in lenient.items_of(of_class, _INSTANCES):
                    yield _named_by(of_class, item)


def _named_by(of_class: Mapping[str, Any], item: Mapping[str, Any]) -> tuple[Reference, int | None]:
    sop_class, uid = lenient.text_of(of_class, _CLASS_UID), lenient.text_of(item, _INSTANCE_UID)
    return Reference(Uid(sop_class), Uid(uid)), lenient.us_of(item, _REASON)


def _says_studies(references: Sequence[Reference]) -> bool:
    return all(reference.study and reference.series for reference in references)


def _flat(rulings: Sequence[Ruling]) -> dict[str, Any]:
    return sequence(
        {
            _CLASS_UID: _uid(ruling.reference.sop_class_uid),
            _INSTANCE_UID: _uid(ruling.reference.sop_instance_uid),
            **_why(ruling),
        }
        for ruling in rulings
    )


def _by_study(rulings: Sequence[Ruling]) -> dict[str, Any]:
    """Group by study, series and SOP class, each in the order in which it comes first."""
    studies: dict[Uid, dict[Uid, dict[Uid, list[JsonDataSet]]]] = {}
    for ruling in rulings:
        of = ruling.reference
        instances = studies.setdefault(of.study, {}).setdefault(of.series, {}).setdefault(of.sop_class_uid, [])
        instances.append({_INSTANCE_UID: _uid(of.sop_instance_uid), **_why(ruling)})
    return sequence(
        {
            _STUDY_UID: _uid(study),
            _SERIES: sequence(
                {
                    _SERIES_UID: _uid(one),
                    _CLASSES: sequence(
                        {_CLASS_UID: _uid(sop_class), _INSTANCES: sequence(instances)}
                        for sop_class, instances in classes.items()
                    ),
                }
                for one, classes in series.items()
            ),
        }
        for study, series in studies.items()
    )


def _why(ruling: Ruling) -> JsonDataSet:
    reason = ruling.failure_reason
    return {} if reason is None else {_REASON: {"vr": "US", "Value": [reason]}}


def _uid(uid: Uid) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


class _Place:
    """A data set or item of a request, and where it stands: "ReferencedSOPSequence[3]", "" for the outermost."""

    def __init__(self, data_set: Mapping[str, Any], where: str):
        self._data_set, self.where = lenient.with_upper_case_tags(data_set), where

    def at(self, tag: str) -> str:
        return f"{self.where}.{_name(tag)}" if self.where else _name(tag)

    def has(self, tag: str) -> bool:
        """Say whether the sequence is there with an item. Raises BadModule when it is there and no sequence."""
        return bool(self._values(tag))

    def items(self, tag: str) -> Iterator[_Place]:
        """Give the items of a sequence of Type 1."""
        values = self._values(tag)
        if not values:
            raise BadModule(self.at(tag), "it is missing, or it has no item")
        for number, item in enumerate(values, 1):
            where = f"{self.at(tag)}[{number}]"
            if not isinstance(item, dict):
                raise BadModule(where, "it is no item")
            yield _Place(item, where)

    def uid(self, tag: str) -> Uid:
        """Give a UID of Type 1."""
        values = self._values(tag)
        if not values:
            raise BadModule(self.at(tag), "it is missing, or it has no value")
        text = values[0].strip(" \0") if len(values) == 1 and isinstance(values[0], str) else ""
        if not is_valid_uid(text, odd=True):
            shown = f"{text[:_MAX_SHOWN]!r}" if text else "its value"
            raise BadModule(self.at(tag), f"{shown} is not one UID")
        return Uid(text)

    def _values(self, tag: str) -> list[Any]:
        element = self._data_set.get(tag)
        values = element.get("Value", []) if isinstance(element, dict) else None
        if element is not None and not isinstance(values, list):
            raise BadModule(self.at(tag), "it is no attribute of the DICOM JSON or XML model with a list of values")
        return values or []


def _flat_references(module: _Place) -> Iterator[tuple[str, Reference]]:
    for item in module.items(SOPS):
        yield item.where, Reference(item.uid(_CLASS_UID), item.uid(_INSTANCE_UID))


def _references_by_study(module: _Place) -> Iterator[tuple[str, Reference]]:
    for study in module.items(STUDIES):
        study_uid = study.uid(_STUDY_UID)
        for series in study.items(_SERIES):
            series_uid = series.uid(_SERIES_UID)
            for of_class in series.items(_CLASSES):
                sop_class = of_class.uid(_CLASS_UID)
                for item in of_class.items(_INSTANCES):
                    yield item.where, Reference(sop_class, item.uid(_INSTANCE_UID), study_uid, series_uid)


def _name(tag: str) -> str:
    return path_name((int(tag, 16),))
