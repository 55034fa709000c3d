"""STOW-RS of metadata and bulk data: real files come through it unchanged, and what is wrong costs one instance."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from metadata_samples import (
    JSON,
    PIXEL_DATA,
    XML,
    Sample,
    content_type,
    differences,
    parsed,
    part,
    read,
    request_body,
    sample,
)
from stow_harness import CT, DISCONNECT, Answer, FakeDoor, ask, body_of, part10

from router.config.model import HttpConfig
from router.dicomweb.multipart_writer import closing
from router.errors import Refused, StorageError
from router.store.disk import NoSpace
from router.store.files import Store
from router.store.spool import Spool
from router.web.app import make_app

URL = "http://pacs:8080/dicom-web/studies"
COMPRESSED = [
    ("MR_small_jpeg_ls_lossless.dcm", "image/jls", "80"),
    ("JPEGLSNearLossless_16.dcm", "image/jls", "81"),
    ("SC_rgb_jpeg_gdcm.dcm", "image/jpeg", "70"),
    ("SC_jpeg_no_color_transform.dcm", "image/jpeg", "50"),
    ("JPGExtended.dcm", "image/jpeg", "51"),
    ("MR_small_jp2klossless.dcm", "image/jp2", "90"),
    ("JPEG2000.dcm", "image/jp2", "91"),
    ("GDCMJ2K_TextGBR.dcm", "image/jp2", "90"),  # its frame is a JP2 file
    ("examples_ybr_color.dcm", "image/jpeg", "50"),  # 30 frames
]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(tmp_path) as opened:
        yield opened


async def send(
    store: Store, door: FakeDoor, body: bytes, kind: str = JSON, chunk: int = 10_000, accept: str = JSON, **more: Any
) -> Answer:
    headers = [("content-type", content_type(kind)), ("host", "pacs:8080"), ("accept", accept)]
    app = make_app(HttpConfig(), door, open_spool=store.spool)
    return await ask(app, [body[at : at + chunk] for at in range(0, len(body), chunk)], headers=headers, **more)


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def tiny(uid: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "00080016": element("UI", CT),
        "00080018": element("UI", uid),
        "0020000D": element("UI", "1.2.3"),
        **(more or {}),
    }


def only(door: FakeDoor) -> Any:
    """The one instance that was stored, parsed."""
    [reception] = [one for one in door.receptions if one.ended == "accepted"]
    return parsed(bytes(reception.data), reception.declared.transfer_syntax_uid)


def octets(location: str, content: bytes, media_type: str = "application/octet-stream") -> bytes:
    return part("xyz", {"Content-Type": media_type, "Content-Location": location}, content)


def metadata_part(*data_sets: dict[str, Any]) -> bytes:
    return part("xyz", {"Content-Type": JSON}, json.dumps(data_sets).encode())


async def send_parts(store: Store, door: FakeDoor, *parts: bytes, **more: Any) -> Answer:
    return await send(store, door, b"".join(parts) + closing("xyz"), **more)


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "test-SR.dcm",
        "MR_small_bigendian.dcm",
        "waveform_ecg.dcm",
        "rtplan.dcm",
        "MR_small_padded.dcm",
        "liver_1frame.dcm",
        "SC_rgb_small_odd.dcm",
        "examples_overlay.dcm",
        "examples_palette.dcm",
        "reportsi.dcm",
    ],
)
async def test_uncompressed_files_come_through_as_they_were(store: Store, kind: str, name: str) -> None:
    door = FakeDoor()
    answer = await send(store, door, request_body(kind, [sample(read(name), "bulk/1")]), kind)
    assert (answer.status, answer.headers["content-type"]) == (200, JSON), answer.body
    assert differences(read(name), only(door)) == []
    assert door.receptions[0].declared.transfer_syntax_uid == "1.2.840.10008.1.2.1"


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize(("name", "media_type", "ending"), COMPRESSED)
async def test_compressed_frames_are_encapsulated_in_the_transfer_syntax_that_they_are_of(
    store: Store, kind: str, name: str, media_type: str, ending: str
) -> None:
    door = FakeDoor()
    answer = await send(store, door, request_body(kind, [sample(read(name), f"{URL}/bulk/1", media_type)]), kind)
    assert answer.status == 200, answer.body
    assert door.receptions[0].declared.transfer_syntax_uid == f"1.2.840.10008.1.2.4.{ending}"
    assert differences(read(name), only(door)) == []


async def test_several_instances_of_one_request_each_get_their_own_bulk_data(store: Store) -> None:
    names = ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm"]
    samples = [sample(read(name), f"bulk/{name}", "image/jp2") for name in names]
    door = FakeDoor()
    answer = await send(store, door, request_body(JSON, samples), chunk=777)
    assert len(answer.uids("00081199")) == 3
    for name, reception in zip(names, door.receptions, strict=True):
        stored = parsed(bytes(reception.data), reception.declared.transfer_syntax_uid)
        assert differences(read(name), stored) == []


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("bulk/1", "bulk/1"),
        ("bulk/1", "http://pacs:8080/dicom-web/bulk/1"),
        (f"{URL}/1.2.3/bulk/1", "studies/1.2.3/bulk/1"),
        ("/dicom-web/bulk/1", "http://pacs:8080/dicom-web/bulk/1"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("http://[not a url", "http://[not a url"),
        ("urn:uuid:5", "urn:uuid:5"),
    ],
)
async def test_references_are_compared_with_content_locations_resolved(
    store: Store, reference: str, location: str
) -> None:
    door = FakeDoor()
    metadata = metadata_part(tiny("1.2.1", {PIXEL_DATA: {"vr": "OW", "BulkDataURI": reference}}))
    answer = await send_parts(store, door, metadata, octets(location, b"\1\2\3\4"))
    assert (answer.status, only(door).PixelData) == (200, b"\1\2\3\4")


@pytest.mark.parametrize("reference", ["file:///etc/passwd", "http://169.254.169.254/", "bulk/2", "//evil/bulk/1"])
async def test_b62_a_reference_without_its_part_is_never_fetched_and_costs_that_instance(
    store: Store, reference: str
) -> None:
    door = FakeDoor()
    metadata = metadata_part(tiny("1.2.1", {PIXEL_DATA: {"vr": "OW", "BulkDataURI": reference}}), tiny("1.2.2"))
    answer = await send_parts(store, door, metadata, octets("bulk/1", b"12"))
    assert (answer.status, answer.failures(), answer.uids("00081199")) == (202, {"1.2.1": 0xC000}, ["1.2.2"])
    assert "(7FE0,0010): no part of this request" in answer.headers["warning"]


@pytest.mark.parametrize(
    "document",
    [
        "[" * 10_000,
        '[{"00100010":' * 10_000,
        '[{"00280010": {"vr": "US", "Value": [1e400]}}]',
        '[{"00280010": {"vr": "FD", "Value": [NaN]}}]',
        '[{"00280010": {"vr": "FD", "Value": [-Infinity]}}]',
        '[{"00280010": {"vr": "US"}, "00280010": {"vr": "US"}}]',
        '[{"00280010": {"vr": "US", "vr": "SS"}}]',
        '[{"00100010": {"vr": "LO", "Value": ["\\ud800"]}}]',
        '[{"00100010": {"vr": "LO", "Value": ["\\ud83d \\ude00"]}}]',
        '[{"00280010": {"vr": "UV", "Value": [9007199254740993]}}]',
        '[{"00280010": {"vr": "UV", "Value": [%s]}}]' % ("9" * 5000),
        "[{}",
        "[1]",
        '"x"',
        "",
        "[] []",
        "<xml/>",
    ],
)
async def test_b63_metadata_that_programs_read_differently_is_400_and_nothing_is_stored(
    store: Store, document: str
) -> None:
    door = FakeDoor()
    good = metadata_part(tiny("1.2.1"))
    bad = part("xyz", {"Content-Type": JSON}, document.encode())
    for parts in ([bad], [good, bad]):
        answer = await send_parts(store, door, *parts)
        assert (answer.status, answer.json["where"], door.receptions) == (400, "body", [])
        assert "metadata" in answer.json["detail"]


async def test_b63_bytes_that_are_no_utf_8_are_400(store: Store) -> None:
    document = json.dumps([tiny("1.2.1", {"00100010": element("LO", "caf@")})]).encode().replace(b"@", b"\xe9")
    assert (await send_parts(store, FakeDoor(), part("xyz", {"Content-Type": JSON}, document))).status == 400


@pytest.mark.parametrize(
    ("tag", "wrong", "reason"),
    [
        ("00020010", element("UI", "1.2.840.10008.1.2"), "File Meta Information"),
        ("00000900", element("US", 0), "its group"),
        ("Rows", element("US", 1), "not a tag"),
        ("0028001", element("US", 1), "not a tag"),
        ("00280010", {"Value": [1]}, "vr"),
        ("00280010", {"vr": "XX", "Value": [1]}, "vr"),
        ("00280010", [1], "not an object"),
        ("00280010", element("US", 65536), "too large"),
        ("00280010", element("US", -1), "too large"),
        ("00280010", element("US", 1.5), "not a whole number"),
        ("00280010", element("US", True), "not a whole number"),
        ("00280010", element("US", {}), "not a whole number"),
        ("00280010", {"vr": "US", "Value": 1}, "not an array"),
        ("00280010", {"vr": "US", "Value": [1], "InlineBinary": "AAA="}, "Value and InlineBinary"),
        ("00280010", {"vr": "US", "InlineBinary": "AAA="}, "InlineBinary"),
        ("00280010", {"vr": "US", "Values": [1]}, 'member "Values"'),
        ("00186020", element("FL", 1e39), "too large"),
        ("00186020", element("FL", "x"), "not a number"),
        ("00280009", element("AT", "0018"), "eight hexadecimal"),
        ("00081030", element("LO", 5), "not a string"),
        ("00081030", element("LO", "x" * 65535), "too long"),
        ("00080060", element("CS", "ÄÖ"), "not allowed"),
        ("00104000", element("LT", "a", "b"), "one value"),
        ("00100010", element("PN", {"Given": "x"}), "person name"),
        ("00100010", element("PN", {"Alphabetic": "a=b"}), "person name"),
        ("00201208", element("IS", 2**31), "too large"),
        (PIXEL_DATA, element("OW", 1), "never"),
        (PIXEL_DATA, {"vr": "OW", "InlineBinary": "AA"}, "Base64"),
        (PIXEL_DATA, {"vr": "OW", "InlineBinary": "AA=="}, "no whole number"),
        ("7FE00009", {"vr": "OD", "InlineBinary": "AAAA"}, "no whole number"),
        (PIXEL_DATA, {"vr": "OW", "BulkDataURI": ["bulk/1"]}, "not a string"),
        ("00080060", {"vr": "CS", "BulkDataURI": "bulk/1"}, "cannot refer"),
        ("00081140", element("SQ", 1), "not an object"),
        ("00081140", {"vr": "SQ", "InlineBinary": ""}, "never"),
        ("00081140", element("SQ", {"00081150": {"vr": "US", "Value": ["x"]}}), "(0008,1150)"),
        ("00081140", element("SQ", {"00020010": element("UI")}), "File Meta Information"),
    ],
)
async def test_what_is_wrong_with_an_attribute_is_named_and_costs_that_instance(
    store: Store, tag: str, wrong: Any, reason: str
) -> None:
    door = FakeDoor()
    answer = await send_parts(store, door, metadata_part(tiny("1.2.1", {tag: wrong}), tiny("1.2.2")))
    assert (answer.status, answer.failures(), answer.uids("00081199")) == (202, {"1.2.1": 0xC000}, ["1.2.2"])
    assert reason.replace('"', "?") in answer.headers["warning"]


async def test_sequences_nest_to_64_and_no_deeper(store: Store) -> None:
    def nested(depth: int) -> dict[str, Any]:
        data_set: dict[str, Any] = {}
        for _ in range(depth):
            data_set = {"00081140": element("SQ", data_set)}
        return data_set

    door = FakeDoor()
    answer = await send_parts(store, door, metadata_part(tiny("1.2.1", nested(64)), tiny("1.2.2", nested(65))))
    assert (answer.failures(), answer.uids("00081199")) == ({"1.2.2": 0xC000}, ["1.2.1"])


async def test_text_that_is_not_ascii_makes_the_data_set_utf_8_at_every_level(store: Store) -> None:
    door = FakeDoor()
    name = element("PN", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小東"})
    item = {"00080005": element("CS", "ISO_IR 100"), "00080104": element("LO", "Käse"), "00080100": element("SH", "K")}
    answer = await send_parts(
        store,
        door,
        metadata_part(
            tiny("1.2.1", {"00080005": element("CS", "ISO_IR 100"), "00100010": name, "00081032": element("SQ", item)})
        ),
    )
    stored = only(door)
    assert answer.status == 200
    assert stored.SpecificCharacterSet == "ISO_IR 192"
    assert str(stored.PatientName) == "Wang^XiaoDong=王^小東"
    assert stored.ProcedureCodeSequence[0].CodeMeaning == "Käse"
    assert "SpecificCharacterSet" not in stored.ProcedureCodeSequence[0]


async def test_text_that_is_ascii_leaves_the_character_set_alone(store: Store) -> None:
    door = FakeDoor()
    await send_parts(store, door, metadata_part(tiny("1.2.1", {"00080005": element("CS", "ISO_IR 100")})))
    assert only(door).SpecificCharacterSet == "ISO_IR 100"


async def test_bulk_text_counts_as_utf_8(store: Store) -> None:
    door = FakeDoor()
    text = {"0040A160": {"vr": "UT", "BulkDataURI": "t"}}
    await send_parts(store, door, metadata_part(tiny("1.2.1", text)), octets("t", "größer".encode()))
    assert (only(door).SpecificCharacterSet, only(door).TextValue) == ("ISO_IR 192", "größer")


async def test_an_encapsulated_document_has_a_media_type_of_its_own(store: Store) -> None:
    door = FakeDoor()
    document = {"00420011": {"vr": "OB", "BulkDataURI": "d"}}
    answer = await send_parts(
        store, door, metadata_part(tiny("1.2.1", document)), octets("d", b"%PDF-1", "application/pdf")
    )
    assert (answer.status, only(door).EncapsulatedDocument) == (200, b"%PDF-1")


@pytest.mark.parametrize(
    ("media_type", "failure"),
    [
        ("image/png", 0xC122),
        ("image/gif", 0xC122),
        ("image/tiff", 0xC122),
        ("application/pdf", 0xC122),
        ("image/jpeg", 0xC122),  # the bytes are none
        ("image/jp2", 0xC122),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", 0xC122),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.2", 0xC122),
        ("application/octet-stream; transfer-syntax=1.2.3", 0xC122),
        ("nonsense", 0xC000),
    ],
)
async def test_pixel_data_that_cannot_be_taken_as_it_is(store: Store, media_type: str, failure: int) -> None:
    door = FakeDoor()
    metadata = metadata_part(tiny("1.2.1", {PIXEL_DATA: {"vr": "OB", "BulkDataURI": "p"}}), tiny("1.2.2"))
    answer = await send_parts(store, door, metadata, octets("p", b"abcd", media_type))
    assert (answer.status, answer.failures()) == (202, {"1.2.1": failure})


@pytest.mark.parametrize(
    ("media_type", "ending"),
    [
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.57", "4.57"),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.5", "5"),
        ("image/dicom-rle", "5"),
        ("video/mp4", "4.102"),
        ("video/mpeg", "4.100"),
        ("image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202", "4.202"),
    ],
)
async def test_the_part_says_which_transfer_syntax_it_is_in(store: Store, media_type: str, ending: str) -> None:
    door = FakeDoor()
    frames = {"00280008": element("IS", 1 if "video" not in media_type else 250)}
    metadata = metadata_part(tiny("1.2.1", {PIXEL_DATA: {"vr": "OB", "BulkDataURI": "p"}} | frames))
    answer = await send_parts(store, door, metadata, octets("p", b"odd", media_type))
    assert answer.status == 200, answer.body
    assert door.receptions[0].declared.transfer_syntax_uid == f"1.2.840.10008.1.2.{ending}"
    assert only(door).PixelData == bytes.fromhex("feff00e0 00000000 feff00e0 04000000") + b"odd\0"


async def test_frames_with_locations_of_their_own_are_found(store: Store) -> None:
    door = FakeDoor()
    metadata = metadata_part(
        tiny("1.2.1", {PIXEL_DATA: {"vr": "OB", "BulkDataURI": "p"}, "00280008": element("IS", 2)})
    )
    frames = [octets(f"p/frames/{n}", b"%d%d" % (n, n), "image/dicom-rle") for n in (2, 1)]
    assert (await send_parts(store, door, metadata, *frames)).status == 200
    assert (
        only(door).PixelData[8:]
        == bytes.fromhex("feff00e0 02000000") + b"11" + bytes.fromhex("feff00e0 02000000") + b"22"
    )


@pytest.mark.parametrize(("frames", "parts"), [(3, 2), (1, 2), (2, 1)])
async def test_a_frame_too_few_or_too_many_costs_the_instance(store: Store, frames: int, parts: int) -> None:
    metadata = metadata_part(
        tiny("1.2.1", {PIXEL_DATA: {"vr": "OB", "BulkDataURI": "p"}, "00280008": element("IS", frames)})
    )
    answer = await send_parts(store, FakeDoor(), metadata, *[octets("p", b"ab", "image/dicom-rle")] * parts)
    assert (answer.status, answer.failures()) == (409, {"1.2.1": 0xC000})
    assert f"{parts} parts for {frames} compressed frames" in answer.headers["warning"]


async def test_bulk_data_that_nothing_refers_to_is_not_lost_in_silence(store: Store) -> None:
    door = FakeDoor()
    nameless = part("xyz", {"Content-Type": "application/octet-stream"}, b"12")
    answer = await send_parts(store, door, metadata_part(tiny("1.2.1")), octets("p", b"12"), nameless)
    assert (answer.status, answer.uids("00081199"), answer.others()) == (202, ["1.2.1"], [0xC000, 0xC000])


@pytest.mark.parametrize("encoding", ["Content-Encoding", "Content-Transfer-Encoding"])
async def test_a_part_in_an_encoding_costs_the_instance_that_refers_to_it(store: Store, encoding: str) -> None:
    head = {"Content-Type": "application/octet-stream", "Content-Location": "p", encoding: "base64"}
    metadata = metadata_part(tiny("1.2.1", {PIXEL_DATA: {"vr": "OB", "BulkDataURI": "p"}}))
    answer = await send_parts(store, FakeDoor(), metadata, part("xyz", head, b"MTI="))
    assert (answer.status, answer.failures()) == (409, {"1.2.1": 0xC000})


async def test_an_instance_without_its_uids_is_an_other_failure(store: Store) -> None:
    nameless = tiny("1.2.1")
    del nameless["00080018"]
    answer = await send_parts(store, FakeDoor(), metadata_part(nameless, tiny("1.2.2")))
    assert (answer.status, answer.others(), answer.uids("00081199")) == (202, [0xC000], ["1.2.2"])


async def test_one_object_is_taken_for_an_array_of_one_and_an_empty_array_is_told(store: Store) -> None:
    door = FakeDoor()
    one = part("xyz", {"Content-Type": JSON}, json.dumps(tiny("1.2.1")).encode())
    assert (await send_parts(store, door, one)).uids("00081199") == ["1.2.1"]
    assert (await send_parts(store, door, metadata_part())).status == 400


async def test_the_first_part_must_be_metadata(store: Store) -> None:
    answer = await send_parts(store, FakeDoor(), octets("p", b"12"), metadata_part(tiny("1.2.1")))
    assert (answer.status, "first part" in answer.json["detail"]) == (400, True)


async def test_b57_a_body_that_breaks_stores_nothing_for_a_part_may_be_missing(store: Store) -> None:
    door = FakeDoor()
    body = request_body(JSON, [sample(read("CT_small.dcm"), "b"), Sample(tiny("1.2.2"))])
    assert (await send(store, door, body[:-200])).status == 400
    gone = await ask(
        make_app(HttpConfig(), door, open_spool=store.spool),
        [body[:20_000], DISCONNECT],
        headers=[("content-type", content_type(JSON)), ("accept", JSON)],
    )
    assert (gone.status, door.receptions, door.closed) == (400, [], 2)


async def test_b57_too_much_metadata_is_413(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.web.intake_metadata.MAX_METADATA_BYTES", 5000)
    monkeypatch.setattr("router.dicomweb.metadata_parts.MAX_DATA_SET_BYTES", 500)
    for more in ({"00104000": element("LT", "x" * 400)}, {"00104000": element("LT", "x" * 6000)}):
        answer = await send_parts(store, FakeDoor(), metadata_part(tiny("1.2.1", more)))
        assert (answer.status, "bulk data" in answer.json["next"]) == (413, True)


@pytest.mark.parametrize("error", [NoSpace("cannot keep /var/x"), StorageError("cannot keep /var/x")])
async def test_a_disk_that_takes_no_more_is_503_and_says_no_path(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Spool, "settle", fail)
    answer = await send_parts(store, FakeDoor(), metadata_part(tiny("1.2.1")))
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert b"/var" not in answer.body


@pytest.mark.parametrize("error", [NoSpace("cannot make /var/x"), StorageError("cannot make /var/x")])
async def test_a_disk_that_takes_nothing_at_all_is_503(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("router.store.spool._make", fail)
    door = FakeDoor()
    answer = await send_parts(store, door, metadata_part(tiny("1.2.1")))
    assert (answer.status, b"/var" in answer.body, door.closed) == (503, False, 1)


async def test_refusals_of_the_core_are_told_as_they_are(store: Store) -> None:
    door = FakeDoor(
        accept_error=lambda one, _: (
            Refused(0xA900, "another study") if one.declared.sop_instance_uid == "1.2.2" else None
        ),
        receive_error=lambda declared: Refused(0x0122, "no") if declared.sop_instance_uid == "1.2.3" else None,
        write_error=lambda one: StorageError("/x") if one.declared.sop_instance_uid == "1.2.4" else None,
    )
    answer = await send_parts(store, door, metadata_part(*(tiny(f"1.2.{n}") for n in range(1, 5))))
    assert (answer.status, answer.uids("00081199")) == (202, ["1.2.1"])
    assert answer.failures() == {"1.2.2": 0xA900, "1.2.3": 0x0122, "1.2.4": 0xA700}


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><NativeDicomModel>&e;</NativeDicomModel>',
        b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>',
        b'<!DOCTYPE NativeDicomModel SYSTEM "http://169.254.169.254/x.dtd"><NativeDicomModel/>',
        b"<NativeDicomModel>&undefined;</NativeDicomModel>",
        b"<NativeDicomModel>",
        b"<other/>",
        b"",
        b"<NativeDicomModel>" + b"<DicomAttribute tag='00081140' vr='SQ'><Item>" * 100,
        b"<NativeDicomModel>" + b'<DicomAttribute tag="00080018" vr="UI"/>' * 2 + b"</NativeDicomModel>",
        b'<NativeDicomModel><DicomAttribute tag="00080018" vr="UI"><Value number="9999999"/></DicomAttribute>'
        b"</NativeDicomModel>",
    ],
)
async def test_b58_xml_that_is_none_or_names_entities_is_never_expanded(store: Store, document: bytes) -> None:
    door = FakeDoor()
    answer = await send_parts(store, door, part("xyz", {"Content-Type": XML}, document), kind=XML)
    assert (answer.status, door.receptions) == (400, [])
    good = request_body(XML, [Sample(tiny("1.2.1"))]).removesuffix(closing("xyz"))
    answer = await send_parts(store, door, good, part("xyz", {"Content-Type": XML}, document), kind=XML)
    assert (answer.status, answer.uids("00081199"), answer.others()) == (202, ["1.2.1"], [0xC000])


async def test_the_answer_is_xml_for_those_who_ask_for_that_and_not_for_json(store: Store) -> None:
    for accept, expected in (
        (XML, XML),
        (f"{XML}, {JSON}", JSON),
        ("*/*", JSON),
        ("image/png", JSON),
        ("text/html;q=x", JSON),
    ):
        answer = await send_parts(store, FakeDoor(), metadata_part(tiny("1.2.1")), accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (200, expected)
        assert (b"<NativeDicomModel" in answer.body) is (expected == XML)


async def test_files_are_still_taken_beside_it(store: Store) -> None:
    app = make_app(HttpConfig(), FakeDoor(), open_spool=store.spool)
    assert (await ask(app, [body_of(part10("1.2.1"))])).status == 200


async def test_without_a_place_to_keep_parts_metadata_is_415() -> None:
    headers = [("content-type", content_type(JSON))]
    answer = await ask(make_app(HttpConfig(), FakeDoor()), [DISCONNECT], headers=headers)
    assert (answer.status, JSON in answer.json["allowed"]) == (415, False)
