"""The Store Instances Response Module as we write it and as servers in the field write it."""

from __future__ import annotations

import json
from typing import Any

import pydicom
import pytest

from router.dicom.uids import Uid
from router.dicomweb.store_response import (
    FailedInstance,
    InstanceResult,
    StoredInstance,
    StoreResponse,
    Verdict,
    decode_store_response,
    store_response,
)
from router.errors import PeerError

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
A, B, C, D = Uid("1.2.1"), Uid("1.2.2"), Uid("1.2.3"), Uid("1.2.4")

XML = """<?xml version="1.0" encoding="UTF-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">
<DicomAttribute keyword="RetrieveURL" tag="00081190" vr="UR"><Value number="1">http://x/studies/1</Value></DicomAttribute>
<DicomAttribute keyword="FailedSOPSequence" tag="00081198" vr="SQ"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.1</Value></DicomAttribute>
  <DicomAttribute tag="00081197" vr="US"><Value number="1">43264</Value></DicomAttribute></Item></DicomAttribute>
<DicomAttribute Tag="00081199" VR="SQ"><Item Number="1">
  <DicomAttribute Tag="00081155" VR="UI"><Value Number="1">1.2.2</Value></DicomAttribute></Item><Item number="2">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>
  <DicomAttribute tag="00081196" vr="US"><Value number="1">45056</Value></DicomAttribute></Item></DicomAttribute>
</NativeDicomModel>"""


def encoded(**module: Any) -> bytes:
    return json.dumps(store_response(**module)).encode()


def written() -> bytes:
    return encoded(
        retrieve_url="http://h/dicom-web/studies/1",
        stored=[StoredInstance(CT, A, "http://h/i/1"), StoredInstance(CT, B, warning_reason=0xB000)],
        failed=[FailedInstance(CT, C, 0xA900)],
        other_failures=[0xC000],
    )


def test_the_module_is_one_object_that_pydicom_reads() -> None:
    module = pydicom.Dataset.from_json(json.loads(written()))
    assert module.RetrieveURL == "http://h/dicom-web/studies/1"
    stored, warned = module.ReferencedSOPSequence
    assert (stored.ReferencedSOPInstanceUID, stored.RetrieveURL, "WarningReason" in stored) == (
        A,
        "http://h/i/1",
        False,
    )
    assert (warned.ReferencedSOPClassUID, warned.RetrieveURL, warned.WarningReason) == (CT, "", 0xB000)
    [failed] = module.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (C, 0xA900)
    assert module.OtherFailuresSequence[0].FailureReason == 0xC000


def test_tags_are_in_ascending_order_and_absent_sequences_are_left_out() -> None:
    module = json.loads(written())
    assert list(module) == sorted(module)
    assert list(module["00081199"]["Value"][1]) == ["00081150", "00081155", "00081190", "00081196"]
    assert json.loads(encoded()) == {"00081190": {"vr": "UR"}}


def test_what_we_write_we_read() -> None:
    assert decode_store_response("application/dicom+json", written()) == StoreResponse(
        {
            A: InstanceResult(Verdict.STORED),
            B: InstanceResult(Verdict.WARNING, 0xB000),
            C: InstanceResult(Verdict.FAILED, 0xA900),
        },
        (0xC000,),
    )


def test_an_array_lower_case_tags_and_numbers_as_text_are_read() -> None:
    item = b'{"00081155":{"vr":"UI","Value":["1.2.1 "]},"00081197":{"Value":["272"]}}'
    body = b'[{"0008119a":{"vr":"SQ"},"00081198":{"vr":"SQ","Value":[' + item + b"]}}]"
    response = decode_store_response("application/json; charset=utf-8", body)
    assert response.instances == {A: InstanceResult(Verdict.FAILED, 272)}


def test_xml_is_read() -> None:
    assert decode_store_response("application/dicom+xml", XML.encode()) == StoreResponse(
        {
            A: InstanceResult(Verdict.FAILED, 43264),
            B: InstanceResult(Verdict.STORED),
            C: InstanceResult(Verdict.WARNING, 45056),
        }
    )


def test_an_instance_in_both_lists_is_contradictory_in_either_order() -> None:
    body = encoded(stored=[StoredInstance(CT, A)] * 2, failed=[FailedInstance(CT, A, 272)] * 2)
    assert decode_store_response("application/dicom+json", body).instances[A].verdict is Verdict.CONTRADICTORY


def test_a_warning_is_not_lost_when_the_instance_is_named_again_without_one() -> None:
    body = encoded(stored=[StoredInstance(CT, A, warning_reason=0xB007), StoredInstance(CT, A)])
    assert decode_store_response("application/dicom+json", body).instances[A] == InstanceResult(Verdict.WARNING, 0xB007)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/dicom+json", b""),
        ("application/dicom+json", b" \r\n"),
        ("text/html", b"<html><body>ok</body></html>"),
        ("application/dicom+json", b"<html><body>ok</body></html>"),
        ("application/dicom+json", b"{}"),
        ("application/dicom+json", b"[]"),
        ("application/dicom+json", b'{"00080005":{"vr":"CS"}}'),
        ("application/dicom+json", b'["a"]'),
        ("application/dicom+json", b"NaN"),
        ("application/dicom+json", b"\xff\xfe"),
        ("application/dicom+json", b"[" * 200_000),
        ("application/dicom+xml", b"<a/>"),
        ("application/dicom+xml", b"<NativeDicomModel/>"),
        ("application/dicom+xml", b"<NativeDicomModel>"),
        ("application/dicom+xml", b"<a><NativeDicomModel/></a>"),
        ("application/dicom+xml", b"<a>" * 65),
        ("application/dicom+xml", b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>'),
        ("application/dicom+xml", b"<NativeDicomModel>&b;</NativeDicomModel>"),
        ("application/dicom+json", b'{"00081190":{"vr":"UR"}}' + b" " * 4 * 1024 * 1024),
    ],
)
def test_an_answer_without_a_module_is_a_peer_error(content_type: str, body: bytes) -> None:
    with pytest.raises(PeerError):
        decode_store_response(content_type, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"00081199":{"Value":"x"}}',
        b'{"00081199":{"Value":["x",null,[],{}]}}',
        b'{"00081199":null}',
        b'{"00081199":{"Value":[{"00081155":{"Value":[]}},{"00081155":{"Value":[1]}},{"00081155":[]},{"00081155":{"Value":[""]}}]}}',
    ],
)
def test_items_of_another_shape_name_no_instance(body: bytes) -> None:
    assert decode_store_response("application/dicom+json", body).instances == {}
