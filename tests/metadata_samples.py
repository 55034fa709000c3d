"""Real files as a Store request has them when it sends metadata and bulk data (PS3.18 §10.5.1), and back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from router.dicomweb.multipart_writer import closing, part_opening
from router.dicomweb.native_model_writer import encode_xml

JSON, XML = "application/dicom+json", "application/dicom+xml"
PIXEL_DATA = "7FE00010"
_FIRST_ITEM = bytes.fromhex("feff00e0")


@dataclass
class Sample:
    """Metadata of one instance and its bulk data parts: head fields and content."""

    metadata: dict[str, Any]
    parts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


def read(name: str) -> Dataset:
    return pydicom.dcmread(str(get_testdata_file(name, download=False)), force=True)


def sample(data_set: Dataset, location: str, media_type: str = "", *, threshold: int = 64) -> Sample:
    """Make metadata and parts. `media_type` is that of compressed frames; longer values than `threshold` are bulk."""
    found = Sample({})

    def bulk(element: Any) -> str:
        uri = f"{location}/bulk/{len(found.parts)}"
        found.parts.append(({"Content-Type": "application/octet-stream", "Content-Location": uri}, element.value))
        return uri

    compressed = data_set.file_meta.TransferSyntaxUID.is_compressed and bool(media_type)
    pixels = data_set[PIXEL_DATA] if compressed else None
    if pixels is not None:
        del data_set[PIXEL_DATA]
    found.metadata = data_set.to_json_dict(bulk_data_threshold=threshold, bulk_data_element_handler=bulk)
    if pixels is not None:
        data_set[PIXEL_DATA] = pixels
        head = {"Content-Type": media_type, "Content-Location": location}
        frames = generate_frames(pixels.value, number_of_frames=int(data_set.get("NumberOfFrames") or 1))
        found.parts += [(head, frame) for frame in frames]
        found.metadata[PIXEL_DATA] = {"vr": "OB", "BulkDataURI": location}
    return found


def request_body(kind: str, samples: Sequence[Sample], boundary: str = "xyz") -> bytes:
    """Write the body of a Store request of metadata in `kind`."""

    def parts() -> Iterator[bytes]:
        if kind == JSON:
            yield part(boundary, {"Content-Type": JSON}, json.dumps([one.metadata for one in samples]).encode())
        for one in samples:
            if kind == XML:
                yield part(boundary, {"Content-Type": XML}, encode_xml(dict(sorted(one.metadata.items()))))
            for head, content in one.parts:
                yield part(boundary, head, content)

    return b"".join(parts()) + closing(boundary)


def part(boundary: str, head: Mapping[str, str], content: bytes) -> bytes:
    return part_opening(boundary, head) + content


def content_type(kind: str, boundary: str = "xyz") -> str:
    return f'multipart/related; type="{kind}"; boundary={boundary}'


def parsed(data_set: bytes, transfer_syntax_uid: str) -> Dataset:
    """Read what was stored."""
    uid = pydicom.uid.UID(transfer_syntax_uid)
    found = pydicom.filereader.read_dataset(io.BytesIO(data_set), uid.is_implicit_VR, uid.is_little_endian)
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = uid
    return found


def differences(before: Dataset, after: Dataset) -> list[str]:
    """Name the attributes that are not the same, but for the character set, group lengths and offset tables."""
    tags = {*before.keys(), *after.keys()} - {0x00080005}
    found = []
    for tag in sorted(tag for tag in tags if tag & 0xFFFF):
        old, new = before.get(tag), after.get(tag)
        if old is None or new is None:
            found.append(f"{tag:08X}: {old} / {new}")
        elif old.VR == "SQ" and new.VR == "SQ" and len(old.value) == len(new.value):
            for one, other in zip(old.value, new.value, strict=True):
                found += differences(one, other)
        elif tag == 0x7FE00010 and old.value.startswith(_FIRST_ITEM) and new.value.startswith(_FIRST_ITEM):
            if _frames(before) != _frames(after):
                found.append("frames")
        elif not _same(old, new):
            found.append(f"{tag:08X}: {old.VR} {str(old.value)[:80]!r} / {new.VR} {str(new.value)[:80]!r}")
    return found


def _frames(data_set: Dataset) -> list[bytes]:
    """Frames without the boxes of JP2 files, which PS3.5 §A.4.4 leaves out, and without padding."""
    frames = generate_frames(data_set.PixelData, number_of_frames=int(data_set.get("NumberOfFrames") or 1))
    return [frame[max(frame.find(b"\xff\x4f\xff\x51"), 0) :].rstrip(b"\0") for frame in frames]


def _same(old: Any, new: Any) -> bool:
    if old.VR == new.VR == "PN":
        return [str(name).rstrip("^") for name in _several(old)] == [str(name).rstrip("^") for name in _several(new)]
    if isinstance(old.value, bytes) and isinstance(new.value, bytes):
        return old.value.rstrip(b"\0") == new.value.rstrip(b"\0")
    return old.VR == new.VR and (old.value == new.value or (not old.value and not new.value))


def _several(element: Any) -> list[Any]:
    return [element.value] if element.VM < 2 else list(element.value)
