"""Non-patient instances for tests: three of every SOP class, with a value of its own for each key of its table.

Each sequence has a first item with values that no search asks for. The three are in different character sets, and one
is in Implicit VR, one in Explicit VR, one deflated.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from router.dicom.attributes import AttributePath, vr_of
from router.dicom.non_patient import CATEGORIES, Category
from router.dicom.uids import Uid

VARIANTS: Final = (0, 1, 2)
OTHER: Final = 3
"""The values of the items that nobody asks for."""

_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_CHARSETS: Final = ("ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"])
_TEXTS: Final = ("Über alpha", "Ελλάδα beta", "日本 gamma", "other")
_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "CS": ("ALPHA", "BETA", "GAMMA", "OTHER"),
    "PN": ("Müller^Jürgen", "Νίκος^Ελένη", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Other^Name"),
    "DA": ("20240101", "20250202", "20260303", "19990909"),
    "TM": ("010203", "121314", "232425", "090909"),
    "DT": ("20240101010203", "20250202121314", "20260303232425", "19990909090909"),
    "US": (1, 20, 300, 4000),
    "UV": (1, 20, 300, 4000),
    "FD": ([0.0, 0.5, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [0.25, 1.0, 1.0, 0.25], [0.0, 0.0, 0.0, 0.0]),
    "UR": ("urn:a:0", "urn:a:1", "urn:a:2", "urn:a:3"),
}

SOP_CLASSES: Final = [(category, uid) for category in CATEGORIES.values() for uid in category.tables]


def uid_of(sop_class: Uid, variant: int) -> Uid:
    """The SOP Instance UID of a sample."""
    return Uid(f"1.2.826.0.1.3680043.9.7433.{SOP_CLASSES.index((category_with(sop_class), sop_class)) + 1}.{variant}")


def category_with(sop_class: Uid) -> Category:
    return next(category for category, uid in SOP_CLASSES if uid == sop_class)


def value_of(path: AttributePath, variant: int) -> Any:
    """What a sample has at a path, as pydicom takes it."""
    vr = vr_of(path[-1])
    if vr == "UI":
        return f"1.2.826.0.1.3680043.9.7433.{path[-1]}.{variant}"
    return _VALUES[vr][variant] if vr in _VALUES else _TEXTS[variant]


def query_value(path: AttributePath, variant: int) -> str:
    """The same as a search writes it."""
    value = value_of(path, variant)
    return str(value).partition("=")[0] if vr_of(path[-1]) == "PN" else str(value)


def data_set(sop_class: Uid, variant: int) -> Dataset:
    """Make one sample."""
    made = Dataset()
    made.SpecificCharacterSet = _CHARSETS[variant]
    for key in category_with(sop_class).tables[sop_class]:
        if key.path[0] in (0x00080005, 0x00080016, 0x00080018, 0x00080201):
            continue
        _put(made, key.path, value_of(key.path, variant), value_of(key.path, OTHER))
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = uid_of(sop_class, variant)
    return made


def file_of(made: Dataset, variant: int = 0) -> bytes:
    """Write a data set as a PS3.10 file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = _SYNTAXES[variant]
    written = io.BytesIO()
    file = FileDataset(None, made, file_meta=meta, preamble=b"\0" * 128)  # type: ignore[arg-type]
    pydicom.dcmwrite(written, file, enforce_file_format=True)
    return written.getvalue()


def sample(sop_class: Uid, variant: int) -> bytes:
    """Make one sample's file."""
    return file_of(data_set(sop_class, variant), variant)


def write_samples(folder: Path, sop_class: Uid) -> list[Path]:
    """Write the three of a SOP class into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{uid_of(sop_class, variant)}.dcm" for variant in VARIANTS]
    for variant, path in zip(VARIANTS, paths, strict=True):
        path.write_bytes(sample(sop_class, variant))
    return paths


def _put(made: Dataset, path: AttributePath, value: Any, other: Any) -> None:
    """Set a value in the last item of each sequence on the way, another in the first."""
    tag, *inner = path
    if not inner:
        made.add_new(tag, vr_of(tag), value)
        return
    if tag not in made:
        made.add_new(tag, "SQ", [Dataset(), Dataset()])
    first, last = made[tag].value
    _put(first, tuple(inner), other, other)
    _put(last, tuple(inner), value, other)
