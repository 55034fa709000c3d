"""Metadata and bulk data of real files, stored by the daemon as a process, are files that pydicom and dcmtk read."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path

import pydicom
import pytest
from metadata_samples import JSON, XML, content_type, differences, read, request_body, sample
from peers import Daemon, run_dcmtk, wait_until

FILES = [
    ("CT_small.dcm", ""),
    ("SC_rgb_small_odd_big_endian.dcm", ""),
    ("test-SR.dcm", ""),
    ("waveform_ecg.dcm", ""),
    ("MR_small_jpeg_ls_lossless.dcm", "image/jls"),
    ("SC_rgb_jpeg_gdcm.dcm", "image/jpeg"),
    ("GDCMJ2K_TextGBR.dcm", "image/jp2"),
    ("examples_ybr_color.dcm", "image/jpeg"),
]


def _spooled(daemon: Daemon) -> list[str]:
    """Name the open files of a daemon that are in its state folder for the time of a request only."""
    names = []
    for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.append(str(link.readlink()))
    return [name for name in names if "spool" in name or name.startswith(f"{daemon.state_folder}/#")]


@pytest.mark.parametrize("kind", [JSON, XML])
def test_files_sent_as_metadata_and_bulk_data_are_stored_whole(tmp_path: Path, kind: str) -> None:
    with Daemon(tmp_path) as daemon:
        samples = [sample(read(name), f"bulk/{name}", media_type) for name, media_type in FILES]
        request = urllib.request.Request(
            f"{daemon.url}/studies",
            request_body(kind, samples),
            {"Content-Type": content_type(kind), "Accept": JSON},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert (response.status, len(answer["00081199"]["Value"])) == (200, len(FILES))
        wait_until(lambda: not _spooled(daemon), 10.0, "what bulk data was put together in to be closed")
        stored = {}
        for path in daemon.state_folder.glob("store/*/*.dcm"):
            if path.stat().st_size:
                data_set = pydicom.dcmread(path)
                stored[str(data_set.SOPInstanceUID)] = path, data_set
        for name, _ in FILES:
            before = read(name)
            path, after = stored[before.SOPInstanceUID]
            assert differences(before, after) == []
            run_dcmtk(["dcmdump", "-q", path])
