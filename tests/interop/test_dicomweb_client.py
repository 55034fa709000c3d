"""dicomweb-client (PyPI) against the daemon: retrieve, metadata, frames, bulk data of what it stored itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from peers import Daemon
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore:Invalid value for VR UI")]

FILES = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "examples_ybr_color.dcm",
    "JPEG2000.dcm",
)
FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
STUDY = "2.25.4711"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DICOMwebClient, dict[str, Dataset]]]:
    """A client, and what it stored: one study of a series for each file."""
    data_sets: dict[str, Dataset] = {}
    for number, name in enumerate(FILES, 1):
        data_set = dcmread(FOLDER / name)
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = STUDY, f"{STUDY}.{number}"
        data_sets[name] = data_set
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        client = DICOMwebClient(daemon.url, timeout=60)
        client.store_instances(list(data_sets.values()))
        yield client, data_sets


def uids(data_set: Dataset) -> tuple[str, str, str]:
    return STUDY, data_set.SeriesInstanceUID, data_set.SOPInstanceUID


def same(sent: Dataset, received: Dataset) -> bool:
    """Compare values; Big Endian pixels were turned, private elements of Implicit VR came without a VR."""
    skipped = (0x7FE00010,)
    return [(one.tag, one.value) for one in sent if one.tag not in skipped and not one.tag.is_private] == [
        (one.tag, one.value) for one in received if one.tag not in skipped and not one.tag.is_private
    ]


Stored = tuple[DICOMwebClient, dict[str, Dataset]]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_study(stored: Stored, streamed: bool) -> None:
    client, data_sets = stored
    found = list(client.iter_study(STUDY)) if streamed else client.retrieve_study(STUDY)
    received = {one.SOPInstanceUID: one for one in found}
    assert set(received) == {one.SOPInstanceUID for one in data_sets.values()}
    for sent in data_sets.values():
        assert same(sent, received[sent.SOPInstanceUID])


def test_a_series(stored: Stored) -> None:
    client, data_sets = stored
    sent = data_sets["CT_small.dcm"]
    [received] = client.retrieve_series(STUDY, sent.SeriesInstanceUID)
    assert same(sent, received)
    assert received.PixelData == sent.PixelData


@pytest.mark.parametrize("name", FILES)
def test_an_instance(stored: Stored, name: str) -> None:
    client, data_sets = stored
    sent = data_sets[name]
    received = client.retrieve_instance(*uids(sent))
    compressed = sent.file_meta.TransferSyntaxUID.is_compressed
    assert received.file_meta.TransferSyntaxUID == (sent.file_meta.TransferSyntaxUID if compressed else EXPLICIT)
    assert same(sent, received)


def test_metadata(stored: Stored) -> None:
    client, data_sets = stored
    metadata = client.retrieve_study_metadata(STUDY)
    assert {one["00080018"]["Value"][0] for one in metadata} == {one.SOPInstanceUID for one in data_sets.values()}
    for sent in data_sets.values():
        assert client.retrieve_instance_metadata(*uids(sent))["00080018"]["Value"] == [sent.SOPInstanceUID]
        [one] = client.retrieve_series_metadata(STUDY, sent.SeriesInstanceUID)
        Dataset.from_json(one, lambda *_: b"")


def test_native_frames(stored: Stored) -> None:
    client, data_sets = stored
    sent = data_sets["CT_small.dcm"]
    for media_types in (None, (("application/octet-stream", "*"),), (("application/octet-stream", EXPLICIT),)):
        assert client.retrieve_instance_frames(*uids(sent), [1], media_types=media_types) == [sent.PixelData]


def test_compressed_frames(stored: Stored) -> None:
    client, data_sets = stored
    sent = data_sets["examples_ybr_color.dcm"]
    frames = list(generate_frames(sent.PixelData, number_of_frames=30))
    for media_types in (None, (("application/octet-stream", "*"),), (("image/jpeg", "1.2.840.10008.1.2.4.50"),)):
        received = client.retrieve_instance_frames(*uids(sent), [1, 17, 30], media_types=media_types)
        assert received == [frames[0], frames[16], frames[29]]
    assert list(client.iter_instance_frames(*uids(sent), list(range(1, 31)))) == frames


def test_bulk_data_of_the_metadata(stored: Stored) -> None:
    client, data_sets = stored
    sent = data_sets["CT_small.dcm"]
    metadata = client.retrieve_instance_metadata(*uids(sent))
    [pixels] = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert pixels == sent.PixelData
    compressed = client.retrieve_instance_metadata(*uids(data_sets["examples_ybr_color.dcm"]))
    assert len(list(client.iter_bulkdata(compressed["7FE00010"]["BulkDataURI"]))) == 30
