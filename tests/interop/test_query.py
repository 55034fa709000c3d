"""C-FIND against the daemon with real SCUs: dcmtk's findscu, Orthanc, pynetdicom (extended negotiation, NPI models)."""

from __future__ import annotations

import http.client
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import npi_samples
import pydicom
import pytest
from ledger import stow
from npi_samples import VARIANTS, uid_of
from peers import Daemon, Orthanc, run_dcmtk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from router.dicom.uids import Uid

pytestmark = pytest.mark.interop

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
MOST = 600
MANY = "1.2.826.0.9"
"""A study of more instances than may be answered."""
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID")
JANE = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientBirthDate": "19700102"}
JOHN = {"PatientID": "P2", "PatientName": "Doe^John"}
YAMADA = {"PatientID": "P3", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
MUELLER = {"PatientID": "P4", "PatientName": "Müller^Jürgen"}


def instance(study: str, series: str, number: int, *, charset: Any = "ISO_IR 192", **values: Any) -> bytes:
    """A file without pixels."""
    made = Dataset()
    made.SpecificCharacterSet = charset
    made.SOPClassUID = CT
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = study, series, f"{series}.{number}"
    made.Modality, made.InstanceNumber, made.SliceThickness = "CT", number, "2.5"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = io.BytesIO()
    file = FileDataset(None, made, file_meta=meta, preamble=b"\0" * 128)  # type: ignore[arg-type]
    pydicom.dcmwrite(written, file, enforce_file_format=True)
    return written.getvalue()


def archive() -> list[bytes]:
    first = {**JANE, "StudyDate": "20240105", "StudyTime": "103000", "AccessionNumber": "A1", "StudyID": "S1"}
    return [
        instance("1.2.826.0.1", "1.2.826.0.1.1", 1, **first, SeriesNumber=1),
        instance("1.2.826.0.1", "1.2.826.0.1.1", 2, **first, SeriesNumber=1),
        instance("1.2.826.0.1", "1.2.826.0.1.2", 1, **first, SeriesNumber=2, SOPClassUID=MR, Modality="MR"),
        instance("1.2.826.0.2", "1.2.826.0.2.1", 1, **JOHN, StudyDate="20240107", StudyTime="180000", StudyID="S2"),
        instance("1.2.826.0.3", "1.2.826.0.3.1", 1, **JANE, StudyDate="20240108", StudyTime="090000", StudyID="S3"),
        instance("1.2.826.0.4", "1.2.826.0.4.1", 1, charset=["", "ISO 2022 IR 87"], **YAMADA, StudyDate="20250101"),
        instance("1.2.826.0.5", "1.2.826.0.5.1", 1, charset="ISO_IR 100", **MUELLER, StudyDate="20250102"),
        *(instance(MANY, f"{MANY}.1", n, PatientID="P9", PatientName="Many", StudyDate="20200101") for n in range(800)),
    ]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("query")
    with Daemon(folder, f"[dicom]\nmax_find_results = {MOST}\n") as one:
        stow(one.http_port, "/dicom-web/studies", archive())
        yield one


def findscu(daemon: Daemon, folder: Path, *options: str, file: Dataset | None = None) -> tuple[list[Dataset], str]:
    """Ask; gives the answers, and what findscu printed."""
    folder.mkdir(exist_ok=True)
    files = []
    if file is not None:
        file.save_as(folder / "query.dcm", implicit_vr=False, little_endian=True)
        files = [str(folder / "query.dcm")]
    done = run_dcmtk(
        [
            *("findscu", "-v", "-X", "-od", str(folder), "-aet", "ASKER", "-aec", daemon.ae_title),
            *options,
            *("127.0.0.1", str(daemon.dicom_port), *files),
        ]
    )
    answers = [pydicom.dcmread(answer, force=True) for answer in folder.glob("rsp*.dcm")]
    return sorted(answers, key=_uids), done.stdout


def _uids(answer: Dataset) -> tuple[str, ...]:
    """The order of tests: instances arrive in any, as they are stored several at a time."""
    return tuple(str(answer.get(name, "")) for name in UIDS)


def keys(**values: str) -> list[str]:
    return [text for keyword, value in values.items() for text in ("-k", f"{keyword}={value}")]


def final_status(printed: str) -> str:
    found = re.findall(r"Received Final Find Response \((.*?)\)", printed)
    assert found, printed
    return str(found[-1])


def test_findscu_finds_at_each_level_of_study_root(daemon: Daemon, tmp_path: Path) -> None:
    asked = keys(QueryRetrieveLevel="STUDY", PatientName="DOE^*", StudyInstanceUID="", ModalitiesInStudy="")
    studies, printed = findscu(daemon, tmp_path / "study", "-S", *asked)
    assert [one.StudyInstanceUID for one in studies] == ["1.2.826.0.1", "1.2.826.0.2", "1.2.826.0.3"]
    assert [one.RetrieveAETitle for one in studies] == [daemon.ae_title] * 3
    assert studies[0].ModalitiesInStudy == ["CT", "MR"]
    assert final_status(printed) == "Success"
    asked = keys(QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2.826.0.1", SeriesInstanceUID="", Modality="MR")
    series, _ = findscu(daemon, tmp_path / "series", "-S", *asked)
    assert [(one.SeriesInstanceUID, one.Modality) for one in series] == [("1.2.826.0.1.2", "MR")]
    asked = keys(
        QueryRetrieveLevel="IMAGE",
        StudyInstanceUID="1.2.826.0.1",
        SeriesInstanceUID="1.2.826.0.1.1",
        SOPInstanceUID="",
        InstanceNumber="",
        SliceThickness="",
    )
    images, _ = findscu(daemon, tmp_path / "image", "-S", *asked)
    assert [(one.SOPInstanceUID, one.InstanceNumber) for one in images] == [
        ("1.2.826.0.1.1.1", 1),
        ("1.2.826.0.1.1.2", 2),
    ]
    assert [one.SliceThickness for one in images] == [2.5, 2.5], "read from the files"
    assert {one.InstanceAvailability for one in images} == {"ONLINE"}


def test_findscu_finds_at_each_level_of_patient_root(daemon: Daemon, tmp_path: Path) -> None:
    asked = keys(
        QueryRetrieveLevel="PATIENT", PatientName="Doe*", PatientID="", NumberOfPatientRelatedStudies="", PatientSex=""
    )
    patients, _ = findscu(daemon, tmp_path / "patient", "-P", *asked)
    assert [(one.PatientID, one.NumberOfPatientRelatedStudies) for one in patients] == [("P1", 2), ("P2", 1)]
    assert all("PatientSex" in one and not one.PatientSex for one in patients)
    levels = [
        ({"QueryRetrieveLevel": "STUDY", "PatientID": "P1", "StudyInstanceUID": ""}, "StudyInstanceUID"),
        (
            {"QueryRetrieveLevel": "SERIES", "PatientID": "P1", "StudyInstanceUID": "1.2.826.0.1"},
            "SeriesInstanceUID",
        ),
        (
            {
                "QueryRetrieveLevel": "IMAGE",
                "PatientID": "P1",
                "StudyInstanceUID": "1.2.826.0.1",
                "SeriesInstanceUID": "1.2.826.0.1.1",
            },
            "SOPInstanceUID",
        ),
    ]
    expected = [
        ["1.2.826.0.1", "1.2.826.0.3"],
        ["1.2.826.0.1.1", "1.2.826.0.1.2"],
        ["1.2.826.0.1.1.1", "1.2.826.0.1.1.2"],
    ]
    for (values, unique), uids in zip(levels, expected, strict=True):
        found, _ = findscu(daemon, tmp_path / unique, "-P", *keys(**values))
        assert [one[unique].value for one in found] == uids


@pytest.mark.parametrize(
    ("values", "uids"),
    [
        ({"StudyDate": "20240106-20240107"}, ["1.2.826.0.2"]),
        ({"StudyDate": "20240107-"}, ["1.2.826.0.2", "1.2.826.0.3", "1.2.826.0.4", "1.2.826.0.5"]),
        ({"StudyDate": "20240105-20240108", "StudyTime": "080000-110000"}, ["1.2.826.0.1", "1.2.826.0.3"]),
        ({"PatientName": "doe^j?ne"}, ["1.2.826.0.1", "1.2.826.0.3"]),
        ({"PatientName": "*yamada*"}, ["1.2.826.0.4"]),
        ({"StudyInstanceUID": "1.2.826.0.2\\1.2.826.0.5\\1.2.3"}, ["1.2.826.0.2", "1.2.826.0.5"]),
        ({"PatientID": "P1", "StudyID": "S3"}, ["1.2.826.0.3"]),
        ({"PatientName": "Nobody"}, []),
    ],
)
def test_ranges_wild_cards_and_lists(daemon: Daemon, tmp_path: Path, values: dict[str, str], uids: list[str]) -> None:
    asked = keys(**{"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", **values})
    found, printed = findscu(daemon, tmp_path, "-S", *asked)
    assert [one.StudyInstanceUID for one in found] == uids
    assert final_status(printed) == "Success"


@pytest.mark.parametrize(
    ("charset", "name", "patient_id", "answered_in"),
    [
        ("ISO_IR 100", "Müller*", "P4", "ISO_IR 100"),
        ("ISO_IR 192", "*山田*", "P3", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "*=山田*", "P3", ["", "ISO 2022 IR 87"]),
        ("ISO_IR 100", "Yamada*", "P3", "ISO_IR 192"),
    ],
)
def test_names_are_found_in_the_character_set_of_the_asker(
    daemon: Daemon, tmp_path: Path, charset: Any, name: str, patient_id: str, answered_in: Any
) -> None:
    query = Dataset()
    query.SpecificCharacterSet = charset
    query.QueryRetrieveLevel = "STUDY"
    query.PatientName, query.PatientID, query.StudyInstanceUID = name, "", ""
    [found], _ = findscu(daemon, tmp_path, "-S", file=query)
    assert found.PatientID == patient_id
    assert found.SpecificCharacterSet == answered_in
    assert found.PatientName in (YAMADA["PatientName"], MUELLER["PatientName"])


@pytest.mark.parametrize("syntax", ["-xi", "-xe", "-xb"])
def test_every_uncompressed_transfer_syntax_is_spoken(daemon: Daemon, tmp_path: Path, syntax: str) -> None:
    asked = keys(QueryRetrieveLevel="STUDY", PatientID="P2", PatientName="Doe*", NumberOfStudyRelatedInstances="")
    [found], _ = findscu(daemon, tmp_path, syntax, "-S", *asked)
    assert found.NumberOfStudyRelatedInstances == 1


def test_a_cancel_ends_the_query(daemon: Daemon, tmp_path: Path) -> None:
    asked = keys(QueryRetrieveLevel="IMAGE", StudyInstanceUID=MANY, SeriesInstanceUID=f"{MANY}.1", SOPInstanceUID="")
    found, printed = findscu(daemon, tmp_path, "-S", "--cancel", "2", *asked)
    assert "Cancel" in final_status(printed)
    assert 2 <= len(found) < MOST


def test_a_requestor_that_vanishes_in_mid_query_costs_nobody_else_anything(daemon: Daemon) -> None:
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_FIND)
    association = ae.associate("127.0.0.1", daemon.dicom_port, ae_title=daemon.ae_title)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.SeriesInstanceUID = "IMAGE", MANY, f"{MANY}.1"
    responses = association.send_c_find(query, STUDY_FIND)
    assert next(responses)[0].Status == 0xFF00
    association.abort()
    status, answers = ask(daemon, STUDY_FIND, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.826.0.1"})
    assert (status.Status, len(answers)) == (0x0000, 1)
    assert "Traceback" not in daemon.log()


def test_a_query_of_too_many_matches_ends_after_the_limit(daemon: Daemon, tmp_path: Path) -> None:
    asked = keys(QueryRetrieveLevel="IMAGE", StudyInstanceUID=MANY, SeriesInstanceUID=f"{MANY}.1", SOPInstanceUID="")
    found, printed = findscu(daemon, tmp_path, "-S", *asked)
    assert len(found) == MOST
    assert "OutOfResources" in final_status(printed)


@pytest.mark.parametrize(
    ("values", "blamed"),
    [
        ({"QueryRetrieveLevel": "PATIENT", "PatientID": ""}, (0x0008, 0x0052)),
        ({"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""}, (0x0020, 0x000D)),
        ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2\\1.3"}, (0x0020, 0x000D)),
        ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2", "PatientName": "Doe*"}, (0x0010, 0x0010)),
    ],
)
def test_a_bad_identifier_is_a900_with_the_attribute_to_blame(
    daemon: Daemon, values: dict[str, str], blamed: tuple[int, int]
) -> None:
    status, answers = ask(daemon, STUDY_FIND, values)
    assert (status.Status, answers) == (0xA900, [])
    assert status.OffendingElement == blamed
    assert 0 < len(status.ErrorComment) <= 64


def ask(daemon: Daemon, sop_class: str, values: dict[str, Any], extended: bytes = b"") -> tuple[Any, list[Dataset]]:
    """Ask with pynetdicom; gives the last status and the answers."""
    ae = AE("ASKER")
    ae.add_requested_context(sop_class)
    negotiation = SOPClassExtendedNegotiation()
    negotiation.sop_class_uid, negotiation.service_class_application_information = sop_class, extended
    association = ae.associate(
        "127.0.0.1", daemon.dicom_port, ae_title=daemon.ae_title, ext_neg=[negotiation] if extended else []
    )
    assert association.is_established
    query = Dataset()
    for keyword, value in values.items():
        setattr(query, keyword, value)
    responses = list(association.send_c_find(query, sop_class))
    association.release()
    return responses[-1][0], sorted((found for _, found in responses[:-1] if found is not None), key=_uids)


def test_extended_negotiation_brings_relational_queries_and_combined_dates(daemon: Daemon) -> None:
    values = {"QueryRetrieveLevel": "IMAGE", "PatientName": "Doe^Jane", "Modality": "CT", "SOPInstanceUID": ""}
    status, answers = ask(daemon, STUDY_FIND, values)
    assert status.Status == 0xA900
    status, answers = ask(daemon, STUDY_FIND, values, b"\x01")
    assert [one.SOPInstanceUID for one in answers] == ["1.2.826.0.1.1.1", "1.2.826.0.1.1.2", "1.2.826.0.3.1.1"]
    dates = {
        "QueryRetrieveLevel": "STUDY",
        "StudyDate": "20240105-20240108",
        "StudyTime": "100000-110000",
        "StudyInstanceUID": "",
    }
    _, answers = ask(daemon, STUDY_FIND, dates)
    assert [one.StudyInstanceUID for one in answers] == ["1.2.826.0.1"]
    _, answers = ask(daemon, STUDY_FIND, dates, b"\x00\x01")
    assert [one.StudyInstanceUID for one in answers] == ["1.2.826.0.1", "1.2.826.0.2", "1.2.826.0.3"]


def test_the_answer_to_extended_negotiation_has_as_many_bytes_as_the_question(daemon: Daemon) -> None:
    ae = AE("ASKER")
    ae.add_requested_context(PATIENT_FIND)
    negotiation = SOPClassExtendedNegotiation()
    negotiation.sop_class_uid, negotiation.service_class_application_information = PATIENT_FIND, b"\x01\x01\x01\x01"
    association = ae.associate("127.0.0.1", daemon.dicom_port, ae_title=daemon.ae_title, ext_neg=[negotiation])
    assert association.is_established
    answered = association.acceptor.sop_class_extended
    association.release()
    assert answered == {PATIENT_FIND: b"\x01\x01\x00\x01"}


def test_non_patient_instances_are_found(daemon: Daemon) -> None:
    hanging = Uid("1.2.840.10008.5.1.4.38.1")
    for variant in VARIANTS:
        post(daemon, "/dicom-web/hanging-protocols", npi_samples.sample(hanging, variant))
    status, answers = ask(
        daemon,
        "1.2.840.10008.5.1.4.38.2",
        {"SOPInstanceUID": "", "HangingProtocolLevel": "BETA", "NumberOfScreens": None},
    )
    assert status.Status == 0x0000
    assert [one.SOPInstanceUID for one in answers] == [uid_of(hanging, 1)]
    assert answers[0].RetrieveAETitle == daemon.ae_title
    assert "QueryRetrieveLevel" not in answers[0]


def post(daemon: Daemon, path: str, file: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--x--"
    connection.request(
        "POST",
        path,
        body,
        {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x', "Accept": "application/dicom+json"},
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def test_orthanc_queries_at_each_level(daemon: Daemon, tmp_path: Path) -> None:
    settings = {"DicomModalities": {"sendrs": [daemon.ae_title, "127.0.0.1", daemon.dicom_port]}}
    with Orthanc(tmp_path / "orthanc", settings=settings) as orthanc:
        patients = query(orthanc, "Patient", PatientName="Doe*")
        assert [one["PatientID"] for one in patients] == ["P1", "P2"]
        studies = query(orthanc, "Study", PatientID="P1", PatientName="DOE*", StudyDescription="")
        assert [one["StudyInstanceUID"] for one in studies] == ["1.2.826.0.1", "1.2.826.0.3"]
        assert studies[0]["PatientName"] == "Doe^Jane"
        series = query(orthanc, "Series", StudyInstanceUID="1.2.826.0.1", Modality="")
        assert [(one["SeriesInstanceUID"], one["Modality"]) for one in series] == [
            ("1.2.826.0.1.1", "CT"),
            ("1.2.826.0.1.2", "MR"),
        ]
        images = query(orthanc, "Instance", StudyInstanceUID="1.2.826.0.1", SeriesInstanceUID="1.2.826.0.1.1")
        assert [one["SOPInstanceUID"] for one in images] == ["1.2.826.0.1.1.1", "1.2.826.0.1.1.2"]


def query(orthanc: Orthanc, level: str, **values: str) -> list[dict[str, str]]:
    """Have Orthanc ask us; gives its answers, as it sorts them."""
    request = urllib.request.Request(
        f"{orthanc.url}/modalities/sendrs/query",
        json.dumps({"Level": level, "Query": values}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        asked = json.load(answer)["ID"]
    answers = [
        orthanc.get(f"/queries/{asked}/answers/{number}/content?simplify")
        for number in orthanc.get(f"/queries/{asked}/answers")
    ]
    return sorted(answers, key=lambda answer: [answer.get(name, "") for name in UIDS])
