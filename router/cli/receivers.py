"""Receivers that only write files, for the demonstration: a folder behind the router's own DIMSE and HTTP fronts.

`FolderDoor` stands in place of `ingest.Ingest`. No journal and no flush: a sink, not a store.
"""

from __future__ import annotations

import contextlib
import time
from io import BufferedWriter
from pathlib import Path

from router.dicom.envelope import Declared, Source
from router.dicom.part10 import encode_preface
from router.dicom.uids import Uid


class FolderReception:
    """One instance being written to a file; has the shape of `ingest.Reception`."""

    def __init__(self, door: FolderDoor, path: Path, declared: Declared, source: Source):
        self._door, self._path, self._declared = door, path, declared
        self._preface = encode_preface(declared, source, time.time())
        self._file: BufferedWriter = path.with_suffix(".part").open("xb")
        self._file.write(self._preface.data)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self._file.write(chunk)

    async def accept(self, *, study_instance_uid: Uid | None = None) -> None:
        self._file.close()
        self._path.with_suffix(".part").rename(self._path)
        self._door.received.setdefault(self._declared.sop_instance_uid, []).append(self._path)

    async def discard(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self._path.with_suffix(".part").unlink()


class FolderVisit:
    """One association or request; has the shape of `ingest.Visit`."""

    def __init__(self, door: FolderDoor, source: Source):
        self._door, self._source = door, source

    def receive(self, declared: Declared) -> FolderReception:
        self._door.begun += 1
        return FolderReception(self._door, self._door.folder / f"{self._door.begun:06}.dcm", declared, self._source)

    async def close(self) -> None:
        """Nothing to close: a folder keeps no send requests."""


class FolderDoor:
    """A folder in which every received instance becomes a Part 10 file, numbered in order of arrival.

    `received` gives the files of each SOP Instance UID.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.begun = 0
        self.received: dict[Uid, list[Path]] = {}

    def open_visit(self, source: Source) -> FolderVisit:
        return FolderVisit(self, source)

    def has_room(self) -> bool:
        return True
