"""Sample instances for demonstration, benchmarks and tests: generated CT slices and pydicom's own test files.

Nothing here is patient data: names and numbers are made up, pixels are noise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

WHEEL_FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_2frame.dcm",
    "image_dfl.dcm",
    "MR_small_padded.dcm",
    "examples_ybr_color.dcm",
    "examples_palette.dcm",
    "waveform_ecg.dcm",
    "rtplan.dcm",
    "rtdose.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
    "liver_1frame.dcm",
)
"""Files that pydicom's wheel carries: many modalities, every family of transfer syntaxes."""


def wheel_instances(folder: Path) -> list[Path]:
    """Copy those of WHEEL_FILES that this pydicom has into `folder`, each with a SOP Instance UID of its own.

    Some of them share one, and some name another one in their File Meta Information than in their data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for name in WHEEL_FILES:
        try:
            found = get_testdata_file(name, download=False)
        except OSError:
            continue
        if found is not None:
            copy = folder / name
            copy.write_bytes(_with_own_uid(Path(str(found)), copy))
            copies.append(copy)
    return copies


def _with_own_uid(original: Path, copy: Path) -> bytes:
    """Change the UID in place, so that every other byte stays as it was made; rewrite only where that cannot be."""
    dataset = dcmread(original)
    uid = str(dataset.SOPInstanceUID)
    own = f"2.25.{random.randrange(10 ** (len(uid) - 6), 10 ** (len(uid) - 5))}"
    is_readable = dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian
    if is_readable and dataset.file_meta.MediaStorageSOPInstanceUID == uid:
        return original.read_bytes().replace(uid.encode(), own.encode())
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(own)
    dataset.save_as(copy, enforce_file_format=True)
    return copy.read_bytes()


def ct_series(
    folder: Path, count: int, *, rows: int, columns: int, seed: int = 1, patient_id: str = "SAMPLE-1"
) -> Iterator[Path]:
    """Write `count` CT slices of one series (16-bit pixels, Explicit VR Little Endian) and yield their paths.

    96 by 74 pixels make an instance of 16 KiB, 512 by 512 one of 513 KiB.
    """
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    pixels = random.Random(seed).randbytes(rows * columns * 2)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        path = folder / f"{patient_id}-{number:05}.dcm"
        dataset = _ct_slice(path, study, series, frame, number, rows, columns, patient_id)
        dataset.PixelData = number.to_bytes(4, "little") + pixels[4:]
        dataset.save_as(path, enforce_file_format=True)
        yield path


def minimal(path: Path, sop_class_uid: str, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """Write the smallest instance that a router must take for a SOP class: its identifiers and nothing else."""
    dataset = _new(path, sop_class_uid, transfer_syntax_uid)
    dataset.PatientName, dataset.PatientID = "Sample^Minimal", "SAMPLE-MIN"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = "OT"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _new(path: Path, sop_class_uid: str, transfer_syntax_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    dataset = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    return dataset


def _ct_slice(
    path: Path, study: str, series: str, frame: str, number: int, rows: int, columns: int, patient_id: str
) -> FileDataset:
    dataset = _new(path, CTImageStorage, ExplicitVRLittleEndian)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20260105", "101500"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260105"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500.000000"
    dataset.AccessionNumber = "A-0001"
    dataset.Modality = "CT"
    dataset.Manufacturer, dataset.ManufacturerModelName = "sendrs", "Sample generator"
    dataset.InstitutionName, dataset.StationName = "Sample hospital", "CT1"
    dataset.ReferringPhysicianName = "Referring^Sample"
    dataset.StudyDescription, dataset.SeriesDescription = "CHEST", "Axial 1.0"
    dataset.PatientName, dataset.PatientID = "Sample^Patient", patient_id
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19700101", "O", "056Y"
    dataset.PatientWeight = "70"
    dataset.BodyPartExamined, dataset.ScanOptions = "CHEST", "HELICAL MODE"
    dataset.SliceThickness, dataset.KVP, dataset.DataCollectionDiameter = "1.0", "120", "500"
    dataset.ProtocolName, dataset.ReconstructionDiameter = "Chest", "360"
    dataset.GantryDetectorTilt, dataset.TableHeight, dataset.RotationDirection = "0", "150", "CW"
    dataset.ExposureTime, dataset.XRayTubeCurrent, dataset.Exposure = "500", "200", "100"
    dataset.FilterType, dataset.GeneratorPower, dataset.FocalSpots = "BODY", "24", "1.2"
    dataset.ConvolutionKernel, dataset.PatientPosition = "STANDARD", "FFS"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.StudyID = study, series, "1"
    dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.InstanceNumber = "2", "1", str(number)
    dataset.ImagePositionPatient = ["-180", "-180", f"{-number:.1f}"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame, "SN"
    dataset.SliceLocation = f"{-number:.1f}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.PixelSpacing = rows, columns, ["0.7", "0.7"]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
    return dataset
