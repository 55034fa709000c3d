"""Our preface in front of a stored data set, and the File Meta of files that others wrote."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
import struct
import subprocess
from pathlib import Path
from typing import get_args

import pydicom
import pytest
from pydicom.data import get_testdata_file

from router.dicom.envelope import Declared, Protocol, Source
from router.dicom.file_meta import MAX_META_BYTES
from router.dicom.part10 import MAX_PREFACE_BYTES, ForeignFile, PrefaceReader, encode_preface, read_preface
from router.dicom.uids import AETitle, Uid
from router.errors import Refused

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
EXPLICIT = Uid("1.2.840.10008.1.2.1")
DEFLATED = Uid("1.2.840.10008.1.2.1.99")
DECLARED = Declared(CT, Uid("1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"), EXPLICIT)
DIMSE = Source("C-STORE", "fe80::1ff:fe23:4567:890a%enp0s31f6", AETitle("CT_SCANNER"), AETitle("SENDRS"))
WEB = Source("STOW-RS", "192.0.2.7")
RECEIVED_AT = 1_760_000_000.125


def finished_file(declared: Declared, source: Source, data_set: bytes) -> bytes:
    preface = encode_preface(declared, source, RECEIVED_AT)
    file = bytearray(preface.data + data_set)
    offset, seal = preface.seal(len(data_set), hashlib.sha256(data_set).digest())
    file[offset : offset + len(seal)] = seal
    return bytes(file)


def ct_data_set() -> bytes:
    reader = PrefaceReader()
    return bytes(reader.feed(Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()))


@pytest.mark.parametrize("source", [DIMSE, WEB])
@pytest.mark.parametrize("data_set", [b"", b"\x08", b"\x08\x00", b"\x02\x00\x10\x00UI\x02\x001\0", bytes(9000)])
def test_stored_file_tells_what_it_was_given(source: Source, data_set: bytes) -> None:
    declared = Declared(CT, DECLARED.sop_instance_uid, DEFLATED)
    file = finished_file(declared, source, data_set)
    stored = read_preface(file[:MAX_PREFACE_BYTES])
    assert stored.declared == declared
    assert stored.source == source
    assert stored.received_at == RECEIVED_AT
    assert file[stored.data_set_offset :] == data_set
    assert stored.data_set_bytes == len(data_set)
    assert stored.sha256 == hashlib.sha256(data_set).digest()


def test_unfinished_file_shows_itself() -> None:
    preface = encode_preface(DECLARED, DIMSE, RECEIVED_AT)
    stored = read_preface(preface.data)
    assert stored.sha256 is None
    assert stored.data_set_bytes == 0
    assert stored.data_set_offset == len(preface.data)


def test_size_and_hash_stand_where_the_preface_says() -> None:
    preface = encode_preface(DECLARED, DIMSE, RECEIVED_AT)
    offset, seal = preface.seal(0x0102030405, b"\xab" * 32)
    assert offset == preface.length_offset
    file = bytearray(preface.data)
    file[offset : offset + len(seal)] = seal
    assert len(file) == len(preface.data)
    assert file[preface.length_offset : preface.length_offset + 8] == struct.pack("<Q", 0x0102030405)
    assert file[preface.digest_offset : preface.digest_offset + 32] == b"\xab" * 32
    with pytest.raises(ValueError, match="32 bytes"):
        preface.seal(1, b"short")


def test_preface_is_short_even_with_the_longest_names() -> None:
    long = Uid("1." + "2" * 62)
    source = Source("C-STORE", "a" * 100, AETitle("A" * 16), AETitle("B" * 16))
    preface = encode_preface(Declared(long, long, long), source, RECEIVED_AT)
    assert len(preface.data) < 1024
    stored = read_preface(preface.data)
    assert stored.declared == Declared(long, long, long)
    assert stored.source.address == "a" * 64
    assert len({len(encode_preface(DECLARED, source, at).data) for at in (0.0, RECEIVED_AT)}) == 1


def test_every_protocol_can_be_written() -> None:
    for protocol in get_args(Protocol):
        assert read_preface(encode_preface(DECLARED, Source(protocol, ""), 0.0).data).source.protocol == protocol


def test_pydicom_opens_a_stored_file() -> None:
    dataset = pydicom.dcmread(io.BytesIO(finished_file(DECLARED, DIMSE, ct_data_set())))
    meta = dataset.file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == DECLARED.sop_instance_uid
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == meta.SendingApplicationEntityTitle == "CT_SCANNER"
    assert meta.ReceivingApplicationEntityTitle == "SENDRS"
    assert dataset.PatientID == "1CT1"
    assert dataset.pixel_array.shape == (128, 128)
    assert dataset.file_meta[0x00020000].value == len(encode_preface(DECLARED, DIMSE, 0.0).data) - 144


def test_ae_titles_of_the_web_are_left_out() -> None:
    meta = pydicom.dcmread(io.BytesIO(finished_file(DECLARED, WEB, ct_data_set()))).file_meta
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        assert keyword not in meta


@pytest.mark.interop
def test_dcmdump_opens_a_stored_file(tmp_path: Path) -> None:
    dcmdump = shutil.which("dcmdump")
    assert dcmdump is not None, "dcmtk is not installed"
    file = tmp_path / "stored.dcm"
    file.write_bytes(finished_file(DECLARED, DIMSE, ct_data_set()))
    run = subprocess.run([dcmdump, "-q", "-Un", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert run.stderr == ""
    for line in ("(0002,0010) UI [1.2.840.10008.1.2.1]", "(0002,0017) AE [CT_SCANNER]", "(0010,0020) LO [1CT1]"):
        assert line in run.stdout


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        bytes(4096),
        bytes(128) + b"DICM",
        encode_preface(DECLARED, DIMSE, 1.0).data[:-1],
        encode_preface(DECLARED, DIMSE, 1.0).data.replace(b"SENDRS\1\0", b"SENDRS\2\0"),
        encode_preface(DECLARED, DIMSE, 1.0).data.replace(b"SENDRS\1\0", b"ENDRSS\1\0"),
        encode_preface(DECLARED, DIMSE, math.nan).data,
        encode_preface(DECLARED, DIMSE, math.inf).data,
    ],
)
def test_b108_file_that_is_not_ours_or_whose_envelope_is_broken_is_told(data: bytes) -> None:
    with pytest.raises(ForeignFile):
        read_preface(data)


def test_b108_forged_size_is_refused_not_believed() -> None:
    preface = encode_preface(DECLARED, DIMSE, RECEIVED_AT)
    offset, seal = preface.seal(2**63, b"\1" * 32)
    with pytest.raises(ForeignFile, match="never written"):
        read_preface(preface.data[:offset] + seal + preface.data[offset + len(seal) :])


def test_files_of_others_are_not_ours() -> None:
    data = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()
    with pytest.raises(ForeignFile, match="not written by this router"):
        read_preface(data[:MAX_PREFACE_BYTES])


def meta(*elements: tuple[int, bytes, bytes], length: int | None = None) -> bytes:
    group = b""
    for number, vr, value in elements:
        if vr in (b"OB", b"UN"):
            group += struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
        else:
            group += struct.pack("<HH2sH", 2, number, vr, len(value)) + value
    head = b"" if length == -1 else struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group) if length is None else length)
    return bytes(128) + b"DICM" + head + group


def read_to_the_end(stream: bytes) -> None:
    reader = PrefaceReader()
    reader.feed(stream)
    reader.finish()


CLASS = (0x0002, b"UI", CT.encode() + b"\0")
INSTANCE = (0x0003, b"UI", b"1.2.3\0")
SYNTAX = (0x0010, b"UI", b"1.2.840.10008.1.2.1\0")
DATA_SET = b"\x08\x00\x60\x00CS\x02\x00CT"


@pytest.mark.parametrize("length", [None, -1, 0, 12, 34, 100_000, 0xFFFFFFFF])
def test_wrong_and_missing_group_lengths_are_forgiven(length: int | None) -> None:
    reader = PrefaceReader()
    assert bytes(reader.feed(meta(CLASS, INSTANCE, SYNTAX, length=length) + DATA_SET)) == DATA_SET
    assert reader.declared == Declared(CT, Uid("1.2.3"), EXPLICIT)
    assert bytes(reader.feed(b"more")) == b"more"


def test_deflated_bytes_that_look_like_group_2_are_data_when_the_group_length_says_so() -> None:
    reader = PrefaceReader()
    deflated = b"\x02\x00\x16\x00AE\x02\x00xx"
    assert bytes(reader.feed(meta(CLASS, INSTANCE, (0x0010, b"UI", DEFLATED.encode())) + deflated)) == deflated


def test_file_without_a_data_set_is_declared_at_its_end() -> None:
    reader = PrefaceReader()
    assert bytes(reader.feed(meta(CLASS, INSTANCE, SYNTAX))) == b""
    reader.finish()
    assert reader.declared == Declared(CT, Uid("1.2.3"), EXPLICIT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(200), "DICM"),
        (b"--boundary\r\nContent-Type: text/html" * 10, "DICM"),
        (meta(INSTANCE, SYNTAX) + DATA_SET, "SOP Class UID (0002,0002)"),
        (meta(CLASS, SYNTAX) + DATA_SET, "SOP Instance UID (0002,0003)"),
        (meta(CLASS, INSTANCE) + DATA_SET, "Transfer Syntax UID (0002,0010)"),
        (meta(CLASS, INSTANCE, (0x0010, b"UI", b"\0\0")) + DATA_SET, "Transfer Syntax UID (0002,0010)"),
        (meta() + DATA_SET, "SOP Class UID"),
        (meta((0x0002, b"\0\0", b"1")) + DATA_SET, "Explicit VR Little Endian"),
        (meta(CLASS, (0x0102, b"OB", bytes(MAX_META_BYTES))), "longer than"),
        (meta(*[(0x0001, b"OB", bytes(64))] * 1000), "longer than"),
    ],
)
def test_stream_that_is_no_ps310_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    reader = PrefaceReader()
    with pytest.raises(Refused) as caught:
        reader.feed(data)
    assert caught.value.status == 0xC000
    assert reason in caught.value.reason
    assert reader.declared is None


@pytest.mark.parametrize("size", [0, 1, 131, 132, 133, 139, 150, 170])
def test_stream_that_ends_in_its_file_meta_is_refused(size: int) -> None:
    with pytest.raises(Refused) as caught:
        read_to_the_end(meta(CLASS, INSTANCE, SYNTAX)[:size])
    assert caught.value.status == 0xC000


@pytest.mark.parametrize("name", ["no_meta.dcm", "rtstruct.dcm", "meta_missing_tsyntax.dcm"])
def test_real_files_without_file_meta_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        read_to_the_end(Path(str(get_testdata_file(name, download=False))).read_bytes())
