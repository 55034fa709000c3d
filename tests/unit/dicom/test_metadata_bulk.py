"""What the metadata points to is where `locate_bulk` finds it, and is what the metadata would have said inline."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import _read_file_meta_info, read_preamble

from router.dicom.bulk import locate_bulk, read_value
from router.dicom.metadata import read_metadata
from router.dicom.metadata_values import json_element
from router.dicom.seeking import ByteRange
from router.dicom.uids import Uid

FILES = [
    "CT_small.dcm",
    "DICOMDIR-bigEnd",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "liver_expb_1frame.dcm",
    "nested_priv_SQ.dcm",
    "rtdose_rle.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
]


def bulk_and_inline(bulk: dict[str, Any], inline: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pointer, with the element that the same data set has when nothing is bulk data."""
    for tag, element in bulk.items():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"], inline[tag]
        elif element["vr"] == "SQ":
            for item, inline_item in zip(element.get("Value", ()), inline[tag].get("Value", ()), strict=True):
                yield from bulk_and_inline(item, inline_item)


@pytest.mark.parametrize("name", FILES)
def test_every_bulk_data_uri_leads_to_its_value(name: str) -> None:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    with Path(found).open("rb") as file:
        read_preamble(file, force=True)
        uid = Uid(_read_file_meta_info(file).get("TransferSyntaxUID", "1.2.840.10008.1.2"))
        content = file.read()
    bulk = read_metadata(io.BytesIO(content), uid, bulk_uri=str, bulk_above_bytes=0)
    inline = read_metadata(io.BytesIO(content), uid, bulk_uri=str, bulk_above_bytes=1 << 30)
    pointers = list(bulk_and_inline(bulk, inline))
    assert len({pointer for pointer, _ in pointers}) == len(pointers) > 0
    for pointer, expected in pointers:
        place = locate_bulk(io.BytesIO(content), uid, pointer)
        value = read_value(io.BytesIO(content), place, ByteRange(place.offset, place.length))
        if "BulkDataURI" in expected:  # pixel data is never inline
            assert value
        else:
            assert json_element(expected["vr"], value, big_endian=False, charsets=("ISO_IR 100",)) == expected
